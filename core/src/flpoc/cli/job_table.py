"""Jobs as a table that fits into the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from flpoc.cli.formats import cells_of, terminal_width
from flpoc.cli.job_text import seconds_text
from flpoc.formatting import Table

#: An id is not shown shorter than this.
_LEAST_ID: Final = 8


def job_table(
    rows: Sequence[Mapping[str, Any]], duration: str, *, detailed: bool = False, width: int | None = None
) -> list[str | Table]:
    """Jobs as a table, and what does not fit into it as lines below.

    Args:
        rows: The jobs.
        duration: The heading of how long each has taken.
        detailed: With who submitted each.
        width: Columns there are; found out by default, and unlimited when nobody looks at a terminal.
    """
    room = terminal_width() if width is None else width
    ids = [str(row["job_id"]) for row in rows]
    waits = [str(row.get("waiting_for") or "").removeprefix("waiting for ") for row in rows]
    cells = [_cells(row, detailed=detailed) for row in rows]
    heads = ("JOB ID", "NAME", "STATUS", "SUBMIT TIME", duration, *(("SUBMITTER",) if detailed else ()))
    whole = _table(heads, ids, cells, waits)
    if not room or _width(whole) <= room:
        return [whole]
    ids = [shortest(one, ids) for one in ids]
    short = _table(heads, ids, cells, waits)
    without = _table(heads, ids, cells, [""] * len(rows))
    if _width(short) <= room or _width(without) > room:
        return [short]
    return [without, *(f"{one} waits for {why}" for one, why in zip(ids, waits, strict=True) if why)]


def _table(heads: Sequence[str], ids: Sequence[str], cells: Sequence[tuple[str, ...]], waits: Sequence[str]) -> Table:
    waiting = any(waits)
    rows = ((job, *rest, *((why or "-",) if waiting else ())) for job, rest, why in zip(ids, cells, waits, strict=True))
    return Table((*heads, *(("WAITING FOR",) if waiting else ())), tuple(rows))


def _width(table: Table) -> int:
    columns = zip(table.headings, *table.rows, strict=True)
    return sum(max(map(cells_of, column)) + 2 for column in columns) - 2


def _cells(row: Mapping[str, Any], *, detailed: bool) -> tuple[str, ...]:
    seconds = row.get("duration_s")
    return (
        str(row["job_name"]),
        str(row["status"]),
        str(row["submit_time"]).partition(".")[0].removesuffix("Z") + "Z",
        "-" if seconds is None else seconds_text(seconds),
        *((str(row.get("submitter_name") or "-"),) if detailed else ()),
    )


def shortest(one: str, ids: Sequence[str]) -> str:
    """The shortest beginning of an id that none of the others has."""
    for size in range(_LEAST_ID, len(one)):
        if sum(other.startswith(one[:size]) for other in ids) < 2:
            return one[:size]
    return one
