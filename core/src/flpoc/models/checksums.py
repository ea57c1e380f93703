"""Files and their checksums.

xxh3_128 finds damage in transit and on disk; it is no protection against
somebody who wants a collision. What is signed or addressed by content uses
SHA-256.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from flpoc.errors import FlpocError, IntegrityError, ResourceError

_CHUNK = 1 << 20
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


@attrs.frozen
class Written:
    """A file that was written: its size in bytes and its xxh3_128 in hex."""

    size: int
    checksum: str


def checksum_file(path_or_fd: Path | str | int, start: int = 0, hasher: Any = None) -> str:
    """The xxh3_128 of a file, in hex.

    Args:
        path_or_fd: The file; a descriptor stays open and keeps its position.
        start: Byte to start from.
        hasher: An ``xxhash.xxh3_128`` that has already seen the bytes before *start*.
    """
    if hasher is None:
        import xxhash

        hasher = xxhash.xxh3_128()
    return _digest(path_or_fd, start, hasher)


def sha256_file(path_or_fd: Path | str | int) -> str:
    """The SHA-256 of a file, in hex."""
    import hashlib

    return _digest(path_or_fd, 0, hashlib.sha256())


def _digest(path_or_fd: Path | str | int, start: int, hasher: Any) -> str:
    buffer = memoryview(bytearray(_CHUNK))
    with opened(path_or_fd) as fd, refusals(path_or_fd):
        while got := os.preadv(fd, [buffer], start):
            hasher.update(buffer[:got])
            start += got
    return str(hasher.hexdigest())


@contextlib.contextmanager
def opened(path_or_fd: Path | str | int) -> Iterator[int]:
    """A descriptor to read a regular file with; a given one is used and left open.

    Raises:
        IntegrityError: It cannot be opened, is a link, or not a regular file.
    """
    if isinstance(path_or_fd, int):
        _must_be_regular(path_or_fd, path_or_fd)
        yield path_or_fd
        return
    with refusals(path_or_fd):
        # O_NONBLOCK: opening a pipe must not wait for its other end
        fd = os.open(path_or_fd, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _must_be_regular(fd, path_or_fd)
        yield fd
    finally:
        os.close(fd)


def _must_be_regular(fd: int, name: Path | str | int) -> None:
    with refusals(name):
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise IntegrityError(f"{called(name)}: not a regular file")


@contextlib.contextmanager
def refusals(name: Path | str | int) -> Iterator[None]:
    """Turn what the operating system refuses into an error that names the file."""
    try:
        yield
    except OSError as error:
        raise refusal(error, name) from error


def refusal(error: OSError, name: Path | str | int) -> FlpocError:
    """The error that tells people what the operating system refused."""
    message = f"{called(name)}: {error.strerror or error}"
    if error.errno in _FULL:
        return ResourceError(message, hint="make room, or raise the limit, and try again")
    return IntegrityError(message)


def called(name: Path | str | int) -> str:
    """What messages call a file."""
    return "model file" if isinstance(name, int) else str(name)
