"""Which recipes there are: read from the sources of flpoc and of installed plugins, none of which is run for it.

A plugin's recipes stand in the module ``recipes``, or in the modules of a
package ``recipes``, beside its ``hooks.py``; each is a class with
``CATALOGUE = RecipeEntry(...)`` that can be imported from ``recipes``.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from flpoc.errors import ConfigError, FlpocError, did_you_mean
from flpoc.recipe.entry import RecipeEntry
from flpoc.settings import structure

if TYPE_CHECKING:
    from flpoc.plugins import Plugins

#: Module with the recipes of a plugin, beside its hooks.
MODULE: Final = "recipes"
_ATTRIBUTE: Final = "CATALOGUE"


@attrs.frozen
class Parameter:
    """A parameter of a recipe, as its source says.

    Attributes:
        name: Its name.
        type: Its annotation, or None.
        required: It has no default.
        default: Its default; the source of it where that is no plain value.
        kind: keyword_only, or positional_or_keyword.
    """

    name: str
    type: str | None
    required: bool
    default: Any
    kind: str


@attrs.frozen
class Listed:
    """A recipe of the catalogue.

    Attributes:
        entry: What it says about itself.
        module: Where it is imported from.
        cls: Name of its class.
        parameters: What its constructor takes.
    """

    entry: RecipeEntry
    module: str
    cls: str
    parameters: tuple[Parameter, ...]


def catalogue(plugins: Plugins) -> tuple[list[Listed], list[str]]:
    """All recipes, by framework and name; and what is wrong with those that are left out."""
    places = [("flpoc.recipe", sorted(Path(__file__).parent.glob("*.py")))]
    for record in plugins.records:
        package = record.module.rpartition(".")[0]
        if record.state.value == "loaded" and record.name != "core" and package in sys.modules:
            places.append((f"{package}.{MODULE}", sorted(_files(sys.modules[package].__path__))))
    found: list[Listed] = []
    troubles: list[str] = []
    for module, paths in places:
        for path in paths:
            try:
                found += read_recipes(path, module)
            except ConfigError as error:
                troubles.append(f"recipes of {module} are left out: {error.message}")
    return sorted(found, key=lambda one: (one.entry.framework, one.entry.name, one.module)), troubles


def _files(folders: Iterable[str]) -> Iterator[Path]:
    for folder in map(Path, folders):
        if (module := folder / f"{MODULE}.py").is_file():
            yield module
        yield from (folder / MODULE).glob("*.py")


def find(recipes: Iterable[Listed], name: str) -> Listed:
    """The recipe *name* of the catalogue; ``_`` equals ``-``.

    Raises:
        FlpocError: There is none, or there are several; codes RECIPE_ENTRY_NOT_FOUND and RECIPE_ENTRY_AMBIGUOUS.
    """
    recipes = list(recipes)
    found = [one for one in recipes if same(one.entry.name, name)]
    if not found:
        known = [one.entry.name for one in recipes]
        raise FlpocError(f"no recipe is called {name!r}", code="RECIPE_ENTRY_NOT_FOUND", hint=did_you_mean(name, known))
    if len(found) > 1:
        raise FlpocError(
            f"several recipes are called {name!r}: {', '.join(f'{one.module}.{one.cls}' for one in found)}",
            code="RECIPE_ENTRY_AMBIGUOUS",
            hint="remove one of the packages, or switch one of them off: `flpoc plugins disable NAME`",
        )
    return found[0]


def same(one: str, other: str) -> bool:
    """Whether two words of the catalogue are the same: ``Full_Model`` is ``full-model``."""
    return one.replace("_", "-").casefold() == other.replace("_", "-").casefold()


def read_recipes(path: Path, module: str) -> list[Listed]:
    """The recipes in a source file, which is not run.

    Raises:
        ConfigError: It is no Python, or an entry is not written out, or wrong.
    """
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except (OSError, SyntaxError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from None
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    found = []
    for node in classes.values():
        for value in _catalogue_of(node):
            entry = _entry(value, f"{path}: {node.name}.{_ATTRIBUTE}")
            found.append(Listed(entry, module, node.name, tuple(_parameters(node, classes))))
    return found


def _catalogue_of(node: ast.ClassDef) -> Iterator[ast.expr]:
    """What the class body assigns to CATALOGUE, with or without a type."""
    for line in node.body:
        if isinstance(line, ast.Assign):
            targets, value = line.targets, line.value
        elif isinstance(line, ast.AnnAssign) and line.value is not None:
            targets, value = [line.target], line.value
        else:
            continue
        if any(isinstance(target, ast.Name) and target.id == _ATTRIBUTE for target in targets):
            yield value


def _entry(value: ast.expr, where: str) -> RecipeEntry:
    if not isinstance(value, ast.Call) or value.args or not ast.unparse(value.func).endswith("RecipeEntry"):
        raise ConfigError(f"{where}: wanted is RecipeEntry(key=value, ...)")
    said: dict[str, Any] = {}
    for one in value.keywords:
        try:
            said[str(one.arg)] = ast.literal_eval(one.value)
        except ValueError:
            raise ConfigError(f"{where}: {one.arg}: the value must be written out: it is read, not run") from None
    return structure(said, RecipeEntry, where=where)


def _parameters(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> Iterator[Parameter]:
    """What the constructor takes; without one of its own, that of the first base in the same file that has one."""
    made = next((one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"), None)
    if made is None:
        names = [ast.unparse(base) for base in node.bases]
        for base in (classes[name] for name in names if name in classes and name != node.name):
            yield from _parameters(base, {name: one for name, one in classes.items() if name != node.name})
            return
        return
    given = made.args
    positional = [*given.posonlyargs, *given.args][1:]
    missing: list[ast.expr | None] = [None] * (len(positional) - len(given.defaults))
    for one, default in zip(positional, [*missing, *given.defaults], strict=True):
        yield _parameter(one, default, "positional_or_keyword")
    for one, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        yield _parameter(one, default, "keyword_only")


def _parameter(one: ast.arg, default: ast.expr | None, kind: str) -> Parameter:
    kind_of = None if one.annotation is None else ast.unparse(one.annotation)
    return Parameter(one.arg, kind_of, default is None, None if default is None else _value(default), kind)


def _value(node: ast.expr) -> Any:
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)
    return value if value is None or isinstance(value, (str, int, float, bool, list, dict)) else ast.unparse(node)
