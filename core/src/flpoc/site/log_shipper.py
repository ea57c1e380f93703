"""Bringing a trainer's log to the server while the job runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

#: Bytes of a log that go in one message.
PIECE_BYTES = 128 << 10
#: Seconds in which news about one log are gathered.
GATHER = 0.2


class LogShipper:
    """Sends what is new in one log; the server says what it has whenever a connection begins.

    Counts bytes over the launcher's rotation of the file: what was in the
    rotated file comes before the new one.
    """

    def __init__(self, path: Path, send: Callable[[int, bytes], None]) -> None:
        self._path = path
        self._send = send
        self._offset = 0
        self._place = 0
        self._inode = 0
        self._ready = False
        self._resumed = 0
        self._task: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._busy = asyncio.Lock()

    def resume(self, have: int) -> None:
        """The server has *have* bytes: go on from there."""
        if not self._ready or have < self._offset:
            self._place = max(0, self._place + have - self._offset)
            self._offset = have
            self._resumed += 1
        self._ready = True
        self.news()

    def pause(self) -> None:
        """The connection is gone, or the agent stops."""
        self._ready = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def news(self) -> None:
        """Something may have been written; look soon."""
        if self._timer is None and self._ready:
            self._timer = asyncio.get_running_loop().call_later(GATHER, self._due)

    def _due(self) -> None:
        self._timer = None
        self._task = asyncio.ensure_future(self.flush())

    async def flush(self) -> None:
        """Send all that is there now."""
        async with self._busy:
            while self._ready:
                resumed = self._resumed
                piece = await asyncio.to_thread(self._next)
                if not self._ready or resumed != self._resumed:
                    continue  # the server has said meanwhile where to go on
                if not piece:
                    return
                self._send(self._offset, piece)
                self._offset += len(piece)
                self._place += len(piece)

    def _next(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                inode = os.fstat(file.fileno()).st_ino
                if self._inode and inode != self._inode:
                    rest = self._rest_of_rotated()
                    if rest:
                        return rest
                    self._place = 0
                elif not self._inode:
                    self._place = self._within(self._place, os.fstat(file.fileno()).st_size)
                self._inode = inode
                file.seek(self._place)
                return file.read(PIECE_BYTES)
        except FileNotFoundError:
            return b""

    def _within(self, place: int, size: int) -> int:
        """After a restart of the agent: the server may have more than the file, which was rotated once before."""
        if place <= size:
            return place
        try:
            return min(size, max(0, place - self._path.with_name(self._path.name + ".1").stat().st_size))
        except FileNotFoundError:
            return size

    def _rest_of_rotated(self) -> bytes:
        try:
            with self._path.with_name(self._path.name + ".1").open("rb") as file:
                if os.fstat(file.fileno()).st_ino != self._inode:
                    return b""  # rotated twice: what was between is gone
                file.seek(self._place)
                return file.read(PIECE_BYTES)
        except FileNotFoundError:
            return b""
