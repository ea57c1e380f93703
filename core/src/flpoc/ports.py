"""Network ports of this machine: whether one is free, and whose it is if it is not."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

import attrs

from flpoc.errors import ServiceError

#: In the kernel's tables: a socket that waits for connections.
_LISTENING: Final = "0A"
_LONGEST_PROGRAM: Final = 80
_HIGHEST: Final = 65535


@attrs.frozen
class PortOwner:
    """A process that waits for connections on a port.

    Attributes:
        pid: Its number; 0 when the kernel does not show it, because it belongs to another user.
        program: Its command line, shortened; empty when it cannot be seen.
    """

    pid: int
    program: str = ""

    @property
    def text(self) -> str:
        """The owner in words."""
        return f"{self.program or 'a process'} (pid {self.pid})" if self.pid else "another user's process"


def is_free(port: int) -> bool:
    """Whether a server could listen on *port* of all addresses of this machine now."""
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):  # noqa: S104 - as servers do
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                # connections that have just ended do not hinder a server either
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((address, port))
                probe.listen(1)  # two that only bind may share a port, two that listen may not
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES, errno.EPERM):
                return False
            # a machine without IPv6 has no port there that could be taken
    return True


def next_free(first: int, avoid: Collection[int] = ()) -> int:
    """Give the first port from *first* on that is free and not one to *avoid*.

    Raises:
        ServiceError: There is none.
    """
    for port in range(first, _HIGHEST + 1):
        if port not in avoid and is_free(port):
            return port
    raise ServiceError(f"no port from {first} on is free", hint="end some of the programs that listen")


def owners(port: int) -> tuple[PortOwner, ...]:
    """Say who waits for connections on *port*; empty when nobody does."""
    inodes = set(_listening(port))
    if not inodes:
        return ()
    found = [PortOwner(pid, _program(pid)) for pid in _holders(inodes)]
    return tuple(sorted(found, key=lambda owner: owner.pid)) or (PortOwner(0),)


def who_has(port: int) -> str:
    """The owners of a port in words; never empty."""
    return " and ".join(owner.text for owner in owners(port)) or "another program"


def _listening(port: int) -> Iterator[str]:
    """The inodes of the sockets that wait for connections on *port*."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):  # no such table: nothing to find there
            for line in Path(table).read_text(encoding="ascii", errors="replace").splitlines()[1:]:
                fields = line.split()
                if len(fields) > 9 and fields[3] == _LISTENING and fields[1].rpartition(":")[2] == f"{port:04X}":
                    yield fields[9]


def _holders(inodes: Collection[str]) -> list[int]:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    return [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit() and _holds(folder, wanted)]


def _holds(process: Path, wanted: Collection[str]) -> bool:
    try:
        descriptors = list(os.scandir(process / "fd"))
    except OSError:
        return False  # another user's, or just ended
    for one in descriptors:
        with contextlib.suppress(OSError):
            if os.readlink(one.path) in wanted:  # noqa: PTH115 - not a file's path
                return True
    return False


def _program(pid: int) -> str:
    try:
        words = (Path("/proc") / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    text = re.sub(r"\s+", " ", b" ".join(words).decode(errors="replace")).strip()
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= _LONGEST_PROGRAM else f"{text[: _LONGEST_PROGRAM - 3]}..."
