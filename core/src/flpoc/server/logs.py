"""Logs of jobs: those of the sites as they arrive, and reading them."""

from __future__ import annotations

import os
from pathlib import Path

from flpoc.server.files import ServerFiles

#: More of one site's log than this is not kept.
LOG_LIMIT = 100 << 20
#: At most this much is given in one answer.
READ_LIMIT = 5 << 20


class LogKeeper:
    """Keeps what sites send of their logs (all methods block)."""

    def __init__(self, files: ServerFiles) -> None:
        self._files = files

    def have(self, job: str, site: str) -> int:
        """How many bytes of a site's log are here."""
        try:
            return self._files.job(job).log(site).stat().st_size
        except FileNotFoundError:
            return 0

    def append(self, job: str, site: str, offset: int, data: bytes) -> int:
        """Add what is new of *data*; gives the bytes that are here now."""
        path = self._files.job(job).log(site)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            have = os.fstat(handle).st_size
            if 0 <= offset <= have < offset + len(data) and have < LOG_LIMIT:
                have += os.pwrite(handle, data[have - offset :], have)
            return have
        finally:
            os.close(handle)

    def sites(self, job: str) -> list[str]:
        """Who has a log here, the server first."""
        names = sorted(path.stem for path in (self._files.job(job).folder / "logs").glob("*.log"))
        return sorted(names, key=lambda name: name != "server")

    def read(self, job: str, site: str, limit: int = READ_LIMIT) -> str | None:
        """The end of a log, at most *limit* bytes; None if there is none."""
        return read_end(self._files.job(job).log(site), limit)


def read_end(path: Path, limit: int) -> str | None:
    """The last *limit* bytes of a text file; None if there is no file."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - limit))
            return file.read(limit).decode(errors="replace")
    except FileNotFoundError:
        return None
