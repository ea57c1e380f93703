"""Writing to standard output and standard error, where a reader may go away or know no UTF-8."""

from __future__ import annotations

import os
import select
import sys
from typing import Any, TextIO

#: Controls, and marks that reorder text: a foreign string must not steer the user's terminal.
_UNSAFE = frozenset([*range(0x20), 0x7F, *range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)])
_ESCAPES = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _UNSAFE}
_ONE_LINE = {**_ESCAPES, 0x0A: "\\n", 0x09: "\\t", 0x0D: "\\r"}
_LINES = {code: text for code, text in _ESCAPES.items() if code not in (0x0A, 0x09)}


def one_line(text: object) -> str:
    """The text with every control character made visible."""
    return str(text).translate(_ONE_LINE)


def lines(text: object) -> str:
    """The text with control characters made visible, except line ends and tabs."""
    return str(text).replace("\r\n", "\n").translate(_LINES)


def safe(text: str) -> str:
    """The text as it may leave the command line: without secrets, and without steering a terminal."""
    from flpoc.cli.redaction import redact

    return lines(redact(text))


def send(stream: TextIO, text: str, *, end: str = "\n") -> None:
    """Write *text*, now."""
    if text:
        stream.write(text if text.endswith("\n") and end else text + end)
        stream.flush()


def prepare_streams() -> None:
    """Open streams that are closed, and let those that cannot spell a letter write its code instead."""
    # until 0, 1 and 2 are taken, the next file that is opened would become standard output
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    for place, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(place, "w" if place else "r", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        change: Any = getattr(stream, "reconfigure", None)
        if change is not None:
            change(errors="backslashreplace")


def reader_is_gone(stream: TextIO) -> bool:
    """Whether the program that read *stream* has ended, as in ``flpoc job list | head -1``."""
    try:
        number = stream.fileno()
        poll = select.poll()
        poll.register(number, 0)
        return any(happened & select.POLLERR for _, happened in poll.poll(0))
    except (OSError, ValueError):
        return False


def be_quiet_at_exit(stream: TextIO) -> None:
    """Point *stream* nowhere, so that the interpreter's last flush does not complain."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        return
