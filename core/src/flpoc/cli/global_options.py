"""Options that every command has, wherever on the line they stand."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import click

from flpoc.cli.options import Number, canonical

FORMAT_HELP = "How results are written: txt, json, jsonl (streams only), or the name of a plugin's format."
TIMEOUT_HELP = "How long to try to reach the server."
SCHEMA_HELP = "Print what a command takes and does as JSON, and exit."


@attrs.frozen
class GlobalOptions:
    """What the user said about the whole command line.

    Attributes:
        format: Name of the output format, or None for the default.
        connect_timeout: Seconds.
        schema: Print the command's schema instead of running it.
        words: The line without these options.
        problem: What is wrong with these options; told in the format that they name.
    """

    format: str | None
    connect_timeout: float
    schema: bool
    words: tuple[str, ...]
    problem: click.UsageError | None = None


def options_for_help() -> list[click.Option]:
    """The same options as click knows them, so that ``flpoc --help`` lists them."""
    return [
        click.Option(["--format"], metavar="NAME", default="txt", show_default=True, help=FORMAT_HELP),
        click.Option(["--connect-timeout"], metavar="SEC", default="5.0", show_default=True, help=TIMEOUT_HELP),
        click.Option(["--schema"], is_flag=True, help=SCHEMA_HELP),
        click.Option(["--version", "-V"], is_flag=True, help="Print the version and exit."),
    ]


def take_globals(line: Sequence[str]) -> GlobalOptions:
    """Take the global options out of a command line, up to ``--``."""
    rest: list[str] = []
    given: dict[str, str] = {}
    problems: list[click.UsageError] = []
    schema = version = False
    words = iter(line)
    for word in words:
        if word == "--":
            rest += [word, *words]
            break
        head, equals, tail = word.partition("=")
        name = canonical(head)
        if name == "--schema" and not equals:
            schema = True
        elif name in ("--version", "-V") and not equals and not _has_command(rest):
            version = True
        elif name not in ("--format", "--connect-timeout"):
            rest.append(word)
        else:
            _keep(given, name, tail if equals else next(words, ""), problems)
    timeout = _seconds(given.get("--connect-timeout", "5.0"), problems)
    asked = ("version",) if version else tuple(rest)
    return GlobalOptions(given.get("--format"), timeout, schema, asked, next(iter(problems), None))


def _has_command(words: Sequence[str]) -> bool:
    return any(not word.startswith("-") for word in words)


def _keep(given: dict[str, str], name: str, value: str, problems: list[click.UsageError]) -> None:
    if not value or value.startswith("--"):
        problems.append(click.UsageError(f"Option {name!r} requires a value."))
    elif name in given:
        problems.append(click.UsageError(f"Option {name!r} is given twice."))
    else:
        given[name] = value


def _seconds(text: str, problems: list[click.UsageError]) -> float:
    try:
        return float(Number(float, low=0, above=True, high=86400).read(text, "--connect-timeout"))
    except click.UsageError as error:
        problems.append(error)
        return 0.0
