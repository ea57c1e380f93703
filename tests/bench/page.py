"""The table as a page of the documentation shows it, between two markers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from figures import Column, better
from rows import ROWS

BEGIN = "<!-- the table begins; it is written by tests/bench/run.py -->"
END = "<!-- the table ends -->"
CIRCUMSTANCES = "Circumstances"
#: What is said below a section that was measured without the others.
OF_A_SECTION = ("date", "load average at start", "load average at end")


def has_place(page: Path) -> bool:
    """Whether a page has the markers."""
    return page.is_file() and END in page.read_text(encoding="utf-8").partition(BEGIN)[2]


def write_page(page: Path, columns: Sequence[Column], run: Mapping[str, Any]) -> None:
    """Put the tables between the markers of a page; what stands around them stays.

    Of a run that has measured some sections only, these take the place of those that the page has.
    """
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    inside, _, after = rest.partition(END)
    tables = {section: "\n".join(_section(section, columns)) for section in _sections(columns, run)}
    if is_whole(run):
        tables[CIRCUMSTANCES] = "\n".join(_circumstances(run))
    else:
        said = f"Measured by itself: {', '.join(f'{key} {run[key]}' for key in OF_A_SECTION if key in run)}.\n"
        tables = {**_tables_of(inside), **{section: text + f"\n{said}" for section, text in tables.items()}}
    text = "".join(f"### {section}\n\n{table}\n" for section, table in tables.items())
    page.write_text(f"{before}{BEGIN}\n\n{text}{END}{after}", encoding="utf-8")


def is_whole(run: Mapping[str, Any]) -> bool:
    """Whether a run was of all benches."""
    return not str(run.get("kind", "")).startswith("only ")


def _tables_of(text: str) -> dict[str, str]:
    """What a page has of each section, without its heading."""
    parts = [part.partition("\n") for part in text.strip("\n").split("### ")[1:]]
    return {section: f"{table.strip(chr(10))}\n" for section, _, table in parts}


def _sections(columns: Sequence[Column], run: Mapping[str, Any]) -> list[str]:
    """All sections of a whole run; of another one those that it has measured."""
    rows = [row for row in ROWS.values() if is_whole(run) or columns[0].figure(row.key)]
    return list(dict.fromkeys(row.section for row in rows))


def _section(section: str, columns: Sequence[Column]) -> Iterator[str]:
    """The table of a section: all its rows, and whoever has something in them; what was not measured is a dash."""
    rows = [row for row in ROWS.values() if row.section == section]
    first, *others = columns
    others = [other for other in others if any(other.figure(row.key) for row in rows)]
    titles = [first.title or first.subject]
    titles += [title for other in others for title in (other.title or other.subject, "times better")]
    yield f"| what | {' | '.join(titles)} | unit | limit |"
    yield f"|---|{'---:|' * len(titles)}---|---:|"
    for row in rows:
        cells = [first.cell(row.key)]
        for other, ratio in zip(others, better([first, *others], row), strict=True):
            cells += [other.cell(row.key), ratio]
        yield f"| {row.what} | {' | '.join(cells)} | {row.unit} | {row.limit} |"
    yield ""


def _circumstances(run: Mapping[str, Any]) -> Iterator[str]:
    yield "| | |"
    yield "|---|---|"
    for key, value in run.items():
        yield f"| {key} | {value} |"
    yield ""
