"""The trainer of one job at a site: its process, its socket, its messages."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from flpoc.errors import FlpocError
from flpoc.jobs.attempts import Attempt, Attempts
from flpoc.jobs.processes import GPUS, program_path, signal_name
from flpoc.jobs.spec import JobSpec, ScriptSpec
from flpoc.jobs.states import Cause
from flpoc.launching import Mount, Needs, Status
from flpoc.site.files import SiteFiles
from flpoc.wire.endings import END_WITHIN, LAUNCHES, STOP_GRACE, Ending, cause_of_end
from flpoc.wire.local import SOCKET_NAME, Link, listen
from flpoc.wire.trainer_messages import (
    FROM_TRAINER,
    Beat,
    Failed,
    Give,
    LocalHello,
    Logged,
    LogMode,
    Over,
    Submit,
    Taken,
    TrainerStart,
)
from flpoc.wire.vocabulary import Refused

log = logging.getLogger("flpoc.site")

#: Names that mean the site's own interpreter.
PYTHONS = ("python", "python3")


@attrs.frozen
class TrainerEvents:
    """What a trainer's owner wants to hear.

    Attributes:
        joined: The script's process has connected.
        submitted: The script has an answer; gives whether it is safe in the outbox.
        failed: The site's part in the job is over, and why.
        moved: There was progress.
        spoke: Something may be new in the log.
        logged: Numbers were logged.
        ended: The process has ended as it should.
    """

    joined: Callable[[], None]
    submitted: Callable[[Attempt, Submit], Any]
    failed: Callable[[Cause], None]
    moved: Callable[[], None]
    spoke: Callable[[], None]
    logged: Callable[[Logged], None]
    ended: Callable[[], None]


class TrainerHost:
    """Runs the trainer of one job: again if it is killed, and anew for every task if the job wants that."""

    def __init__(
        self,
        *,
        job: str,
        run: int,
        site: str,
        spec: JobSpec,
        files: SiteFiles,
        sockets: Path,
        attempts: Attempts,
        events: TrainerEvents,
        project: str,
        python: str,
        datasets: Mapping[str, Mount],
        plugins: tuple[str, ...],
        gpus: tuple[str, ...] = (),
        only_these_gpus: bool = False,
        image: str = "",
    ) -> None:
        self._job, self._run, self._site = job, run, site
        self._spec = spec
        self._script: ScriptSpec = spec.script_for(site)
        self._files = files
        self._sockets = sockets
        self._attempts = attempts
        self._events = events
        self._project = project
        self._python = python
        self._datasets = {
            name: attrs.evolve(mount, target=attempts.data_path(spec.study, name, mount.source))
            for name, mount in datasets.items()
        }
        self._image = image
        self._plugins = plugins
        self._gpus = gpus
        self._visible = {GPUS: ",".join(gpus)} if only_these_gpus else {}
        self._attempt: Attempt | None = None
        self._socket: asyncio.AbstractServer | None = None
        self._link: Link | None = None
        self._received = self._sent = -1
        self._give: Give | None = None
        self._launches: list[int] = []
        self._over = self._stopping = False
        self._adopted = False  # and has not said yet what it has received and sent
        self._failure: Failed | None = None
        self._log_mode = ""
        self._beat = Beat(0.0, 0)
        self._launching: asyncio.Task[None] | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None

    @property
    def patience(self) -> float:
        """Seconds that the script has to end by itself once nothing more is wanted of it."""
        # well before the server takes the site for lost
        return min(self._spec.timeouts.stall / 2, END_WITHIN) + self._script.shutdown_timeout

    async def start(self, left: list[Attempt]) -> None:
        """Listen, and adopt what a former agent left running, or launch."""
        self._attempt = await self._attempts.adopt(left)  # before it can connect: whom nobody knows is sent away
        self._adopted = self._attempt is not None
        self._socket = await listen(self._sockets, self._serve)
        if self._attempt is not None:
            self._attempts.watch(self._attempt, self._process_ended)
        else:
            await self._launch()

    async def _launch(self) -> None:
        # a launch that has begun is seen to its end, so that there is a handle to stop it by
        self._launching = asyncio.create_task(self._launch_now())
        await asyncio.shield(self._launching)

    async def _launch_now(self) -> None:
        number = 1 + max((int(p.name) for p in self._files.runs.glob("*") if p.name.isdigit()), default=0)
        self._launches.append(self._task_round())
        self._events.moved()
        self._received = self._sent = -1
        self._adopted = False
        self._failure = None
        self._beat = Beat(0.0, 0)
        try:
            attempt = self._attempts.begin(self._job, self._run, self._site, number, self._files.runs)
        except OSError as error:
            self._events.failed(Cause(site=self._site, phase="starting the script", message=str(error)))
            return
        self._attempt = attempt  # its process may connect before the launcher returns
        if not self._script.launch_once:
            await asyncio.to_thread(self._files.drop_attempts, number)
        try:
            self._attempt = await asyncio.to_thread(
                self._attempts.launch,
                attempt,
                await asyncio.to_thread(self._argv),
                log=self._files.log,
                socket=self._sockets / SOCKET_NAME,
                reads=(self._files.job / "code", self._files.models, self._files.kept),
                datasets=tuple(self._datasets.values()),
                image=self._image,
                env={**self._script.env, **self._visible, **self._told},
                needs=Needs(cpus=self._script.cpus, memory_gib=self._script.memory_gib, gpus=self._gpus),
                project=self._project,
                # a program that starts several processes of the script has them talk to each other
                network="own" if self._script.command else "agent",
            )
        except FlpocError as error:
            self._attempts.forget(attempt)
            self._attempt = None
            cause = Cause(site=self._site, phase="starting the script", message=error.message, hint=error.hint)
            self._events.failed(cause)
            return
        self._attempts.watch(self._attempt, self._process_ended)

    @property
    def _told(self) -> dict[str, str]:
        return {"FLPOC_CODE": str(self._files.job / "code"), "FLPOC_SITE": self._site}

    def _argv(self) -> tuple[str, ...]:
        script = str(self._files.job / "code" / self._script.script)
        program, *more = self._script.command or (PYTHONS[0], "-m", "flpoc.runner.trainer")
        if program in PYTHONS:
            program = self._python or self._attempts.python(self._image)
        # the site's own: not what a PATH that the job sets leads to
        return (shutil.which(program, path=program_path()) or program, *more, script, *self._script.args)

    def _task_round(self) -> int:
        return self._give.round if self._give is not None else -1

    # -- tasks

    def give(self, task: Give) -> None:
        """Give the script a task, now or when it connects; the same one is given once per attempt."""
        self._give = task
        self._offer()

    def _offer(self) -> None:
        task = self._give
        if task is None:
            return
        once = self._script.launch_once
        if self._link is not None and self._received < task.round:
            # one that is launched for a single task and has had it learns from another that its round is closed
            if once or self._received < 0:
                self._received = task.round
            self._link.send(task)
        if not once and not self._over:
            self._make_way(task)

    def _make_way(self, task: Give) -> None:
        """See to it that the script is started anew for a task that is not the first one of this start."""
        if self._attempt is None:
            if self._launching is None or self._launching.done():
                self._launching = asyncio.create_task(self._launch_again())
        elif 0 <= self._received <= self._sent and self._received < task.round and self._lingering is None:
            loop = asyncio.get_running_loop()
            self._lingering = loop.call_later(self.patience, self._stop_lingering, self._attempt)

    def _stop_lingering(self, attempt: Attempt) -> None:
        if attempt is self._attempt:
            log.warning("job %s: the script does not end after its task; it is stopped", self._job)
            self._ending = asyncio.create_task(asyncio.to_thread(self._attempts.stop, attempt, STOP_GRACE))

    def set_log_mode(self, mode: str) -> None:
        """Have the script's process log as *mode* says, also one that is launched later."""
        self._log_mode = mode
        if self._link is not None:
            self._link.send(LogMode(mode))

    def taken(self, round_number: int) -> None:
        """The answer of this round is safe; the script may go on."""
        self._sent = max(self._sent, round_number)
        if self._give is not None and self._give.round == round_number:
            self._give = None
        if self._link is not None:
            self._link.send(Taken(round_number))

    def finish(self) -> None:
        """No task will come any more: let the script end by itself."""
        self._over = True
        if self._link is not None:
            self._link.send(Over())
        if self._attempt is None or not self._attempts.poll(self._attempt).running:
            self._events.ended()

    async def stop(self, grace: float) -> None:
        """End the process whatever it does, and close the socket."""
        self._stopping = True
        if self._launching is not None:
            await asyncio.wait([self._launching])
        if self._attempt is not None:
            await asyncio.to_thread(self._attempts.stop, self._attempt, grace)
            self._attempts.forget(self._attempt)
        self.close()

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        with contextlib.suppress(OSError):  # also of a start that was cut off
            (self._sockets / SOCKET_NAME).unlink(missing_ok=True)
            self._sockets.rmdir()

    # -- the process

    def _process_ended(self, attempt: Attempt, status: Status) -> None:
        self._attempts.forget(attempt)
        if attempt is not self._attempt or self._stopping:
            return
        self._attempt = None
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        self._events.spoke()
        # one that was never given anything has nothing to say about a job that is over
        if self._over and (status.code == 0 or self._failure is None or self._received < 0):
            self._events.ended()
            return
        killed = status.code is None or status.code < 0
        if self._failure is None and (killed or status.code == 0) and self._has_served():
            self._offer()
            return
        if killed and self._failure is None and self._launches.count(self._task_round()) < LAUNCHES:
            log.warning("job %s: the trainer was lost (%s); launching it again", self._job, signal_name(status.code))
            self._launching = asyncio.create_task(self._launch_again())
            return
        self._events.failed(self._cause(attempt, status))

    def _has_served(self) -> bool:
        """Whether nothing more was wanted of a start that is for a single task: it is answered, or closed."""
        if self._script.launch_once:
            return False
        if self._received < 0:
            return self._adopted
        return self._give is None or self._give.round > self._received

    async def _launch_again(self) -> None:
        try:
            await self._launch_now()
        except OSError as error:  # at the first launch, whoever starts this host tries again
            self._events.failed(Cause(site=self._site, phase="starting the script", message=str(error)))

    def _cause(self, attempt: Attempt, status: Status) -> Cause:
        tail = tuple(self._attempts.logs(attempt, 40).splitlines()[-40:])
        ending = Ending(status.code, status.peak_rss, status.reason)
        return cause_of_end(self._site, self._failure, ending, self._give.round if self._give else None, tail)

    # -- the socket

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(reader, writer, FROM_TRAINER)
        try:
            hello = await link.hello()
            attempt = self._attempt
            if not isinstance(hello, LocalHello) or attempt is None or not attempt.knows(hello.token):
                link.send(Refused("FENCED", "this attempt has been replaced, or the job is over"))
                return
            if self._link is not None:
                self._link.close()  # one process of an attempt speaks for it: this is the same, or it is confused
            self._link = link
            link.send(self._greeting(attempt))
            self._received, self._sent = hello.received, max(self._sent, hello.sent)
            self._adopted = False
            self._events.joined()
            if self._log_mode:
                link.send(LogMode(self._log_mode))
            if self._over:
                link.send(Over())
            self._offer()
            async for message in link.messages():
                await self._take(attempt, message)
        except FlpocError as error:
            log.warning("job %s: trainer: %s", self._job, error.message)
            link.send(Refused(error.code, error.message, error.hint))
        finally:
            if self._link is link:
                self._link = None
            link.close()

    def _greeting(self, attempt: Attempt) -> TrainerStart:
        script = self._script
        return TrainerStart(
            self._job, self._site, self._run, attempt.number, self._spec.seed, self._spec.rounds, self._plugins,
            framework=script.framework, transfer_type=script.transfer_type, once=script.launch_once,
            gc_rounds=script.memory_gc_rounds, empty_cache=script.cuda_empty_cache,
            datasets={name: mount.target for name, mount in self._datasets.items()},
        )  # fmt: skip

    async def _take(self, attempt: Attempt, message: Any) -> None:
        match message:
            case Submit():
                if await self._events.submitted(attempt, message):
                    self.taken(message.round)
            case Failed():
                self._failure = message
            case Beat():
                if message.cpu > self._beat.cpu + 0.01 or message.calls > self._beat.calls:
                    self._events.moved()
                    self._beat = message
            case Logged():
                self._events.moved()
                self._events.logged(message)
        self._events.spoke()
