"""Colours for people at a terminal; nothing anywhere else, nor with ``NO_COLOR`` (no-color.org)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Final, TextIO

BOLD: Final = "1"
DIM: Final = "2"
RED: Final = "31"
GREEN: Final = "32"
YELLOW: Final = "33"
CYAN: Final = "36"

#: What a word says about how things are; the colour never says more than the word.
_WORDS: Final = {
    **dict.fromkeys(("FINISHED:COMPLETED", "running", "ready", "connected", "loaded", "ok"), GREEN),
    **dict.fromkeys(("SUBMITTED", "DISPATCHED", "RUNNING"), CYAN),
    **dict.fromkeys(("FINISHED:COMPLETED_PARTIAL", "FINISHED:ABORTED", "incompatible", "warning"), YELLOW),
    **dict.fromkeys(("FINISHED:FAILED", "FINISHED:CAN_NOT_SCHEDULE", "broken", "error", "deny"), RED),
    **dict.fromkeys(("disabled", "stopped", "not running", "skipped"), DIM),
}
_STATE: Final = re.compile(r"\bFINISHED:[A-Z_]+\b|(?<=^)(?:SUBMITTED|DISPATCHED|RUNNING)\b", re.MULTILINE)
_LABELS: Final = {"Hint": CYAN, "Code": DIM, "Warning": YELLOW}
_LABEL: Final = re.compile(rf"^({'|'.join(_LABELS)}):", re.MULTILINE)

Painter = Callable[[str], str]


def wanted(stream: TextIO) -> bool:
    """Whether somebody looks at *stream* who has not asked for plain text."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, style: str) -> str:
    """The text in a style; it must not hold control characters of its own."""
    return f"\x1b[{style}m{text}\x1b[0m" if text and style else text


def paint_word(word: str) -> str:
    """A cell of a table: in its colour, if the whole of it is a word that has one."""
    return paint(word, _WORDS.get(word, ""))


def paint_lines(text: str) -> str:
    """Lines of text: states and the labels of hints in their colours."""
    text = _STATE.sub(lambda found: paint_word(found.group()), text)
    return _LABEL.sub(lambda found: paint(found.group(), _LABELS[found.group(1)]), text)


def paint_error(text: str) -> str:
    """An error for people: its first line stands out."""
    first, line_end, rest = text.partition("\n")
    return paint(first, f"{BOLD};{RED}") + line_end + paint_lines(rest)
