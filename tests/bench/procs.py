"""The processes of a proof of concept, found and measured through ``/proc``.

A process belongs to a folder if the folder's path is in its arguments or its
environment; a keeper belongs to it if the process that it keeps does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

#: What is looked for in a command line, and what it means.
ROLES = (
    ("flpoc-keeper", "keeper"),
    ("flpoc.server", "server"),
    ("flpoc.site", "agent"),
    ("flpoc.runner.controller", "controller"),
    ("flpoc.runner.trainer", "trainer"),
    ("flpoc.simulate", "simulation"),
    # the same parts of NVFlare: a shell script restarts each service, and a job has its processes, too
    ("sub_start.sh", "keeper"),
    ("nvflare.private.fed.app.server.server_train", "server"),
    ("nvflare.private.fed.app.client.client_train", "agent"),
    ("nvflare.private.fed.app.server.runner_process", "controller"),
    ("nvflare.private.fed.app.client.worker_process", "trainer"),
)
SAMPLE_SECONDS = 0.05
#: New processes are looked for less often: it costs more than the samples.
_SEARCH_SECONDS = 0.25


def _read(pid: int, name: str) -> bytes:
    """A file of a process; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _pids() -> list[int]:
    return [int(one.name) for one in Path("/proc").iterdir() if one.name.isdigit()]


def _parent(pid: int) -> int:
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far; 0 when it is gone."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if len(fields) > 12 else 0.0


def _role(arguments: bytes) -> str:
    words = {word.rpartition("/")[2] for word in arguments.decode(errors="replace").split("\0")}
    return next((role for mark, role in ROLES if mark in words), "")


def processes_of(folder: Path) -> dict[int, str]:
    """Process ids and roles of what runs for *folder*; the role is empty for other programs."""
    mark = os.fsencode(folder)
    found: dict[int, str] = {}
    keepers: set[int] = set()
    for pid in _pids():
        arguments = _read(pid, "cmdline")
        role = _role(arguments)
        if role == "keeper" and mark not in arguments:
            keepers.add(pid)
        elif pid != os.getpid() and (mark in arguments or mark in _read(pid, "environ")):
            found[pid] = role
    parents = {_parent(pid) for pid in found}
    return {**found, **dict.fromkeys(keepers & parents, "keeper")}


def kill_all(folder: Path) -> list[str]:
    """End all that is left; says what it was, empty when nothing."""
    said = []
    for _ in range(3):  # a keeper, or an agent, may have started another one meanwhile
        left = processes_of(folder)
        if not left:
            break
        said += [f"{role or 'program'} {pid}" for pid, role in left.items()]
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _await_gone(left, 5.0)
    return said


def _await_gone(pids: Mapping[int, str], seconds: float) -> None:
    until = time.monotonic() + seconds
    while any(_read(pid, "cmdline") for pid in pids) and time.monotonic() < until:
        time.sleep(0.02)


def _kib(text: bytes, key: bytes) -> int:
    for line in text.splitlines():
        if line.startswith(key):
            return int(line.split()[1])
    return 0


def anonymous_mb(pid: int) -> float:
    """Memory that only this process has and no file backs, in MB (``RssAnon``)."""
    return _kib(_read(pid, "status"), b"RssAnon:") * 1024 / 1e6


def pss_mb(pid: int) -> float:
    """Memory of a process with its share of what others map, too, in MB."""
    return _kib(_read(pid, "smaps_rollup"), b"Pss:") * 1024 / 1e6


@attrs.frozen
class Everything:
    """All processes at one moment."""

    pss_mb: float
    roles: Mapping[str, int]

    @property
    def processes(self) -> int:
        return sum(self.roles.values())

    @property
    def keepers(self) -> int:
        return self.roles.get("keeper", 0)


def everything(folder: Path) -> Everything:
    """PSS and number of all processes with a role."""
    roles: dict[str, int] = defaultdict(int)
    total = 0.0
    for pid, role in processes_of(folder).items():
        if role:
            roles[role] += 1
            total += pss_mb(pid)
    return Everything(total, dict(roles))


class Watch:
    """Peaks of anonymous memory and processor time by role, sampled in a thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ended = threading.Event()
        self._roles: dict[int, str] = {}
        self._cpu: dict[int, tuple[str, float, float]] = {}
        #: Highest memory of one process of a role, in MB.
        self.peak: dict[str, float] = defaultdict(float)
        #: Highest memory of server and controller together at one moment, in MB.
        self.server_side = 0.0
        #: Highest memory of all processes together at one moment, in MB.
        self.all = 0.0
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        searched = 0.0
        while True:
            if time.monotonic() - searched > _SEARCH_SECONDS:
                self._roles = {pid: role for pid, role in processes_of(self._folder).items() if role}
                searched = time.monotonic()
                self._clock()
            self._sample()
            if self._ended.wait(SAMPLE_SECONDS):
                self._clock()
                return

    def _clock(self) -> None:
        for pid, role in self._roles.items():
            now = cpu_seconds(pid)
            _, first, last = self._cpu.get(pid, (role, now, now))
            self._cpu[pid] = (role, first, max(last, now))

    def cpu(self, role: str) -> float:
        """Processor time that all processes of a role took meanwhile."""
        return sum(last - first for its, first, last in self._cpu.values() if its == role)

    def _sample(self) -> None:
        together: dict[str, float] = defaultdict(float)
        for pid, role in self._roles.items():
            now = anonymous_mb(pid)
            together[role] += now
            self.peak[role] = max(self.peak[role], now)
        self.server_side = max(self.server_side, together["server"] + together["controller"])
        self.all = max(self.all, sum(together.values()))


@contextlib.contextmanager
def watching(folder: Path) -> Iterator[Watch]:
    watch = Watch(folder)
    watch.start()
    try:
        yield watch
    finally:
        watch.stop()
