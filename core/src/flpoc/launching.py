"""Starting processes: the server and sites of a proof of concept, and the processes of jobs.

A launcher is synchronous and stateless: whatever is needed to find a process
again is in the :class:`Handle`, which is plain data and outlives its maker.
"""

from __future__ import annotations

import enum
import re
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import attrs

from flpoc.errors import UsageError

#: ``none``: no network at all. ``agent``: only the way to the owner's socket. ``own``: besides, a network of its own
#: with nobody else in it, for processes that talk among themselves; where there can be none, the same as ``agent``.
#: ``open``: as the host.
Network = Literal["none", "agent", "own", "open"]

#: How images are named, for launchers that have images.
IMAGE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}")
#: Where what runs on this machine is reached by what runs on it.
HERE: Final = "localhost"
#: An argument that tells a *keeper* among the processes of a machine: a process of a launcher that stays beside what
#: it has launched. Every keeper carries it on its command line, and no launcher ends another's as a leftover child.
KEEPER_MARK: Final = "flpoc-keeper"


@attrs.frozen
class Mount:
    """A file or folder that the process may see.

    Attributes:
        source: Where it is on the host, absolute.
        target: Where the process sees it, absolute; the same as *source* for launchers without own file systems.
        writable: Whether the process may change it.
    """

    source: str
    target: str
    writable: bool = False


@attrs.frozen
class Needs:
    """What a process needs.

    Attributes:
        cpus: Number of processors; also the number of threads that numeric libraries may start.
        memory_gib: Main memory in GiB; None for no limit.
        gpus: Ids of the graphics processors it may use.
    """

    cpus: float = attrs.field(default=1.0, validator=attrs.validators.gt(0))
    memory_gib: float | None = attrs.field(default=None, validator=attrs.validators.optional(attrs.validators.gt(0)))
    gpus: tuple[str, ...] = ()


@attrs.frozen
class LaunchRequest:
    """What to start, and how.

    Attributes:
        name: Unique among what runs with this *state*, e.g. ``job.site.attempt``; launching the same name again is
            the same launch. Any text without zero characters.
        argv: Program and arguments; never a shell line. A program without a slash is searched in the PATH of *env*.
        workdir: Folder the process starts in, absolute.
        state: Folder where launchers may keep records, absolute; all launches of one owner share it.
        log: File that receives standard output and error, absolute.
        env: The exact environment: nothing is added, nothing inherited.
        log_limit: Bytes after which the log file is rotated once; at most twice this is kept.
        mounts: Files and folders that it may see besides the system's and its *workdir*, which it may change.
        hidden: Folders of its owner that it must not see, wherever they lie: keys and state.
            A mount may lie in one of them, none may hold one.
        needs: Processors, memory, graphics processors.
        image: What it is to run in, for launchers that have images; empty: the launcher's own.
        host: Name under which others that are launched with this *state* find it, for launchers that give names.
        ports: TCP ports on which it listens, and on which this machine is to reach it.
        network: How much of the network it may reach: nothing; only its owner, through a socket in one of its
            *mounts*; that and what it starts itself; or whatever the host reaches. What is not ``open`` is a process
            of a job, and launches nothing.
        labels: Project, site, job and the like, for launchers that can show them.
    """

    name: str
    argv: tuple[str, ...]
    workdir: str
    state: str
    log: str
    env: dict[str, str] = attrs.field(factory=dict)
    log_limit: int = 50 << 20
    mounts: tuple[Mount, ...] = ()
    hidden: tuple[str, ...] = ()
    needs: Needs = attrs.field(factory=Needs)
    image: str = ""
    host: str = ""
    ports: tuple[int, ...] = ()
    network: Network = "open"
    labels: dict[str, str] = attrs.field(factory=dict)


@attrs.frozen
class Handle:
    """Enough to find a launched process again, from any later command.

    Plain data: written to disk as JSON and read back by a ``stop`` that
    shares nothing with the ``launch``.

    Attributes:
        launcher: Name of the launcher that made it.
        name: The request's name.
        ref: What the launcher needs to find it: JSON text, its own business.
        pid: Process id on this host, 0 where that means nothing; for people and reports, never for signals.
    """

    launcher: str
    name: str
    ref: str
    pid: int = 0


class State(enum.Enum):
    """Where a launched process is in its life."""

    RUNNING = "running"
    EXITED = "exited"


@attrs.frozen
class Status:
    """What is known about a launched process.

    Attributes:
        state: Whether it runs.
        code: Exit code once it has ended: 0 is success and nothing else, ``-N`` is the end by signal N,
            None means that nobody knows.
        reason: Why it ended, in words, where the engine says so.
        peak_rss: Most memory it ever held, in bytes; None where unknown.
    """

    state: State
    code: int | None = None
    reason: str = ""
    peak_rss: int | None = None

    @property
    def running(self) -> bool:
        return self.state is State.RUNNING


class Launcher(ABC):
    """Starts processes and finds them again.

    An implementation keeps nothing in memory that a second instance, in
    another process, would need.

    Attributes:
        has_images: Whether it starts things in images, of which a request may name one.
    """

    has_images: ClassVar[bool] = False

    @abstractmethod
    def launch(self, request: LaunchRequest) -> Handle:
        """Start it and return once it runs.

        Launching a name that already runs returns the handle of what runs,
        whoever asks.

        Raises:
            UsageError: The request makes no sense, see :func:`check_request`.
            LaunchError: It could not be started; the hint says what to do.
        """

    @abstractmethod
    def poll(self, handle: Handle) -> Status:
        """Say how it is, at once. Never raises for a process that is gone."""

    def wait(self, handle: Handle, timeout: float) -> Status:
        """Wait until it has ended, at most *timeout* seconds, and say how it is."""
        end = time.monotonic() + timeout
        status = self.poll(handle)
        while status.running and time.monotonic() < end:
            time.sleep(min(0.1, max(0.0, end - time.monotonic())))  # engines that can notify override this method
            status = self.poll(handle)
        return status

    @abstractmethod
    def stop(self, handle: Handle, *, grace: float = 10.0) -> None:
        """End it and all its children; ask first, insist after *grace* seconds.

        Returns when nothing of it is left. Children get no more time once the
        process itself has ended. Stopping what has already ended does nothing.
        """

    @abstractmethod
    def logs(self, handle: Handle, *, tail: int = 200) -> str:
        """Give the last *tail* lines that it wrote; empty when there are none."""

    # -- where what it launches finds itself; by default: on this machine, as everything else

    def make_ready(self, say: Callable[[str], None]) -> Mapping[str, Any]:
        """Do what takes long and what launches need, e.g. fetch an image; *say* tells people how far it is.

        Returns:
            Settings that hold from now on besides those it was made from: what it found in the environment of whoever
            called, which later callers may not have.

        Raises:
            LaunchError: It could launch nothing; the hint says what to do.
        """
        return {}

    def python(self, image: str = "") -> str:
        """The interpreter with flpoc, as what is launched finds it; in *image*, where there are images.

        Raises:
            LaunchError: Nobody can say.
        """
        return sys.executable

    def address(self, host: str) -> str:
        """Where what is launched reaches what was launched as *host*."""
        return HERE

    def data_path(self, study: str, name: str, source: str) -> str:
        """Where what is launched for a job of *study* sees the data set *name*, which lies in *source*."""
        return source


def check_request(request: LaunchRequest) -> None:
    """Refuse a request that no launcher could honour.

    Raises:
        UsageError: A path is not absolute, argv is empty, the name of a
            variable is none, or there is a zero character somewhere.
    """
    if not request.argv or not request.name:
        raise UsageError("a launch needs a name and a program")
    paths = (request.workdir, request.state, request.log, *(m.source for m in request.mounts), *request.hidden)
    if any("\0" in text for text in (request.name, *request.argv, *request.env, *request.env.values(), *paths)):
        raise UsageError(f"{request.name!r}: a zero character in the name, an argument, the environment or a path")
    if wrong := [key for key in request.env if not key or "=" in key]:
        raise UsageError(f"{request.name}: {wrong[0]!r} cannot be the name of an environment variable")
    for path in paths:
        if not Path(path).is_absolute():
            raise UsageError(f"{request.name}: {path!r} is not an absolute path")
