"""The local channel: a job process and its owner, on a unix socket.

Frames are a 4-byte length and a message. Sockets are reached through the
open folder they lie in, so that the length of the path does not matter
(the kernel allows 107 bytes).
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flpoc.errors import IntegrityError
from flpoc.wire.codec import Family, encode

if TYPE_CHECKING:
    import asyncio  # its import takes as long as all the rest, and the processes of jobs need none of it

_LENGTH = struct.Struct(">I")
SOCKET_NAME = "s"
#: Whoever connects says who it is in so many bytes and seconds.
HELLO_BYTES = 4096
HELLO_WITHIN = 20.0


def frame(message: Any) -> bytes:
    """A message with its length before it."""
    data = encode(message)
    return _LENGTH.pack(len(data)) + data


def _checked_length(head: bytes, limit: int) -> int:
    (length,) = _LENGTH.unpack(head)
    if length > limit:
        raise IntegrityError(f"a message of {length} bytes on a local socket; at most {limit} are taken")
    return int(length)


class Link:
    """The owner's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, incoming: Family) -> None:
        self._reader = reader
        self._writer = writer
        self._incoming = incoming

    def send(self, message: Any) -> None:
        """Queue a message; one to a peer that is gone is dropped, the peer will ask again."""
        if not self._writer.is_closing():
            self._writer.write(frame(message))

    async def hello(self) -> Any:
        """The first message; None if there is none soon, or none that is one: anybody may have connected."""
        import asyncio

        try:
            async with asyncio.timeout(HELLO_WITHIN):
                return await self._next(HELLO_BYTES)
        except (IntegrityError, TimeoutError):
            return None

    async def receive(self) -> Any:
        """The next message; None at the end."""
        return await self._next(self._incoming.limit)

    async def _next(self, limit: int) -> Any:
        import asyncio

        try:
            head = await self._reader.readexactly(_LENGTH.size)
            return self._incoming.decode(await self._reader.readexactly(_checked_length(head, limit)))
        except (asyncio.IncompleteReadError, ConnectionError, OSError):
            return None

    async def messages(self) -> AsyncIterator[Any]:
        while (message := await self.receive()) is not None:
            yield message

    def finish(self) -> None:
        """Say that nothing more will be sent; what the peer still says is received."""
        if not self._writer.is_closing() and self._writer.can_write_eof():
            self._writer.write_eof()

    def close(self) -> None:
        if not self._writer.is_closing():
            self._writer.close()


def bound(folder: Path) -> socket.socket:
    """A socket that listens in *folder*."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / SOCKET_NAME).unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        handle = os.open(folder, os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sock.bind(f"/proc/self/fd/{handle}/{SOCKET_NAME}")
        finally:
            os.close(handle)
        sock.listen(16)
    except BaseException:
        sock.close()
        raise
    return sock


async def listen(folder: Path, accept: Any) -> asyncio.AbstractServer:
    """Listen in *folder*; ``accept(reader, writer)`` serves a connection."""
    import asyncio

    sock = bound(folder)
    try:
        sock.setblocking(False)
        server = await asyncio.start_unix_server(accept, sock=sock, start_serving=False)
    except BaseException:
        sock.close()
        raise
    try:
        await server.start_serving()
    except BaseException:
        # by the server: with the socket alone, the loop would be deaf to the next one that gets its number
        server.close()
        raise
    return server


def connect(path: Path) -> socket.socket:
    """Connect to the socket at *path* (blocking).

    Raises:
        OSError: Nobody listens there.
    """
    handle = os.open(path.parent, os.O_DIRECTORY | os.O_CLOEXEC)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(f"/proc/self/fd/{handle}/{path.name}")
    except OSError:
        sock.close()
        raise
    finally:
        os.close(handle)
    return sock


class Wire:
    """A job process's end: blocking, safe to use from several threads."""

    def __init__(self, sock: socket.socket, incoming: Family) -> None:
        self._sock = sock
        self._incoming = incoming
        self._sending = threading.Lock()

    def send(self, *messages: Any) -> None:
        with self._sending:
            self._sock.sendall(b"".join(map(frame, messages)))

    def receive(self) -> Any:
        """The next message; None at the end."""
        head = self._exactly(_LENGTH.size)
        if head is None:
            return None
        data = self._exactly(_checked_length(head, self._incoming.limit))
        return None if data is None else self._incoming.decode(data)

    def _exactly(self, count: int) -> bytes | None:
        parts = bytearray()
        while len(parts) < count:
            try:
                part = self._sock.recv(count - len(parts))
            except OSError:
                return None
            if not part:
                return None
            parts += part
        return bytes(parts)

    def close(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            # the other side was faster
            self._sock.close()
            return
        self._sock.close()
