"""The consoles that are open on a proof of concept: recorded by themselves, ended with it.

A console writes ``state/poc/consoles/PID.json`` and takes it away when it
ends. A record names a process by pid, start time, boot and pid namespace, and
signals go through a pidfd that was opened before these were compared: whatever
else has that pid now is never meant.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import select
import signal
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Final

import attrs

from flpoc.errors import ServiceError
from flpoc.poc.workspace import OWN_STATE, STATE, Workspace

#: How long a console may take to end in good order, and how long after it was killed.
_GRACE: Final = 5.0
_KILLED: Final = 2.0


@attrs.frozen
class Console:
    """A console that was opened.

    Attributes:
        user: Whose it is.
        pid: Its process.
        started: When that began, in clock ticks after the machine did.
        boot: In which run of the machine.
        namespace: Where its pid counts; in another container it is another process's.
    """

    user: str
    pid: int
    started: int
    boot: str
    namespace: str


def this_process(user: str) -> Console:
    """The console that this process is."""
    return Console(user, os.getpid(), _start_of(os.getpid()), _boot(), _namespace())


@contextlib.contextmanager
def recorded(folder: Path, user: str, note: Callable[[str], None]) -> Iterator[None]:
    """Let ``poc stop`` of the workspace in *folder* find this process meanwhile."""
    path = _records(folder) / f"{os.getpid()}.json"
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)  # a workspace that is being removed is not made anew
        part = path.with_suffix(f".{secrets.token_hex(4)}")
        part.write_text(json.dumps(attrs.asdict(this_process(user))), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        note(f"`flpoc poc stop` will not end this console: {error}")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the workspace may have been removed meanwhile
            path.unlink()


def chosen_users(workspace: Workspace, only: str, exclude: str) -> list[str]:
    """The users whose consoles a command for *only* and not for *exclude* is about."""
    users = [one.name for one in workspace.project.users]
    if only not in ("", "all"):
        users = [name for name in users if name == only]
    return [name for name in users if name != exclude]


def end_consoles(folder: Path, users: Collection[str] | None = None) -> list[Console]:
    """End the consoles of these users, or all; gives those that ran. Records of what has ended are taken away.

    Raises:
        ServiceError: One cannot be ended.
    """
    found = [(path, one) for path in sorted(_records(folder).glob("*.json")) if (one := _read(path)) is not None]
    ended = []
    for path, one in found:
        if users is not None and one.user not in users:
            continue
        if (one.boot, one.namespace) == (_boot(), _namespace()):
            if _end(one):
                ended.append(one)
            path.unlink(missing_ok=True)
        elif one.boot != _boot():
            path.unlink(missing_ok=True)
    return ended


def _end(console: Console) -> bool:
    """End one; false if it had ended before."""
    try:
        process = _open(console.pid)
    except ProcessLookupError:
        return False
    try:
        if not _is(console):
            return False
        # SIGCONT for one that was put aside with Ctrl-Z: it cannot end in good order while it is stopped
        for numbers, patience in (((signal.SIGTERM, signal.SIGCONT), _GRACE), ((signal.SIGKILL,), _KILLED)):
            for number in numbers:
                _send(console.pid, process, number)
            if _gone(process, patience):
                return True
    except PermissionError:
        raise ServiceError(
            f"the console of {console.user} (pid {console.pid}) is another user's", hint="have them end it: bye"
        ) from None
    finally:
        if process is not None:
            os.close(process)
    raise ServiceError(f"the console of {console.user} (pid {console.pid}) does not end", hint="try again")


def _open(pid: int) -> int | None:
    """A descriptor for the process that has this pid now; None where the kernel, before 5.3, has none."""
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno == errno.ENOSYS:
            return None
        raise


def _is(console: Console) -> bool:
    try:
        return _start_of(console.pid) == console.started
    except (OSError, ValueError):
        return False


def _send(pid: int, process: int | None, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        if process is None:
            os.kill(pid, number)
        else:
            signal.pidfd_send_signal(process, number)


def _gone(process: int | None, seconds: float) -> bool:
    """Wait for its end; where there is no way to wait, believe that it does."""
    if process is None:
        return True
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _start_of(pid: int) -> int:
    # the name in brackets may hold anything, brackets too
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return int(fields[19])


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _namespace() -> str:
    return str(Path("/proc/self/ns/pid").readlink())


def _records(folder: Path) -> Path:
    return folder / STATE / OWN_STATE / "consoles"


def _read(path: Path) -> Console | None:
    """A record; None when it is gone meanwhile, or no record."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Console(**json.loads(path.read_text(encoding="utf-8")))
    return None
