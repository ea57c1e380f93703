"""A worker: a process forked from the engine that is one site, or one site after the other."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import os
import resource
import shutil
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import attrs

from flpoc.simulate.messages import TO_WORKER, Ended, Stage
from flpoc.simulate.passing import Gates
from flpoc.simulate.staging import Scripts, SimulatedOwner
from flpoc.simulate.tasks import SiteTask
from flpoc.wire.codec import encode
from flpoc.wire.local import Wire
from flpoc.wire.trainer_messages import Give, Over, Submit

_PR_SET_PDEATHSIG = 1


@attrs.frozen
class WorkerPlace:
    """What a worker has for itself.

    Attributes:
        folder: Where its scripts run and write their answers.
        updates: Where answers go.
        gates: Where filters work, and keep what they keep.
        output: The file that gets what its scripts print while they run.
        environ: What is particular to it in its environment.
    """

    folder: Path
    updates: Path
    gates: Path
    output: Path
    environ: Mapping[str, str]


def work(sock: socket.socket, place: WorkerPlace, scripts: Scripts) -> NoReturn:
    """Be a worker until the engine at the other end of *sock* goes away; called in a process just forked."""
    code = 1
    try:
        _become(sock, place)
        code = _Worker(Wire(sock, TO_WORKER), place, scripts).serve()
    except BaseException:  # noqa: BLE001 - nothing of it may get back into the engine's code
        traceback.print_exc()
    finally:
        with contextlib.suppress(ValueError, OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _become(sock: socket.socket, place: WorkerPlace) -> None:
    """Let go of all that is the engine's."""
    os.setpgid(0, 0)
    engine = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != engine:
        os._exit(1)  # it died before it could be said
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    low = sock.fileno()
    os.closerange(3, low)
    os.closerange(low + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    os.environ.update(place.environ)
    place.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    print_to(place.output)
    _draw_anew()


def _draw_anew() -> None:
    """Forked processes would otherwise all draw the same numbers where a script has not set its seed."""
    from numpy import random

    random.seed()


def print_to(path: Path) -> None:
    """Have standard output and error of this process end up in a file."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


@contextlib.contextmanager
def output_in(log: Path) -> Iterator[None]:
    """The same for a while."""
    before = [(number, os.dup(number)) for number in (1, 2)]
    print_to(log)
    try:
        yield
    finally:
        for number, kept in before:
            os.dup2(kept, number)
            os.close(kept)


class _Worker:
    def __init__(self, wire: Wire, place: WorkerPlace, scripts: Scripts) -> None:
        self._wire = wire
        self._place = place
        self._scripts = scripts
        self._gates = Gates(place.gates, self._say)
        self._once = False
        self._answer: tuple[Submit, ...] = ()

    def serve(self) -> int:
        while isinstance(stage := self._wire.receive(), Stage):
            self._once = stage.once
            if not stage.once:
                return self._be_site(stage)
            task = self._wire.receive()
            if not isinstance(task, Give):
                break
            self._do(stage, task)
        return 0

    def _do(self, stage: Stage, task: Give) -> None:
        """Run the script for one task; the worker is as before when it has ended."""
        owner = self._owner(stage)
        code = self._scripts.run(stage, task, owner)
        collect_output(self._place.output, Path(stage.log))
        _empty(self._place.folder)
        answer, self._answer = self._answer, ()
        self._wire.send(*answer, Ended(code, owner.calls))

    def _be_site(self, stage: Stage) -> int:
        """Run the script once, for all tasks that come."""
        print_to(Path(stage.log))
        owner = self._owner(stage)
        reader = threading.Thread(target=self._read, args=(owner,), name="flpoc engine", daemon=True)
        code = self._scripts.run(stage, None, owner, begun=reader.start)
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
        atexit._run_exitfuncs()
        self._wire.send(Ended(code, owner.calls))
        return code

    def _read(self, owner: SimulatedOwner) -> None:
        message = None
        try:
            while (message := self._wire.receive()) is not None:
                owner.take(message)
                if isinstance(message, Over):
                    return
        finally:
            if not isinstance(message, Over):
                os._exit(1)  # the engine is gone

    def _owner(self, stage: Stage) -> SimulatedOwner:
        return SimulatedOwner(self._say, self._place.folder, self._place.updates, stage, self._gates)

    def _say(self, message: Any) -> None:
        if self._once and isinstance(message, Submit):
            self._answer = (message,)  # it counts when the script has ended, and is said then
        else:
            self._wire.send(message)


def collect_output(output: Path, log: Path) -> None:
    """Append what a script has printed to its site's log; a site that prints nothing has none."""
    if not (size := output.stat().st_size):
        return
    with output.open("rb") as source, log.open("ab") as target:
        shutil.copyfileobj(source, target, min(size, 1 << 20))
    os.truncate(output, 0)


def _empty(folder: Path) -> None:
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            Path(entry).unlink()


def rehearse(task: SiteTask, scripts: Scripts) -> None:
    """Do once what every worker does first: what is looked up for it, all of them share when they are forked."""
    TO_WORKER.decode(encode(task.stage))
    TO_WORKER.decode(encode(task.give))
    if not task.stage.command:
        with contextlib.suppress(SyntaxError, ValueError, OSError):  # the script will say so itself
            scripts.code(task.stage.script)


def settle_memory() -> None:
    """What is in memory now is shared with all workers: no collector needs to look at it again, and to copy it."""
    _draw_anew()  # what it imports is shared, too
    gc.freeze()
