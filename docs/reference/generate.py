"""Write the reference pages from the source.

python docs/reference/generate.py            write them
python docs/reference/generate.py --check    say which are not what the source says, and fail
"""

from __future__ import annotations

import ast
import enum
import importlib
import inspect
import itertools
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import click
import meanings
from blocks import attribute_texts, code, prose, table

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SOURCE = ROOT / "core" / "src" / "flpoc"
SOURCES = (SOURCE, *sorted(ROOT.glob("plugins/*/src")))
NOTE = "<!-- Written by docs/reference/generate.py from the source; `make docs` writes it anew. -->"


def pages() -> dict[str, str]:
    """All pages by file name."""
    found = {
        "commands.md": commands(),
        "console.md": console(),
        "hooks.md": hooks(),
        "settings.md": settings(),
        "job-file.md": job_file(),
        "errors.md": errors(),
        "files-and-environment.md": files_and_environment(),
        "client.md": client(),
        "session.md": session(),
        "recipe.md": recipe(),
    }
    return {name: "\n".join(_spaced(lines)) + "\n" for name, lines in found.items()}


def _spaced(lines: Iterable[str]) -> Iterator[str]:
    """The lines, never two empty ones behind each other."""
    before = ""
    for line in [NOTE, "", *lines]:
        if line or before:
            yield line.rstrip()
        before = line


def fields(cls: type, leave_out: Iterable[str] = ()) -> Iterator[str]:
    """A table of the fields of an attrs class."""
    texts = attribute_texts(cls)
    rows = [
        (code(one.name), code(_type(one.type)), _default(one), texts[one.name])
        for one in attrs.fields(cls)
        if one.name not in leave_out
    ]
    yield from table(("key", "type", "default", "meaning"), rows) if rows else ("Nothing can be set.", "")


def _type(kind: Any) -> str:
    text = kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))
    text = text.replace("tuple[FilterSpec, ...]", "list of filters")
    return text.replace("tuple[str, ...]", "list of texts").replace("dict[str, Any]", "keys and values")


def _default(field: Any) -> str:
    if field.default is attrs.NOTHING:
        return "required"
    value = field.default.factory() if isinstance(field.default, attrs.Factory) else field.default
    if attrs.has(type(value)):
        return "see below"
    if value is None or value == "":
        return "-"
    text = str(value).lower() if isinstance(value, bool) else "[]" if value == () else "{}" if value == {} else value
    return code(text)


def _python_default(field: Any) -> str:
    if field.default is attrs.NOTHING:
        return "required"
    if isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]  # a class, for whoever makes one
        return code(repr(field.default.factory()))
    return code(repr(field.default))


# -- pages


def commands() -> Iterator[str]:
    from flpoc.cli.global_options import options_for_help

    yield from ("# Commands", "")
    yield "Every command has `-h`. These options may stand anywhere on the line, `--version` only before a command:"
    yield ""
    shown = [(", ".join(map(code, one.opts)), one.help or "") for one in options_for_help()]
    yield from table(("option", "meaning"), shown)
    for path, command in sorted(command_tree()):
        yield from _command(path, command)


def console() -> Iterator[str]:
    from flpoc.cli.console.command import find
    from flpoc.cli.console.names import GROUPS, NOT_HERE

    yield from (
        "# Commands of the console",
        "",
        "What can be typed in `flpoc console`, and be a line of its scripts; how to",
    )
    yield from ("use it is in [Use the console](../how-to/use-the-console.md). `-` and `_` are the same in names.", "")
    for title, entries in GROUPS.items():
        yield from (f"**{title.capitalize()}**", "")
        rows = [
            (f"[{one.name}](#{one.name})", one.summary, code(f"flpoc {one.also}" if one.also else ""))
            for one in entries
        ]
        yield from table(("command", "what it does", "in a shell"), rows)
    yield from ("## What is not here", "", "Commands of comparable consoles, and what to use instead:", "")
    yield from table(("command", "instead"), [(code(name), text) for name, text in NOT_HERE.items()])
    for entries in GROUPS.values():
        for one in entries:
            yield from _command(one.name, find(one.name))


def command_tree() -> Iterator[tuple[str, click.Command]]:
    """All commands of core that do something."""
    from flpoc.cli.command import Group
    from flpoc.cli.main import COMMANDS

    waiting: list[tuple[str, click.Command]] = [("flpoc", Group("flpoc", table=COMMANDS))]
    while waiting:
        path, command = waiting.pop()
        if isinstance(command, click.Group):
            inner = click.Context(command)
            for name in command.list_commands(inner):
                found = command.get_command(inner, name)
                assert found is not None
                waiting.append((f"{path} {name}", found))
        if not isinstance(command, click.Group) or (command.invoke_without_command and path != "flpoc"):
            yield path, command


def _command(path: str, command: click.Command) -> Iterator[str]:
    from flpoc.cli.schema import schema

    ctx = click.Context(command, info_name=path)
    found = schema(ctx)
    yield from (f"## {path}", "", *prose(command.help or ""))
    yield from ("```text", command.get_usage(ctx).removeprefix("Usage: "), "```", "")
    rows = [
        (", ".join(map(code, [*one.get("aliases", ()), one["name"]])), _argument_type(one), one["description"])
        for one in found["args"]
    ]
    if rows:
        yield from table(("argument or option", "type", "meaning"), rows)
    facts = [
        "changes something" if found.get("mutating") else "changes nothing",
        "twice is the same as once" if found.get("idempotent") else "twice is not the same as once",
        *(["streams with `--format jsonl`"] if found.get("streaming") else []),
    ]
    text = "; ".join(facts)
    token = found.get("retry_token", {})
    if token.get("supported"):
        text += f"; safe to repeat with `{token['flag']}` ({token['scope']}): {token['effect']}"
    yield from (f"It {text}.", "")
    if found["examples"]:
        yield from ("```text", *found["examples"], "```", "")


def _argument_type(one: Mapping[str, Any]) -> str:
    kind = ", ".join(map(code, one["choices"])) if "choices" in one else str(one["type"])
    if one.get("nargs") in ("+", "*"):
        kind = f"one or more of {kind}" if "choices" in one else f"{kind}s"
    if one.get("nargs") == "?":
        kind += ", may be left out"
    default = one["default"]
    if default is not None and default is not False and default != "":
        kind += f"; default {code(default)}"
    return kind + ("; required" if one["required"] else "")


def hooks() -> Iterator[str]:
    """The hooks in the order of the source, with the interface that each offer has."""
    import flpoc.hookspecs

    yield from ("# Hooks and rooms", "", *prose(flpoc.hookspecs.__doc__ or ""))
    yield "A plugin is a module, by convention `hooks.py`, with `FLPOC_API = 1` and functions marked `@hookimpl`."
    yield "See [the first plugin](../tutorial/first-plugin.md)."
    source = inspect.getsource(flpoc.hookspecs)
    parsed = ast.parse(source)
    where = {
        alias.name: str(node.module)
        for node in ast.walk(parsed)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if str(node.module).startswith("flpoc.")
    }
    headings = {number: line for number, line in enumerate(source.splitlines(), 1) if line.startswith("# -- ")}
    implementations = _implementations()
    for node in parsed.body:
        if not isinstance(node, ast.FunctionDef):
            continue
        for number in [one for one in headings if one < node.lineno]:
            yield from ("", f"## {headings.pop(number).removeprefix('# -- ').capitalize()}", "")
        yield from ("", f"### {node.name}", "", "```text", _signature(node), "```", "")
        yield from prose(ast.get_docstring(node) or "")
        if names := implementations.get(node.name):
            yield from (f"Part of this repository: {', '.join(map(code, names))}.", "")
        for name in re.findall(r"Component\[(\w+)\]", ast.unparse(node.returns or ast.Constant(""))):
            if name in where:
                yield from (f"The interface: [{name}](#{name.lower()}).", "")
    yield from ("", "## Rooms", "", "The interfaces of what plugins offer, and what passes through them.", "")
    for module in sorted({one for one in where.values() if one != "flpoc.components"}):
        yield from _room(importlib.import_module(module))
    yield from ("", "## Tensors", "", "What aggregators, filters and ciphers read and write models with.", "")
    yield from _room(importlib.import_module("flpoc.models.tensors"))
    yield from ("", "## Rehearsals", "", "What tests of workflows run them with.", "")
    yield from _room(importlib.import_module("flpoc.testing.rehearsal"))


def _signature(node: ast.FunctionDef) -> str:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{node.name}({ast.unparse(node.args)}){returns}"


def plugin_modules() -> list[ModuleType]:
    """Core's own offers, and the plugins of this repository."""
    names = [f"flpoc_{one.parent.name}.hooks" for one in sorted(ROOT.glob("plugins/*/pyproject.toml"))]
    return [importlib.import_module(name) for name in ("flpoc.builtin", *names)]


def _implementations() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for module in plugin_modules():
        for name in vars(module):
            if name.startswith("flpoc_") and hasattr(getattr(module, name), "flpoc_impl"):
                offered = getattr(module, name)() if not inspect.signature(getattr(module, name)).parameters else ()
                found.setdefault(name, []).extend(getattr(one, "name", "") or str(one) for one in offered)
    return found


def _room(module: ModuleType) -> Iterator[str]:
    yield from (f"### {module.__name__}", "", *prose(module.__doc__ or ""), *_constants(module))
    public = getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")])
    for name, found in vars(module).items():
        own = getattr(found, "__module__", "") == module.__name__ or hasattr(module, "__all__")
        if not own or name not in public or not getattr(found, "__doc__", ""):
            continue
        if inspect.isclass(found):
            yield from _class(name, found, 4)
        elif inspect.isfunction(found):
            yield from (f"#### {name}", "", *_function(name, found))


def _constants(module: ModuleType) -> Iterator[str]:
    """A table of what stands in a module below a comment that begins with ``#:``."""
    source = inspect.getsource(module)
    lines = source.splitlines()
    rows = []
    for node in ast.parse(source).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if not isinstance(target, ast.Name) or target.id.startswith("_"):
            continue
        above = list(itertools.takewhile(lambda line: line.startswith("#: "), reversed(lines[: node.lineno - 1])))
        if above:
            text = " ".join(line.removeprefix("#: ") for line in reversed(above))
            value = ast.unparse(node.value)  # type: ignore[attr-defined]  # both kinds of assignment have one
            rows.append((code(target.id), code(value), "".join(prose(text))))
    yield from table(("name", "value", "meaning"), rows) if rows else ()


def _class(name: str, cls: type, level: int) -> Iterator[str]:
    sign = "#" * level
    told = attribute_texts(cls) if attrs.has(cls) else {}
    text = inspect.cleandoc(cls.__doc__ or "")
    yield from (f"{sign} {name}", "", *prose(text.partition("Attributes:")[0] if told else text))
    if told:
        rows = [
            (code(one.name), code(one.type), _python_default(one), told[one.name])
            for one in attrs.fields(cls)
            if one.name in told
        ]
        yield from table(("field", "type", "default", "meaning"), rows)
    if issubclass(cls, enum.Enum):
        yield from (f"One of {', '.join(code(one.name) for one in cls)}.", "")
        return
    if not told and inspect.isfunction(made := vars(cls).get("__init__")) and made.__doc__:
        yield from (f"{sign}# How to make a {name}", "", *_function(name, made))
    yield from _methods(name, cls, level)


def _methods(name: str, cls: type, level: int) -> Iterator[str]:
    sign = "#" * level
    for method, value in vars(cls).items():
        function = getattr(value, "__func__", value)
        if not method.startswith("_") and inspect.isfunction(function) and function.__doc__:
            must = " (to be written by a plugin)" if getattr(function, "__isabstractmethod__", False) else ""
            yield from (f"{sign}# {name}.{method}{must}", "", *_function(method, function))


def _function(name: str, function: Any) -> Iterator[str]:
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(function)))  # annotations are kept as text
    yield from ("```text", f"{name}{text}", "```", "", *prose(function.__doc__ or ""))


def settings() -> Iterator[str]:
    from flpoc.jobs.code import CodeRef
    from flpoc.plugins import OFFERS
    from flpoc.provision.kit_settings import KitSettings
    from flpoc.workflows.schedules import LrSchedule
    from flpoc.workflows.settings import CrossSite

    yield from ("# Settings", "", "## Of components", "")
    yield "What a job, a project or a site's policy can set for a component that it names."
    for module in plugin_modules():
        for name, function in vars(module).items():
            if not (hasattr(function, "flpoc_impl") and name.removeprefix("flpoc_") in OFFERS):
                continue
            for one in function():
                kind = name.removeprefix("flpoc_")
                yield from ("", f"### {one.name} ({kind})", "", f"{one.summary}.", "", *fields(one.settings))
    yield from ("", "### In settings of others", "")
    for cls in (CodeRef, CrossSite, LrSchedule):
        yield from (f"`{cls.__name__}`: {inspect.cleandoc(cls.__doc__ or '').splitlines()[0]}", "", *fields(cls))
    yield from ("## The user's configuration", "", "`~/.flpoc/config.conf`; `flpoc config` shows and changes it.", "")
    yield from _keys(meanings.CONFIGURATION)
    yield from ("## The project file", "", "`project.yml`, for the whole project:", "", *_keys(meanings.PROJECT))
    yield from ("For each participant:", "", *_keys(meanings.PARTICIPANT))
    yield from ("## A site's policy", "", "`local/policy.json` in a site's kit; the site's owner decides what it says.")
    yield from ("", *_keys(meanings.POLICY), "## The server's policy", "", "`local/policy.json` in the server's kit.")
    yield from ("", *_keys(meanings.SERVER_POLICY), "## The settings of a kit", "")
    yield from ("In `startup/`; signed, not to be changed.", "")
    yield from fields(KitSettings)


def _keys(texts: Mapping[str, str]) -> Iterator[str]:
    yield from table(("key", "meaning"), [(code(key), text) for key, text in texts.items()])


def job_file() -> Iterator[str]:
    from flpoc.filtering import FilterSpec
    from flpoc.jobs.folder import JOB_FILES
    from flpoc.jobs.spec import JobSpec, ScriptSpec, TimeoutSpec

    yield from ("# The job file", "", f"A job folder has one of {', '.join(map(code, JOB_FILES))}, and its code in")
    yield from ("`code/`. How to write one is in [Write a job](../how-to/write-a-job.md).", "")
    yield from fields(JobSpec)
    yield from ("## What a site runs", "", "These keys stand at the top level, for all sites, or below `scripts.SITE`.")
    yield from ("`cpus`, `memory_gib` and `gpus` stand in `needs { }`; below `scripts.SITE` they need not.", "")
    yield from fields(ScriptSpec)
    yield from ("## Filters", "", "An entry of `filters` is a name, or:", "", *fields(FilterSpec))
    yield from ("## Time-outs", "", "Below `timeouts`; seconds, or a number with a unit (`10 m`).", "")
    yield from fields(TimeoutSpec)


def errors() -> Iterator[str]:
    import flpoc.errors

    yield from ("# Errors", "", "A command that fails says what is wrong, what to do about it, and a code that stays")
    yield "the same between versions; the code decides the exit status. With `--format json` all of it is one JSON"
    yield from ("document on standard output. Ctrl-C ends a command with 130.", "", "## Codes", "")
    status = flpoc.errors.EXIT_STATUS
    rows = [
        (code(name), "-" if text.startswith("A finding") else str(status.get(name, 1)), text)
        for name, text in sorted(meanings.CODES.items())
    ]
    yield from table(("code", "exit status", "meaning"), rows)
    yield from ("## Classes", "", "In `flpoc.errors`:", "")
    family = inspect.cleandoc(flpoc.errors.__doc__ or "").partition("FlpocError")[2].partition("\n\n")[0]
    yield from ("```text", *f"FlpocError{family}".splitlines(), "```", "")


def files_and_environment() -> Iterator[str]:
    yield from ("# Files and environment variables", "", "## Variables that you set", "")
    yield from table(("variable", "meaning"), [(code(key), text) for key, text in meanings.USER_VARIABLES.items()])
    yield from ("## Variables that flpoc sets", "")
    yield from table(("variable", "meaning"), [(code(key), text) for key, text in meanings.JOB_VARIABLES.items()])
    yield from ("## Files", "", "`WORKSPACE` is that of the proof of concept, `OUTPUT` the folder of a download.", "")
    yield from table(("file", "meaning"), [(code(key), text) for key, text in meanings.FILES.items()])


def client() -> Iterator[str]:
    import flpoc.client
    from flpoc.client import lightning, tracking

    yield from ("# What a training script imports", "", *prose(flpoc.client.__doc__ or ""))
    for name in flpoc.client.__all__:
        found = getattr(flpoc.client, name)
        yield from _class(name, found, 2) if inspect.isclass(found) else (f"## {name}", "", *_function(name, found))
    yield from ("## flpoc.client.lightning", "", *prose(lightning.__doc__ or ""))
    yield from ("### patch", "", *_function("patch", lightning.patch))
    yield from ("## flpoc.client.tracking", "", *prose(tracking.__doc__ or ""))
    for name in tracking.__all__:
        yield from (*_class(name, getattr(tracking, name), 3), *_methods(name, getattr(tracking, name), 4))


def session() -> Iterator[str]:
    import flpoc.session

    yield from ("# The operator's Python API", "", *prose(flpoc.session.__doc__ or ""))
    yield from _class("Session", flpoc.session.Session, 2)
    for part in (flpoc.session.JobCalls, flpoc.session.OperatorCalls, flpoc.session.Connection):
        yield from ("", *prose(part.__doc__ or ""))
        yield from _methods("Session", part, 2)
    yield from ("## new_secure_session", "", *_function("new_secure_session", flpoc.session.new_secure_session))


def recipe() -> Iterator[str]:
    import flpoc.recipe
    import flpoc.recipe.utils

    yield from ("# Recipes", "", *prose(flpoc.recipe.__doc__ or ""))
    yield "How to use them is in [Use a recipe](../how-to/use-a-recipe.md); each algorithm has a page with its source:"
    pages = {one: one.read_text(encoding="utf-8").partition("\n")[0] for one in sorted((HERE / "recipes").glob("*.md"))}
    yield ", ".join(f"[{title.removeprefix('# ')}](recipes/{page.name})" for page, title in pages.items()) + "."
    for name in flpoc.recipe.__all__:
        found = getattr(flpoc.recipe, name)
        if not inspect.isclass(found):
            yield from ("", f"## {name}", "", *_function(name, found))
            continue
        yield from ("", *_class(name, found, 2))
        if not attrs.has(found) and not issubclass(found, enum.Enum):
            yield from (f"### How to make a {name}", "", "```text", *_call(name, found), "```", "")
    yield from ("", "## flpoc.recipe.utils", "", *prose(flpoc.recipe.utils.__doc__ or ""))
    names = (
        "add_cross_site_evaluation", "add_final_global_evaluation", "add_experiment_tracking", "set_per_site_config",
        "set_recipe_meta",
    )  # fmt: skip
    for name in names:
        yield from ("", f"### {name}", "", *_function(name, getattr(flpoc.recipe.utils, name)))


def _call(name: str, cls: type) -> Iterator[str]:
    """How a class is called, a line for each parameter."""
    yield f"{name}("
    for one in inspect.signature(cls).parameters.values():
        text = re.sub(r": '([^']*)'", r": \1", str(one))  # annotations are kept as text
        yield f"    {text},"
    yield ")"


# -- what the source says


def undocumented() -> list[str]:
    """Codes and variables in the source that :mod:`meanings` does not explain, and what it explains in vain."""
    texts = {
        str(node.value)
        for folder in SOURCES
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
    }
    words = {text for text in texts if re.fullmatch("[A-Z]+(_[A-Z]+)*", text)}
    variables = {word for word in words if word.startswith("FLPOC_") or word == "NO_COLOR"} - meanings.NO_VARIABLES
    codes = {word for word in words if "_" in word} - variables - meanings.NO_VARIABLES - meanings.NO_CODES
    explained = {*meanings.USER_VARIABLES, *meanings.JOB_VARIABLES}
    return [
        *(f"{one}: in the source, but not in docs/reference/meanings.py" for one in sorted(codes - {*meanings.CODES})),
        *(f"{one}: in docs/reference/meanings.py, but not in the source" for one in sorted({*meanings.CODES} - words)),
        *(f"{one}: the variable is not documented" for one in sorted(variables - explained)),
        *(f"{one}: a variable that the source does not know" for one in sorted(explained - variables)),
    ]


def main(check: bool) -> int:
    wrong = undocumented()
    for name, text in pages().items():
        path = HERE / name
        if check and (not path.is_file() or path.read_text(encoding="utf-8") != text):
            wrong.append(f"docs/reference/{name}: not what the source says; `make docs` writes it anew")
        elif not check:
            path.write_text(text, encoding="utf-8")
    print("\n".join(wrong), file=sys.stderr, end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
