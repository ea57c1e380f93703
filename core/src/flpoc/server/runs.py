"""A running job at the server: which round it is in, and what everybody owes it.

A run knows what it wants of each site at any moment (:meth:`Run.want`), so
a message that was lost is simply said again. What a restart must know is in
the database before anybody is told.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from flpoc.cancelling import in_thread
from flpoc.errors import FlpocError, IntegrityError
from flpoc.jobs.spec import JobSpec, SignedJob
from flpoc.jobs.states import Cause, JobState
from flpoc.server import commits
from flpoc.server.commits import Commitment
from flpoc.server.deadlines import Deadlines
from flpoc.server.files import JobFiles
from flpoc.server.judging import nothing_came, rejected
from flpoc.server.lineage import Lineage
from flpoc.server.models import Model, take_model
from flpoc.server.open_round import OpenRound
from flpoc.server.rounds import RoundRecords, UpdateRow
from flpoc.server.store import JobRow, Store
from flpoc.server.updates import Updates
from flpoc.wire.controller_messages import Assign, Commit, Committed, ControllerStart
from flpoc.wire.endings import stalled
from flpoc.wire.local import Link
from flpoc.wire.messages import Announce, JobReport, JobWant, Task
from flpoc.wire.vocabulary import Finished

#: What deadlines know the controller by; no site has this name.
_CONTROLLER = "server"


class Run:
    """One job between its start and its end."""

    def __init__(
        self,
        row: JobRow,
        spec: JobSpec,
        store: Store,
        files: JobFiles,
        *,
        tell: Callable[[str, Any], None],
        changed: Callable[[Run], None],
        ended: Callable[[Run, JobState, Cause | None], None],
    ) -> None:
        self.row = row
        self.spec = spec
        self.files = files
        self.sites = row.chosen
        self.joined: set[str] = set(row.joined)
        self.started = bool(row.joined)
        self.failures: dict[str, str] = {}
        self.round = OpenRound(0)
        #: JSON documents that the workflow has made, by file name.
        self.reports: dict[str, Any] = {}
        #: Sites whose upload waits for its turn; being in line counts as progress.
        self.in_line: set[str] = set()
        self.over = False
        self.records = RoundRecords(store, row.id, row.run)
        self.lineage = Lineage(files, self.records)
        self.updates = Updates(self)
        self._tell = tell
        self._changed = changed
        self._ended = ended
        self._link: Link | None = None
        self._commit: asyncio.Task[None] | None = None
        self._deadlines = Deadlines(spec.timeouts, self._late)
        self._closing: asyncio.Task[None] | None = None
        self._first_cause: Cause | None = None
        self._no_room = ""
        self._stop = asyncio.Event()

    # -- beginning, also after a restart of the server

    async def restore(self) -> None:
        """Take up what was committed and received before; files are the truth, rows say which."""
        number = await self.lineage.restore()
        self.failures = await self.records.failures()
        self.round = OpenRound(number, late=await self.records.late(number))
        for update in await self.records.updates(self.next_round):
            path = self.files.update(self.next_round, update.site, update.checksum)
            out = update.site in self.round.late or update.site in self.failures
            if not out and await asyncio.to_thread(update.is_whole, path):
                self.round.count(update, path)
        self._deadlines.open(self.sites)

    @property
    def id(self) -> str:
        return self.row.id

    @property
    def next_round(self) -> int:
        """The round whose updates are wanted now."""
        return self.round.number

    # -- what is wanted of a site

    def want(self, site: str, *, signed: bool) -> JobWant:
        """All that is wanted of *site* now; with the signed job if it does not have it yet."""
        if self.over or site not in self.sites or site in self.failures:
            return JobWant(self.id, self.row.run, "drop")
        job = SignedJob(self.row.manifest, self.row.signature, self.row.certificate) if signed else None
        counted = self.next_round if site in self.round.received else self.lineage.counted.get(site, -1)
        return JobWant(
            self.id, self.row.run, "run", self.row.archive, self.row.archive_size, job, self._task(site),
            self.lineage.committed, counted,
        )  # fmt: skip

    def _task(self, site: str) -> Task | None:
        assign = self.round.assign
        if assign is None or not self.started or site not in self.round.owing(self.failures):
            return None
        model = self.given.ref if self.given is not None and assign.use_model else None
        return Task(assign.round, assign.kind, self.spec.rounds, model, assign.meta)

    @property
    def given(self) -> Model | None:
        """The model that tasks are about: the committed one, or what the controller has handed over."""
        return self.round.handed or self.lineage.model

    def model_of(self, checksum: str) -> Model | None:
        """The model with this checksum, if a site may still want it."""
        return next((one for one in (self.given, self.lineage.model) if one and one.ref.checksum == checksum), None)

    def _tell_all(self) -> None:
        for site in self.sites:
            self._tell(site, self.want(site, signed=False))

    # -- what sites say

    def alive(self, site: str) -> None:
        """Something moved at *site*."""
        self._deadlines.moved(site)

    def site_reports(self, site: str, report: JobReport) -> None:
        """A site has joined, or its script has failed."""
        self.alive(site)
        if report.phase == "joined" and site not in self.joined:
            self.joined.add(site)
            if not self.over:
                self.records.later(self.records.site_joined(site))
            self._begin_if_ready()
        elif report.phase == "failed" and site not in self.failures:
            cause = report.cause or Cause(site=site, phase="training", message="failed without saying why")
            # a site speaks for itself only, and at no greater length than is read
            self._site_lost(site, "failed", attrs.evolve(cause, site=site).cut())

    def _begin_if_ready(self, *, late: bool = False) -> None:
        if self.started or self.over:
            return
        missing = [site for site in self.sites if site not in self.joined and site not in self.failures]
        if missing and not late:
            return
        if len(self.joined - set(self.failures)) < self.spec.least:
            return
        self.started = True
        for site in missing:
            cause = Cause(
                site=site,
                phase="joining",
                message=f"did not join within {self.spec.timeouts.join_timeout:g} s",
                hint="is it connected? `flpoc job logs` shows what its script prints",
            )
            self._site_lost(site, "lost", cause)
        if not self.over:
            self.row = attrs.evolve(self.row, joined=tuple(s for s in self.sites if s in self.joined))
            self._deadlines.open(self.sites)  # the first round begins now, even if the controller was faster
            self._changed(self)
            self._tell_all()

    def expel(self, why: str) -> None:
        """Whoever submitted the job is not to be trusted any more."""
        self.fail(Cause(site="server", phase="revoked", round=self.round_now, message=why))

    def shut_out(self, site: str, phase: str, why: str) -> None:
        """An operator keeps a site out: it is told to drop the job, whatever it does now."""
        if site in self.sites and site not in self.failures and not self.over:
            self._site_lost(site, "lost", Cause(site=site, phase=phase, round=self.round_now, message=why))
            self._tell(site, self.want(site, signed=False))  # also when the job has failed by this

    def _site_lost(self, site: str, status: str, cause: Cause) -> None:
        """A site takes no further part; the job goes on if enough are left."""
        self.failures[site] = f"{status}: {cause.message}"
        self._first_cause = self._first_cause or cause
        self.records.later(self.records.site_failed(self.next_round, site, status, cause.message, told=not self.over))
        left = [one for one in self.sites if one not in self.failures]
        if len(left) < self._quorum():
            self.fail(self._first_cause)
            return
        self._tell(site, self.want(site, signed=False))
        self._begin_if_ready()
        self._close_if_complete()

    def _quorum(self) -> int:
        """How many updates close a round: all that started, if the job does not say."""
        if self.spec.quorum is not None:
            return self.spec.quorum
        return len([site for site in self.sites if site in self.joined]) if self.started else self.spec.least

    async def settled(self) -> None:
        """Wait for a commit that is being written, if there is one; it goes on if the waiting is cancelled."""
        if self._commit is not None:
            await asyncio.shield(self._commit)

    def awaits(self, site: str, round_number: int) -> bool:
        """Whether this site's update of this round would still be counted."""
        open_still = not self.over and round_number == self.next_round
        return open_still and site not in self.failures and self.round.awaits(site)

    def count(self, facts: UpdateRow, path: Path) -> None:
        """An update is in place and written down."""
        self.round.count(facts, path)
        self._no_room = ""
        self._changed(self)
        self._close_if_complete()

    def reject(self, site: str, message: Announce, reason: str) -> None:
        """A site's update turned out to be unusable."""
        if site not in self.failures and not self.over:
            self._site_lost(site, "rejected", rejected(site, message.round, reason))

    def no_room(self, error: Exception) -> str:
        """The disk takes nothing more: updates stay with their sites until it does."""
        self._no_room = f"the server cannot write: {error}"
        self._changed(self)
        return self._no_room

    # -- what the controller says

    def controller_start(
        self, code: Path, plugins: tuple[str, ...], checkpoints: tuple[str, ...] = ()
    ) -> ControllerStart:
        """What a controller is told when it connects, for the first time or again."""
        committed = self.lineage.before(self.next_round)
        order = tuple(site for site in self.sites if site in self.joined or not self.started)
        return ControllerStart(
            self.id, self.row.run, self.spec, str(code), order, committed, plugins, self.lineage.kept, checkpoints
        )

    async def controller_connected(self, link: Link) -> None:
        await self.settled()
        self._link = link
        self.controller_moved()
        self._changed(self)

    def controller_moved(self) -> None:
        """There was progress in the controller."""
        self._deadlines.moved(_CONTROLLER)

    def controller_gone(self, link: Link) -> None:
        if self._link is link:
            self._link = None
            self.controller_moved()  # so long has the next one to connect

    async def assign(self, message: Assign, folder: Path) -> None:
        """The controller opens a round or goes on in it, or says again what it has said before."""
        if message.round != self.next_round:
            raise IntegrityError(f"round {message.round} was asked for; {self.next_round} is next")
        if strangers := sorted({*message.sites, *message.later} - set(self.sites)):
            raise IntegrityError(f"round {message.round} was asked of {strangers[0]}, which has no part in the job")
        if self.round.assign != message:
            await self._hand_over(message, folder)
            # one deadline for a round, also where its sites are asked one after the other
            first = self.round.assign is None
            self.round.ask(message)
            if self.over:
                return
            if first:
                self._deadlines.open(message.sites, message.within)
            else:
                self._deadlines.ask(message.sites)
            self._changed(self)
            self._tell_all()
        self._close_if_complete()

    async def _hand_over(self, message: Assign, folder: Path) -> None:
        """Take the model of a task, if it has its own; the one before is needed by nobody any more."""
        before, now = self.round.handed, None
        if message.file:
            path = self.files.model(message.round, message.checksum)
            now = await in_thread(take_model, message, folder, path)
        self.round.handed = now
        if before is not None and (now is None or now.path != before.path):
            before.path.unlink(missing_ok=True)

    def _close_if_complete(self) -> None:
        assign = self.round.assign
        if assign is None or self._link is None or self.over or not self.started or self._closing is not None:
            return
        late = self.round.owing(self.failures)
        if late and not self._deadlines.round_is_over:
            return
        if assign.within is None and self.round.lacks(self._quorum(), self.failures):
            absent = [site for site in assign.sites if site not in self.round.received]
            self.fail(nothing_came(assign.round, absent))
            return
        self.round.late |= set(late)
        self._closing = asyncio.create_task(self._close(late))

    async def _close(self, late: list[str]) -> None:
        try:
            for site in late:
                await self.records.note(self.next_round, site, "late", "round_deadline")
            if self._link is not None:
                self._link.send(self.round.close(self.failures))
        finally:
            self._closing = None
            self.controller_moved()  # from here on it is its turn

    async def commit(self, message: Commit, folder: Path) -> None:
        """The controller has made the model of a round.

        The file is taken at once, so that the next round can begin; the
        commit itself is answered when it is on the disk.
        """
        initial = message.round == -1 and self.lineage.model is None and self.next_round == 0
        if message.round < self.next_round and not initial:
            await self.settled()
            self._say_committed(message.round)
            return
        if message.round != self.next_round and not initial:
            raise IntegrityError(f"commit of round {message.round}; {self.next_round} is open")
        message = await self.lineage.take(message, folder, self.round.received, self.sites)
        closed, self.round = self.round, OpenRound(message.round + 1)
        self._commit = asyncio.create_task(self._write_commit(message, closed))

    def _expected(self, message: Commit, closed: OpenRound) -> tuple[str, ...]:
        """Sites that a round is incomplete without: those that were asked, and those that never came."""
        if message.round < 0 or not message.file:
            return ()
        return tuple(one for one in self.spec.sites or self.sites if one in closed.asked or one not in self.sites)

    async def _write_commit(self, message: Commit, closed: OpenRound) -> None:
        trained, expected = closed.trained, self._expected(message, closed)
        partial = any(site not in trained for site in expected) and self.spec.quorum is None
        means = message.metrics if self.spec.tracking and message.file else {}
        model, best, state_file = self.lineage.model, self.lineage.best, self.lineage.state_file
        what = Commitment(message, model, trained, dict(self.failures), expected, partial, means, best, state_file)
        try:
            kept = self.spec.keep_rounds
            written = await commits.write(
                what, self.records, self.files, keep_rounds=kept, stopping=self._stop, trouble=self.no_room
            )
            if not written:
                return
            metrics = message.metrics if message.file else self.row.metrics
            self.row = attrs.evolve(self.row, partial=self.row.partial or partial, metrics=metrics)
            self.lineage.committed = message.round
        finally:
            self._commit = None
            self.controller_moved()
        self._no_room = ""
        self._say_committed(message.round)
        self._changed(self)

    def _say_committed(self, round_number: int) -> None:
        if self._link is not None:
            self._link.send(Committed(round_number))

    async def finish(self, message: Finished) -> None:
        """The workflow has come to its end."""
        await self.settled()
        if message.best:
            self.lineage.last_is_best()
        self.reports = message.reports
        if message.metrics:
            self.row = attrs.evolve(self.row, metrics=message.metrics)
            if self.spec.tracking:
                self.records.later(self.records.means(self.next_round, message.metrics))
        self._end(JobState.COMPLETED_PARTIAL if self.row.partial else JobState.COMPLETED, None)

    # -- ends

    def fail(self, cause: Cause) -> None:
        """The job has failed, and this is why."""
        self._end(JobState.FAILED, cause)

    def abort(self) -> None:
        self._end(JobState.ABORTED, None)

    def _end(self, state: JobState, cause: Cause | None) -> None:
        if self.over:
            return
        self.over = True
        self.pause()
        self._ended(self, state, cause)

    def pause(self) -> None:
        """Stop all timers and waiting; the server is going down or the job is over."""
        self._stop.set()
        self._deadlines.stop()

    async def settle(self) -> None:
        """Wait for a commit that is being written, whatever becomes of it."""
        with contextlib.suppress(FlpocError, OSError):
            await self.settled()

    # -- time-outs

    def _late(self) -> None:
        """A time-out may be over: find out whose."""
        if not self.started:
            if self._deadlines.join_is_over:
                self._join_timeout()
        elif self._controllers_turn and self._deadlines.stalled(_CONTROLLER):
            message = f"the controller makes no progress for {self._deadlines.quiet(_CONTROLLER):.0f} s (stall)"
            self.fail(Cause(site="server", phase="aggregating", round=self.next_round, message=message))
        elif self.round.assign is not None:
            if self._deadlines.round_is_over:
                self._close_if_complete()
            for site in self.in_line:
                self._deadlines.moved(site)
            for site in self.round.owing(self.failures):
                if self._deadlines.stalled(site) and not self.over:
                    cause = stalled(site, self.next_round, self._deadlines.quiet(site))
                    self._site_lost(site, "lost", cause)
        if not self.over:
            self._deadlines.arm()

    @property
    def _controllers_turn(self) -> bool:
        """Whether the job waits for its controller, and for nobody else."""
        busy = self._commit is not None or self._closing is not None or bool(self._no_room)
        return not busy and not self.round.owing(self.failures)

    def _join_timeout(self) -> None:
        self._begin_if_ready(late=True)
        if not self.started and not self.over:
            absent = [site for site in self.sites if site not in self.joined]
            message = f"{', '.join(absent)} did not join within {self.spec.timeouts.join_timeout:g} s"
            self.fail(Cause(site=absent[0] if absent else "", phase="joining", message=message))

    # -- for people

    def waiting_for(self) -> str:
        """Whom or what the job waits for now."""
        if self._no_room:
            return self._no_room
        if not self.started:
            absent = [site for site in self.sites if site not in self.joined and site not in self.failures]
            return f"waiting for {', '.join(absent)} to join" if absent else ""
        owing = self.round.owing(self.failures)
        return f"waiting for updates of {', '.join(owing)}" if owing else ""

    @property
    def running(self) -> bool:
        """Whether the controller and enough trainers are connected."""
        return self.started and self._link is not None and not self.over

    @property
    def has_controller(self) -> bool:
        """Whether the controller is connected."""
        return self._link is not None

    def quiet(self, site: str) -> float:
        """Seconds since the last progress at *site*."""
        return self._deadlines.quiet(site)

    @property
    def round_now(self) -> int | None:
        return self.round.number if self.round.assign is not None else None
