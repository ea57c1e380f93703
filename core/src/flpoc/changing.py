"""Changing a settings file: one writer after the other, and nobody's change is lost."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep others who change files of *folder* out."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def merged(before: Mapping[str, Any], ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Their document with our changes."""
    found = dict(theirs)
    for key in [*before, *(key for key in ours if key not in before)]:
        if key in ours and ours[key] == before.get(key):
            continue
        if key not in ours:
            found.pop(key, None)
            continue
        parts = [document.get(key, {}) for document in (before, ours, theirs)]
        found[key] = merged(*parts) if all(isinstance(part, Mapping) for part in parts) else ours[key]
    return found


def replace(path: Path, document: Mapping[str, Any]) -> None:
    """Write *document* as JSON, all of it or nothing, for the owner only."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=2, ensure_ascii=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
