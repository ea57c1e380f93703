"""The files of an audit log.

    audit.jsonl        the records, one a line
    audit-000001.jsonl full files, the oldest first
    head               number and hash of the last record that is known to be on the disk
    torn               what a crash left of a line, until the log has said so

The head is written after the records it speaks of. A log that ends before its
head was cut.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from typing import Final

import attrs

from flpoc.audit.records import NO_HASH

CURRENT: Final = "audit.jsonl"
HEAD: Final = "head"
TORN: Final = "torn"
FOLDER: Final = "audit"

_FULL = re.compile(r"audit-(\d{6})\.jsonl\Z")
_HEAD = re.compile(rb"(\d{16}) ([0-9a-f]{64})\n\Z")
_NEW = os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


@attrs.frozen
class Head:
    """The last record that is known to be on the disk; number 0 before the first one."""

    seq: int = 0
    hash: str = NO_HASH


def log_files(folder: Path) -> list[Path]:
    """The files with records, the oldest first."""
    full = sorted(one for one in folder.glob("audit-*.jsonl") if _FULL.match(one.name))
    current = folder / CURRENT
    return [*full, current] if os.path.lexists(current) else full


def next_full(folder: Path) -> Path:
    """The name that the current file gets when it is full."""
    numbers = [int(found.group(1)) for one in folder.iterdir() if (found := _FULL.match(one.name))]
    return folder / f"audit-{max(numbers, default=0) + 1:06d}.jsonl"


def read_bytes(path: Path) -> bytes:
    """A file of the log; never through a symbolic link, never from a pipe.

    Raises:
        OSError: It cannot be read.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    with os.fdopen(handle, "rb") as file:
        return file.read()


def read_head(folder: Path) -> Head | None:
    """The head, or None if there is none.

    Raises:
        ValueError: It is not as it was written.
        OSError: It cannot be read.
    """
    try:
        found = _HEAD.match(read_bytes(folder / HEAD))
    except FileNotFoundError:
        return None
    if found is None:
        raise ValueError("the head was changed")
    return Head(int(found.group(1)), found.group(2).decode())


def open_head(folder: Path) -> int:
    return os.open(folder / HEAD, os.O_WRONLY | _NEW, 0o600)


def write_head(handle: int, head: Head) -> None:
    """Write the head where it was; it always has the same length, and fits into one block of a disk."""
    os.pwrite(handle, f"{head.seq:016d} {head.hash}\n".encode(), 0)


def open_current(folder: Path) -> int:
    return os.open(folder / CURRENT, os.O_RDWR | os.O_APPEND | _NEW, 0o600)


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
