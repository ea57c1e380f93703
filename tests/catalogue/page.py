"""The page of the documentation that the catalogue gives."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from .rows import ROOT, Row, marks, sections

PAGE = ROOT / "docs" / "reference" / "hardening.md"

HEAD = """# What is tried to break flpoc

Every row is an input that must not do harm, or a promise about security; its tests cause it for real, with
real processes, files and connections. `make rows` runs them and prints this table with its outcomes.
Every refusal is one message with a code and a hint ([error codes](errors.md)); it changes nothing on disk or at the
server, and shows no traceback. A row that is not tested yet says what it waits for.
"""

_TABLE = ("| row | input or promise | what comes of it | shown by |", "|---|---|---|---|")


def page() -> str:
    """The page of the documentation, as it should be."""
    found = sections()
    total = sum(len(section.rows) for section in found)
    later = sum(bool(row.later) for section in found for row in section.rows)
    text = [HEAD, f"{total} rows; {total - later} apply and are tested, {later} wait.\n"]
    files: dict[str, set[Path]] = defaultdict(set)
    for mark in marks():
        files[mark.row].add(mark.path)
    for section in found:
        text += [f"## {section.title}\n", *_TABLE]
        text += [_line(row, sorted(files[row.id])) for row in section.rows]
        text.append("")
    return "\n".join(text)


def _line(row: Row, files: list[Path]) -> str:
    expected = f"{row.expect} ({row.why})" if row.why else row.expect
    shown = ", ".join(f"[{path.parent.name}/{path.stem}](../../{path.relative_to(ROOT)})" for path in files)
    cells = (row.id, row.what, expected, f"later: {row.later}" if row.later else shown)
    return f"| {' | '.join(one.replace('|', chr(92) + '|') for one in cells)} |"
