"""The formats of core: text for people, one JSON document, JSON objects a line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from flpoc.cli import colours
from flpoc.cli.output import lines, one_line
from flpoc.errors import FlpocError
from flpoc.formatting import SCHEMA_VERSION, Formatter, Report, Table, envelope, plain_data

#: A column is not made narrower than this.
_LEAST_FOLDED: Final = 24


class TextFormatter(Formatter):
    """Lines and aligned columns; a narrow terminal gets a folded column, or one line a value.

    States, headings and labels are coloured where somebody looks at them.
    """

    def report(self, report: Report) -> str:
        parts = report.text or tuple(_readable(report.data))
        coloured = colours.wanted(sys.stdout)
        plain = colours.paint_lines if coloured else str
        return "\n".join(
            draw(part, coloured=coloured) if isinstance(part, Table) else plain(lines(part)) for part in parts
        )

    def error(self, error: FlpocError) -> tuple[str, str]:
        said = [lines(error.message)]
        if error.hint:
            said.append(f"Hint: {lines(error.hint)}")
        said.append(f"Code: {error.code} (exit {error.exit_status})")
        text = "\n".join(said)
        return "", colours.paint_error(text) if colours.wanted(sys.stderr) else text


class JsonFormatter(Formatter):
    """One JSON object, the same envelope for every command."""

    def report(self, report: Report) -> str:
        return _json(envelope(report))

    def error(self, error: FlpocError) -> tuple[str, str]:
        return _json(envelope(error)), ""


class JsonLinesFormatter(Formatter):
    """One JSON object a line; the last has ``terminal`` true."""

    streams = True

    def record(self, record: dict[str, Any]) -> str:
        return _json(plain_data({"schema_version": SCHEMA_VERSION, **record}))

    def report(self, report: Report) -> str:
        says = dict(report.data) if isinstance(report.data, Mapping) else {"data": report.data}
        last = {"schema_version": SCHEMA_VERSION, **says, "event": "terminal", "terminal": True}
        if report.code:
            last["error_code"] = report.code
        return _json(plain_data({**last, "exit_code": report.exit_status}))

    def error(self, error: FlpocError) -> tuple[str, str]:
        return _json({**envelope(error), "event": "terminal", "terminal": True}), ""


def core_formatter(name: str) -> Formatter | None:
    """The format *name* of core; None if core has none of this name."""
    kinds: dict[str, type[Formatter]] = {"txt": TextFormatter, "json": JsonFormatter, "jsonl": JsonLinesFormatter}
    return kinds[name]() if name in kinds else None


def _json(document: Mapping[str, Any]) -> str:
    # ASCII, whatever the locale: a reader gets every letter back, a terminal no control character
    return json.dumps(document, allow_nan=False)


def draw(table: Table, width: int | None = None, *, coloured: bool = False) -> str:
    """A table as text: aligned columns, the widest folded if need be, or a value a line where even that does not fit.

    Args:
        table: What to draw; control characters in it are made visible.
        width: Columns there are; found out by default, and unlimited when nobody looks at a terminal.
        coloured: Whether headings and words with a meaning stand out.
    """
    head = [one_line(heading) for heading in table.headings]
    rows = [[one_line(cell) for cell in row] for row in table.rows]
    title = [one_line(table.title)] if table.title else []
    widths = [max((cells_of(row[at]) for row in [head, *rows] if at < len(row)), default=0) for at in range(len(head))]
    limit = terminal_width() if width is None else width
    cell: colours.Painter = colours.paint_word if coloured else str
    heading: colours.Painter = (lambda text: colours.paint(text, colours.BOLD)) if coloured else str
    title = [heading(line) for line in title]
    excess = sum(widths) + 2 * (len(widths) - 1) - limit if limit else 0
    if excess > 0 and (at := _foldable(rows, widths, excess)) is not None:
        widths[at] -= excess
        rows = [line for row in rows for line in _folded(row, at, widths[at])]
    elif excess > 0:
        return "\n".join([*title, *_stacked([heading(one) for one in head], rows, cell)])
    rule = "  ".join("-" * one for one in widths)
    below = colours.paint(rule, colours.DIM) if coloured else rule
    return "\n".join([*title, _aligned(head, widths, heading), below, *(_aligned(row, widths, cell) for row in rows)])


def _foldable(rows: Sequence[Sequence[str]], widths: Sequence[int], excess: int) -> int | None:
    """The widest column, if its cells can be folded until the table fits: words, none of them too long."""
    at = max(range(len(widths)), key=lambda place: widths[place], default=0)
    room = widths[at] - excess if widths else 0
    words = [word for row in rows if at < len(row) for word in row[at].split(" ")]
    return at if room >= _LEAST_FOLDED and all(word.isascii() and len(word) <= room for word in words) else None


def _folded(row: Sequence[str], at: int, width: int) -> Iterator[list[str]]:
    import textwrap

    for number, piece in enumerate(textwrap.wrap(row[at], width, break_on_hyphens=False) if at < len(row) else ()):
        yield [piece if place == at else "" if number else cell for place, cell in enumerate(row)]


def _aligned(row: Sequence[str], widths: Sequence[int], painted: colours.Painter) -> str:
    cells = zip(row, widths, strict=False)
    return "  ".join(painted(cell) + " " * (width - cells_of(cell)) for cell, width in cells).rstrip()


def _stacked(head: Sequence[str], rows: Sequence[Sequence[str]], painted: colours.Painter) -> Iterator[str]:
    for number, row in enumerate(rows):
        if number:
            yield ""
        for heading, cell in zip(head, row, strict=False):
            yield f"{heading}: {painted(cell)}"


def cells_of(text: str) -> int:
    """How many columns of a terminal *text* takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(one) else 2 if east_asian_width(one) in "WF" else 1 for one in text)


def terminal_width() -> int:
    """Columns of the terminal that somebody looks at; 0 if nobody does."""
    import shutil

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
