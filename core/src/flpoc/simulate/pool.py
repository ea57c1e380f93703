"""The workers of a simulation: forked, given tasks, watched, ended."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from flpoc.jobs.processes import GPUS
from flpoc.simulate.messages import FROM_WORKER, Ended, Stage
from flpoc.simulate.passing import cause_of
from flpoc.simulate.staging import Scripts
from flpoc.simulate.tasks import Answer, Heard, Pool, SiteTask
from flpoc.simulate.worker import WorkerPlace, collect_output, rehearse, work
from flpoc.wire.endings import LAUNCHES, STOP_GRACE, Ending, stalled
from flpoc.wire.local import frame
from flpoc.wire.trainer_messages import Failed, Logged, Over, Submit

_LENGTH = struct.Struct(">I")
#: In which /proc counts processor time, on every Linux: a hundredth of a second.
_TICKS = 100
_TAIL_BYTES = 64 << 10


@attrs.define(eq=False)
class _Worker:
    """A worker as the engine sees it."""

    number: int
    pid: int
    sock: socket.socket
    alive: int
    output: Path
    site: str = ""
    task: SiteTask | None = None
    stage: Stage | None = None
    submit: Submit | None = None
    failed: Failed | None = None
    ended: Ended | None = None
    deaf: bool = False
    moved: float = 0.0
    cpu: float = 0.0
    came: bytearray = attrs.field(factory=bytearray)

    def send(self, *messages: Any) -> None:
        with contextlib.suppress(OSError):  # it has died, and the engine is about to hear of it
            self.sock.sendall(b"".join(frame(one) for one in messages))

    def _part(self) -> bytes:
        with contextlib.suppress(ConnectionError):
            return self.sock.recv(1 << 16, socket.MSG_DONTWAIT)
        return b""

    def received(self) -> list[Any]:
        """The messages that have come whole."""
        with contextlib.suppress(BlockingIOError):
            while part := self._part():
                self.came += part
            self.deaf = True
        found = []
        while len(self.came) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self.came)[0]
            if len(self.came) < end:
                break
            found.append(FROM_WORKER.decode(bytes(self.came[_LENGTH.size : end])))
            del self.came[:end]
        return found


@attrs.frozen
class PoolPlan:
    """What a pool is told once.

    Attributes:
        workers: How many processes at most.
        own: Each site has a process of its own for the whole job.
        code: The job's code.
        folder: Where workers have their folders.
        updates: Where answers go.
        gates: Where filters work.
        gpus: Graphics processors of the workers, dealt in turn; empty for as it is.
        stall: Seconds without any progress after which a site is lost.
        hangs_up: A file that ends when nobody waits for the simulation any more.
    """

    workers: int
    own: bool
    code: Path
    folder: Path
    updates: Path
    gates: Path
    gpus: tuple[tuple[str, ...], ...]
    stall: float
    hangs_up: int | None = None


class HungUpError(Exception):
    """Nobody waits for the simulation any more."""


class ProcessPool(Pool):
    """Workers as processes of this machine, forked from this one."""

    def __init__(self, settings: PoolPlan) -> None:
        self._settings = settings
        self._scripts = Scripts()
        self._workers: list[_Worker] = []
        self._of_site: dict[str, _Worker] = {}
        self._idle: list[_Worker] = []
        self._queue: deque[str] = deque()
        self._waiting: dict[str, None] = {}
        #: How often the scripts of sites were started for their tasks of the round that is open.
        self._launches: Counter[str] = Counter()
        self._round = -1
        self._selector = selectors.DefaultSelector()
        self._numbers = iter(range(1 << 30))
        if settings.hangs_up is not None:
            self._selector.register(settings.hangs_up, selectors.EVENT_READ, None)

    # -- tasks

    def perform(
        self, sites: Sequence[str], task_of: Callable[[str], SiteTask], deadline: float | None
    ) -> Generator[Answer | Heard, None, None]:
        until = None if deadline is None else time.monotonic() + deadline
        self._waiting, self._queue, self._task_of = dict.fromkeys(sites), deque(sites), task_of
        if sites and not self._workers:
            rehearse(task_of(sites[0]), self._scripts)
        while self._waiting:
            self._deal()
            if until is not None and time.monotonic() >= until:
                yield from self._too_late()
                return
            yield from self._wait(until)

    def _deal(self) -> None:
        """Give tasks to workers as long as there are both."""
        while self._queue:
            worker = self._worker_for(self._queue[0])
            if worker is None:
                return
            task = self._task_of(self._queue.popleft())
            new = not worker.site
            if task.give.round != self._round:
                self._launches.clear()
                self._round = task.give.round
            self._launches[task.site] += new
            worker.site, worker.stage, worker.task, worker.submit = task.site, task.stage, task, None
            worker.moved = time.monotonic()
            worker.send(*((task.stage,) if new else ()), task.give)

    def _worker_for(self, site: str) -> _Worker | None:
        if self._settings.own:
            if site not in self._of_site:
                self._of_site[site] = self._fork()
            return self._of_site[site]
        if not self._idle and len(self._workers) < self._settings.workers:
            self._idle.append(self._fork())
        return self._idle.pop() if self._idle else None

    def _too_late(self) -> Iterator[Answer]:
        """The time is up: what is not answered is late; a process that is about to answer for nobody is ended."""
        late, self._waiting = list(self._waiting), {}
        self._queue.clear()
        for worker in [one for one in self._workers if one.task is not None]:
            worker.task = None
            if not self._settings.own:
                self._kill(worker)
        yield from (Answer(site, "late") for site in late)

    # -- what happens

    def _wait(self, until: float | None) -> Iterator[Answer | Heard]:
        busy = [worker for worker in self._workers if worker.task is not None]
        moments = [worker.moved + self._settings.stall for worker in busy]
        moments += [until] if until is not None else []
        pause = max(0.0, min(moments) - time.monotonic()) if moments else None
        found = self._selector.select(pause)
        for key, _ in found:
            if key.data is None:
                raise HungUpError
        for worker in dict.fromkeys(key.data for key, _ in found):
            yield from self._heed(worker)  # what it has said before it died is in the socket
            if any(key.fd == worker.alive for key, _ in found):
                yield from self._died(worker)
        if not found:
            yield from self._stalled(busy)

    def _heed(self, worker: _Worker) -> Iterator[Answer | Heard]:
        messages = worker.received()
        if worker.deaf and worker.sock in self._selector.get_map():
            self._selector.unregister(worker.sock)  # it has let go of its end; that it dies is heard elsewhere
        for message in messages:
            worker.moved = time.monotonic()
            match message:
                case Submit():
                    yield from self._submitted(worker, message)
                case Failed():
                    worker.failed = message
                case Logged():
                    yield Heard(worker.site, message)
                case Ended():
                    worker.ended = message
                    if not self._settings.own:
                        yield from self._script_ended(worker, message)

    def _submitted(self, worker: _Worker, submit: Submit) -> Iterator[Answer]:
        task = worker.task
        if task is None or submit.round != task.give.round or worker.submit is not None:
            (self._settings.updates / submit.file).unlink(missing_ok=True)  # of a round that is closed
            return
        worker.submit = submit
        if self._settings.own:
            yield from self._answered(worker)

    def _answered(self, worker: _Worker) -> Iterator[Answer]:
        worker.task = None
        if worker.site in self._waiting:
            del self._waiting[worker.site]
            yield Answer(worker.site, "answered", worker.submit)

    def _script_ended(self, worker: _Worker, ended: Ended) -> Iterator[Answer]:
        """A script that was started for one task has ended, and its worker is free."""
        if worker.submit is not None and ended.code == 0:
            yield from self._answered(worker)
        elif worker.task is not None:
            yield from self._failed(worker, Ending(ended.code), ended.calls > 0)
        worker.site, worker.task, worker.submit, worker.failed, worker.ended = "", None, None, None, None
        self._idle.append(worker)

    def _failed(self, worker: _Worker, ending: Ending, joined: bool = True) -> Iterator[Answer]:
        task, worker.task = worker.task, None
        if worker.submit is not None and not self._settings.own:
            (self._settings.updates / worker.submit.file).unlink(missing_ok=True)
        assert worker.stage is not None
        tail = log_tail(Path(worker.stage.log))
        round_number = task.give.round if task is not None and joined else None
        cause = cause_of(worker.site, worker.failed, ending, round_number, tail)
        self._waiting.pop(worker.site, None)
        yield Answer(worker.site, "failed", cause=cause)

    def _died(self, worker: _Worker) -> Iterator[Answer]:
        """A worker is no more."""
        code, peak = self._bury(worker)
        task = worker.task
        if not self._settings.own and task is not None:
            collect_output(worker.output, Path(task.stage.log))
        if self._settings.own and self._of_site.get(worker.site) is worker:
            del self._of_site[worker.site]
        killed = code < 0 and worker.failed is None
        if task is None:
            if self._settings.own and not killed:
                yield from self._failed(worker, Ending(code, peak))
            return
        if killed and self._launches[task.site] < LAUNCHES:
            if worker.submit is not None:
                (self._settings.updates / worker.submit.file).unlink(missing_ok=True)
            self._queue.appendleft(task.site)
            return
        joined = worker.ended is None or worker.ended.calls > 0
        yield from self._failed(worker, Ending(code, peak), joined)

    def _stalled(self, busy: list[_Worker]) -> Iterator[Answer]:
        now = time.monotonic()
        for worker in busy:
            if worker.task is None or now < worker.moved + self._settings.stall:
                continue
            cpu = _cpu_seconds(worker.pid)
            if cpu > worker.cpu + 0.01:
                worker.cpu, worker.moved = cpu, now
                continue
            cause = stalled(worker.site, worker.task.give.round, now - worker.moved)
            self._waiting.pop(worker.site, None)
            self._of_site.pop(worker.site, None)
            worker.task = None
            self._kill(worker)
            yield Answer(worker.site, "lost", cause=cause)

    # -- processes

    def _fork(self) -> _Worker:
        number = next(self._numbers)
        ours, theirs = socket.socketpair()
        group = self._settings.gpus[number % len(self._settings.gpus)] if self._settings.gpus else None
        output = self._settings.folder / f"{number}.log"
        place = WorkerPlace(
            folder=self._settings.folder / str(number),
            updates=self._settings.updates,
            gates=self._settings.gates,
            output=output,
            environ={} if group is None else {GPUS: ",".join(group)},
        )
        pid = os.fork()
        if pid == 0:
            work(theirs, place, self._scripts)
        theirs.close()
        worker = _Worker(number, pid, ours, os.pidfd_open(pid), output)
        self._workers.append(worker)
        self._selector.register(ours, selectors.EVENT_READ, worker)
        self._selector.register(worker.alive, selectors.EVENT_READ, worker)
        return worker

    def _bury(self, worker: _Worker) -> tuple[int, int]:
        """Forget a worker that has ended; gives its exit code (negative: a signal) and its peak memory in bytes."""
        _, status, usage = os.wait4(worker.pid, 0)
        self._workers.remove(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        if not worker.deaf:
            self._selector.unregister(worker.sock)
        self._selector.unregister(worker.alive)
        worker.sock.close()
        os.close(worker.alive)
        return os.waitstatus_to_exitcode(status), usage.ru_maxrss << 10

    def _kill(self, worker: _Worker) -> None:
        _signal(worker, signal.SIGKILL)
        self._bury(worker)

    def close(self, *, grace: float) -> Iterator[Heard]:
        for worker in self._workers:
            worker.send(Over())
        for seconds, number in ((grace, signal.SIGTERM), (STOP_GRACE, signal.SIGKILL), (STOP_GRACE, signal.SIGKILL)):
            yield from self._await_ends(seconds)
            for worker in self._workers:
                _signal(worker, number)
        self._selector.close()

    def _await_ends(self, seconds: float) -> Iterator[Heard]:
        until = time.monotonic() + seconds
        while self._workers and (pause := until - time.monotonic()) > 0:
            found = self._selector.select(pause)
            for worker in dict.fromkeys(key.data for key, _ in found):
                if worker is None:  # nobody waits any more
                    self._selector.unregister(self._settings.hangs_up)  # type: ignore[arg-type]  # it is what was heard
                    return
                yield from (one for one in self._heed(worker) if isinstance(one, Heard))
                if any(key.fd == worker.alive for key, _ in found):
                    self._bury(worker)


def _signal(worker: _Worker, number: int) -> None:
    """Send a signal to a worker and all that it has started."""
    for send in (os.killpg, os.kill):  # it may not have made its group yet
        with contextlib.suppress(ProcessLookupError, PermissionError):
            send(worker.pid, number)


def _cpu_seconds(pid: int) -> float:
    """Processor time of a process and of its children that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / _TICKS


def log_tail(log: Path) -> tuple[str, ...]:
    """The last lines of a log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            return tuple(file.read().decode(errors="replace").splitlines()[-40:])
    except FileNotFoundError:
        return ()
