"""Keeps one launched process: starts it, relays its output, records how it ended.

The launcher runs ``main`` in a bare interpreter (``python -I -S``), once for
each launched process, and it stays beside that process until the end. It has
to be small and quick to start, so it imports next to nothing and nothing of
flpoc. It also is a module like any other: the launcher shares its view of ``/proc``.

Descriptor 0 has the request (see ``pack`` in ``launcher.py``), 1 takes the
answer: ``ok`` and the record, or ``no``, a step and an error number.
"""

from __future__ import annotations

import fcntl
import os
import resource
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is not imported here
    from typing import Any

try:
    import _signal as signal  # type: ignore[import-not-found]  # the C half: 4 ms and 0.7 MB less
except ImportError:
    import signal

#: How keepers of all launchers are known: ``flpoc.launching.KEEPER_MARK``, which is not imported here.
MARK = b"flpoc-keeper"
_CHUNK = 1 << 16
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def read_stat(pid: int) -> tuple[str, int, int, int, int, int]:
    """Give state, parent, group, session, number of threads and start time of a process.

    Raises:
        OSError: There is no such process.
    """
    with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib is not imported here
        text = file.read()
    # the name, in parentheses, may itself hold spaces and parentheses
    fields = text[text.rindex(b")") + 2 :].split()
    return (fields[0].decode(), int(fields[1]), int(fields[2]), int(fields[3]), int(fields[17]), int(fields[19]))


def is_keeper(pid: int) -> bool:
    """Say whether a process is a keeper: what it keeps is a launch of its own, not part of another."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123
            return MARK in file.read(4096).split(b"\0")
    except OSError:
        return False


def children(pid: int) -> list[int]:
    """Give the children of a process, whichever of its threads made them; none when it is gone."""
    found = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - pathlib is not imported here
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:  # noqa: PTH123
                found += [int(word) for word in file.read().split()]
    except OSError:
        return _children_by_search(pid)  # gone, a thread less, or a kernel without this file
    return found


def _children_by_search(pid: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            try:
                if read_stat(int(name))[1] == pid:
                    found.append(int(name))
            except OSError:
                continue
    return found


class Request:
    """What to start: the fields of the launcher's message, in its order."""

    def __init__(self, message: bytes) -> None:
        fields = message.split(b"\0")
        if fields[-1] != b"end":
            raise ValueError("the launcher went away before it had said what to start")
        self.program, self.workdir, self.log, self.stem, self.head = fields[:5]
        self.log_limit, self.data_limit, self.rules, self.own_network, count = (int(field) for field in fields[5:10])
        self.argv = fields[10 : 10 + count]
        self.env = dict(pair.split(b"=", 1) for pair in fields[10 + count : -1])


class Log:
    """The log file: appended to, rotated once, and never a reason to wait."""

    def __init__(self, path: bytes, limit: int) -> None:
        self._path = path
        self._limit = max(1, limit)
        self._lost = 0
        self._fd = self._open()
        self._size = os.fstat(self._fd).st_size

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, data: bytes) -> None:
        """Write *data*; on a full or failing disk, count it and go on."""
        if self._lost:
            note = b"\n[flpoc: %d bytes of output could not be written here]\n" % self._lost
            if self._put(note) < len(note):
                self._lost += len(data)
                return
            self._lost = 0
        self._lost += len(data) - self._put(data)

    def _put(self, data: bytes) -> int:
        """Write as much as possible, and say how much that was."""
        done = 0
        try:
            while done < len(data):
                room = self._limit - self._size
                piece = data[done : done + room] if room > 0 else b""
                if done + len(piece) < len(data):  # it goes on in the next file: better from the start of a line
                    piece = piece[: piece.rfind(b"\n") + 1] or (b"" if self._size else piece)
                if not piece:
                    self._rotate()
                    continue
                written = os.write(self._fd, piece)
                done += written
                self._size += written
        except OSError:
            pass  # the caller counts what is missing
        return done

    def _rotate(self) -> None:
        try:
            os.rename(self._path, self._path + b".1")  # noqa: PTH104
            fresh = self._open()
        except OSError:
            os.ftruncate(self._fd, 0)  # the cap holds, even where files can no longer be made
        else:
            os.close(self._fd)
            self._fd = fresh
        self._size = 0


class Keeper:
    """One keeper: the life of one launched process, from start to record."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._log = Log(request.log, request.log_limit)
        self._output, self._input = os.pipe()
        os.set_blocking(self._output, False)
        self._wake, wake_in = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake_in, False)
        signal.set_wakeup_fd(wake_in, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._child = 0
        self._ended: tuple[int, int] | None = None
        self._exit_path = b""
        self._record_fd = -1  # open, and so locked, for as long as this process lives

    def start(self, libc: Any) -> bytes:
        """Start the child and record it; gives the record.

        Raises:
            Refused: It could not be started, and nothing of it is left.
        """
        said, tell = os.pipe()
        keeper = os.getpid()
        self._child = os.fork()
        if self._child == 0:
            _become(self._request, self._input, tell, keeper, libc)
        os.close(tell)
        os.close(self._input)
        trouble = os.read(said, 256)  # ends, empty, with the exec
        os.close(said)
        if trouble:
            os.waitpid(self._child, 0)
            step, _, number = trouble.partition(b"\0")
            raise Refused(step, int(number))
        try:
            return self._write_record()
        except OSError as error:
            os.kill(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)
            end_children()
            raise Refused(b"record", error.errno or 0) from None

    def _write_record(self) -> bytes:
        me, child = os.getpid(), self._child
        mine = read_stat(me)[5]
        pairs = (me, mine, child, read_stat(child)[5])
        record = b'%s, "keeper": [%d, %d], "child": [%d, %d]}' % (self._request.head, *pairs)
        self._exit_path = b"%s.%d-%d.exit" % (self._request.stem, me, mine)
        path = self._request.stem + b".json"
        part = b"%s.%d.part" % (path, me)
        self._record_fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._record_fd, fcntl.LOCK_EX)
        os.write(self._record_fd, record)
        os.replace(part, path)  # noqa: PTH105
        return record

    def keep(self) -> None:
        """Relay output until the child has ended; end what it left; record how it ended."""
        poll = select.poll()
        poll.register(self._output, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        self._reap()
        while self._ended is None:
            for fd, _ in poll.poll():
                if fd == self._wake:
                    _drain(self._wake)
                    self._reap()
                elif not self._relay():
                    poll.unregister(self._output)
        end_children(spare_keepers=self._request.rules < 0)  # a confined job could mark whatever it likes
        # what is still in the pipe; never until its end, which others may hold open
        for _ in range(64):
            if not self._relay():
                break
        self._write_exit()

    def _relay(self) -> bool:
        try:
            data = os.read(self._output, _CHUNK)
        except BlockingIOError:
            return False
        if data:
            self._log.write(data)
        return bool(data)

    def _reap(self) -> None:
        """Collect whoever has ended: the child, and orphans that came to this process."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._child:
                self._ended = (os.waitstatus_to_exitcode(status), usage.ru_maxrss << 10)

    def _write_exit(self) -> None:
        assert self._ended is not None
        code, peak = self._ended
        part = self._exit_path + b".part"
        try:
            fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            os.write(fd, b'{"code": %d, "peak_rss": %d, "ended": %d}' % (code, peak, time.time()))
            os.close(fd)
            os.replace(part, self._exit_path)  # noqa: PTH105
        except OSError:
            return  # the folder is gone or the disk is full: then nobody knows, which poll can say


class Refused(Exception):
    """The process could not be started: at which step, and the error number."""


def _become(request: Request, output: int, tell: int, keeper: int, libc: Any) -> None:
    """Turn this fork into the program; never returns."""
    step = b"session"
    try:
        os.setsid()
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:
            os._exit(127)  # the keeper died before the line above
        for number in signal.valid_signals():
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        step = b"limits"
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if request.data_limit:
            # RLIMIT_DATA counts private writable memory; RLIMIT_AS would also count mapped models and libraries
            resource.setrlimit(resource.RLIMIT_DATA, (request.data_limit, request.data_limit))
        step = b"workdir"
        os.chdir(request.workdir)
        step = b"program"
        os.dup2(_null(), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        if request.rules >= 0:
            step = b"confine"
            from flpoc_builtin_local.restricting import confine

            confine(request.rules, libc, own_network=bool(request.own_network))
            step = b"program"
        os.execve(request.program, request.argv, request.env)  # noqa: S606 - a program, never a shell
    except OSError as error:
        os.write(tell, b"%s\0%d" % (step, error.errno or 0))
    except BaseException as error:  # noqa: BLE001 - this is a fork: nothing may get out of here
        os.write(tell, b"%s: %s\0%d" % (step, str(error).encode()[:200], 0))
    os._exit(127)


def end_children(spare_keepers: bool = True) -> None:
    """Kill every child and, as its orphans come here, every descendant; other keepers are not touched."""
    while True:
        mine = [pid for pid in children(os.getpid()) if not (spare_keepers and is_keeper(pid))]
        if not mine:
            return
        for pid in mine:
            os.kill(pid, signal.SIGKILL)  # not yet waited for, so still the same process
        for pid in mine:
            os.waitpid(pid, 0)


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        pass


def _null() -> int:
    return os.open(b"/dev/null", os.O_RDWR | os.O_CLOEXEC)


def _read_all(fd: int) -> bytes:
    parts = []
    while part := os.read(fd, _CHUNK):
        parts.append(part)
    return b"".join(parts)


def _libc() -> Any:
    """The system calls that Python lacks; None where it came without ctypes."""
    try:
        import ctypes
    except ImportError:
        return None
    return ctypes.CDLL(None, use_errno=True)


def _answer(words: bytes) -> None:
    try:  # noqa: SIM105 - contextlib is not imported here
        os.write(1, words)
    except OSError:
        pass  # the launcher is gone; whoever launches this name next finds the record


def main(lock: int) -> None:
    """Keep what the request on descriptor 0 says; *lock* is a descriptor to close once it is recorded."""
    os.set_inheritable(lock, False)  # it is for this process, not for what it starts
    if os.fork():
        os._exit(0)  # the launcher waits for this one, so that the keeper is nobody's zombie
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)  # a keeper ends with what it keeps
    try:
        request = Request(_read_all(0))
        if request.rules >= 0:
            os.set_inheritable(request.rules, False)
        libc = _libc()
        if libc is not None:
            libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        try:
            keeper = Keeper(request)
        except OSError as error:
            raise Refused(b"log", error.errno or 0) from None
        record = keeper.start(libc)
    except Refused as why:
        _answer(b"no\0%s\0%d" % why.args)
        return
    _answer(b"ok\0" + record)
    null = _null()
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    os.close(lock)
    if request.rules >= 0:
        os.close(request.rules)
    keeper.keep()
