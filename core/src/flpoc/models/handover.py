"""Taking a finished file from a folder that somebody else can write.

A job process names a file in its own folder; its owner must not be led to
another file by a link, nor be surprised by one that is still open elsewhere
under a second name.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from flpoc.errors import IntegrityError
from flpoc.models.checksums import refusals
from flpoc.models.header import Header, read_header


def take(folder: Path, name: str, size: int, into: Path) -> Header:
    """Check a model file in *folder* and rename it out, to *into*.

    Raises:
        IntegrityError: It is not a plain model file of *size* bytes with one name.
    """
    if not name or "/" in name or "\0" in name or name.startswith("."):
        raise IntegrityError(f"{name!r} is not the name of a file in the job's folder")
    into.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with refusals(name):
        place = os.open(folder, os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
            try:
                _must_be_single(os.fstat(file), name)
                header, _ = read_header(file, where=name)
                if header.total_bytes != size:
                    raise IntegrityError(f"{name}: {header.total_bytes} bytes; {size} were announced")
                os.rename(name, into, src_dir_fd=place)
                _must_be_the_same(file, into, name)
            finally:
                os.close(file)
        finally:
            os.close(place)
    return header


def _must_be_single(facts: os.stat_result, name: str) -> None:
    if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
        raise IntegrityError(f"{name}: not a regular file with one name")


def _must_be_the_same(file: int, into: Path, name: str) -> None:
    """What was renamed is what was checked: the name may have been given to another file in between."""
    checked, renamed = os.fstat(file), into.stat(follow_symlinks=False)
    if (checked.st_dev, checked.st_ino) != (renamed.st_dev, renamed.st_ino) or checked.st_nlink != 1:
        into.unlink()
        raise IntegrityError(f"{name}: another file took its place while it was checked")


def sync(path: Path) -> None:
    """Make a renamed file survive power loss: the file, then its folder."""
    for one, flags in ((path, os.O_RDONLY), (path.parent, os.O_DIRECTORY)):
        handle = os.open(one, flags | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
