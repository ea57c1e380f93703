"""What sites call: one long stream of messages, and files in both directions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from flpoc import API, __version__
from flpoc.errors import FlpocError, ResourceError, ServiceError
from flpoc.provision.identity import Identity
from flpoc.server.peers import caller, within
from flpoc.server.runs import Run
from flpoc.server.service import Server
from flpoc.server.sites import SiteSession
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
    LogLines,
    LogsHave,
    Metrics,
    Progress,
    Push,
    Refused,
    Welcome,
)
from flpoc.wire.transfers import Incoming, read_chunks

log = logging.getLogger("flpoc.server")

#: Uploads, and downloads, that go on at the same time; the others wait in line.
TRANSFERS = 4


class SiteService:
    """The remote procedures of sites."""

    CALLS = frozenset({"Connect", "Fetch", "Push"})

    def __init__(self, server: Server) -> None:
        self._server = server
        self._uploads = asyncio.Semaphore(TRANSFERS)
        self._downloads = asyncio.Semaphore(TRANSFERS)
        self._announced: dict[tuple[str, int, str], Announce] = {}
        self._writers: dict[Path, asyncio.Task[Any]] = {}
        self._damaged: set[Path] = set()

    def handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        return {
            "Connect": grpc.stream_stream_rpc_method_handler(self.connect),
            "Fetch": grpc.unary_stream_rpc_method_handler(self.fetch),
            "Push": grpc.stream_unary_rpc_method_handler(self.push),
        }

    # -- the long stream

    async def connect(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async with within(context):
            who = caller(context, self._server.kit, "Connect")
            hello = FROM_SITE.decode(await anext(aiter(requests)))
            if not isinstance(hello, Hello):
                yield encode(Refused("VERSION_MISMATCH", "the first message must be a Hello"))
                return
            if problem := agree(hello, __version__, API):
                log.warning("%s: refused: %s", who.name, problem.message)
                yield encode(Refused(problem.code, problem.message, problem.hint))
                return
            session = self._server.sites.attach(who.name, who.org, who.serial, hello)
            log.info("%s: connected", who.name)
            session.send(Welcome(__version__, self._server.kit.settings.project))
            reader = asyncio.create_task(self._read(requests, session, hello))
            try:
                while (message := await session.outgoing()) is not None:
                    yield encode(message)
            finally:
                reader.cancel()
                self._server.sites.detach(session)
                log.info("%s: disconnected", who.name)

    async def _read(self, requests: AsyncIterator[bytes], session: SiteSession, hello: Hello) -> None:
        try:
            for report in hello.jobs:
                await self._send_log_state(session, report.job, report.run)
            for want in await self._server.wants_for(session.name, hello.jobs):
                session.send(want)
            for report in hello.jobs:
                self._take_report(session, report)
            async for data in requests:
                session.seen = time.time()
                await self._take(session, FROM_SITE.decode(data))
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

    async def _take(self, session: SiteSession, message: Any) -> None:
        match message:
            case JobReport():
                self._take_report(session, message)
                await self._send_log_state(session, message.job, message.run)
            case Announce():
                # answers wait for a commit: they must not hold up what comes behind them
                self._server.later(self._announce(session, message))
            case Progress():
                if (run := self._run(message.job, message.run)) is not None:
                    run.alive(session.name)
            case LogLines():
                await self._take_log(session, message)
            case Metrics():
                await self._take_metrics(session, message)

    def _run(self, job: str, run_number: int) -> Run | None:
        run = self._server.runs.get(job)
        return run if run is not None and run.row.run == run_number else None

    def _take_report(self, session: SiteSession, report: JobReport) -> None:
        run = self._run(report.job, report.run)
        if run is not None and session.name in run.sites:
            run.site_reports(session.name, report)

    async def _announce(self, session: SiteSession, message: Announce) -> None:
        run = self._run(message.job, message.run)
        if run is None:
            session.send(Answer(message.job, message.run, message.round, message.checksum, "ABORTED"))
            return
        answer = await run.announce(session.name, message)
        if answer.verdict == "HAVE":
            self._announced[message.job, message.run, session.name] = message
            answer = run.answer(message, "HAVE", have=await self._have(run, session.name, message))
        session.send(answer)

    async def _have(self, run: Run, site: str, message: Announce) -> int:
        part = _part(run, site, message.round, message.checksum)
        await self._end_writer(part)
        with contextlib.suppress(FileNotFoundError):
            return min(part.stat().st_size, message.size)
        return 0

    # -- logs and metrics

    async def _belongs(self, site: str, job: str) -> bool:
        run = self._server.runs.get(job)
        if run is not None:
            return site in run.sites
        row = await self._server.store.job(job)
        return row is not None and site in row.chosen

    async def _send_log_state(self, session: SiteSession, job: str, run_number: int) -> None:
        if not await self._belongs(session.name, job):
            return
        have = await asyncio.to_thread(self._server.logs.have, job, session.name)
        query = "SELECT COALESCE(MAX(seq) + 1, 0) FROM metrics WHERE job=? AND run=? AND site=?"
        key = (job, run_number, session.name)
        metrics = await self._server.store.metrics(lambda db: db.execute(query, key).fetchone()[0])
        session.send(LogsHave(job, run_number, have, metrics))

    async def _take_log(self, session: SiteSession, message: LogLines) -> None:
        if await self._belongs(session.name, message.job):
            keeper = self._server.logs
            await asyncio.to_thread(keeper.append, message.job, session.name, message.offset, message.data)

    async def _take_metrics(self, session: SiteSession, message: Metrics) -> None:
        if not await self._belongs(session.name, message.job):
            return
        key = (message.job, message.run, session.name)
        rows = [
            (*key, message.first + place, row.key, row.value, row.step, row.round, row.time)
            for place, row in enumerate(message.rows)
        ]
        query = "INSERT OR IGNORE INTO metrics VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        await self._server.store.metrics(lambda db: db.executemany(query, rows) and None)
        self._server.bell.ring(message.job)

    # -- files to sites

    async def fetch(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        async with within(context):
            who = caller(context, self._server.kit, "Fetch")
            wanted = FETCH.decode(request)
            path, size = self._file_for(who, wanted)
            run = self._server.runs[wanted.job]
            run.in_line.add(who.name)
            try:
                async with self._downloads:
                    run.in_line.discard(who.name)
                    async for chunk in read_chunks(path, wanted.offset, size):
                        run.alive(who.name)
                        yield chunk
            finally:
                run.in_line.discard(who.name)  # also when the call was cut off before its turn came

    def _file_for(self, who: Identity, wanted: Fetch) -> tuple[Path, int]:
        run = self._run(wanted.job, wanted.run)
        if run is None or who.name not in run.sites:
            raise FlpocError("this job is not open to this site", code="JOB_NOT_FOUND")
        if wanted.what == "archive":
            return self._server.files.archive(run.row.archive), run.row.archive_size
        model = run.model
        if model is None or model.ref.checksum != wanted.checksum:
            raise FlpocError("a newer model has taken its place", code="SUPERSEDED")
        return model.path, model.ref.size

    # -- files from sites

    async def push(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        async with within(context):
            who = caller(context, self._server.kit, "Push")
            stream = aiter(requests)
            start = PUSH.decode(await anext(stream))
            run = self._run(start.job, start.run)
            announced = self._announced.get((start.job, start.run, who.name))
            wanted = announced is not None and (announced.round, announced.checksum) == (start.round, start.checksum)
            if run is None or announced is None or not wanted or start.round != run.next_round:
                return encode(Answer(start.job, start.run, start.round, start.checksum, "STALE"))
            part = _part(run, who.name, start.round, start.checksum)
            await self._end_writer(part)
            task = asyncio.current_task()
            assert task is not None
            self._writers[part] = task
            run.in_line.add(who.name)
            try:
                async with self._uploads:
                    run.in_line.discard(who.name)
                    run.alive(who.name)
                    # the site waits for this: what it sent before would wait in memory here
                    await context.send_initial_metadata(())
                    return encode(await self._receive(run, who.name, announced, start, stream=stream, part=part))
            finally:
                run.in_line.discard(who.name)
                if self._writers.get(part) is task:
                    del self._writers[part]

    async def _end_writer(self, part: Path) -> None:
        """A newer transfer of the same file ends the older one, and waits for it."""
        older = self._writers.pop(part, None)
        if older is not None and older is not asyncio.current_task():
            older.cancel()
            await asyncio.wait([older])

    async def _receive(
        self, run: Run, site: str, announced: Announce, start: Push, *, stream: AsyncIterator[bytes], part: Path
    ) -> Answer:
        incoming = Incoming(part, announced.size, announced.checksum)
        final = run.files.update(start.round, site, start.checksum)
        try:
            have = await incoming.begin()
            if start.offset != have:
                return run.answer(announced, "HAVE", have=have)
            while (chunk := await _next_chunk(stream, run.spec.timeouts.stall)) is not None:
                run.alive(site)
                await incoming.write(chunk)
            if incoming.have < announced.size:
                return run.answer(announced, "HAVE", have=incoming.have)
            await incoming.finish(final)
            await run.arrived(site, start.round, start.checksum)
        except (ResourceError, OSError) as error:
            return run.answer(announced, "WAIT", run.no_room(error))
        except FlpocError as error:
            if incoming.damaged and part not in self._damaged:
                self._damaged.add(part)  # once may be the network's fault: from the beginning again
                return run.answer(announced, "HAVE")
            if error.code == "INTEGRITY_FAILED":
                run.reject(site, announced, error.message)
            return run.answer(announced, "REJECTED", error.message)
        finally:
            await incoming.close()
        return run.answer(announced, "ALL")


async def _next_chunk(stream: AsyncIterator[bytes], limit: float) -> bytes | None:
    """The next piece; None at the end. An upload that does not move must not keep its place for ever."""
    try:
        async with asyncio.timeout(limit):
            return await anext(stream)
    except StopAsyncIteration:
        return None


def _part(run: Run, site: str, round_number: int, checksum: str) -> Path:
    final = run.files.update(round_number, site, checksum)
    return final.with_name(final.name + ".part")
