"""What a keeper leaves in the state folder of a launch, and reading it without trust.

``NAME.json`` says which processes run, ``NAME.<keeper>.exit`` how one ended,
``NAME.lock`` is locked while one is launched. A handle's ``ref`` is the text of ``NAME.json``.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import urllib.parse
from pathlib import Path
from typing import Any

import attrs

from flpoc.launching import Handle, LaunchRequest, State, Status
from flpoc_builtin_local.processes import Process

_LONGEST_NAME = 120
_LARGEST_RECORD = 1 << 16
#: How many earlier launches of a name are remembered.
_KEEP_EXITS = 8


def stem_for(request: LaunchRequest) -> Path:
    """Where the records of this launch are, without their suffixes."""
    quoted = urllib.parse.quote(os.fsencode(request.name), safe="")
    if len(quoted) > _LONGEST_NAME:
        quoted = quoted[:40] + hashlib.blake2b(quoted.encode(), digest_size=16).hexdigest()
    return Path(request.state) / f"local-{quoted}"


def _beside(stem: Path, suffix: str) -> Path:
    return stem.with_name(stem.name + suffix)


@attrs.frozen
class Ref:
    """Which processes belong to a launch, and where its files are."""

    name: str
    boot: str
    stem: Path
    log: str
    keeper: Process
    child: Process
    text: str

    @classmethod
    def head(cls, request: LaunchRequest, boot: str) -> str:
        """The record as far as it is known before the start; the keeper adds the processes."""
        known = {"name": request.name, "boot": boot, "stem": str(stem_for(request)), "log": request.log}
        return json.dumps(known)[:-1]

    @classmethod
    def read(cls, stem: Path) -> Ref | None:
        """Read the record of a launch; None when there is none, or it is damaged."""
        text = _read(_beside(stem, ".json"))
        return cls.of_text(text, stem) if text else None

    @classmethod
    def parse(cls, handle: Handle) -> Ref | None:
        """Read a handle; None when it is not one of this launcher."""
        ref = cls.of_text(handle.ref) if handle.launcher == "local" else None
        return ref if ref and ref.name == handle.name else None

    @classmethod
    def of_text(cls, text: str, stem: Path | None = None) -> Ref | None:
        """Read the text of a record; None when it is not one, or not that of *stem*."""
        record = _object(text)
        try:
            ref = cls(
                name=_text(record["name"]),
                boot=_text(record["boot"]),
                stem=Path(_text(record["stem"])),
                log=_text(record["log"]),
                keeper=_process(record["keeper"]),
                child=_process(record["child"]),
                text=text,
            )
        except (KeyError, TypeError, ValueError):
            return None
        return ref if stem is None or ref.stem == stem else None


def exit_status(ref: Ref) -> Status | None:
    """How it ended, as its keeper wrote it down; None when there is no such record, or it is damaged."""
    record = _object(_read(_beside(ref.stem, f".{ref.keeper.pid}-{ref.keeper.started}.exit")))
    code, peak = record.get("code"), record.get("peak_rss")
    if type(code) is not int or type(peak) is not int:
        return None
    return Status(State.EXITED, code, _reason(code), peak)


def _reason(code: int) -> str:
    if code >= 0:
        return ""
    import signal

    with contextlib.suppress(ValueError):
        return f"ended by {signal.Signals(-code).name}"
    return f"ended by signal {-code}"


def locked(stem: Path) -> bool:
    """Whether a keeper lives that wrote the record: it holds a lock on it."""
    try:
        fd = os.open(_beside(stem, ".json"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def prune_exits(stem: Path) -> None:
    """Forget how earlier launches of this name ended, but for the last few."""
    found = [path for path in stem.parent.iterdir() if path.name.startswith(stem.name + ".") and path.suffix == ".exit"]
    for path in sorted(found, key=_changed)[:-_KEEP_EXITS]:
        path.unlink(missing_ok=True)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _read(path: Path) -> str:
    """A small file's text; empty when it cannot be read."""
    try:
        with path.open("rb") as file:
            return os.fsdecode(file.read(_LARGEST_RECORD))
    except (OSError, ValueError):
        return ""


def _object(text: str) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _process(value: object) -> Process:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("not a process")
    pid, started = value
    if type(pid) is not int or type(started) is not int or pid < 2 or pid > 1 << 22:
        raise ValueError("not a process")  # above all not 0, -1 or 1, which kill and killpg take for many
    return Process(pid, started)
