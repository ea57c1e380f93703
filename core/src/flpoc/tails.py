"""The last lines of a log that may be large and may have been rotated."""

from __future__ import annotations

import os
from pathlib import Path

_BLOCK = 1 << 16
#: What is read at most for each line asked for, so that output without line ends does not fill the memory.
_LINE_BYTES = 1 << 12


def last_lines(log: Path, count: int) -> str:
    """Give the last *count* lines of *log* and, before it, of its rotated part."""
    if count <= 0:
        return ""
    budget = max(1 << 20, count * _LINE_BYTES)
    text = _end_of(log, count, budget)
    if text.count(b"\n") <= count:
        text = _end_of(log.with_name(log.name + ".1"), count, budget - len(text)) + text
    lines = text.splitlines(keepends=True)
    return b"".join(lines[-count:]).decode(errors="replace")


def _end_of(path: Path, count: int, budget: int) -> bytes:
    """The end of a file: at least *count* whole lines if it has them, at most *budget* bytes and a block."""
    try:
        with path.open("rb") as file:
            place = file.seek(0, os.SEEK_END)
            blocks: list[bytes] = []
            lines = got = 0
            while place > 0 and lines <= count and got < budget:
                step = min(_BLOCK, place)
                place -= step
                file.seek(place)
                blocks.append(file.read(step))
                lines += blocks[-1].count(b"\n")
                got += len(blocks[-1])
    except (OSError, ValueError):
        return b""
    return b"".join(reversed(blocks))
