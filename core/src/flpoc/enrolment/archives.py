"""The two archives that travel: written whole or not at all, and read with distrust."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from flpoc.enrolment.documents import sha256
from flpoc.errors import FlpocError, KitError
from flpoc.jobs.archive import pack, read
from flpoc.jobs.paths import FileEntry, Limits
from flpoc.provision.files import write_new

#: What one of our archives may hold; a certificate with many host names is the largest file in it.
LIMITS = Limits(files=8, total=1 << 20, depth=1, name=255, directory=1 << 16)


def write_archive(target: Path, files: Mapping[str, bytes]) -> None:
    """Write *files* into the archive *target*, in the place of one that is there.

    Raises:
        OSError, FlpocError: It cannot be written; what was there before is still there.
    """
    with tempfile.TemporaryDirectory(prefix=f".{target.name[:100]}.", dir=target.parent) as folder:
        content, packed = Path(folder) / "content", Path(folder) / "packed"
        content.mkdir(mode=0o700)
        for name, text in files.items():
            write_new(content / name, text, secret=True)
        entries = [FileEntry(name, len(text), sha256(text)) for name, text in files.items()]
        pack(content, entries, packed)
        os.replace(packed, target)  # noqa: PTH105 - both are on one file system


def read_archive(path: Path, *, missing: str, unusable: str) -> dict[str, bytes]:
    """Read the files of an archive.

    Args:
        path: Where it is.
        missing: The code of the error if there is none.
        unusable: The code of the error if it is not one that flpoc has written.

    Raises:
        KitError: There is none, or it cannot be used.
    """
    if not path.exists():
        raise KitError(f"{path}: no such file", code=missing, hint="check the path")
    try:
        return read(path, LIMITS)
    except FlpocError as error:
        hint = "have it sent again as it is: unpacked and packed by another program, it is another archive"
        raise KitError(error.message, code=unusable, hint=hint) from None
