"""The lines that a user has typed, for the next console; a private file, a line each."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

NAME: Final = "console_history"
#: So many lines are offered, and twice as many are kept at most.
MOST_LINES: Final = 1000
#: Longer lines are not kept.
_LONGEST: Final = 2000


def history_file() -> Path | None:
    """Where lines are kept; None where there is no home."""
    home = os.environ.get("HOME", "").strip()
    return Path(home).absolute() / ".flpoc" / NAME if home else None


class History:
    """The history of one user.

    Args:
        path: The file; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._last = ""

    def lines(self) -> list[str]:
        """The lines of earlier consoles, the newest last.

        Raises:
            OSError: The file is there and cannot be read.
        """
        if self._path is None or not self._path.exists():
            return []
        found = list(_usable(self._path.read_bytes().decode(errors="replace").splitlines()))
        if len(found) > 2 * MOST_LINES:
            self._rewrite(found[-MOST_LINES:])
        self._last = found[-1] if found else ""
        return found[-MOST_LINES:]

    def add(self, line: str) -> None:
        """Keep a line, at once, so that other consoles and a sudden end leave it; one given twice is kept once.

        Raises:
            OSError: It cannot be written.
        """
        if self._path is None or line == self._last or not any(_usable([line])):
            return
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(handle, 0o600)
            os.write(handle, f"{line}\n".encode())
        finally:
            os.close(handle)
        self._last = line

    def _rewrite(self, lines: list[str]) -> None:
        assert self._path is not None
        part = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")
        try:
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in lines)
            part.replace(self._path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def _usable(lines: list[str]) -> Iterator[str]:
    """Without what could steer a terminal, or could not be written."""
    for line in lines:
        if line.strip() and line.isprintable() and len(line) <= _LONGEST:
            yield line
