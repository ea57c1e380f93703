"""The words that say whom a command of ``flpoc system`` is about: ``server``, ``client NAME ...``, ``all``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from flpoc.cli import suggest
from flpoc.errors import UsageError, did_you_mean
from flpoc.formatting import Table

#: More sites do not fit beside each other.
_MOST_COLUMNS = 6
TARGETS = ("server", "client", "all")


def target_arguments(*, required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the arguments TARGET and NAME... to a command."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        some = click.argument("names", metavar="[NAME]...", nargs=-1, callback=_names, shell_complete=suggest.sites)
        command = some(command)
        default: dict[str, Any] = {} if required else {"default": "all"}
        word = click.argument(
            "target",
            metavar="TARGET" if required else "[TARGET]",
            required=required,
            callback=_target,
            shell_complete=suggest.targets,
            **default,
        )
        return word(command)

    return add


def _target(_: click.Context, __: click.Parameter, value: str) -> str:
    if value not in TARGETS:
        raise UsageError(
            f"{value[:80]!r} is not server, client or all",
            hint=did_you_mean(value, TARGETS, "for one site: client NAME"),
            data={"choices": list(TARGETS)},
        )
    return value


def _names(_: click.Context, __: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    from flpoc.session import check_site

    return tuple(check_site(name) for name in value)


def answer_table(answers: Mapping[str, Any]) -> Table:
    """Answers of several sites as one table: a column a site while they are few, else a row a site and value."""
    rows = [row for site, answer in answers.items() for row in _rows(site, answer, "")]
    if not 1 < len(answers) <= _MOST_COLUMNS:
        return Table(("SITE", "WHAT", "VALUE"), tuple(rows))
    found: dict[str, dict[str, str]] = {}
    for site, what, value in rows:
        found.setdefault(what, {})[site] = value
    columns = tuple(answers)
    return Table(
        ("WHAT", *columns), tuple((what, *(said.get(site, "") for site in columns)) for what, said in found.items())
    )


def _rows(site: str, answer: Any, prefix: str) -> list[tuple[str, str, str]]:
    if not isinstance(answer, Mapping):
        return [(site, prefix or "-", _word(answer))]
    found: list[tuple[str, str, str]] = []
    for key, value in answer.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        found += _rows(site, value, name) if isinstance(value, Mapping) and value else [(site, name, _word(value))]
    return found


def _word(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def refusals(answers: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The sites that did not do what was ordered, and why."""
    return {name: one["error"] for name, one in answers.items() if isinstance(one, Mapping) and "error" in one}
