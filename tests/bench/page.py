"""The table as a page of the documentation shows it, between two markers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from figures import Column, better
from rows import ROWS, Row

BEGIN = "<!-- the table begins; it is written by tests/bench/run.py -->"
END = "<!-- the table ends -->"


def has_place(page: Path) -> bool:
    """Whether a page has the markers."""
    return page.is_file() and END in page.read_text(encoding="utf-8").partition(BEGIN)[2]


def write_page(page: Path, columns: Sequence[Column], run: Mapping[str, Any]) -> None:
    """Put the table between the markers of a page; what stands around them stays."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    lines = [BEGIN, "", *_tables(columns), *_circumstances(run), "", END]
    page.write_text(before + "\n".join(lines) + after, encoding="utf-8")


def _tables(columns: Sequence[Column]) -> Iterator[str]:
    """All rows, one table for each section; what was not measured is a dash."""
    for section in dict.fromkeys(row.section for row in ROWS.values()):
        rows = [row for row in ROWS.values() if row.section == section]
        yield from _section(section, rows, columns)


def _section(section: str, rows: Sequence[Row], columns: Sequence[Column]) -> Iterator[str]:
    first, *others = columns
    titles = [first.title or first.subject]
    titles += [title for other in others for title in (other.title or other.subject, "times better")]
    yield f"### {section}"
    yield ""
    yield f"| what | {' | '.join(titles)} | unit | limit |"
    yield f"|---|{'---:|' * len(titles)}---|---:|"
    for row in rows:
        cells = [first.cell(row.key)]
        for other, ratio in zip(others, better(columns, row), strict=True):
            cells += [other.cell(row.key), ratio]
        yield f"| {row.what} | {' | '.join(cells)} | {row.unit} | {row.limit} |"
    yield ""


def _circumstances(run: Mapping[str, Any]) -> Iterator[str]:
    yield "### Circumstances"
    yield ""
    yield "| | |"
    yield "|---|---|"
    for key, value in run.items():
        yield f"| {key} | {value} |"
