"""What a bench measures, and how it is shown: one table for people, one document for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs


@attrs.frozen
class Figure:
    """One measured number.

    Attributes:
        key: Its name for programs; the same thing has the same key in every column.
        what: Its name for people.
        value: The number; None when it could not be measured.
        unit: What the number counts.
        limit: What the design demands, ``<= 0.2`` or ``>= 250``; empty when nothing.
        note: How it was measured, or single runs of a median.
        error: Why it could not be measured.
    """

    key: str
    what: str
    value: float | None
    unit: str
    limit: str = ""
    note: str = ""
    error: str = ""

    @property
    def bound(self) -> float:
        return float(self.limit.split()[1])

    @property
    def holds(self) -> bool | None:
        """Whether the limit is kept; None without limit or number."""
        if not self.limit or self.value is None:
            return None
        return self.value <= self.bound if self.limit.startswith("<=") else self.value >= self.bound

    @property
    def ratio(self) -> float | None:
        """The number in units of its limit."""
        return self.value / self.bound if self.limit and self.value is not None else None


@attrs.frozen
class Column:
    """All figures of one subject: flpoc, the machine under it, or a comparable system."""

    subject: str
    figures: Sequence[Figure]

    @property
    def failed(self) -> bool:
        return any(one.error for one in self.figures)


def spread(values: Sequence[float]) -> str:
    """The single runs behind a median."""
    return "runs: " + " ".join(shown(one) for one in values)


def shown(value: float | None) -> str:
    """Three significant digits, and no exponent."""
    if value is None:
        return "-"
    if abs(value) >= 1000 or value == int(value):
        return f"{value:,.0f}"
    digits = sum(abs(value) < bound for bound in (100, 10, 1, 0.1))
    return f"{value:.{digits}f}"


def verdict(one: Figure) -> str:
    if one.error:
        return "FAILED"
    return {None: "", True: "ok", False: "MISSED"}[one.holds]


def table(columns: Sequence[Column], run: Mapping[str, Any]) -> str:
    """The table; the first column is the one that has limits, further ones stand beside it."""
    first, *others = columns
    titles = ["what", first.subject, *(other.subject for other in others), "unit", "limit", "x limit", "", "note"]
    rows = [titles]
    for one in first.figures:
        beside = [shown(_value(other, one.key)) for other in others]
        ratio = shown(one.ratio) if one.ratio is not None else ""
        note = one.error.splitlines()[0] if one.error else one.note
        rows.append([one.what, shown(one.value), *beside, one.unit, one.limit, ratio, verdict(one), note])
    widths = [max(len(row[place]) for row in rows) for place in range(len(titles) - 1)]
    lines = [f"{key}: {value}" for key, value in run.items()] + [""]
    lines += ["  ".join(_cells(row, widths)).rstrip() for row in rows]
    lines += list(_errors(columns))
    return "\n".join(lines)


def _cells(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    for place, text in enumerate(row):
        if place == len(widths):
            yield text
        else:
            yield text.ljust(widths[place]) if place == 0 else text.rjust(widths[place])


def _errors(columns: Sequence[Column]) -> Iterator[str]:
    for column in columns:
        for one in column.figures:
            if "\n" in one.error:
                yield f"\n{column.subject}: {one.what}:\n{one.error}"


def _value(column: Column, key: str) -> float | None:
    return next((one.value for one in column.figures if one.key == key), None)


def document(columns: Sequence[Column], run: Mapping[str, Any]) -> dict[str, Any]:
    """The same for programs."""
    return {
        "run": dict(run),
        "columns": {
            column.subject: [
                {**attrs.asdict(one), "ratio": one.ratio, "holds": one.holds} for one in column.figures
            ]
            for column in columns
        },
    }
