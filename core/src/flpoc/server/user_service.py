"""What users call. Every answer is a Reply: plain data, or an error with its code."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import grpc

from flpoc.cancelling import to_the_end
from flpoc.errors import FlpocError, JobError
from flpoc.jobs.states import JobState
from flpoc.provision.identity import Identity
from flpoc.provision.rights import About
from flpoc.server.operator_service import OperatorService
from flpoc.server.peers import Door, telling, within
from flpoc.server.replies import expect, reply
from flpoc.server.service import Server
from flpoc.server.sites import SiteSession
from flpoc.server.stats import stats_of
from flpoc.server.store import JobRow
from flpoc.server.submissions import Submissions
from flpoc.server.views import about, find_job, list_row, log_answer, result_file, result_files
from flpoc.wire.asks import AboutJob, Ask, ListJobs, Reply
from flpoc.wire.asks_for_files import ReadLogs, ReadResult
from flpoc.wire.codec import encode
from flpoc.wire.requests import SubmitJob
from flpoc.wire.transfers import read_chunks

log = logging.getLogger("flpoc.server")


#: Seconds between two messages about one job to one watcher.
NEWS_GAP = 0.05


@attrs.frozen
class Admitted:
    """A call that is allowed.

    Attributes:
        who: The caller.
        ask: What is asked for.
        row: The job that it is about, if it is about one.
    """

    who: Identity
    ask: Any
    row: JobRow | None

    @property
    def job(self) -> JobRow:
        assert self.row is not None
        return self.row


class UserService:
    """The remote procedures of users."""

    def __init__(self, server: Server, door: Door) -> None:
        self._server = server
        self._door = door
        self._submissions = Submissions(server, door)
        self._operator = OperatorService(server, door)
        self._unary: dict[str, tuple[type, Callable[[Admitted], Awaitable[Any]]]] = {
            "Status": (Ask, self.status),
            "Ready": (Ask, self.ready),
            "List": (ListJobs, self.list),
            "Meta": (AboutJob, self.meta),
            "Stats": (AboutJob, self.stats),
            "Abort": (AboutJob, self.abort),
            "Delete": (AboutJob, self.delete),
            "Logs": (ReadLogs, self.logs),
            "Results": (AboutJob, self.results),
        }

    @property
    def calls(self) -> frozenset[str]:
        return frozenset(self._unary) | {"Submit", "Watch", "Download", "Source"} | self._operator.calls

    def handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        found = {name: grpc.unary_unary_rpc_method_handler(telling(self._answering(name))) for name in self._unary}
        found["Submit"] = grpc.stream_unary_rpc_method_handler(telling(self.submit))
        found["Watch"] = grpc.unary_stream_rpc_method_handler(telling(self.watch))
        found["Download"] = grpc.unary_stream_rpc_method_handler(telling(self.download))
        found["Source"] = grpc.unary_stream_rpc_method_handler(telling(self.source))
        return {**found, **self._operator.handlers()}

    def _answering(self, name: str) -> Callable[[bytes, Any], Awaitable[bytes]]:
        kind, act = self._unary[name]

        async def answer(request: bytes, context: Any) -> bytes:
            async def work() -> Any:
                return await act(await self._admit(context, name, request, kind))

            return encode(await reply(work))

        return answer

    async def _admit(self, context: Any, call: str, request: bytes, kind: type) -> Admitted:
        """Let a call in, or say why not: all that can be against it is known before it is written down."""
        async with self._door.deciding(context, call, lambda: _about(expect(request, kind))) as case:
            ask = expect(request, kind)
            self._server.studies.enter(ask.study, case.who)
            about, row = About(self._server.kit.settings.org), None
            if isinstance(ask, (AboutJob, ReadLogs, ReadResult)):
                row = await find_job(self._server.store, ask.job, ask.study)
                case.about = f"{_about(attrs.evolve(ask, job=row.id))}, of {row.submitter}"
                about = attrs.evolve(about, submitter=row.submitter, submitter_org=row.org)
            case.check(about)
        return Admitted(case.who, ask, row)

    # -- the server

    async def status(self, call: Admitted) -> Any:
        who = call.who
        return {**self._server.describe(call.ask.study), "user": who.name, "role": who.role, "org": who.org}

    async def ready(self, call: Admitted) -> Any:
        """Answer once sites are connected, or gone, as is asked, or the time is up."""
        ask = call.ask
        changed = asyncio.Event()
        ring = changed.set
        self._server.sites.listen(ring)
        try:
            async with asyncio.timeout(min(ask.timeout, 600.0)):
                while ask.end or not _is_so(ask, self._server.sites_of(ask.study)):
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            log.info("%s waited in vain for %s", call.who.name, ", ".join(ask.sites))
        finally:
            self._server.sites.forget(ring)
        return await self.status(call)

    # -- jobs

    async def submit(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        async def work() -> Any:
            stream = aiter(requests)
            async with self._door.deciding(context, "Submit") as case:
                ask = expect(await anext(stream), SubmitJob)
                case.about = _about(ask)
                self._server.studies.enter(ask.study, case.who)
                manifest = await self._submissions.check(case, ask)
                case.about = f"{_about(ask)}, name {manifest.spec.name}"
            return await self._submissions.take(case, ask, manifest, stream)

        return encode(await reply(work))

    async def list(self, call: Admitted) -> Any:
        ask = call.ask
        rows = await self._server.store.jobs("study = ?", ask.study)
        if ask.token:
            job = await self._submissions.job_of_token(call.who, ask.study, ask.token)
            rows = [row for row in rows if row.id == job]
        rows = [row for row in rows if row.name.startswith(ask.name) and row.id.startswith(ask.id)]
        if ask.limit:
            rows = rows[-ask.limit :]
        if ask.reverse:
            rows.reverse()
        return [list_row(row, self._server) for row in rows]

    async def meta(self, call: Admitted) -> Any:
        return await about(call.job, self._server)

    async def stats(self, call: Admitted) -> Any:
        row = call.job
        run = self._server.runs.get(row.id)
        if run is None:
            raise JobError(f"job {row.id} is {row.state}", code="JOB_NOT_RUNNING", data={"status": row.state})
        return {"job_id": row.id, "status": row.state, "stats": await stats_of(run, self._server)}

    async def watch(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """Everything about a job, again whenever it changes, until it has ended; each round once."""
        async with within(context):
            try:
                call = await self._admit(context, "Watch", request, AboutJob)
            except FlpocError as error:
                yield encode(Reply(error.data, error.code, error.message, error.hint))
                return
            known, row = 0, call.job
            while True:
                # news that come close together are told together
                await asyncio.sleep(NEWS_GAP if known else 0)
                self._server.studies.enter(row.study, call.who)  # they may have been taken out of it meanwhile
                seen = self._server.bell.count(row.id)
                found = await self._server.store.job(row.id)
                if found is None:
                    yield encode(Reply(None, "JOB_NOT_FOUND", f"job {row.id} has been deleted"))
                    return
                view = await about(found, self._server, rounds_from=known)
                known += len(view["rounds"])
                yield encode(Reply(view))
                if JobState(found.state).terminal:
                    return
                await self._server.bell.after(row.id, seen)

    async def abort(self, call: Admitted) -> Any:
        row = call.job
        if JobState(row.state).terminal:
            raise JobError(
                f"job {row.id} has ended already: {row.state}", code="JOB_NOT_RUNNING", data={"status": row.state}
            )
        await self._server.abort(row)
        return {"job_id": row.id, "status": "ABORTED"}

    async def delete(self, call: Admitted) -> Any:
        return await to_the_end(self._submissions.delete(call.job))

    async def logs(self, call: Admitted) -> Any:
        return await asyncio.to_thread(log_answer, call.job, call.ask, self._server.logs)

    # -- results

    async def results(self, call: Admitted) -> Any:
        row = call.job
        if not JobState(row.state).terminal:
            raise JobError(f"job {row.id} is {row.state}", code="JOB_NOT_DONE", hint=f"flpoc job wait {row.id}")
        files = await asyncio.to_thread(result_files, self._server.files.job(row.id))
        return {"job_id": row.id, "status": row.state, "sha256": row.sha256, "files": files}

    async def download(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        async with within(context):
            call = await self._admit(context, "Download", request, ReadResult)
            ask = call.ask
            path: Path = result_file(self._server.files.job(call.job.id), ask.path)
            async for chunk in read_chunks(path, ask.offset, ask.size):
                yield chunk

    async def source(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """A job as it was submitted: what was signed, then the archive."""
        async with within(context):
            try:
                row = (await self._admit(context, "Source", request, AboutJob)).job
            except FlpocError as error:
                yield encode(Reply(error.data, error.code, error.message, error.hint))
                return
            facts = {"job_id": row.id, "manifest": row.manifest, "archive": row.archive, "size": row.archive_size}
            yield encode(Reply(facts))
            async for chunk in read_chunks(self._server.files.archive(row.archive), 0, row.archive_size):
                yield chunk


def _about(ask: Any) -> str:
    """What a request is about, in words for the audit log."""
    match ask:
        case ReadResult():
            return f"{ask.path} of job {ask.job}, study {ask.study}"
        case AboutJob() | ReadLogs():
            return f"job {ask.job}, study {ask.study}"
        case SubmitJob():
            return f"archive {ask.archive}, study {ask.study}"
        case ListJobs():
            return f"study {ask.study}"
    return "server"


def _is_so(ask: Ask, sites: Mapping[str, SiteSession]) -> bool:
    """Whether those are connected, and those are not, for which the caller waits."""
    fresh = {name for name, one in sites.items() if one.since > ask.since}
    return set(ask.sites) <= fresh and not sites.keys() & set(ask.gone)
