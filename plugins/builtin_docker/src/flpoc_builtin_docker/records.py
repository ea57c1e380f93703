"""What is written down about a container: which it is, and how it ended.

In the folder ``state`` of a launch, for its owner only:
    docker-NAME.lock      locked while a container of this name is being made
    docker-network.lock   locked while a container is being made for the network, or the network removed
    docker-NAME.ID.keeper locked while a keeper follows the container
    docker-NAME.ID.seen   up to which instant its output is in the log
    docker-NAME.ID.exit   how it ended; written once its output is in the log, and again once nothing of it is left
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from flpoc.errors import ConfigError, LaunchError
from flpoc.launching import Handle, LaunchRequest, State, Status
from flpoc.settings import parse_json, structure

NAME = "docker"
#: How many records of past ends of a name are kept.
_KEEP = 4


@attrs.frozen
class Ref:
    """What it takes to find a container again.

    Attributes:
        id: The container's id.
        engine: Address of its engine.
        name: The request's name.
        state: Folder of records.
        log: Where its output goes.
        log_limit: Bytes after which the log is rotated.
        image: What it was made from.
        memory_gib: Its limit of memory; None for no limit.
        network: The network that was made for it and others; empty where it has none.
    """

    id: str
    engine: str
    name: str
    state: str
    log: str
    log_limit: int
    image: str
    memory_gib: float | None = None
    network: str = ""

    @property
    def handle(self) -> Handle:
        return Handle(NAME, self.name, json.dumps(attrs.asdict(self)))

    @classmethod
    def parse(cls, handle: Handle) -> Ref | None:
        """None for a handle that is not of this launcher, or damaged."""
        try:
            found = structure(parse_json(handle.ref.encode(), "handle"), cls)
        except (ConfigError, ValueError, RecursionError):
            return None
        fits = handle.launcher == NAME and found.name == handle.name and re.fullmatch("[0-9a-f]{64}", found.id)
        return found if fits else None

    def path(self, what: str) -> Path:
        return Path(self.state) / f"{stem(self.name)}.{self.id[:12]}.{what}"

    def ended(self) -> Status | None:
        """How it ended, as was written down; None if that was not."""
        found = self._exit()
        return Status(State.EXITED, found.code, found.reason) if found else None

    def is_removed(self) -> bool:
        """Whether it was written down that nothing of it is left on the engine."""
        found = self._exit()
        return found is not None and found.removed

    def _exit(self) -> _Exit | None:
        try:
            return structure(parse_json(self.path("exit").read_bytes(), "exit"), _Exit)
        except (OSError, ConfigError, ValueError):
            return None

    def write_end(self, status: Status, *, removed: bool = False) -> None:
        """Write down how it ended, and whether nothing of it is left on the engine."""
        write(self.path("exit"), json.dumps({"code": status.code, "reason": status.reason, "removed": removed}))
        self.path("seen").unlink(missing_ok=True)


@attrs.frozen
class _Exit:
    code: int | None
    reason: str
    removed: bool = False


def write(path: Path, text: str) -> None:
    """Replace a file in one step."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def stem(name: str) -> str:
    """The beginning of the names of all records of a launch."""
    legible = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:40]
    return f"docker-{legible}-{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:10]}"


def container_name(request: LaunchRequest) -> str:
    """The name of its container: one for each name and *state*, on any engine."""
    legible = re.sub(r"[^A-Za-z0-9_.-]", "_", request.name)[:40]
    whole = f"{request.state}\0{request.name}"
    return f"flpoc-{legible}-{hashlib.sha256(whole.encode(errors='surrogateescape')).hexdigest()[:16]}"


def make_folders(request: LaunchRequest) -> None:
    """Make the folders of its records and its log.

    Raises:
        LaunchError: They cannot be made.
    """
    try:
        Path(request.state).mkdir(mode=0o700, parents=True, exist_ok=True)
        log = Path(request.log)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
    except OSError as error:
        raise LaunchError(
            f"{request.name}: cannot write {error.filename}: {error.strerror}",
            hint="free some space, or choose a place that this user may write to",
        ) from error


@contextlib.contextmanager
def locked(path: Path) -> Iterator[int]:
    """Hold a lock for as long as it takes; others wait."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)


@contextlib.contextmanager
def locked_if_free(path: Path) -> Iterator[bool]:
    """Hold a lock if nobody has it; says so."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield True  # its folder is gone, and with it whoever kept anything there
        return
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(lock)


def prune(state: Path, name: str) -> None:
    """Delete old records of ends of a name, and the locks of their keepers."""
    ends = sorted(state.glob(f"{stem(name)}.*.exit"), key=lambda path: path.stat().st_mtime)
    for path in ends[:-_KEEP]:
        path.unlink(missing_ok=True)
        path.with_suffix(".keeper").unlink(missing_ok=True)


def labels_of(request: LaunchRequest) -> dict[str, str]:
    """What the engine shows of it."""
    ours: dict[str, Any] = {"org.flpoc.name": request.name, "org.flpoc.state": request.state}
    return {**{f"org.flpoc.{key}": value for key, value in request.labels.items()}, **ours}
