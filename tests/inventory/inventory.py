"""The inventory, read into classes."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any, Literal

import attrs

from flpoc.settings import structure

PATH = Path(__file__).parent / "commands.toml"


@attrs.frozen
class DocumentedOption:
    """An option as it is documented; what each key means is said in the file."""

    spellings: tuple[str, ...]
    takes: Literal["flag", "value", "words", "optional"]
    required: bool = False
    default: Any = None
    without: str = ""
    bare: Any = None
    repeatable: bool = False
    choices: tuple[str, ...] = ()
    rulings: tuple[int, ...] = ()
    note: str = ""


@attrs.frozen
class DocumentedArgument:
    """A word that a command takes by its place."""

    name: str
    required: bool = True
    words: bool = False
    choices: tuple[str, ...] = ()
    note: str = ""


@attrs.frozen
class DocumentedCommand:
    """A command as it is documented, with what it shares with others."""

    path: str
    output: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    built: Literal["now", "later", "never"] = "now"
    server: bool = False
    modes: tuple[str, ...] = ()
    errors: dict[str, int] = attrs.field(factory=dict)
    unused: tuple[str, ...] = ()
    exit: tuple[int, ...] = ()
    facts: dict[str, bool] = attrs.field(factory=dict)
    argument: tuple[DocumentedArgument, ...] = ()
    option: tuple[DocumentedOption, ...] = ()
    words: tuple[str, ...] = ()
    common: tuple[str, ...] = ()
    rulings: tuple[int, ...] = ()
    note: str = ""


@cache
def read() -> tuple[tuple[DocumentedCommand, ...], tuple[DocumentedOption, ...]]:
    """All commands, and the options that every one of them has."""
    data = tomllib.loads(PATH.read_text(encoding="utf-8"))
    commands = tuple(_with_shared(one, data["common"]) for one in data["command"])
    everywhere = tuple(structure(one, DocumentedOption, where=one["spellings"][0]) for one in data["global"])
    return commands, everywhere


def _with_shared(command: dict[str, Any], shared: dict[str, Any]) -> DocumentedCommand:
    found = dict(command)
    for name in command.get("common", ()):
        found["option"] = [*found.get("option", ()), *shared[name].get("option", ())]
        found["unused"] = [*found.get("unused", ()), *shared[name].get("unused", ())]
        found["errors"] = {**shared[name].get("errors", {}), **found.get("errors", {})}
    return structure(found, DocumentedCommand, where=command["path"])
