"""The keeper of a container: copies its output into the log of the request, and writes down how it ended.

A process of its own, so that it outlives whoever launched the container.
Should it be killed, the next who asks for the container does its work.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import APIError, NotFound

from flpoc.launching import KEEPER_MARK, State, Status
from flpoc.settings import structure
from flpoc.tails import last_lines
from flpoc_builtin_docker.containers import status_of
from flpoc_builtin_docker.engine import AWAY, client
from flpoc_builtin_docker.networks import leave
from flpoc_builtin_docker.records import Ref, locked, locked_if_free

#: Seconds between two notes of how far the log has come.
_NOTE_GAP = 0.2
#: Seconds that a keeper waits for an engine that went away, and between two tries.
_ENGINE_AWAY, _TRY_GAP = 600.0, 0.5
#: Length of the engine's time stamps, e.g. 2026-11-27T13:24:45.065417272Z.
_STAMP = 30


class Log:
    """A file that is rotated once it is full; what cannot be written is dropped."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path, self._limit = path, limit

    def write(self, data: bytes) -> None:
        """Append, and rotate at the end of a line where that is possible."""
        with contextlib.suppress(OSError):
            size = self._path.stat().st_size if self._path.exists() else 0
            while size + len(data) > self._limit:
                room = max(0, self._limit - size)
                cut = data.rfind(b"\n", 0, room) + 1 or (room if size == 0 else 0)
                self._append(data[:cut])
                self._path.replace(self._path.with_name(self._path.name + ".1"))
                data, size = data[cut:], 0
            self._append(data)

    def _append(self, data: bytes) -> None:
        with self._path.open("ab") as file:
            file.write(data)


def copy(api: docker.APIClient, ref: Ref, *, follow: bool) -> None:
    """Copy what the container has written, from where the last copy ended; to its end if *follow*."""
    seen = _seen(ref)
    if not _note(ref, seen):
        return  # nobody would know how far it came, and copy it again
    since = _seconds(seen) if seen else None
    frames = api.logs(ref.id, stream=True, follow=follow, timestamps=True, since=since)
    log, noted, stamp = Log(Path(ref.log), ref.log_limit), 0.0, ""
    try:
        for frame in frames:
            text = frame[:_STAMP].decode("ascii", "replace")
            if text <= seen:
                continue
            log.write(frame[_STAMP + 1 :])
            stamp = text
            if time.monotonic() > noted + _NOTE_GAP:
                noted = time.monotonic()
                _note(ref, stamp)
    finally:
        if stamp:
            _note(ref, stamp)


def _seen(ref: Ref) -> str:
    with contextlib.suppress(OSError):
        return ref.path("seen").read_text("ascii").strip()
    return ""


def _note(ref: Ref, stamp: str) -> bool:
    """Write in place what is always as long: from the second time on it needs no room, as on a full disk."""
    try:
        file = os.open(ref.path("seen"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            return os.pwrite(file, stamp.ljust(_STAMP).encode(), 0) == _STAMP
        finally:
            os.close(file)
    except OSError:
        return False


def _seconds(stamp: str) -> int:
    import calendar

    return calendar.timegm(time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S"))


def note_end(api: docker.APIClient, ref: Ref, found: dict[str, Any]) -> Status:
    """For a container that has ended: the rest of its output, and how it ended, written down where there is room.

    Only for whoever holds its keeper's lock. *found* is what the engine tells of it.
    """
    if known := ref.ended():
        return known
    with contextlib.suppress(APIError):
        copy(api, ref, follow=False)
    known = status_of(found["State"], ref, last_lines(Path(ref.log), 1))
    with contextlib.suppress(OSError):
        ref.write_end(known)
    return known


def remove(api: docker.APIClient, ref: Ref) -> None:
    """Remove a container that has ended, or what is left of one that is gone, and write down that it is done.

    Only for whoever holds its keeper's lock.

    Raises:
        APIError: The engine cannot do it.
    """
    with contextlib.suppress(NotFound):
        api.remove_container(ref.id, v=True, force=True)
    leave(api, ref)
    known = ref.ended() or Status(State.EXITED, None, "its container was removed")
    with contextlib.suppress(OSError):
        ref.write_end(known, removed=True)


def start(ref: Ref) -> None:
    """Start a keeper, which belongs to nobody."""
    code = "import os\nif os.fork(): os._exit(0)\nfrom flpoc_builtin_docker import keeper; keeper.main()"
    argv = [sys.executable, "-c", code, KEEPER_MARK, ref.name]
    with contextlib.suppress(OSError):  # without one, whoever waits does its work
        subprocess.run(
            argv,
            input=json.dumps(ref.handle.ref).encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,
            check=False,
        )


def main() -> None:
    """Keep the container named on standard input until it has ended."""
    ref = structure(json.loads(json.loads(sys.stdin.read())), Ref)
    away, lock = time.monotonic() + _ENGINE_AWAY, ref.path("keeper")
    holding: AbstractContextManager[object] = locked_if_free(lock)
    while time.monotonic() < away and Path(ref.state).is_dir():  # without it nobody will ever ask
        with holding as ours, contextlib.suppress(*AWAY, requests.exceptions.Timeout, APIError):
            if not ours or ref.is_removed() or _keep(client(ref.engine), ref):
                return
            away = time.monotonic() + _ENGINE_AWAY
        # an engine that is away announces nothing when it comes back; whoever waits for the lock may try meanwhile
        time.sleep(_TRY_GAP)
        holding = locked(lock)


def _keep(api: docker.APIClient, ref: Ref) -> bool:
    """Follow a container; true when it has ended and nothing of it is left."""
    try:
        copy(api, ref, follow=True)
        found = api.inspect_container(ref.id)
        if found["State"]["Running"]:
            return False
        note_end(api, ref, found)
        if ref.ended() is None:
            return False  # the engine alone knows how it ended until there is room to write it down
    except NotFound:
        pass  # somebody has removed it
    remove(api, ref)
    return True
