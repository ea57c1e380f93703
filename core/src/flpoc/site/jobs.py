"""One job at a site: brought, checked, run, answered, cleaned up.

The server says all that it wants (:class:`JobWant`); what is there already
is not done again. Everything a restart needs is in the job's folder.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import grpc

from flpoc.cancelling import in_thread
from flpoc.errors import AuthError, FlpocError, IntegrityError, JobError, ResourceError
from flpoc.jobs.archive import unpack
from flpoc.jobs.attempts import Attempt
from flpoc.jobs.spec import Manifest, SignedJob
from flpoc.jobs.states import Cause
from flpoc.provision.identity import Identity, identity_of
from flpoc.site.departures import AGAIN_LATER, DepartureEvents, Departures
from flpoc.site.files import SiteFiles
from flpoc.site.gate_host import GateHost
from flpoc.site.log_shipper import LogShipper
from flpoc.site.metric_shipper import MetricShipper
from flpoc.site.outgoing import Outgoing
from flpoc.site.trainer_host import TrainerEvents, TrainerHost
from flpoc.wire.codec import encode
from flpoc.wire.endings import STOP_GRACE
from flpoc.wire.messages import (
    Fetch,
    JobReport,
    JobWant,
    LogLines,
    LogsHave,
    Metrics,
    Progress,
    Task,
)
from flpoc.wire.trainer_messages import Give, Logged
from flpoc.wire.transfers import Incoming, write_whole
from flpoc.wire.vocabulary import MetricRow

if TYPE_CHECKING:
    from flpoc.site.agent import Agent

log = logging.getLogger("flpoc.site")

#: Seconds between two messages that only say that something moves.
PROGRESS_GAP = 0.1
#: What an archive may take for a file besides its bytes: names of up to 4 KiB, twice.
ENTRY_BYTES = 10_000


class SiteJob:
    """One run of one job at this site."""

    def __init__(self, agent: Agent, job: str, run: int, folder: Path, left: list[Attempt]) -> None:
        self.job, self.run = job, run
        self.files = SiteFiles(folder)
        self.report = JobReport(job, run, "preparing")
        self.outgoing = Outgoing(agent, self)
        events = DepartureEvents(self.outgoing.announce, self.fail)
        self.departures = Departures(
            self.files, job=job, run=run, site=agent.name, policy=agent.filters,
            share_metrics=agent.policy["share_metrics"], events=events,
        )  # fmt: skip
        self.outbox = self.departures.outbox
        self._agent = agent
        self._left = left
        self._want: JobWant | None = None
        self._wake = asyncio.Event()
        self._manifest: Manifest | None = None
        self._host: TrainerHost | None = None
        self._silent_until = 0.0
        self._metrics = MetricShipper(self._send_metrics)
        self._ended = asyncio.Event()
        self._name = f"{job}.{run}"
        self._record = folder / "share.json"
        try:
            agent.resources.adopt(self._name, self._record)
        except IntegrityError as error:
            # the machine went down while it was written: nothing runs that could have it
            log.warning("job %s: %s", job, error.message)
        self._shipper = LogShipper(self.files.log, self._send_log)
        self._loop = asyncio.create_task(self._reconcile_forever(), name=f"job {job}")
        if left and self.files.job.exists():
            self._wake.set()

    # -- what the server wants

    def want(self, want: JobWant) -> None:
        """Take up what the server wants; it replaces what it wanted before."""
        if want.phase == "drop" and (self._want is None or self._want.phase != "drop"):
            self._want = want
            self._loop.cancel()
            self._agent.later(self._drop())
            return
        self._want = want
        self._wake.set()

    @property
    def is_wanted(self) -> bool:
        """Whether the server wants the job to run; False also before it has said anything."""
        return self._want is not None and self._want.phase == "run"

    async def _reconcile_forever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await (self._reconcile(self._want) if self._want is not None else self._resume())
            except asyncio.CancelledError:
                raise
            except grpc.aio.AioRpcError as error:
                log.info("job %s: %s; goes on when the server is back", self.job, error.code().name)
                self._agent.loop.call_later(1.0, self._wake.set)
            except ResourceError as error:
                log.warning("job %s: %s; tried again in %g s", self.job, error.message, AGAIN_LATER)
                self._agent.loop.call_later(AGAIN_LATER, self._wake.set)
            except FlpocError as error:
                self.fail(Cause(site=self._agent.name, phase="preparing", message=error.message, hint=error.hint))
            except OSError as error:
                if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                    log.warning("job %s: the disk is full; tried again in %g s", self.job, AGAIN_LATER)
                    self._agent.loop.call_later(AGAIN_LATER, self._wake.set)
                    continue
                message = f"{type(error).__name__}: {error}"
                self.fail(Cause(site=self._agent.name, phase="preparing", message=message))
            except Exception as error:
                log.exception("job %s: cannot be prepared", self.job)
                message = f"{type(error).__name__}: {error}"
                self.fail(Cause(site=self._agent.name, phase="preparing", message=message))

    async def _reconcile(self, want: JobWant) -> None:
        if want.phase == "finish":
            await self._finish()
            return
        if self.report.phase == "failed":
            return
        wanted = want.task.round if want.task is not None else None
        self.departures.drop_before(-1 if wanted is None else wanted, want.committed)
        await in_thread(self.departures.keepsakes.drop, want.counted, wanted)
        await self._prepare(want)
        await self._ensure_host()
        if want.task is not None:
            await self._perform(want, want.task)

    async def _prepare(self, want: JobWant) -> None:
        if self._manifest is not None:
            return
        self.files.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        signed = want.signed if want.signed is not None else await asyncio.to_thread(_kept, self.files.signed)
        manifest = await self._agent.consents.ask(self.job, self.run, signed)
        self._guard(manifest)
        if self.departures.gate is not None:
            await self.departures.gate.check()
        if want.signed is not None:
            await in_thread(_keep, self.files.signed, signed)
        if self.is_wanted:
            self._refuse_revoked()  # the list of revoked certificates may have changed since consent was given
        if not self.files.job.exists():
            await self._fetch_archive(manifest)
            await in_thread(unpack, self.files.archive, self.files.job, manifest.files)
            self.files.archive.unlink()
        self._known(manifest)  # only now: what failed on the way here is done again

    @property
    def signer(self) -> Identity:
        """Who submitted the job.

        Raises:
            JobError: It is not here yet.
        """
        if not self.files.signed.exists():
            raise JobError(f"job {self.job} is being prepared", code="JOB_NOT_RUNNING")
        return identity_of(_kept(self.files.signed).certificate)

    def check_signer(self) -> None:
        """End this site's part if the submitter's certificate was revoked meanwhile."""
        if not self.files.signed.exists() or (self._want is not None and self._want.phase != "run"):
            return  # not begun, or over: then it is being cleaned up
        try:
            self._refuse_revoked()
        except AuthError as error:
            self.fail(Cause(site=self._agent.name, phase="revoked", message=error.message, hint=error.hint))
            self._loop.cancel()
            self._agent.later(self._end_trainer())

    def _refuse_revoked(self) -> None:
        signer = self.signer
        self._agent.revocations.refuse(signer.serial, signer.name)

    def set_log_mode(self, mode: str) -> None:
        """Have the script's process log as *mode* says.

        Raises:
            JobError: There is none.
        """
        if self._host is None:
            raise JobError(f"job {self.job} has no script running here", code="JOB_NOT_RUNNING")
        self._host.set_log_mode(mode)

    def _guard(self, manifest: Manifest) -> None:
        """See to it that updates pass the job's filters, then the site's own, whatever the job says."""
        agent = self._agent
        filters = (*manifest.spec.filters, *agent.filters)
        if filters and self.departures.gate is None:
            self.departures.gate = GateHost(
                site=agent.name, plugins=agent.kit.settings.plugins, filters=filters, state=agent.state,
                folder=self.files.folder / "gate", moved=self._moved,
            )  # fmt: skip

    def _known(self, manifest: Manifest) -> None:
        self._guard(manifest)
        self._manifest = manifest
        self.departures.begin()

    async def _fetch_archive(self, manifest: Manifest) -> None:
        # unpack checks every file against the signed manifest: no checksum of the archive is needed
        most = sum(entry.size + ENTRY_BYTES for entry in manifest.files) + ENTRY_BYTES
        came = 0
        request = encode(Fetch(self.job, self.run, "archive", 0, "", 0))
        part = self.files.archive.with_suffix(".part")
        with part.open("wb") as file:
            async for chunk in self._agent.fetch(request):
                came += len(chunk)
                if came > most:
                    raise IntegrityError("the server sends more than the files of the job can take")
                await in_thread(file.write, chunk)
        part.rename(self.files.archive)

    async def _resume(self) -> None:
        """After a restart of the agent: meet the trainer that still runs, before the server is back."""
        try:
            manifest = await self._agent.consents.ask(self.job, self.run, _kept(self.files.signed))
        except AuthError as error:  # it was allowed once, and is not any more
            self.fail(Cause(site=self._agent.name, phase="preparing", message=error.message, hint=error.hint))
            self._agent.later(self._end_trainer())
            return
        self._known(manifest)
        await self._ensure_host()

    async def _ensure_host(self) -> None:
        if self._host is not None:
            return
        assert self._manifest is not None
        agent = self._agent
        share = await agent.resources.take(self._name, self._manifest.spec.script_for(agent.name), self._record)
        events = TrainerEvents(
            joined=self._joined, submitted=self.departures.take, failed=self.fail, moved=self._moved,
            spoke=self._shipper.news, logged=self._logged, ended=self._ended.set,
        )  # fmt: skip
        self._host = TrainerHost(
            job=self.job, run=self.run, site=agent.name, spec=self._manifest.spec, files=self.files,
            sockets=agent.state / "sockets" / f"{self.job}.{self.run}", attempts=agent.attempts, events=events,
            project=agent.kit.settings.project, python=str(agent.policy.get("python") or ""),
            datasets=agent.datasets, plugins=agent.kit.settings.plugins, gpus=share.gpus,
            only_these_gpus=agent.resources.exact or bool(share.gpus),
            environment=agent.environments.of(self._manifest.spec.study),
            image=agent.images.choose(self._manifest.spec, agent.name) if agent.images else "",
        )  # fmt: skip
        try:
            await self._host.start(self._left)
        except (FlpocError, OSError):
            host, self._host = self._host, None  # tried again from the beginning
            host.close()
            raise
        self._left = []

    async def _perform(self, want: JobWant, task: Task) -> None:
        if (entry := self.outbox.get(task.round)) is not None:
            self.outgoing.announce(entry)
            return
        if self.departures.has(task.round):
            return  # its filters are at work
        if (cause := self.departures.unfit(task.round)) is not None:
            self.fail(cause)
            return
        assert self._host is not None
        path = ""
        if task.model is not None:
            model = self.files.model(task.round, task.model.checksum)
            if not model.exists():
                await self._get_model(task, model)
            path = str(model)
            self.files.drop_models(task.round)
        self._host.give(Give(task.round, task.kind, path, task.meta, self.departures.keepsakes.current(want.counted)))

    async def _get_model(self, task: Task, into: Path) -> None:
        assert task.model is not None
        if task.model.inline is not None:
            await in_thread(write_whole, into, task.model.inline, task.model.checksum)
            return
        incoming = Incoming(into.with_suffix(".part"), task.model.size, task.model.checksum)
        try:
            have = await incoming.begin()
            request = encode(Fetch(self.job, self.run, "model", task.round, task.model.checksum, have))
            async for chunk in self._agent.fetch(request):
                await incoming.write(chunk)
            await incoming.finish(into)
        finally:
            await incoming.close()

    # -- what the trainer says

    def _joined(self) -> None:
        if self.report.phase == "preparing":
            self.report = attrs.evolve(self.report, phase="joined")
            self._agent.send(self.report)

    def _moved(self) -> None:
        # a script may say so as often as it likes, and what else this site has to say comes behind it
        if (now := self._agent.loop.time()) >= self._silent_until:
            self._silent_until = now + PROGRESS_GAP
            self._agent.send(Progress(self.job, self.run))

    def _logged(self, message: Logged) -> None:
        if self._agent.policy["share_metrics"]:
            self._metrics.add(message.rows)

    def _send_metrics(self, first: int, rows: tuple[MetricRow, ...]) -> None:
        self._agent.send(Metrics(self.job, self.run, first, rows))

    def fail(self, cause: Cause) -> None:
        """This site's part in the job is over; the server decides about the job."""
        if self.report.phase != "failed":
            if not self._agent.policy["share_logs"]:
                cause = attrs.evolve(cause, log_tail=())
            log.warning("job %s: failed: %s", self.job, cause.message or cause.signal or cause.exception)
            self.report = JobReport(self.job, self.run, "failed", cause.cut(), cause.round)
            self._agent.send(self.report)

    # -- connections

    def connected(self) -> None:
        """A connection has begun: say again what waits for an answer."""
        self._agent.send(self.report)
        self.outgoing.announce_all()

    def disconnected(self) -> None:
        self._shipper.pause()
        self._metrics.pause()

    def logs_have(self, message: LogsHave) -> None:
        if self._agent.policy["share_logs"]:
            self._shipper.resume(message.offset)
        self._metrics.resume(message.metrics)

    def _send_log(self, offset: int, data: bytes) -> None:
        self._agent.send(LogLines(self.job, self.run, offset, data))

    # -- ends

    async def _finish(self) -> None:
        if self._host is not None:
            self._host.finish()
            try:
                async with asyncio.timeout(self._host.patience):
                    await self._ended.wait()
            except TimeoutError:
                log.warning("job %s: the script does not end; it is stopped", self.job)
        self._agent.later(self._drop())

    async def _drop(self) -> None:
        """Stop everything, send the rest of the log, delete the folder."""
        await self._end_trainer()
        await self._agent.resources.free(self._name)
        await self._shipper.flush()
        self._shipper.pause()
        self._agent.forget(self)
        await asyncio.to_thread(self.files.drop)

    async def stop(self) -> None:
        """Stop the trainer; the folder stays, so that the job can go on later."""
        self._shipper.pause()
        await self._end_trainer()

    async def _end_trainer(self) -> None:
        self._loop.cancel()
        await asyncio.wait([self._loop])  # what is ended now is not begun again
        self.outgoing.stop()
        await self.departures.stop()
        for attempt in self._left:
            await asyncio.to_thread(self._agent.attempts.stop, attempt, STOP_GRACE)
            self._agent.attempts.forget(attempt)
        if self._host is not None:
            await self._host.stop(STOP_GRACE)


def _keep(path: Path, signed: SignedJob) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    data = {key: value.decode("latin-1") for key, value in attrs.asdict(signed).items()}
    part = path.with_suffix(".part")
    part.write_text(json.dumps(data))
    part.rename(path)


def _kept(path: Path) -> SignedJob:
    data = json.loads(path.read_text())
    return SignedJob(**{key: value.encode("latin-1") for key, value in data.items()})
