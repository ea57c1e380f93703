"""Stays beside one launched process, from its start to the record of its end.

The launcher runs this file in a bare interpreter; the request comes as JSON on
standard input. The answer is ``runs``, or what is wrong. Its first argument is the
mark by which the supervisors of all launchers know each other.

SIGTERM is passed on to the process, as a request to end. SIGUSR1 kills it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
from typing import Any

_PDEATHSIG, _CHILD_SUBREAPER = 1, 36
_prctl = ctypes.CDLL(None).prctl


class Log:
    """The log file; at its limit it becomes ``NAME.1``, and a new one begins."""

    def __init__(self, path: str, limit: int) -> None:
        self._path = path
        self._limit = max(1, limit)
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - open until the end

    def write(self, data: bytes) -> None:
        # a full disk must not hold the process up: what cannot be written is lost
        with contextlib.suppress(OSError):
            for start in range(0, len(data), self._limit):
                piece = data[start : start + self._limit]
                if self._file.tell() + len(piece) > self._limit:
                    self._file.close()
                    os.replace(self._path, f"{self._path}.1")
                    self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115
                self._file.write(piece)


def main() -> None:
    request = json.load(sys.stdin)
    if os.fork():
        os._exit(0)  # the launcher waits for this one; the supervisor is nobody's zombie
    os.setsid()
    # whoever loses its parent below here becomes a child of this process
    _prctl(_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        record = os.open(request["record"], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(record, fcntl.LOCK_EX)
        log = Log(request["log"], request["log_limit"])
        process = _start(request)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        _answer(getattr(error, "strerror", None) or str(error))
        return
    facts = {
        "name": request["name"],
        "boot": boot_id(),
        "supervisor": os.getpid(),
        "pid": process.pid,
        "started": _stat(process.pid)[1],
        "log": request["log"],
    }
    wake = _pass_signals_on(process.pid)
    _write(record, facts)
    os.close(request["lock"])
    _answer("runs")
    code, peak_rss = _keep(process, log, wake)
    _write(record, {**facts, "code": code, "peak_rss": peak_rss})


def _start(request: dict[str, Any]) -> subprocess.Popen[bytes]:
    me = os.getpid()

    def become() -> None:
        _prctl(_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != me:
            os._exit(1)
        os.nice(request["nice"])

    return subprocess.Popen(
        request["argv"],
        cwd=request["workdir"],
        env=request["env"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=become,  # noqa: PLW1509 - there are no threads here
    )


def _answer(text: str) -> None:
    """Tell the launcher, and let go of it."""
    with contextlib.suppress(OSError):
        os.write(1, text.encode(errors="replace"))
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)


def _write(record: int, facts: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # no room: then nobody knows how it ended
        os.pwrite(record, json.dumps(facts).encode(), 0)


def _pass_signals_on(leader: int) -> int:
    """Pass on what arrives from now on; gives a file that can be read whenever a signal waits for its handler.

    Python runs handlers between two of its own steps. Without this file, a
    signal that arrives just before a wait begins would wait with it.
    """

    def ask(*_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader, signal.SIGTERM)
            os.killpg(leader, signal.SIGCONT)  # a paused one hears only when it goes on

    def insist(*_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader, signal.SIGKILL)

    wake, waker = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGUSR1, insist)
    return wake


def _keep(process: subprocess.Popen[bytes], log: Log, wake: int) -> tuple[int, int]:
    """Relay output until the process ends, and kill what it leaves; exit code and most memory held."""
    assert process.stdout is not None
    output = process.stdout.fileno()
    os.set_blocking(output, False)
    ended = os.pidfd_open(process.pid)
    news = select.poll()
    news.register(output, select.POLLIN)
    news.register(ended, select.POLLIN)
    news.register(wake, select.POLLIN)
    result = None
    while result is None:
        for file, _ in news.poll():
            if file == output and not _relay(output, log):
                news.unregister(output)
            elif file == wake:
                os.read(wake, 64)
        result = _reap(process)
    _end_children()
    for _ in range(64):  # what is still in the pipe
        if not _relay(output, log):
            break
    return result


def _relay(output: int, log: Log) -> bool:
    try:
        data = os.read(output, 1 << 16)
    except BlockingIOError:
        return False
    log.write(data)
    return bool(data)


def _reap(process: subprocess.Popen[bytes]) -> tuple[int, int] | None:
    """Collect whoever has ended: the process, and orphans that came here."""
    while True:
        pid, status, usage = os.wait4(-1, os.WNOHANG)
        if pid == process.pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, usage.ru_maxrss << 10
        if not pid:
            return None


def _end_children() -> None:
    """Kill all that is left below this process, but not what was launched by it."""
    while left := [pid for pid in _children() if not _is_supervisor(pid)]:
        for pid in left:
            os.kill(pid, signal.SIGKILL)  # not waited for yet, so still the same process
        for pid in left:
            os.waitpid(pid, 0)


def _children() -> list[int]:
    me = os.getpid()
    with open(f"/proc/{me}/task/{me}/children", "rb") as file:
        return [int(word) for word in file.read().split()]


def _is_supervisor(pid: int) -> bool:
    """Whether it carries the mark: then what it keeps was launched, by whichever launcher."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return os.fsencode(sys.argv[1]) in file.read().split(b"\0")
    except OSError:
        return False


def boot_id() -> str:
    """Name this run of the machine: process ids and start times mean nothing in another."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def of_session(leader: int, started: int) -> list[int]:
    """What lives of the session that *leader* began, which was started at that time."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError, ValueError):
            session, start, state = _stat(int(name))
            if session == leader and start >= started and state not in "ZX":
                found.append(int(name))
    return found


def _stat(pid: int) -> tuple[int, int, str]:
    """Session, start time and state of a process."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        # the name, in parentheses, may hold anything
        fields = file.read().rpartition(b")")[2].split()
    return int(fields[3]), int(fields[19]), fields[0].decode()


if __name__ == "__main__":
    main()
