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
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, NotFound

from flpoc.launching import KEEPER_MARK, State, Status
from flpoc.settings import structure
from flpoc.tails import last_lines
from flpoc_builtin_docker.containers import status_of
from flpoc_builtin_docker.engine import AWAY, client
from flpoc_builtin_docker.networks import leave
from flpoc_builtin_docker.records import Ref, locked_if_free, write

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
                write(ref.path("seen"), stamp)
    finally:
        if stamp:
            with contextlib.suppress(OSError):
                write(ref.path("seen"), stamp)


def _seen(ref: Ref) -> str:
    with contextlib.suppress(OSError):
        return ref.path("seen").read_text("ascii")
    return ""


def _seconds(stamp: str) -> int:
    import calendar

    return calendar.timegm(time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S"))


def finish(api: docker.APIClient, ref: Ref, found: dict[str, Any]) -> Status:
    """For a container that has ended: the rest of its output, how it ended, and away with it.

    Only for whoever holds its keeper's lock. *found* is what the engine tells of it.
    """
    if (known := ref.ended()) is None:
        with contextlib.suppress(APIError):
            copy(api, ref, follow=False)
        known = status_of(found["State"], ref, last_lines(Path(ref.log), 1))
        with contextlib.suppress(OSError):
            ref.write_end(known)
    with contextlib.suppress(APIError):
        api.remove_container(ref.id, v=True, force=True)
    leave(api, found)
    return known


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
    away = time.monotonic() + _ENGINE_AWAY
    with locked_if_free(ref.path("keeper")) as ours:
        while ours and time.monotonic() < away:
            try:
                api = client(ref.engine)
                copy(api, ref, follow=True)
                found = api.inspect_container(ref.id)
                if not found["State"]["Running"]:
                    finish(api, ref, found)
                    return
                away = time.monotonic() + _ENGINE_AWAY
            except NotFound:
                if ref.ended() is None:
                    ref.write_end(Status(State.EXITED, None, "its container was removed"))
                return
            except (*AWAY, APIError):
                if ref.ended() is not None or not Path(ref.state).is_dir():
                    return  # all is said, or nobody will ever ask
            time.sleep(_TRY_GAP)  # an engine that is away announces nothing when it comes back
