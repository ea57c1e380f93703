"""Starts processes with a supervisor beside each, and finds them by its lock."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flpoc.errors import LaunchError
from flpoc.launching import (
    KEEPER_MARK,
    Handle,
    Launcher,
    LaunchRequest,
    State,
    Status,
    check_request,
)

from flpoc_hello import supervisor
from flpoc_hello.settings import HelloSettings

#: How long killed processes may take to go.
_KILLED_SECONDS = 30.0
#: How much of a log is read for its last lines.
_TAIL_BYTES = 1 << 20


class HelloLauncher(Launcher):
    """Processes of this machine that outlive whoever launched them."""

    def __init__(self, settings: HelloSettings) -> None:
        self._settings = settings

    def launch(self, request: LaunchRequest) -> Handle:
        check_request(request)
        stem = "hello-" + hashlib.sha256(request.name.encode()).hexdigest()[:32]
        state = Path(request.state)
        try:
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
            Path(request.log).parent.mkdir(parents=True, exist_ok=True)
            with _locked(state / f"{stem}.lock") as lock:
                return self._launch(request, state / stem, lock)
        except OSError as error:
            raise LaunchError(f"{request.name}: {error}", hint="choose folders that can be written to") from error

    def _launch(self, request: LaunchRequest, stem: Path, lock: int) -> Handle:
        current = stem.with_suffix(".current")
        if current.exists():
            record = _Record(stem.parent / current.read_text())
            if record.is_locked():
                return record.handle(request.name)
            record.end_rest()
        # named before it is started: whoever is killed in between leaves a trace
        record = _Record(stem.parent / f"{stem.name}.{secrets.token_hex(8)}.json")
        part = stem.with_suffix(".part")
        part.write_text(record.path.name)
        part.replace(current)
        self._supervise(request, record, lock)
        return record.handle(request.name)

    def _supervise(self, request: LaunchRequest, record: _Record, lock: int) -> None:
        """Start a supervisor and, through it, the process; the lock is the supervisor's until it has its own."""
        message = {
            "name": request.name,
            "argv": request.argv,
            "workdir": request.workdir,
            "env": request.env,
            "log": request.log,
            "log_limit": request.log_limit,
            "nice": self._settings.nice,
            "record": str(record.path),
            "lock": lock,
        }
        # the mark tells other launchers' supervisors that this is one, too
        program = [sys.executable, "-I", "-S", supervisor.__file__, KEEPER_MARK, request.name]
        done = subprocess.run(
            program,
            input=json.dumps(message).encode(),
            capture_output=True,
            cwd="/",
            pass_fds=(lock,),
            start_new_session=True,
            check=False,
        )
        if done.stdout != b"runs":
            said = (done.stdout or done.stderr).decode(errors="replace").strip()
            raise LaunchError(
                f"{request.name}: cannot start {request.argv[0]!r} in {request.workdir}: {said}",
                hint="see that the program and the folder exist, and may be used",
            )

    def poll(self, handle: Handle) -> Status:
        record = _Record.of(handle)
        return _Record.status(record) if record else Status(State.EXITED)

    def wait(self, handle: Handle, timeout: float) -> Status:
        record = _Record.of(handle)
        if record is None:
            return Status(State.EXITED)
        with record.supervisor() as process:
            if process is not None:
                _ends(process, timeout)
        return record.status()

    def stop(self, handle: Handle, *, grace: float = 10.0) -> None:
        record = _Record.of(handle)
        if record is None:
            return
        with record.supervisor() as process:
            if process is not None:
                _send(process, signal.SIGTERM)
                if not _ends(process, grace):
                    _send(process, signal.SIGUSR1)
                    if not _ends(process, _KILLED_SECONDS):
                        raise _unkillable(handle.name, handle.pid)
        record.end_rest()

    def logs(self, handle: Handle, *, tail: int = 200) -> str:
        record = _Record.of(handle)
        if record is None or tail <= 0:
            return ""
        log = str(record.read().get("log", ""))
        text = _end_of(f"{log}.1") + _end_of(log) if log else b""
        lines = text.splitlines(keepends=True)[-tail:]
        return b"".join(lines).decode(errors="replace")


class _Record:
    """The file in which the supervisor of one launch says what it does."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, handle: Handle) -> _Record | None:
        """Find the record of a handle; None if it is nonsense, or another launcher's."""
        try:
            path = Path(json.loads(handle.ref)["record"])
            found = cls(path) if path.is_absolute() and path.is_file() else None
        except (ValueError, TypeError, KeyError, OSError, RecursionError):
            return None
        ours = handle.launcher == "hello" and found is not None and found.read().get("name") == handle.name
        return found if ours else None

    def handle(self, name: str) -> Handle:
        ref = json.dumps({"record": str(self.path)})
        return Handle("hello", name, ref, int(self.read().get("pid", 0)))

    def read(self) -> dict[str, Any]:
        try:
            found = json.loads(self.path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def is_locked(self) -> bool:
        """Whether the supervisor lives: only it ever locks this file for itself alone."""
        try:
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(file)
        return False

    def status(self) -> Status:
        if self.is_locked():
            return Status(State.RUNNING)
        said = self.read()
        code, peak = said.get("code"), said.get("peak_rss")
        reason = "" if code is not None else "its supervisor was killed"
        return Status(State.EXITED, code, reason, peak)

    def end_rest(self) -> None:
        """End what a supervisor has left that was killed: nobody else will."""
        said = self.read()
        if "code" in said or said.get("boot") != supervisor.boot_id():
            return
        until = time.monotonic() + _KILLED_SECONDS
        while left := supervisor.of_session(int(said["pid"]), int(said["started"])):
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            if time.monotonic() > until:
                raise _unkillable(str(said["name"]), left[0])
            time.sleep(0.01)

    @contextlib.contextmanager
    def supervisor(self) -> Iterator[int | None]:
        """A descriptor of the supervisor's process; None when it has ended."""
        try:
            process = os.pidfd_open(int(self.read().get("supervisor", 0)))
        except (OSError, ValueError, OverflowError):
            yield None
            return
        try:
            # locked after it was opened: so it is the supervisor, not a later process
            yield process if self.is_locked() else None
        finally:
            os.close(process)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Hold a lock under which one name is launched."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)


def _send(process: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, number)


def _ends(process: int, seconds: float) -> bool:
    """Wait until a process has ended; False when the time is over before."""
    ended = select.poll()
    ended.register(process, select.POLLIN)
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if ended.poll(min(left, 3600.0) * 1000):
            return True
    return bool(ended.poll(0))


def _unkillable(name: str, pid: int) -> LaunchError:
    return LaunchError(
        f"{name}: process {pid} does not end, not even by SIGKILL",
        hint="it probably waits for a disk or a device",
    )


def _end_of(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            return file.read()
    except OSError:
        return b""
