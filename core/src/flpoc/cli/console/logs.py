"""``tail``, ``head``, ``cat``, ``grep``: over the log of the server or of a site's agent, the one file that is told."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import click

from flpoc.cli.connect import Connection, connects
from flpoc.cli.console.command import console_command
from flpoc.cli.console.names import NOT_HERE
from flpoc.cli.console.targets import SERVER, site_of
from flpoc.cli.options import Number, option
from flpoc.errors import UsageError
from flpoc.formatting import Report

#: Most lines that a service tells of its log.
_MOST: Final = 2000
#: What the log may be called.
_NAMES: Final = ("log.txt", "poc_console.log")
_KINDS: Final = {"target": "service"}
_LINES = Number(int, low=1, high=_MOST)


def _target(_: click.Context, __: click.Parameter, word: str) -> str:
    found = site_of((word,), SERVER)
    if found == "all":
        raise UsageError("one at a time: server, or a site's name")
    return found


def _file(_: click.Context, __: click.Parameter, name: str) -> str:
    if name and name not in _NAMES:
        raise UsageError(f"{name[:80]!r}: {NOT_HERE['ls']}", hint="leave the file out, or call it log.txt")
    return name


def _file_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    named: Callable[..., Any] = click.argument(
        "file", metavar="[log.txt]", required=False, default="", callback=_file, expose_value=False
    )(command)
    return named


_target_argument = click.argument("target", callback=_target)
_lines_option = option("-n", "--lines", type=_LINES, default=10, show_default=True, metavar="N", help="How many lines.")


@console_command("tail", examples=("tail server", "tail site-1 -n 50 log.txt"), verbatim=True, kinds=_KINDS)
@_target_argument
@_file_argument
@_lines_option
@connects
def tail(connection: Connection, target: str, lines: int) -> Report:
    """Show the last lines that the server, or a site's agent, has logged since it began.

    The logs of jobs are shown by get_job_log.
    """
    with connection.open() as session:
        return _said(session.get_site_log(target, tail=lines))


@console_command("head", examples=("head server", "head site-1 -n 3"), verbatim=True, kinds=_KINDS)
@_target_argument
@_file_argument
@_lines_option
@connects
def head(connection: Connection, target: str, lines: int) -> Report:
    """Show the first lines of what the server, or a site's agent, tells of its log: the last 2000 since it began."""
    with connection.open() as session:
        return _said(session.get_site_log(target, tail=_MOST)[:lines])


@console_command("cat", examples=("cat server",), verbatim=True, kinds=_KINDS)
@_target_argument
@_file_argument
@option("-n", "--number", is_flag=True, help="Number the lines.")
@connects
def cat(connection: Connection, target: str, number: bool) -> Report:
    """Show what the server, or a site's agent, tells of its log: the last 2000 lines since it began."""
    with connection.open() as session:
        found = session.get_site_log(target, tail=_MOST)
    return _said([f"{place:>6}  {line}" for place, line in enumerate(found, 1)] if number else found)


@console_command(
    "grep", examples=("grep server connected", "grep site-1 -i error log.txt"), verbatim=True, kinds=_KINDS
)
@_target_argument
@click.argument("pattern")
@_file_argument
@option("-i", "--ignore-case", is_flag=True, help="Take upper and lower case for the same.")
@option("-v", "--invert-match", is_flag=True, help="Show the lines that do not match.")
@option("-n", "--line-number", is_flag=True, help="Number the lines.")
@connects
def grep(  # noqa: PLR0917 - click gives them by name
    connection: Connection, target: str, pattern: str, ignore_case: bool, invert_match: bool, line_number: bool
) -> Report:
    """Show the lines that match PATTERN, of what the server, or a site's agent, tells of its log.

    PATTERN is a regular expression of Python.
    """
    try:
        wanted = re.compile(pattern, re.IGNORECASE if ignore_case else 0)
    except re.error as error:
        raise UsageError(f"{pattern[:80]!r} is no pattern: {error}", hint="put a \\ before . * + ? ( ) [ ]") from None
    with connection.open() as session:
        found = session.get_site_log(target, tail=_MOST)
    matching = [(place, line) for place, line in enumerate(found, 1) if bool(wanted.search(line)) is not invert_match]
    lines = [f"{place}:{line}" if line_number else line for place, line in matching]
    return _said(lines, empty="(no line matches)")


def _said(lines: list[str], *, empty: str = "(no log content)") -> Report:
    return Report(lines, text=("\n".join(lines) or empty,))
