"""Comma-separated values for spreadsheets (RFC 4180, with the line ends of this system)."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from flpoc.errors import FlpocError
from flpoc.formatting import Formatter, Report, envelope, plain_data

#: What begins a formula, also in its wide form.
FORMULAS = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
#: Control characters besides line ends and tabs, and marks that reorder text: these can steer a terminal.
STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class CsvFormatter(Formatter):
    """A line of headings, then lines of the same width."""

    def report(self, report: Report) -> str:
        said = envelope(report)
        return _table(*(_keys(said) if said["status"] == "error" else _rows(said["data"])))

    def error(self, error: FlpocError) -> tuple[str, str]:
        return _table(*_keys(envelope(error))), ""


Lines = tuple[Sequence[str], Iterable[Sequence[Any]]]


def _rows(data: Any) -> Lines:
    """Headings and rows of whatever a command says."""
    if isinstance(data, Mapping):
        return _keys(data)
    found = data if isinstance(data, list) else [] if data is None else [data]
    if found and all(isinstance(row, Mapping) for row in found):
        flat = [dict(_flat(row)) for row in found]
        if headings := list(dict.fromkeys(key for row in flat for key in row)):
            return headings, ([row.get(key) for key in headings] for row in flat)
    return ["value"], ([value] for value in found)


def _keys(said: Mapping[str, Any]) -> Lines:
    return ["key", "value"], _flat(said)


def _flat(data: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Keys and values; those of inner objects have their path as key."""
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_cell(heading) for heading in headings])
    writer.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> str:
    """One cell: text that no spreadsheet and no terminal obeys, everything else as JSON."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return json.dumps(plain_data(value))
    shown = STEERS.sub(lambda found: ascii(found.group())[1:-1], value.replace("\r\n", "\n"))
    return f"'{shown}" if shown.lstrip().startswith(FORMULAS) else shown
