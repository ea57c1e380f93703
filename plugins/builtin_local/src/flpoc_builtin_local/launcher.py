"""Processes of this machine, each with a keeper beside it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from flpoc.errors import LaunchError
from flpoc.launching import KEEPER_MARK, Handle, Launcher, LaunchRequest, State, Status, check_request
from flpoc.tails import last_lines
from flpoc_builtin_local import keeper
from flpoc_builtin_local.confinement import rules_for
from flpoc_builtin_local.processes import Process, boot_id, descendants, of_session, wait_gone
from flpoc_builtin_local.records import Ref, exit_status, locked, prune_exits, stem_for
from flpoc_builtin_local.settings import LocalSettings

NAME = "local"
#: Imported, not run as a file, so that its compiled form is used: 10 ms less.
_KEEPER = (
    "import sys; sys.path.append(sys.argv[1]); from flpoc_builtin_local import keeper; keeper.main(int(sys.argv[2]))"
)
#: How long a keeper may take to end what is left after its child was killed.
_KEEPER_SECONDS = 5.0
#: How long killed processes may take to go, before stop says that they do not.
_KILLED_SECONDS = 30.0


class LocalLauncher(Launcher):
    """Starts processes of this machine that outlive whoever started them."""

    def __init__(self, settings: LocalSettings | None = None) -> None:
        self._settings = settings or LocalSettings()

    def launch(self, request: LaunchRequest) -> Handle:
        """Start it beside a keeper, or give the handle of what runs under this name.

        Raises:
            LaunchError: The program, the working folder or the log cannot be
                used, or the keeper could not be started.
        """
        check_request(request)
        stem = stem_for(request)
        if running := self._running(request, stem):
            return running  # without the lock: most often, this is all
        program = _find_program(request)
        _make_folders(request)
        with _launching(stem) as lock:
            if running := self._running(request, stem):
                return running
            if left := Ref.read(stem):
                self._end_rest(left)  # of a keeper that was killed
            elif locked(stem):  # asked under the launch lock: nobody is just writing it
                raise LaunchError(
                    f"{request.name}: already runs, but its record {stem}.json is damaged",
                    hint=f"find its keeper with `ps ax | grep {KEEPER_MARK}`, kill it, and start again",
                )
            prune_exits(stem)
            with rules_for(request, program, self._settings) as rules:
                return _handle(request.name, _start_keeper(request, program, stem, lock, rules))

    def _running(self, request: LaunchRequest, stem: Path) -> Handle | None:
        ref = Ref.read(stem)
        return _handle(request.name, ref) if ref and _status(ref).running else None

    def poll(self, handle: Handle) -> Status:
        """Say how it is, at once."""
        ref = Ref.parse(handle)
        if ref is None:
            return Status(State.EXITED, None, "this is not a handle of the local launcher")
        return _status(ref)

    def wait(self, handle: Handle, timeout: float) -> Status:
        """Wait for the end of the process; the kernel says when, nothing polls."""
        end = time.monotonic() + timeout
        ref = Ref.parse(handle)
        status = self.poll(handle)
        while ref and status.running and (left := end - time.monotonic()) > 0:
            wait_gone((ref.child, ref.keeper), left)
            status = _status(ref)
        return status

    def stop(self, handle: Handle, *, grace: float = 10.0) -> None:
        """Send SIGTERM to its process group, and SIGKILL to all that is left after *grace* seconds.

        Raises:
            LaunchError: Something of it cannot be killed, e.g. because it waits for a device.
        """
        ref = Ref.parse(handle)
        if ref is None or ref.boot != boot_id():
            return
        pair = (ref.child, ref.keeper)
        ref.keeper.send(signal.SIGCONT)
        ref.child.send_group(signal.SIGTERM)
        ref.child.send_group(signal.SIGCONT)  # a paused process hears SIGTERM only when it goes on
        if not wait_gone(pair, grace):
            ref.child.send_group(signal.SIGKILL)
            if not wait_gone(pair, _KEEPER_SECONDS):
                for process in (*descendants([ref.keeper.pid, ref.child.pid]), *pair):
                    process.send(signal.SIGKILL)
                if not wait_gone(pair, _KILLED_SECONDS):
                    raise _unkillable(handle.name, ref.child)
        self._end_rest(ref)

    def _end_rest(self, ref: Ref) -> None:
        """End what outlived a keeper that was killed: nobody else will."""
        if ref.boot != boot_id() or exit_status(ref) is not None:
            return
        end = time.monotonic() + _KILLED_SECONDS
        while rest := of_session(ref.child):
            for process in rest:
                process.send(signal.SIGKILL)
            if not wait_gone(rest, end - time.monotonic()):
                raise _unkillable(ref.name, rest[0])

    def logs(self, handle: Handle, *, tail: int = 200) -> str:
        """Give the last *tail* lines of its log, also across the rotation."""
        ref = Ref.parse(handle)
        return last_lines(Path(ref.log), tail) if ref else ""


def _status(ref: Ref) -> Status:
    same_boot = ref.boot == boot_id()
    if same_boot and ref.child.alive:
        return Status(State.RUNNING)
    keeper_lives = same_boot and ref.keeper.alive  # asked before the record is read: it writes, then ends
    if status := exit_status(ref):
        return status
    if keeper_lives:
        return Status(State.RUNNING)
    why = "its keeper was killed, or its folder is gone" if same_boot else "the machine restarted"
    return Status(State.EXITED, None, f"ended without a record: {why}")


def _handle(name: str, ref: Ref) -> Handle:
    return Handle(launcher=NAME, name=name, ref=ref.text, pid=ref.child.pid)


def _find_program(request: LaunchRequest) -> str:
    """The program, searched in the PATH of the request where its name has no slash."""
    if not Path(request.workdir).is_dir():
        raise _refusal(request, "workdir", errno.ENOENT)
    program = request.argv[0]
    if "/" in program:
        return program
    found = shutil.which(program, path=request.env.get("PATH", os.defpath))
    if found is None:
        raise _refusal(request, "program", errno.ENOENT)
    return found


def _make_folders(request: LaunchRequest) -> None:
    try:
        Path(request.state).mkdir(mode=0o700, parents=True, exist_ok=True)
        Path(request.log).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LaunchError(
            f"{request.name}: cannot make the folder {error.filename}: {error.strerror}",
            hint="make it, or choose a place that this user may write to",
        ) from error


@contextlib.contextmanager
def _launching(stem: Path) -> Iterator[int]:
    """Hold the lock under which one name is launched; the keeper inherits it until its record is written."""
    path = stem.with_name(stem.name + ".lock")
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LaunchError(
            f"cannot write {path}: {error.strerror}", hint="free some space, or give this user the folder"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)


def _start_keeper(request: LaunchRequest, program: str, stem: Path, lock: int, rules: int | None) -> Ref:
    folder = str(Path(keeper.__file__).parents[1])
    argv = [sys.executable, "-I", "-S", "-c", _KEEPER, folder, str(lock), KEEPER_MARK, request.name]
    # of the environment, a keeper needs only what its interpreter needs to start
    env = {key: os.environ[key] for key in ("LD_LIBRARY_PATH",) if key in os.environ}
    message = pack(request, program, stem, rules)
    try:
        with subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=env,
            pass_fds=(lock,) if rules is None else (lock, rules),
            start_new_session=True,
        ) as process:
            answer, _ = process.communicate(message)
    except OSError as error:
        raise LaunchError(
            f"{request.name}: no keeper could be started: {error}",
            hint="the machine may be out of memory or processes (ulimit -u)",
        ) from error
    return _understood(request, answer, stem)


def _understood(request: LaunchRequest, answer: bytes, stem: Path) -> Ref:
    """What a keeper answered: the record of what runs, or the error to raise."""
    word, _, rest = answer.partition(b"\0")
    if word == b"ok" and (ref := Ref.of_text(os.fsdecode(rest), stem)):
        return ref
    step, _, number = rest.partition(b"\0")
    if word == b"no" and number.isdigit():
        raise _refusal(request, step.decode(errors="replace"), int(number))
    said = os.fsdecode(answer).strip().splitlines()
    raise LaunchError(
        f"{request.name}: its keeper ended early: {said[-1] if said else 'without a word'}",
        hint=f"does {sys.executable} still work?",
    )


def pack(request: LaunchRequest, program: str, stem: Path, rules: int | None) -> bytes:
    """Write a request down for its keeper: fields with zeros between, which none can contain."""
    gib = request.needs.memory_gib
    fields = [
        program,
        request.workdir,
        request.log,
        str(stem),
        Ref.head(request, boot_id()),
        str(request.log_limit),
        str(int(gib * (1 << 30)) if gib else 0),
        str(-1 if rules is None else rules),
        str(int(request.network == "own")),
        str(len(request.argv)),
        *request.argv,
        *(f"{key}={value}" for key, value in request.env.items()),
        "end",
    ]
    return b"\0".join(map(os.fsencode, fields))


def _refusal(request: LaunchRequest, step: str, number: int) -> LaunchError:
    why = os.strerror(number) if number else "failed"
    program = request.argv[0]
    if step == "workdir":
        return LaunchError(
            f"{request.name}: cannot work in {request.workdir}: {why}", hint="make this folder, or name another"
        )
    if step == "program":
        hint = {
            errno.ENOENT: "install it, or name it by its full path; if it is a script, its first line may name a"
            " missing interpreter",
            errno.EACCES: f"make it executable: chmod +x {program}",
            errno.ENOEXEC: "it is no program: if it is a script, start its interpreter, or begin it with #!",
        }.get(number, "try it by hand on this machine")
        return LaunchError(f"{request.name}: cannot start {program!r}: {why}", hint=hint)
    if step == "log":
        return LaunchError(f"{request.name}: cannot write {request.log}: {why}", hint="name another log file")
    if step == "confine":
        return LaunchError(
            f"{request.name}: it cannot be confined: {why}",
            hint='confine = "never" among the launcher\'s settings starts it without',
        )
    if step == "record":
        return LaunchError(
            f"{request.name}: cannot write to {request.state}: {why}",
            hint="free some space, or give this user the folder",
        )
    return LaunchError(f"{request.name}: cannot start {program!r}: {step}: {why}", hint="see `ulimit -a`")


def _unkillable(name: str, process: Process) -> LaunchError:
    return LaunchError(
        f"{name}: process {process.pid} does not end, not even by SIGKILL",
        hint="it probably waits for a disk or a device; see `ps -o pid,stat,wchan,args`",
    )
