"""Processes that are not our children: whether they live, waiting for their end, signals.

A pid alone says nothing: pids are used again. A process is named here by pid and start
time, and a signal goes through a pidfd that was opened before the start time was checked, so
that it cannot reach another process. Kernels before 5.3 have no pidfd; there
signals go by pid right after the check, and waiting looks every 20 ms.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

from flpoc_builtin_local.keeper import children, is_keeper, read_stat

_LOOK_AGAIN = 0.02
_LONGEST_POLL = 3600.0


@attrs.frozen
class Process:
    """A process of this machine.

    Attributes:
        pid: Its number.
        started: When it started, in clock ticks after the machine did.
    """

    pid: int
    started: int

    @property
    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        try:
            state, _, _, _, threads, started = read_stat(self.pid)
        except (OSError, ValueError):
            return False
        # the first thread of a process may end, and look like a zombie, while others go on
        return started == self.started and (state not in "ZXx" or threads > 1)

    def send(self, number: int) -> None:
        """Send a signal; nothing happens when the process is gone."""
        with _pidfd(self.pid) as fd, contextlib.suppress(ProcessLookupError):
            if not self.alive:
                return
            if fd is None:
                os.kill(self.pid, number)
            else:
                signal.pidfd_send_signal(fd, number)

    def send_group(self, number: int) -> None:
        """Send a signal to the group that this process leads."""
        with contextlib.suppress(ProcessLookupError):
            if self.alive:  # while its leader lives, a group's number cannot be used again
                os.killpg(self.pid, number)


def boot_id() -> str:
    """Name this run of the machine: pids and start times mean nothing in another."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def wait_gone(processes: Iterable[Process], timeout: float) -> bool:
    """Wait until none of them runs; False when the time is over before."""
    end = time.monotonic() + timeout
    for process in processes:
        with _pidfd(process.pid) as fd:
            while process.alive:
                left = end - time.monotonic()
                if left <= 0:
                    return False
                _pause(fd, left)
    return True


def _pause(fd: int | None, seconds: float) -> None:
    """Block until the process behind *fd* has ended, or the time is over."""
    if fd is None:
        time.sleep(min(_LOOK_AGAIN, seconds))
        return
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.poll(min(seconds, _LONGEST_POLL) * 1000)


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int | None]:
    """A descriptor for the process that has this pid now; None when there is none, or the kernel has no pidfd."""
    try:
        fd = os.pidfd_open(pid)
    except OSError as error:
        if error.errno not in (errno.ESRCH, errno.ENOSYS, errno.EINVAL, errno.EPERM):
            raise
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


def descendants(roots: Iterable[int]) -> list[Process]:
    """All processes below *roots*, without those that belong to a launch of their own."""
    found: list[Process] = []
    to_see = list(roots)
    while to_see:
        for pid in children(to_see.pop()):
            if is_keeper(pid):
                continue
            with contextlib.suppress(OSError, ValueError):
                found.append(Process(pid, read_stat(pid)[5]))
                to_see.append(pid)
    return found


def of_session(leader: Process) -> list[Process]:
    """What is left of the session that *leader* once began, whether or not the leader is alive."""
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - names only
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError):
            state, _, _, session, threads, started = read_stat(int(name))
            if session == leader.pid and started >= leader.started and (state not in "ZXx" or threads > 1):
                found.append(Process(int(name), started))
    return found
