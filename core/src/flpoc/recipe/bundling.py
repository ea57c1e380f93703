"""Which files a job needs: scripts, and what they import from beside them."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from flpoc.errors import FlpocError


def there(script: str) -> Path | None:
    """Find a file or folder: in the working directory, or beside the program that makes the recipe."""
    path = Path(script).expanduser()
    for found in (path, Path(sys.argv[0]).parent / path):
        if found.exists():
            return found.resolve()
    return None


def script_there(script: str) -> Path:
    """The same, for what must be a file.

    Raises:
        FlpocError: It is none; code RECIPE_EXPORT_FAILED.
    """
    found = there(script)
    if found is not None and found.is_file():
        return found
    raise FlpocError(
        f"{script}: {'there is no such script' if found is None else 'not a file'}",
        code="RECIPE_EXPORT_FAILED",
        hint=f"it is looked for in {Path.cwd()}, and beside the program that makes the recipe",
    )


def bundle(script: Path, root: Path | None = None) -> dict[str, Path]:
    """A script and what stands beside it and is imported, by it or by one another; sources by path below *root*.

    Of an imported folder all modules come along. Nothing is run to find out.
    """
    root = root or script.parent
    found: dict[str, Path] = {}
    waiting = [script]
    while waiting:
        path = waiting.pop()
        place = path.relative_to(root).as_posix()
        if place in found:
            continue
        found[place] = path
        for name in _imports(path) if path.suffix == ".py" else ():
            waiting += modules(root, name)
    return found


def _imports(path: Path) -> set[str]:
    """First names of the modules that a file imports anywhere; none if it is no Python."""
    try:
        nodes = list(ast.walk(ast.parse(path.read_bytes())))
    except (SyntaxError, ValueError, RecursionError):
        return set()  # said where the whole job is checked, with the line
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return {name.partition(".")[0] for name in names}


def modules(folder: Path, name: str) -> Iterator[Path]:
    """The files of a module or package of this name that stands in a folder."""
    if (module := folder / f"{name}.py").is_file():
        yield module
    elif (package := folder / name).is_dir():
        yield from (one for one in sorted(package.rglob("*.py")) if one.is_file())


def runs_nothing(source: Path) -> bool:
    """Whether a file can be imported without doing what it does as a program."""
    harmless = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for node in ast.parse(source.read_bytes()).body:
        guarded = isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)
        constant = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        value = getattr(node, "value", None)
        assigned = isinstance(node, (ast.Assign, ast.AnnAssign)) and not any(
            isinstance(inner, ast.Call) for inner in (ast.walk(value) if value is not None else ())
        )
        if not (isinstance(node, harmless) or guarded or constant or assigned):
            return False
    return True
