"""The server as a whole: it holds the parts together and starts what can start."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import attrs

from flpoc import __version__
from flpoc.cancelling import to_the_end
from flpoc.errors import AuthError, FlpocError, IntegrityError, JobError, ServiceError
from flpoc.jobs.attempts import Attempt, Attempts
from flpoc.jobs.revocations import Revocations
from flpoc.jobs.states import Cause, JobState
from flpoc.plugins import Plugins
from flpoc.provision.identity import identity_of
from flpoc.provision.kits import Kit
from flpoc.provision.project_studies import read_studies
from flpoc.server.acquaintances import Acquaintances
from flpoc.server.blocked import Blocked
from flpoc.server.commits import until_done
from flpoc.server.controllers import ControllerHost, checkpoint_folders
from flpoc.server.courier_host import CourierHost
from flpoc.server.files import ServerFiles
from flpoc.server.logs import LogKeeper
from flpoc.server.metrics import MetricRecords
from flpoc.server.queue import Queue
from flpoc.server.results import keep_results
from flpoc.server.rounds import RoundRecords
from flpoc.server.runs import Run
from flpoc.server.sites import Sites, SiteSession
from flpoc.server.store import JobRow, Store, manifest_of
from flpoc.server.studies import Studies
from flpoc.serving import Background
from flpoc.settings import plain
from flpoc.tracking import TrackedJob
from flpoc.wire.messages import JobReport, JobWant

log = logging.getLogger("flpoc.server")

#: Seconds that a controller gets to end by itself.
CONTROLLER_GRACE = 5.0

_ACTIVE = (JobState.DISPATCHED.value, JobState.RUNNING.value)


class Bell:
    """Rings when something about a job has changed; whoever waits is woken."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._events: dict[str, asyncio.Event] = {}

    def ring(self, job: str) -> None:
        self._counts[job] = self._counts.get(job, 0) + 1
        if (event := self._events.pop(job, None)) is not None:
            event.set()

    def count(self, job: str) -> int:
        return self._counts.get(job, 0)

    async def after(self, job: str, seen: int) -> int:
        """Wait until it has rung more than *seen* times; says how often it has."""
        while self.count(job) <= seen:
            await self._events.setdefault(job, asyncio.Event()).wait()
        return self.count(job)


class Server:
    """Jobs, sites and models of one project."""

    def __init__(self, kit: Kit, plugins: Plugins, state: Path) -> None:
        self.kit = kit
        self.plugins = plugins
        self.files = ServerFiles(state)
        #: Folders whose files jobs may start from.
        self.checkpoints = checkpoint_folders(kit.policy)
        self.store = Store(state)
        self.metrics = MetricRecords(self.store)
        self.sites = Sites()
        self.studies = Studies(self.store)
        self.blocked = Blocked(self.store)
        self.acquaintances = Acquaintances(self.store)
        self.revocations = Revocations(state, root_pem=kit.root_pem, project=kit.settings.project)
        #: Whether the server was told to begin anew after its end.
        self.again = False
        self._ending = False
        self.ended: Callable[[], None] = lambda: None
        self.bell = Bell()
        self.logs = LogKeeper(self.files)
        self.started = time.time()
        self.queue = Queue(self)
        self.runs: dict[str, Run] = {}
        launcher = plugins.create("launchers", kit.settings.launcher, kit.policy["launcher_settings"])
        self.attempts = Attempts(state, launcher, kit.settings.launcher, hidden=(kit.folder,))
        self._hosts: dict[str, ControllerHost] = {}
        self._background = Background(log)
        self.later = self._background.later
        self.courier = CourierHost(self.store, self.metrics, plugins, kit.settings.plugins, self.later)
        self._stopping = False
        self._stop = asyncio.Event()

    # -- life

    async def restore(self) -> None:
        """Take up the jobs of a former server, and end what it left of others."""
        await self.studies.restore(read_studies(self.kit.folder))
        await self.blocked.restore()
        left: dict[str, list[Attempt]] = {}
        for attempt in self.attempts.recorded():
            left.setdefault(attempt.job, []).append(attempt)
        for row in await self.store.jobs("state IN (?, ?)", *_ACTIVE):
            await self._check_files(row)
            log.info("job %s: goes on", row.id)
            await self.begin(row, left.pop(row.id, []))
        for attempts in left.values():
            for attempt in attempts:
                await asyncio.to_thread(self.attempts.stop, attempt, 1.0)
                self.attempts.forget(attempt)
        await self._sweep()
        await self.courier.restore(set(self.runs))
        self.sites.listen(self.queue.wake)
        self.later(self.queue.serve())
        self.queue.wake()

    async def _sweep(self) -> None:
        """Delete folders and archives of jobs that have no row: their submission was cut off."""
        rows = await self.store.jobs()
        known = {row.id for row in rows}
        for folder in (self.files.state / "jobs").glob("*"):
            if folder.name not in known:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        archives = {self.files.archive(row.archive) for row in rows}
        for path in (self.files.state / "archives").glob("*"):
            if path not in archives:
                path.unlink(missing_ok=True)

    async def _check_files(self, row: JobRow) -> None:
        """A committed model that is gone means that this is not the whole state folder: touch nothing."""
        last = await RoundRecords(self.store, row.id, row.run).last_commit()
        if last is not None and last.checksum and not self.files.job(row.id).model(last.round, last.checksum).is_file():
            raise IntegrityError(
                f"the model of round {last.round + 1} of job {row.id} is missing in {self.files.state}",
                hint="restore the whole state folder, or is a disk not mounted?",
            )

    async def stop(self) -> None:
        """Stop all controllers; what is committed and received goes on at the next start."""
        self._stopping = True
        self._stop.set()
        for run in list(self.runs.values()):  # one may just be coming to its end
            run.pause()
            await run.settle()
        ends = [host.end(grace=0.0) for host in self._hosts.values()]
        for one in await asyncio.gather(self.courier.stop(), *ends, return_exceptions=True):
            if isinstance(one, BaseException):
                log.error("not all could be stopped: %s", one)
        await self._background.cancel()
        self.store.close()

    # -- starting jobs

    async def begin(self, row: JobRow, left: list[Attempt]) -> None:
        """Let a dispatched job begin, or go on.

        Args:
            row: The job.
            left: Its controllers that a former server started.
        """
        manifest = manifest_of(row)
        files = self.files.job(row.id)
        run = Run(row, manifest.spec, self.store, files, tell=self.sites.send, changed=self._changed, ended=self._ended)
        self.runs[row.id] = run
        try:
            await run.restore()
            await self._track(run)
            if self._stopping or run.over:
                run.pause()
                return  # the next server begins with it, or it has been ended already
            host = ControllerHost(
                run,
                self.files,
                self.attempts,
                manifest.files,
                project=self.kit.settings.project,
                plugins=self.kit.settings.plugins,
                checkpoints=self.checkpoints,
            )
            self._hosts[row.id] = host
            for site in run.sites:
                self.sites.send(site, run.want(site, signed=True))
            await host.start(left)
            if why := self.locked_out(row):
                run.expel(why)  # a former server was killed before it could
        except (FlpocError, OSError, sqlite3.Error) as error:
            log.exception("job %s: cannot be started", row.id)
            message = error.message if isinstance(error, FlpocError) else str(error)
            run.fail(Cause(site="server", phase="starting", exception=type(error).__name__, message=message))
        self.bell.ring(row.id)

    async def _track(self, run: Run) -> None:
        if trackers := run.spec.tracking:
            row, spec = run.row, run.spec
            about = TrackedJob(row.id, row.name, row.study, row.run, spec.rounds, run.sites, row.submitter)
            await self.courier.track(about, trackers)

    # -- what runs say

    def _changed(self, run: Run) -> None:
        if run.running and run.row.state != JobState.RUNNING.value:
            now = run.row.started or time.time()
            run.row = attrs.evolve(run.row, state=JobState.RUNNING.value, started=now)
            self.later(
                self.store.change(run.id, state=JobState.RUNNING.value, started=now, joined=list(run.row.joined))
            )
        self.bell.ring(run.id)

    def _ended(self, run: Run, state: JobState, cause: Cause | None) -> None:
        if not self._stopping:
            self.later(self._finish(run, state, cause))

    async def _finish(self, run: Run, state: JobState, cause: Cause | None) -> None:
        log.info("job %s: %s%s", run.id, state.value, f" ({cause.message})" if cause else "")
        await run.settle()
        digest = ""
        if run.lineage.model is not None or run.reports:
            try:
                digest = await keep_results(self.store, run)
            except ServiceError:
                return  # the server is stopping: the next one ends the job
            except Exception as error:  # whatever it is: a job that has ended must not seem to run for ever
                log.exception("job %s: its results cannot be kept", run.id)
                state = JobState.FAILED
                cause = Cause(site="server", phase="keeping the results", message=str(error), hint="is the disk full?")
        told = plain(cause) if cause is not None else None

        async def end() -> None:
            if run.spec.tracking:
                await self.courier.ended(run.id, run.row.run)
            await self.store.change(
                run.id, state=state.value, finished=time.time(), cause=told, sha256=digest, metrics=run.row.metrics,
                joined=list(run.row.joined),
            )  # fmt: skip

        if not await until_done(end, self._stop, run.no_room):
            return
        completed = state in {JobState.COMPLETED, JobState.COMPLETED_PARTIAL}
        phase: Literal["finish", "drop"] = "finish" if completed else "drop"
        self.runs.pop(run.id, None)
        for site in run.sites:
            self.sites.send(site, JobWant(run.id, run.row.run, phase, committed=run.lineage.committed))
        self.bell.ring(run.id)
        self.queue.wake()
        if (host := self._hosts.pop(run.id, None)) is not None:
            await host.end(grace=CONTROLLER_GRACE if phase == "finish" else 0.0)
        await asyncio.to_thread(run.files.drop_working_files)

    # -- what sites say

    def wants_for(self, site: str, reports: tuple[JobReport, ...]) -> list[JobWant]:
        """All that is wanted now, for jobs that run, of a site that has just connected and said what it has."""
        has = {(report.job, report.run) for report in reports}
        runs = [run for run in self.runs.values() if site in run.sites]
        return [run.want(site, signed=(run.id, run.row.run) not in has) for run in runs]

    async def wants_of_ended(self, site: str, reports: tuple[JobReport, ...]) -> list[JobWant]:
        """What a site is to do with jobs that it has, and that do not run with it any more."""
        run_with_it = {(run.id, run.row.run) for run in self.runs.values() if site in run.sites}
        wants: list[JobWant] = []
        for job, run_number in {(report.job, report.run) for report in reports} - run_with_it:
            row = await self.store.job(job)
            done = row is not None and row.state.startswith(JobState.COMPLETED.value) and row.run == run_number
            wants.append(JobWant(job, run_number, "finish" if done else "drop"))
        return wants

    # -- what users ask for

    def sites_of(self, study: str) -> dict[str, SiteSession]:
        """The connected sites of a study."""
        here = {name: one for name, one in self.sites.connected.items() if self.blocked.get(name) is None}
        return {name: one for name, one in here.items() if self.studies.has_site(study, name, one.org)}

    def locked_out(self, row: JobRow) -> str:
        """Why a job's submitter is not to be trusted any more; empty while they are."""
        who = identity_of(row.certificate)
        try:
            self.revocations.refuse(who.serial, who.name)
        except AuthError as error:
            return error.message
        return ""

    def set_job_log_mode(self, job: str, mode: str) -> None:
        """Have a job's controller log as *mode* says.

        Raises:
            JobError: There is none.
        """
        host = self._hosts.get(job)
        if host is None:
            raise JobError(f"job {job} has no controller", code="JOB_NOT_RUNNING")
        host.set_log_mode(mode)

    def end(self, again: bool, *, after: float = 0.0) -> None:
        """End this server *after* some seconds; and begin anew, if *again* and nobody ends it for good meanwhile."""
        self.again = again and (self.again or not self._ending)
        self._ending = True
        asyncio.get_running_loop().call_later(after, self.ended)

    async def abort(self, row: JobRow) -> None:
        """End a job that is not at its end, whatever runs of it."""
        seen = self.bell.count(row.id)
        while True:
            if (run := self.runs.get(row.id)) is not None:
                run.abort()
            elif await to_the_end(self.queue.abort(row.id)):
                return
            with contextlib.suppress(TimeoutError):
                seen = await asyncio.wait_for(self.bell.after(row.id, seen), 1.0)

    def describe(self, study: str = "default") -> dict[str, Any]:
        """The server's state as a study sees it, for ``system status`` and ``poc start``."""
        from flpoc.server.views import iso

        sites = sorted(self.sites_of(study).values(), key=lambda one: one.name)
        runs = sorted((run for run in self.runs.values() if run.row.study == study), key=lambda run: run.row.seq)
        blocked = [name for name in self.blocked.names if not self.studies.foreign(study, [name])]
        return {
            "project": self.kit.settings.project,
            "server": self.kit.settings.name,
            "version": __version__,
            "address": self.kit.server_address,
            "started": self.started,
            "start_time": iso(self.started),
            "study": study,
            "time": time.time(),
            "sites": [
                {
                    "name": one.name, "org": one.org, "since": one.since, "seen": one.seen,
                    "version": one.hello.version, "last_seen_time": iso(one.seen),
                    "jobs": [run.id for run in runs if one.name in run.sites and one.name not in run.failures],
                }
                for one in sites
            ],
            "disabled": blocked,
            "jobs": [
                {"job_id": run.id, "name": run.row.name, "status": run.row.state, "sites": list(run.sites)}
                for run in runs
            ],
            "active_jobs": sorted(run.id for run in runs),
        }  # fmt: skip
