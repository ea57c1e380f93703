"""Hearing from a launched process, and of its end, whatever engine it runs in."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path

#: Python for a launched process: opens the lifeline that its first argument names; ``say(text)`` speaks on it.
#: ``rest()`` waits for signals: one that arrives just before a sleep begins has its handler run only when it ends.
HOLD = """
import os, signal, sys, time
life = os.open(sys.argv[1], os.O_WRONLY)
def say(text):
    os.write(life, (text + chr(10)).encode())
def rest():
    while True:
        time.sleep(0.05)
"""


class Lifeline:
    """A named pipe that launched processes hold open for as long as any of them lives.

    Needs no process ids, so it works across containers that share the
    folder. Nothing here polls: the kernel says when a line arrives and when
    the last holder is gone.
    """

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._text = b""

    def close(self) -> None:
        os.close(self._fd)
        self.path.unlink(missing_ok=True)

    def hear(self, seconds: float) -> str:
        """Give the next line that a holder said; empty when none came in time, or all holders ended."""
        end = time.monotonic() + seconds
        while b"\n" not in self._text:
            data = self._read(end)
            if not data:
                return ""
            self._text += data
        line, _, self._text = self._text.partition(b"\n")
        return line.decode(errors="replace")

    def ended(self, seconds: float) -> bool:
        """Wait until no process holds the line; False when one still does."""
        end = time.monotonic() + seconds
        while data := self._read(end):
            self._text += data
        return data == b""

    def _read(self, end: float) -> bytes | None:
        """What was said; empty when all holders are gone; None when the time is over."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
            return None
        return os.read(self._fd, 4096)
