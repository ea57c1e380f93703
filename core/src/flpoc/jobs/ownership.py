"""One process at a time owns a state folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from flpoc.errors import ServiceError


def lock_state(folder: Path, who: str) -> int:
    """Make sure that nobody else uses this state folder; the lock lasts as long as the process.

    Raises:
        ServiceError: Another process uses it, or it cannot be written.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        hint = "give a folder on a local disk that this user can write: --state"
        raise ServiceError(f"the state folder {folder} cannot be used: {error.strerror or error}", hint=hint) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = os.pread(handle, 200, 0).decode(errors="replace") or "unknown"
        os.close(handle)
        hint = "stop that process, or give another --state"
        raise ServiceError(f"{folder} is in use by {owner}", hint=hint) from None
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{who} (pid {os.getpid()})".encode(), 0)
    return handle
