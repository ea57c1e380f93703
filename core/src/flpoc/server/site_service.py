"""What sites call: one long stream of messages, and files in both directions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import weakref
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from flpoc import API, __version__
from flpoc.audit.records import Principal
from flpoc.errors import AuthError, DeadlineError, Disagreement, FlpocError, IntegrityError, ResourceError, ServiceError
from flpoc.provision.identity import check_validity
from flpoc.server.pace import Pace, Places
from flpoc.server.peers import Case, Door, telling, within
from flpoc.server.runs import Run
from flpoc.server.service import Server
from flpoc.server.sites import SiteSession
from flpoc.server.uploads import Uploads
from flpoc.server.views import iso
from flpoc.wire.codec import encode
from flpoc.wire.handshake import agree
from flpoc.wire.messages import (
    FETCH,
    FROM_SITE,
    PUSH,
    Announce,
    Answer,
    Fetch,
    Hello,
    JobReport,
    JobWant,
    LogLines,
    LogsHave,
    Metrics,
    Progress,
    Revocation,
    Told,
    Welcome,
)
from flpoc.wire.transfers import read_chunks
from flpoc.wire.vocabulary import Refused

log = logging.getLogger("flpoc.server")

#: Calls of one site that are open at the same time.
CALLS_OF_A_SITE = 32
#: Updates of one site that are looked at, at the same time.
ANNOUNCEMENTS = 32
#: Seconds in which a new connection must say who speaks which version.
HELLO_WITHIN = 20.0
#: Numbers that are kept of one site's part in a job.
METRICS_LIMIT = 1_000_000
#: Jobs that a site wrongly speaks of in one connection, and that are written down.
STRANGE_JOBS = 20


class SiteService:
    """The remote procedures of sites."""

    CALLS = frozenset({"Connect", "Fetch", "Push"})

    def __init__(self, server: Server, door: Door) -> None:
        self._server = server
        self._door = door
        self._strange: weakref.WeakKeyDictionary[SiteSession, set[str]] = weakref.WeakKeyDictionary()
        self._uploads = Uploads()
        self._downloads = Places()
        self._calls: Counter[bytes] = Counter()

    def handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        return {
            "Connect": grpc.stream_stream_rpc_method_handler(telling(self.connect)),
            "Fetch": grpc.unary_stream_rpc_method_handler(telling(self.fetch)),
            "Push": grpc.stream_unary_rpc_method_handler(telling(self.push)),
        }

    @contextlib.asynccontextmanager
    async def _call(self, context: Any) -> AsyncIterator[None]:
        """A call of a site, which has some open at a time and no more; errors become a status."""
        async with within(context):
            (certificate,) = context.auth_context().get("x509_pem_cert") or [b""]
            if self._calls[certificate] >= CALLS_OF_A_SITE:
                raise ResourceError(f"this site has {CALLS_OF_A_SITE} calls open already")
            self._calls[certificate] += 1
            try:
                yield
            finally:
                self._calls[certificate] -= 1
                if not self._calls[certificate]:
                    del self._calls[certificate]

    # -- the long stream

    async def connect(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """Speak with a site until one side ends it; one that an operator keeps out waits here until it is let in."""
        async with self._call(context):
            project = self._server.kit.settings.project
            async with self._door.deciding(context, "Connect", lambda: f"project {project}") as case:
                hello = FROM_SITE.decode(await _first(aiter(requests)))
                problem, name = _disagreement(hello), case.who.name
                block = self._server.blocked.get(name)
                out = f"disabled by {block.by}" if block is not None else ""
                case.refused = problem.message if problem is not None else out
            if problem is not None:
                log.warning("%s: refused: %s", name, problem.message)
                yield encode(Refused(problem.code, problem.message, problem.hint))
                return
            if block is not None:
                log.warning("%s: kept out, %s", name, out)
                for report in hello.jobs:
                    yield encode(JobWant(report.job, report.run, "drop"))
                await self._let_in(case)
            await self._note_fenced(name, context)
            session = self._server.sites.attach(name, case.who.org, case.who.serial, hello)
            log.info("%s: connected", name)
            session.send(Welcome(__version__, project))
            self._send_revocations(session, hello)
            reader = asyncio.create_task(self._read(requests, session, hello))
            try:
                while (message := await session.outgoing()) is not None:
                    yield encode(message)
            finally:
                reader.cancel()
                self._server.sites.detach(session)
                log.info("%s: disconnected", name)

    async def _let_in(self, case: Case) -> None:
        """Wait until an operator lets a site in again; its certificate may have come to its end meanwhile."""
        await self._server.blocked.until_open(case.who.name)
        check_validity(case.who)
        await self._door.note(case.principal, "Connect", f"{case.about}, enabled again")

    def _refuse_blocked(self, site: str) -> None:
        """Files do not go to a site that is kept out, nor come from it: it may not have heard yet."""
        if (block := self._server.blocked.get(site)) is not None:
            raise AuthError(f"{site} was disabled by {block.by}")

    def _send_revocations(self, session: SiteSession, hello: Hello) -> None:
        known = self._server.revocations
        if known.signed is not None and hello.revocations < known.number:
            session.send(Revocation(known.signed))
        elif hello.revocations > known.number:
            log.error(
                "%s knows list %d of revoked certificates, this server list %d: is its state an old one?",
                session.name, hello.revocations, known.number,
            )  # fmt: skip

    async def _note_fenced(self, site: str, context: Any) -> None:
        """Of two connections with one certificate the newer stays; somebody may want to know about it."""
        if (older := self._server.sites.connected.get(site)) is not None:
            since = f"connection since {iso(older.since)}"
            await self._door.note(_owner(older), "fence", since, refused=f"a newer one came from {context.peer()}")

    async def _read(self, requests: AsyncIterator[bytes], session: SiteSession, hello: Hello) -> None:
        looked_at = asyncio.Semaphore(ANNOUNCEMENTS)
        try:
            for report in hello.jobs:
                await self._send_log_state(session, report.job, report.run)
            await self._send_wants(session, hello)
            for report in hello.jobs:
                self._take_report(session, report)
            async for data in requests:
                session.seen = time.time()
                message = FROM_SITE.decode(data)
                if isinstance(message, Announce):
                    # answers wait for a commit: they must not hold up what comes behind them
                    await looked_at.acquire()
                    self._server.later(self._announce(session, message, looked_at))
                else:
                    await self._take(session, message)
                # who does not read what it is told is not listened to, either
                await session.room()
        except (ServiceError, ResourceError) as error:
            log.warning("%s: %s", session.name, error.message)  # ours, not its fault: it connects again
        except FlpocError as error:
            log.warning("%s: %s", session.name, error.message)
            session.send(Refused(error.code, error.message, error.hint))
        except (asyncio.CancelledError, grpc.aio.AioRpcError, grpc.aio.UsageError):
            raise
        except Exception:
            log.exception("%s: its connection is ended", session.name)
        finally:
            session.close()

    async def _send_wants(self, session: SiteSession, hello: Hello) -> None:
        """Say all that is wanted of a site that has just connected, as it is when it is said."""
        ended = await self._server.wants_of_ended(session.name, hello.jobs)
        for want in (*ended, *self._server.wants_for(session.name, hello.jobs)):
            if want.phase == "drop":
                about = f"job {want.job}, run {want.run}"
                await self._door.note(_owner(session), "drop", about, refused="the site has no part in it any more")
        # from here on nothing is waited for: what is wanted later must not be overtaken by what was wanted before
        session.knows = True
        for want in (*ended, *self._server.wants_for(session.name, hello.jobs)):
            session.send(want)

    async def _take(self, session: SiteSession, message: Any) -> None:
        match message:
            case JobReport():
                self._take_report(session, message)
                await self._send_log_state(session, message.job, message.run)
            case Progress():
                if (run := self._run(session.name, message.job, message.run)) is not None:
                    run.alive(session.name)
            case LogLines():
                await self._take_log(session, message)
            case Metrics():
                await self._take_metrics(session, message)
            case Told():
                session.answered(message.number, message)
            case _:
                raise IntegrityError(f"a {type(message).__name__} in the middle of a connection")

    def _run(self, site: str, job: str, run_number: int) -> Run | None:
        """The run that a site speaks of, if it has a part in it."""
        run = self._server.runs.get(job)
        return run if run is not None and run.row.run == run_number and site in run.sites else None

    def _take_report(self, session: SiteSession, report: JobReport) -> None:
        if (run := self._run(session.name, report.job, report.run)) is not None:
            run.site_reports(session.name, report)

    async def _announce(self, session: SiteSession, message: Announce, looked_at: asyncio.Semaphore) -> None:
        try:
            run = self._run(session.name, message.job, message.run)
            if run is None:
                why = "the job does not run, or not here"
                answer = Answer(message.job, message.run, message.round, message.checksum, "ABORTED", reason=why)
            else:
                answer = await self._uploads.announce(run, session.name, message)
            await self._note_refused(_owner(session), answer)
            session.send(answer)
        finally:
            looked_at.release()

    async def _note_refused(self, who: Principal, answer: Answer) -> None:
        """An update that nobody wants is not counted; that it was sent is written down."""
        if answer.verdict in ("STALE", "SUPERSEDED", "ABORTED", "REJECTED"):
            about = f"round {answer.round + 1} of job {answer.job}, run {answer.run}"
            why = f"{answer.verdict}: {answer.reason}" if answer.reason else answer.verdict
            await self._door.note(who, "update", about, refused=why)

    # -- logs and metrics

    async def _takes_part(self, session: SiteSession, job: str, run: int) -> bool:
        """Whether a site may speak of a job; what it says of others is dropped, and written down once."""
        if await self._belongs(session.name, job, run):
            return True
        known = self._strange.setdefault(session, set())
        if job not in known and len(known) < STRANGE_JOBS:
            known.add(job)
            await self._door.note(_owner(session), "report", f"job {job}", refused="the site has no part in it")
        return False

    async def _belongs(self, site: str, job: str, run_number: int) -> bool:
        run = self._server.runs.get(job)
        row = run.row if run is not None else await self._server.store.job(job)
        return row is not None and site in row.chosen and row.run == run_number

    async def _send_log_state(self, session: SiteSession, job: str, run_number: int) -> None:
        if not await self._takes_part(session, job, run_number):
            return
        have = await asyncio.to_thread(self._server.logs.have, job, session.name)
        metrics = await self._server.metrics.seen(job, run_number, session.name)
        session.send(LogsHave(job, run_number, have, metrics))

    async def _take_log(self, session: SiteSession, message: LogLines) -> None:
        if await self._takes_part(session, message.job, message.run):
            keeper = self._server.logs
            await asyncio.to_thread(keeper.append, message.job, session.name, message.offset, message.data)

    async def _take_metrics(self, session: SiteSession, message: Metrics) -> None:
        if not await self._takes_part(session, message.job, message.run):
            return
        if message.first + len(message.rows) > METRICS_LIMIT:
            return  # as with logs, what is beyond the limit is not kept
        await self._server.metrics.add(session.name, message)
        self._server.courier.ring()

    # -- files to sites

    async def fetch(self, request: bytes, context: Any) -> None:
        async with self._call(context):
            async with self._door.deciding(context, "Fetch") as case:
                wanted = FETCH.decode(request)
                case.about = f"{wanted.what} of job {wanted.job}, run {wanted.run}"
                self._refuse_blocked(case.who.name)
                run = self._run(case.who.name, wanted.job, wanted.run)
                if run is None:
                    raise FlpocError("this job is not open to this site", code="JOB_NOT_FOUND")
            path, size = self._file_for(run, wanted)
            site = case.who.name
            run.in_line.add(site)
            try:
                async with self._downloads.one(site):
                    run.in_line.discard(site)
                    await self._send(run, site, read_chunks(path, wanted.offset, size), context)
            finally:
                run.in_line.discard(site)  # also when the call was cut off before its turn came

    async def _send(self, run: Run, site: str, chunks: AsyncIterator[bytes], context: Any) -> None:
        pace = Pace(run.spec.timeouts.stall)
        async with contextlib.aclosing(chunks):  # type: ignore[type-var]
            async for chunk in chunks:
                try:
                    async with asyncio.timeout_at(pace.until):
                        await context.write(chunk)
                except TimeoutError:
                    raise DeadlineError(f"{site} does not take what it has asked for") from None
                if pace.moved(len(chunk)):
                    run.alive(site)

    def _file_for(self, run: Run, wanted: Fetch) -> tuple[Path, int]:
        if wanted.what == "archive":
            return self._server.files.archive(run.row.archive), run.row.archive_size
        model = run.model_of(wanted.checksum)
        if model is None:
            raise FlpocError("a newer model has taken its place", code="SUPERSEDED")
        return model.path, model.ref.size

    # -- files from sites

    async def push(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        async with self._call(context):
            stream = aiter(requests)
            async with self._door.deciding(context, "Push") as case:
                start = PUSH.decode(await _first(stream))
                case.about = start.job
                self._refuse_blocked(case.who.name)
                run = self._run(case.who.name, start.job, start.run)
            answer = Answer(start.job, start.run, start.round, start.checksum, "STALE")
            if run is not None and start.round == run.next_round:
                answer = await self._uploads.take(run, case.who.name, start, stream, context) or answer
            await self._note_refused(case.principal, answer)
            return encode(answer)


async def _first(stream: AsyncIterator[bytes]) -> bytes:
    """The first message of a call; whoever calls has something to say."""
    try:
        async with asyncio.timeout(HELLO_WITHIN):
            return await anext(stream)
    except TimeoutError:
        raise DeadlineError(f"nothing was said for {HELLO_WITHIN:g} s") from None


def _owner(session: SiteSession) -> Principal:
    return Principal(session.name, "site", org=session.org, serial=f"{session.serial:x}")


def _disagreement(hello: Any) -> Disagreement | None:
    if not isinstance(hello, Hello):
        return Disagreement("the first message must be a Hello")
    return agree(hello, __version__, API)
