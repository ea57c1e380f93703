"""Files in chunks, resumed where they stopped.

What has arrived lies in a ``.part`` file; it is renamed into place when it
is complete and its checksum is right. File work is done in threads, one
chunk ahead of the network.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import xxhash

from flpoc.errors import IntegrityError, ResourceError
from flpoc.models.checksums import refusals
from flpoc.wire.options import CHUNK_BYTES

#: A disk, a quota or a limit on files is used up: what came so far is kept.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


async def read_chunks(path: Path, offset: int, size: int) -> AsyncIterator[bytes]:
    """The bytes of a published file from *offset* on; it may be unlinked meanwhile.

    Raises:
        IntegrityError: It is gone, no regular file, or shorter than *size*.
    """
    if not 0 <= offset <= size:
        raise IntegrityError(f"{path.name}: byte {offset} of {size} was asked for")
    handle = await asyncio.to_thread(_open_published, path)
    ahead: asyncio.Future[bytes] | None = None
    try:
        while offset < size:
            ahead = ahead or _later(os.pread, handle, min(CHUNK_BYTES, size - offset), offset)
            # unlike awaiting it, this leaves the reading alone when the transfer is cancelled
            await asyncio.wait([ahead])
            with refusals(path.name):
                chunk = ahead.result()
            if not chunk:
                raise IntegrityError(f"{path.name}: ends after {offset} of {size} bytes")
            offset += len(chunk)
            ahead = _later(os.pread, handle, min(CHUNK_BYTES, size - offset), offset) if offset < size else None
            yield chunk
    finally:
        _close_after(handle, ahead)


def _open_published(path: Path) -> int:
    with refusals(path.name):
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise IntegrityError(f"{path.name}: not a regular file")
    return handle


def _later(act: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
    return asyncio.get_running_loop().run_in_executor(None, act, *args)


def _close_after(handle: int, work: asyncio.Future[Any] | None) -> None:
    """Close a file when nothing works on it any more: its number may be another file's soon."""

    def close(done: asyncio.Future[Any] | None) -> None:
        if done is not None and not done.cancelled():
            done.exception()  # nobody waits for it any more
        os.close(handle)

    if work is None or work.done():
        close(work)
    else:
        work.add_done_callback(close)


class Incoming:
    """A file that is being received."""

    def __init__(self, part: Path, size: int, checksum: str) -> None:
        self._part = part
        self._size = size
        self._checksum = checksum
        self._hasher = xxhash.xxh3_128()
        self._handle = -1
        self._pending: asyncio.Future[Any] | None = None
        self.have = 0
        #: Whether all bytes came, but not the right ones.
        self.damaged = False

    async def begin(self) -> int:
        """Open or resume; says how many bytes are already here, re-hashed."""
        self._pending = _later(self._open)
        await self._settle()
        return self.have

    def _open(self) -> None:
        with refusals(self._part.name):
            self._part.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            self._handle = os.open(self._part, flags, 0o600)
            facts = os.fstat(self._handle)
            if not stat.S_ISREG(facts.st_mode):
                raise IntegrityError(f"{self._part.name}: not a regular file")
            there = facts.st_size
            if there > self._size:
                os.ftruncate(self._handle, 0)
                there = 0
            while self.have < there and (piece := os.pread(self._handle, CHUNK_BYTES, self.have)):
                self._hasher.update(piece)
                self.have += len(piece)

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes; returns while they are still being written.

        Raises:
            IntegrityError: These are more bytes than were announced.
            ResourceError: The disk is full; what is here stays.
        """
        await self._settle()
        if self.have + len(chunk) > self._size:
            raise IntegrityError(f"{self._part.name}: more than the announced {self._size} bytes")
        self._pending = _later(self._write, chunk, self.have)
        self.have += len(chunk)

    def _write(self, chunk: bytes, offset: int) -> None:
        view = memoryview(chunk)
        with refusals(self._part.name):
            try:
                while view:
                    done = os.pwrite(self._handle, view, offset)
                    self._hasher.update(view[:done])
                    view = view[done:]
                    offset += done
            except OSError as error:
                if error.errno in _FULL:
                    hint = "free some space; it goes on from there"
                    raise ResourceError(f"no space left for {self._part.name}", code="DISK_FULL", hint=hint) from None
                raise

    async def _settle(self) -> None:
        """Wait for what is being done with the file; it is done to its end even if the waiting is cancelled."""
        if self._pending is not None:
            await asyncio.wait([self._pending])
            pending, self._pending = self._pending, None
            pending.result()

    async def finish(self, into: Path) -> None:
        """Check the checksum and rename into place.

        Raises:
            IntegrityError: Bytes are missing (what is here stays), or are not
                the announced ones (then nothing is kept).
        """
        await self._settle()
        if self.have < self._size:
            raise IntegrityError(f"{into.name}: {self.have} of {self._size} bytes arrived")
        if self._hasher.hexdigest() != self._checksum:
            self._part.unlink(missing_ok=True)
            self.damaged = True
            raise IntegrityError(f"{into.name}: the checksum is wrong", hint="its bytes changed after it was announced")
        with refusals(into.name):
            self._part.rename(into)

    async def close(self) -> None:
        """Stop; what is here stays for the next attempt. Nothing is written any more once this returns."""
        try:
            if self._pending is not None:
                await asyncio.wait([self._pending])
        finally:
            pending, self._pending = self._pending, None
            if self._handle >= 0:
                handle, self._handle = self._handle, -1
                _close_after(handle, pending)
            elif pending is not None:
                pending.add_done_callback(self._close_late)

    def _close_late(self, opening: asyncio.Future[Any]) -> None:
        """The opening had not come to its end when the transfer was given up."""
        opening.exception()
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def write_whole(path: Path, data: bytes, checksum: str) -> None:
    """Write a small file that came in one message (blocking).

    Raises:
        IntegrityError: Its checksum is another.
        ResourceError: The disk is full; nothing is left behind.
    """
    if xxhash.xxh3_128_hexdigest(data) != checksum:
        raise IntegrityError(f"{path.name}: the checksum is wrong")
    # what is announced twice may come twice at once
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    with refusals(path.name):
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            part.write_bytes(data)
            part.rename(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
