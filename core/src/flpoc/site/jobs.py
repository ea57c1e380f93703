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

from flpoc.errors import FlpocError, ResourceError
from flpoc.jobs.archive import unpack
from flpoc.jobs.attempts import Attempt
from flpoc.jobs.spec import Manifest, SignedJob
from flpoc.jobs.states import Cause
from flpoc.models.handover import take
from flpoc.site.consent import consent
from flpoc.site.files import Outbox, SiteFiles
from flpoc.site.log_shipper import LogShipper
from flpoc.site.trainer_host import TrainerEvents, TrainerHost
from flpoc.wire.codec import encode
from flpoc.wire.job_messages import Give, Logged, Submit
from flpoc.wire.messages import (
    INLINE_BYTES,
    PUSHED,
    Announce,
    Answer,
    Fetch,
    JobReport,
    JobWant,
    LogLines,
    LogsHave,
    MetricRow,
    Metrics,
    Progress,
    Push,
    Task,
)
from flpoc.wire.transfers import Incoming, read_chunks, write_whole

if TYPE_CHECKING:
    from flpoc.site.agent import Agent

log = logging.getLogger("flpoc.site")

#: Seconds that a script gets to end by itself when it is stopped.
STOP_GRACE = 2.0
#: Seconds after which something that the server, or a full disk, put off is tried again.
AGAIN_LATER = 2.0
#: Metrics that wait for a connection; older ones are dropped.
METRICS_KEPT = 100_000


class SiteJob:
    """One run of one job at this site."""

    def __init__(self, agent: Agent, job: str, run: int, folder: Path, left: list[Attempt]) -> None:
        self.job, self.run = job, run
        self.files = SiteFiles(folder)
        self.report = JobReport(job, run, "preparing")
        self.outbox = Outbox(self.files)
        self._agent = agent
        self._left = left
        self._want: JobWant | None = None
        self._wake = asyncio.Event()
        self._manifest: Manifest | None = None
        self._host: TrainerHost | None = None
        self._uploads: dict[int, asyncio.Task[None]] = {}
        self._metrics: list[MetricRow] = []
        self._metrics_first = 0
        self._ended = asyncio.Event()
        self._shipper = LogShipper(self.files.log, self._send_log)
        self._loop = asyncio.create_task(self._reconcile_forever(), name=f"job {job}")

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

    async def _reconcile_forever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            want = self._want
            assert want is not None
            try:
                await self._reconcile(want)
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
        self.outbox.drop_committed(want.committed)
        await self._prepare(want)
        await self._ensure_host()
        if want.task is not None:
            await self._perform(want, want.task)

    async def _prepare(self, want: JobWant) -> None:
        if self._manifest is not None:
            return
        kit, policy = self._agent.kit, self._agent.policy
        signed = want.signed if want.signed is not None else await asyncio.to_thread(_kept, self.files.signed)
        manifest = await asyncio.to_thread(consent, kit, signed, policy)
        if want.signed is not None:
            await asyncio.to_thread(_keep, self.files.signed, signed)
        if not self.files.job.exists():
            await self._fetch_archive(want)
            await asyncio.to_thread(unpack, self.files.archive, self.files.job, manifest.files)
            self.files.archive.unlink()
        self._manifest = manifest  # only now: what failed on the way here is done again

    async def _fetch_archive(self, want: JobWant) -> None:
        # unpack checks every file against the signed manifest: no checksum of the archive is needed
        request = encode(Fetch(self.job, self.run, "archive", 0, "", 0))
        part = self.files.archive.with_suffix(".part")
        with part.open("wb") as file:
            async for chunk in self._agent.fetch(request):
                await asyncio.to_thread(file.write, chunk)
        part.rename(self.files.archive)

    async def resume(self) -> None:
        """After a restart of the agent: meet the trainer that still runs, before the server is back."""
        if self._left and self.files.job.exists():
            self._manifest = await asyncio.to_thread(
                consent, self._agent.kit, _kept(self.files.signed), self._agent.policy
            )
            await self._ensure_host()

    async def _ensure_host(self) -> None:
        if self._host is not None:
            return
        assert self._manifest is not None
        agent = self._agent
        events = TrainerEvents(
            joined=self._joined, submitted=self._submitted, failed=self.fail, moved=self._moved,
            spoke=self._shipper.news, logged=self._logged, ended=self._ended.set,
        )  # fmt: skip
        self._host = TrainerHost(
            job=self.job, run=self.run, site=agent.name, spec=self._manifest.spec, files=self.files,
            sockets=agent.state / "sockets" / f"{self.job}.{self.run}", attempts=agent.attempts, events=events,
            project=agent.kit.settings.project, python=str(agent.policy.get("python") or ""),
        )  # fmt: skip
        left, self._left = self._left, []
        try:
            await self._host.start(left)
        except (FlpocError, OSError):
            host, self._host = self._host, None  # tried again from the beginning
            host.close()
            raise

    async def _perform(self, want: JobWant, task: Task) -> None:
        if (entry := self.outbox.get(task.round)) is not None:
            self._announce(entry)
            return
        assert self._host is not None
        path = ""
        if task.model is not None:
            model = self.files.model(task.round, task.model.checksum)
            if not model.exists():
                await self._get_model(task, model)
            path = str(model)
            self.files.drop_models(task.round)
        self._host.give(Give(task.round, task.kind, path))

    async def _get_model(self, task: Task, into: Path) -> None:
        assert task.model is not None
        if task.model.inline is not None:
            await asyncio.to_thread(write_whole, into, task.model.inline, task.model.checksum)
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
        self._agent.send(Progress(self.job, self.run))

    async def _submitted(self, attempt: Attempt, message: Submit) -> bool:
        """Take the script's answer into the outbox; says whether it is safe there."""
        if self.outbox.get(message.round) is not None:
            return True
        entry = Announce(
            job=self.job, run=self.run, round=message.round, kind=message.kind, attempt=attempt.number,
            size=message.size, checksum=message.checksum, weight=message.weight, params_type=message.params_type,
            metrics=message.metrics, meta=message.meta, evaluates=message.evaluates,
        )  # fmt: skip
        try:
            await asyncio.to_thread(self._into_outbox, attempt, message, entry)
        except (FlpocError, OSError) as error:
            text = error.message if isinstance(error, FlpocError) else str(error)
            self.fail(Cause(site=self._agent.name, phase="sending", round=message.round, message=text))
            return False
        self.outbox.add(entry)
        self._announce(entry)
        return True

    def _into_outbox(self, attempt: Attempt, message: Submit, entry: Announce) -> None:
        self.outbox.note(entry)
        take(Path(attempt.folder), message.file, message.size, self.outbox.path(entry))

    def _announce(self, entry: Announce) -> None:
        if entry.size <= INLINE_BYTES:
            entry = attrs.evolve(entry, inline=self.outbox.path(entry).read_bytes())
        self._agent.send(entry)

    def _logged(self, message: Logged) -> None:
        self._metrics.extend(message.rows)
        excess = len(self._metrics) - METRICS_KEPT
        if excess > 0:
            del self._metrics[:excess]
            self._metrics_first += excess
        first = self._metrics_first + len(self._metrics) - len(message.rows)
        self._agent.send(Metrics(self.job, self.run, first, message.rows))

    def fail(self, cause: Cause) -> None:
        """This site's part in the job is over; the server decides about the job."""
        if self.report.phase != "failed":
            log.warning("job %s: failed: %s", self.job, cause.message or cause.signal or cause.exception)
            self.report = JobReport(self.job, self.run, "failed", cause, cause.round)
            self._agent.send(self.report)

    # -- what the server answers

    def answered(self, answer: Answer) -> None:
        entry = self.outbox.get(answer.round)
        if entry is None or entry.checksum != answer.checksum:
            return
        if answer.verdict == "HAVE":
            if (older := self._uploads.get(answer.round)) is None or older.done():
                self._uploads[answer.round] = asyncio.create_task(self._upload(entry, answer.have))
        elif answer.verdict == "WAIT":
            log.warning("job %s: round %d waits: %s", self.job, answer.round + 1, answer.reason)
            self._agent.loop.call_later(AGAIN_LATER, self._announce_again, entry)
        elif answer.verdict != "ALL":
            log.info("job %s: round %d: %s %s", self.job, answer.round + 1, answer.verdict, answer.reason)
            self.outbox.drop(entry)

    async def _upload(self, entry: Announce, have: int) -> None:
        path = self.outbox.path(entry)

        start = encode(Push(entry.job, entry.run, entry.round, entry.checksum, have))
        try:
            answer = PUSHED.decode(await self._agent.push(start, read_chunks(path, have, entry.size)))
        except grpc.aio.AioRpcError as error:
            log.info("job %s: round %d: upload stopped (%s)", self.job, entry.round + 1, error.code().name)
            answer = None
        except (FlpocError, OSError) as error:
            self.fail(Cause(site=self._agent.name, phase="sending", round=entry.round, message=str(error)))
            return
        finally:
            self._uploads.pop(entry.round, None)
        if answer is not None:
            self.answered(answer)
        elif self.outbox.get(entry.round) is entry:
            # the next connection announces it anyway; this is for a call that failed alone
            self._agent.loop.call_later(1.0, self._announce_again, entry)

    def _announce_again(self, entry: Announce) -> None:
        if self.outbox.get(entry.round) is entry and self._want is not None and self._want.phase == "run":
            self._announce(entry)

    def connected(self) -> None:
        """A connection has begun: say again what waits for an answer."""
        self._agent.send(self.report)
        for entry in self.outbox.all():
            self._announce(entry)

    def disconnected(self) -> None:
        self._shipper.pause()

    def logs_have(self, message: LogsHave) -> None:
        if self._agent.policy["share_logs"]:
            self._shipper.resume(message.offset)
        missing = self._metrics[max(0, message.metrics - self._metrics_first) :]
        first = self._metrics_first + len(self._metrics) - len(missing)
        for start in range(0, len(missing), 1000):
            self._agent.send(Metrics(self.job, self.run, first + start, tuple(missing[start : start + 1000])))

    def _send_log(self, offset: int, data: bytes) -> None:
        self._agent.send(LogLines(self.job, self.run, offset, data))

    # -- ends

    async def _finish(self) -> None:
        if self._host is not None:
            self._host.finish()
            limit = self._manifest.spec.timeouts.stall if self._manifest is not None else 60.0
            try:
                async with asyncio.timeout(min(limit, 60.0)):
                    await self._ended.wait()
            except TimeoutError:
                log.warning("job %s: the script does not end; it is stopped", self.job)
        self._agent.later(self._drop())

    async def _drop(self) -> None:
        """Stop everything, send the rest of the log, delete the folder."""
        await self._end_trainer()
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
        for upload in list(self._uploads.values()):
            upload.cancel()
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
