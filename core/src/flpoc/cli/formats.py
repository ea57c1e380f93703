"""The formats of core: text for people, one JSON document, JSON objects a line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from flpoc.cli.output import lines, one_line
from flpoc.errors import FlpocError
from flpoc.formatting import Formatter, Report, Table

SCHEMA_VERSION: Final = "1"


class TextFormatter(Formatter):
    """Lines and aligned columns; narrower than its table, a terminal gets one line a value."""

    def report(self, report: Report) -> str:
        parts = report.text or tuple(_readable(report.data))
        return "\n".join(draw(part) if isinstance(part, Table) else lines(part) for part in parts)

    def error(self, error: FlpocError) -> tuple[str, str]:
        said = [lines(error.message)]
        if error.hint:
            said.append(f"Hint: {lines(error.hint)}")
        said.append(f"Code: {error.code} (exit {error.exit_status})")
        return "", "\n".join(said)


class JsonFormatter(Formatter):
    """One JSON object, the same envelope for every command."""

    def report(self, report: Report) -> str:
        if report.exit_status and report.code:
            return _json(_failure(report.exit_status, report.code, headline(report), report.hint, report.data))
        document = {
            "schema_version": SCHEMA_VERSION,
            "status": "ok",
            "exit_code": report.exit_status,
            "data": report.data,
        }
        said = {"code": report.code, "hint": report.hint}
        return _json({**document, **{key: value for key, value in said.items() if value}})

    def error(self, error: FlpocError) -> tuple[str, str]:
        return _json(_failure(error.exit_status, error.code, error.message, error.hint, error.data)), ""


class JsonLinesFormatter(Formatter):
    """One JSON object a line; the last has ``terminal`` true."""

    streams = True

    def record(self, record: dict[str, Any]) -> str:
        return _json({"schema_version": SCHEMA_VERSION, **record})

    def report(self, report: Report) -> str:
        says = dict(report.data) if isinstance(report.data, Mapping) else {"data": report.data}
        last = {"schema_version": SCHEMA_VERSION, **says, "event": "terminal", "terminal": True}
        if report.code:
            last["error_code"] = report.code
        return _json({**last, "exit_code": report.exit_status})

    def error(self, error: FlpocError) -> tuple[str, str]:
        failure = _failure(error.exit_status, error.code, error.message, error.hint, error.data)
        return _json({**failure, "event": "terminal", "terminal": True}), ""


def headline(report: Report) -> str:
    """The first line of what a report says to people."""
    return next((one.splitlines()[0] for one in report.text if isinstance(one, str) and one), report.code)


def _failure(exit_status: int, code: str, message: str, hint: str, data: Any) -> dict[str, Any]:
    failure = {
        "schema_version": SCHEMA_VERSION,
        "status": "error",
        "exit_code": exit_status,
        "error_code": code,
        "message": message,
        "hint": hint,
    }
    return failure if data is None else {**failure, "data": data}


def _json(document: Mapping[str, Any]) -> str:
    # ASCII, whatever the locale: a reader gets every letter back, a terminal no control character
    return json.dumps(_strict(document), default=str, allow_nan=False)


def _strict(value: Any) -> Any:
    """The same data without what JSON has no word for: NaN and infinity become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _strict(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(one) for one in value]
    return value


def draw(table: Table, width: int | None = None) -> str:
    """A table as text: aligned columns, or a value a line where columns do not fit.

    Args:
        table: What to draw; control characters in it are made visible.
        width: Columns there are; found out by default, and unlimited when nobody looks at a terminal.
    """
    head = [one_line(heading) for heading in table.headings]
    rows = [[one_line(cell) for cell in row] for row in table.rows]
    title = [one_line(table.title)] if table.title else []
    widths = [max((cells_of(row[at]) for row in [head, *rows] if at < len(row)), default=0) for at in range(len(head))]
    limit = _terminal_width() if width is None else width
    if limit and sum(widths) + 2 * (len(widths) - 1) > limit:
        return "\n".join([*title, *_stacked(head, rows)])
    return "\n".join([*title, *(_aligned(row, widths) for row in [head, ["-" * one for one in widths], *rows])])


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell + " " * (width - cells_of(cell)) for cell, width in zip(row, widths, strict=False)).rstrip()


def _stacked(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for number, row in enumerate(rows):
        if number:
            yield ""
        for heading, cell in zip(head, row, strict=False):
            yield f"{heading}: {cell}"


def cells_of(text: str) -> int:
    """How many columns of a terminal *text* takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(one) else 2 if east_asian_width(one) in "WF" else 1 for one in text)


def _terminal_width() -> int:
    import shutil
    import sys

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 0


def _readable(data: Any) -> Iterator[str | Table]:
    """Something that people can read, of data that came without text."""
    if isinstance(data, Mapping):
        width = max((cells_of(one_line(key)) for key in data), default=0)
        for key, value in data.items():
            yield f"{one_line(key) + ':':<{width + 1}} {one_line(_cell(value))}"
    elif isinstance(data, (list, tuple)) and data and all(isinstance(row, Mapping) for row in data):
        headings = tuple(dict.fromkeys(str(key) for row in data for key in row))
        yield Table(headings, tuple(tuple(_cell(row.get(key)) for key in headings) for row in data))
    elif isinstance(data, (list, tuple)):
        yield from (one_line(_cell(one)) for one in data)
    elif data is not None:
        yield lines(str(data))


def _cell(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)) and not any(isinstance(one, (Mapping, list, tuple)) for one in value):
        return ", ".join(str(one) for one in value)
    if isinstance(value, (Mapping, list, tuple)):
        return json.dumps(value, default=str, ensure_ascii=False)
    return str(value)
