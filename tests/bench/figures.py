"""What a bench measures, and how it is shown: one table for people, one document for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
from rows import ROWS, Row


def _known(_figure: object, _attribute: object, key: str) -> None:
    if key not in ROWS:
        raise ValueError(f"{key}: the table has no such row")


@attrs.frozen
class Figure:
    """One measured number.

    Attributes:
        key: The row that it belongs to; the same in every column.
        value: The number; None when it could not be measured.
        note: How it was measured, or single runs of a median.
        error: Why it could not be measured.
    """

    key: str = attrs.field(validator=_known)
    value: float | None
    note: str = ""
    error: str = ""

    @property
    def row(self) -> Row:
        return ROWS[self.key]

    @property
    def holds(self) -> bool | None:
        """Whether the row's limit is kept; None without limit or number."""
        return self.row.holds(self.value)

    @property
    def ratio(self) -> float | None:
        """The number in units of its limit."""
        return self.value / self.row.bound if self.row.limit and self.value is not None else None


@attrs.frozen
class Column:
    """All figures of one subject: flpoc with the machine under it, or a comparable system.

    Attributes:
        subject: Its name for programs.
        title: Its name for people, with the version where there is one.
    """

    subject: str
    figures: Sequence[Figure]
    title: str = ""

    @property
    def failed(self) -> bool:
        return any(one.error for one in self.figures)

    def figure(self, key: str) -> Figure | None:
        return next((one for one in self.figures if one.key == key), None)

    def value(self, key: str) -> float | None:
        found = self.figure(key)
        return found.value if found else None

    def cell(self, key: str) -> str:
        """What stands in the column: a number, ``failed``, or ``-`` for what it cannot do."""
        found = self.figure(key)
        return "failed" if found and found.error else shown(found.value if found else None)


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


def verdict(one: Figure | None) -> str:
    if one is None:
        return ""
    return "FAILED" if one.error else {None: "", True: "ok", False: "MISSED"}[one.holds]


def measured_rows(columns: Sequence[Column]) -> list[Row]:
    """The rows for which some column has a figure."""
    return [row for row in ROWS.values() if any(column.figure(row.key) for column in columns)]


def better(columns: Sequence[Column], row: Row) -> list[str]:
    """How many times better the first column is than each of the others."""
    ours = columns[0].value(row.key)
    return [shown(row.times_better(ours, other.value(row.key))) for other in columns[1:]]


def table(columns: Sequence[Column], run: Mapping[str, Any]) -> str:
    """The table; limits are for the first column, further ones stand beside it."""
    first, *others = columns
    beside = [title for other in others for title in (other.subject, "x better")]
    lines = [["what", first.subject, *beside, "unit", "limit", "x limit", "", "note"]]
    section = ""
    for row in measured_rows(columns):
        if row.section != section:
            section = row.section
            lines.append([f"-- {section}"])
        one = first.figure(row.key)
        ratios = better(columns, row)
        them = [text for other, ratio in zip(others, ratios, strict=True) for text in (other.cell(row.key), ratio)]
        of_limit = shown(one.ratio) if one and one.ratio is not None else ""
        what, note = row.what.replace("`", ""), _note(one)
        lines.append([what, first.cell(row.key), *them, row.unit, row.limit, of_limit, verdict(one), note])
    head = [f"{key}: {value}" for key, value in run.items()]
    return "\n".join([*head, "", *_aligned(lines), *_errors(columns)])


def _note(one: Figure | None) -> str:
    if one is None:
        return ""
    return one.error.splitlines()[0] if one.error else one.note


def _aligned(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    """Names to the left, numbers to the right, the note as it is; a line of one cell is a heading."""
    cells = [line for line in lines if len(line) > 1]
    widths = [max(len(line[place]) for line in cells) for place in range(len(cells[0]) - 1)]
    for line in lines:
        if len(line) == 1:
            yield line[0]
            continue
        numbers = [text.rjust(width) for text, width in zip(line[1:], widths[1:], strict=False)]
        yield "  ".join([line[0].ljust(widths[0]), *numbers, line[-1]]).rstrip()


def _errors(columns: Sequence[Column]) -> Iterator[str]:
    """What went wrong at length, each once: a bench that fails takes all its rows with it."""
    for column in columns:
        said: dict[str, list[str]] = {}
        for one in column.figures:
            if one.error:
                said.setdefault(one.error, []).append(one.key)
        for error, keys in said.items():
            yield f"\n{column.subject}: {', '.join(keys)}:\n{error}"


def document(columns: Sequence[Column], run: Mapping[str, Any]) -> dict[str, Any]:
    """The same for programs."""
    return {
        "run": dict(run),
        "titles": {column.subject: column.title for column in columns},
        "columns": {
            column.subject: [
                {**attrs.asdict(one), **attrs.asdict(one.row), "ratio": one.ratio, "holds": one.holds}
                for one in column.figures
            ]
            for column in columns
        },
    }


def read_document(document: Mapping[str, Any]) -> tuple[list[Column], dict[str, Any]]:
    """The columns and circumstances of a document."""
    columns = [
        Column(
            subject,
            [Figure(one["key"], one["value"], one["note"], one["error"]) for one in figures],
            document["titles"][subject],
        )
        for subject, figures in document["columns"].items()
    ]
    return columns, dict(document["run"])
