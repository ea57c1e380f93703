"""What users call. Every answer is a Reply: plain data, or an error with its code."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc

from flpoc.errors import FlpocError, InternalError, JobError
from flpoc.jobs.states import JobState
from flpoc.provision.identity import Identity
from flpoc.server.authorization import authorize
from flpoc.server.peers import caller, within
from flpoc.server.service import Server
from flpoc.server.store import JobRow
from flpoc.server.submissions import Submissions
from flpoc.server.views import about, find_job, list_row, log_answer, result_file, result_files
from flpoc.wire.codec import encode
from flpoc.wire.requests import ASKS, AboutJob, Ask, ListJobs, ReadLogs, ReadResult, Reply, SubmitJob
from flpoc.wire.transfers import read_chunks

log = logging.getLogger("flpoc.server")


#: Seconds between two messages about one job to one watcher.
NEWS_GAP = 0.05


class UserService:
    """The remote procedures of users."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._submissions = Submissions(server)
        self._unary: dict[str, tuple[type, Callable[[Identity, Any], Awaitable[Any]]]] = {
            "Status": (Ask, self.status),
            "Ready": (Ask, self.ready),
            "List": (ListJobs, self.list),
            "Meta": (AboutJob, self.meta),
            "Abort": (AboutJob, self.abort),
            "Delete": (AboutJob, self.delete),
            "Logs": (ReadLogs, self.logs),
            "Results": (AboutJob, self.results),
        }

    @property
    def calls(self) -> frozenset[str]:
        return frozenset(self._unary) | {"Submit", "Watch", "Download"}

    def handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        found = {name: grpc.unary_unary_rpc_method_handler(self._answering(name)) for name in self._unary}
        found["Submit"] = grpc.stream_unary_rpc_method_handler(self.submit)
        found["Watch"] = grpc.unary_stream_rpc_method_handler(self.watch)
        found["Download"] = grpc.unary_stream_rpc_method_handler(self.download)
        return found

    def _answering(self, name: str) -> Callable[[bytes, Any], Awaitable[bytes]]:
        kind, act = self._unary[name]

        async def answer(request: bytes, context: Any) -> bytes:
            async def work() -> Any:
                who = caller(context, self._server.kit, name)
                return await act(who, _expect(request, kind))

            return encode(await _reply(work))

        return answer

    # -- the server

    async def status(self, who: Identity, ask: Ask) -> Any:
        return {**self._server.describe(), "user": who.name, "role": who.role, "org": who.org}

    async def ready(self, who: Identity, ask: Ask) -> Any:
        """Answer once all named sites are connected, or the time is up."""
        changed = asyncio.Event()
        ring = changed.set
        self._server.sites.listen(ring)
        try:
            async with asyncio.timeout(min(ask.timeout, 600.0)):
                while not set(ask.sites) <= set(self._server.sites.connected):
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            log.info("%s waited in vain for %s", who.name, ", ".join(ask.sites))
        finally:
            self._server.sites.forget(ring)
        return await self.status(who, ask)

    # -- jobs

    async def _row(self, who: Identity, call: str, ask: Any) -> JobRow:
        row = await find_job(self._server.store, ask.job, ask.study)
        authorize(who, call, owner=row.submitter, owner_org=row.org)
        return row

    async def submit(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        async def work() -> Any:
            who = caller(context, self._server.kit, "Submit")
            stream = aiter(requests)
            return await self._submissions.take(who, _expect(await anext(stream), SubmitJob), stream)

        return encode(await _reply(work))

    async def list(self, who: Identity, ask: ListJobs) -> Any:
        rows = await self._server.store.jobs("study = ?", ask.study)
        if ask.token:
            job = await self._submissions.job_of_token(who, ask.study, ask.token)
            rows = [row for row in rows if row.id == job]
        rows = [row for row in rows if row.name.startswith(ask.name) and row.id.startswith(ask.id)]
        if ask.limit:
            rows = rows[-ask.limit :]
        if ask.reverse:
            rows.reverse()
        return [list_row(row, self._server) for row in rows]

    async def meta(self, who: Identity, ask: AboutJob) -> Any:
        return await about(await self._row(who, "Meta", ask), self._server)

    async def watch(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """Everything about a job, again whenever it changes, until it has ended; each round once."""
        async with within(context):
            try:
                who = caller(context, self._server.kit, "Watch")
                row = await self._row(who, "Watch", _expect(request, AboutJob))
            except FlpocError as error:
                yield encode(Reply(error.data, error.code, error.message, error.hint))
                return
            known = 0
            while True:
                # news that come close together are told together
                await asyncio.sleep(NEWS_GAP if known else 0)
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

    async def abort(self, who: Identity, ask: AboutJob) -> Any:
        row = await self._row(who, "Abort", ask)
        if JobState(row.state).terminal:
            raise JobError(
                f"job {row.id} has ended already: {row.state}", code="JOB_NOT_RUNNING", data={"status": row.state}
            )
        await self._server.abort(row)
        return {"job_id": row.id, "status": "ABORTED"}

    async def delete(self, who: Identity, ask: AboutJob) -> Any:
        row = await self._row(who, "Delete", ask)
        if row.id in self._server.runs:
            raise JobError(f"job {row.id} is {row.state}", code="JOB_NOT_DONE", hint=f"flpoc job abort {row.id}")
        return await self._submissions.delete(row)

    async def logs(self, who: Identity, ask: ReadLogs) -> Any:
        row = await self._row(who, "Logs", ask)
        return await asyncio.to_thread(log_answer, row, ask, self._server.logs)

    # -- results

    async def results(self, who: Identity, ask: AboutJob) -> Any:
        row = await self._row(who, "Results", ask)
        if not JobState(row.state).terminal:
            raise JobError(f"job {row.id} is {row.state}", code="JOB_NOT_DONE", hint=f"flpoc job wait {row.id}")
        files = await asyncio.to_thread(result_files, self._server.files.job(row.id))
        return {"job_id": row.id, "status": row.state, "sha256": row.sha256, "files": files}

    async def download(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        async with within(context):
            who = caller(context, self._server.kit, "Download")
            ask = _expect(request, ReadResult)
            row = await self._row(who, "Download", ask)
            path: Path = result_file(self._server.files.job(row.id), ask.path)
            async for chunk in read_chunks(path, ask.offset, ask.size):
                yield chunk


def _expect(request: bytes, kind: type) -> Any:
    message = ASKS.decode(request)
    if not isinstance(message, kind):
        raise FlpocError(f"a {type(message).__name__} where a {kind.__name__} belongs", code="INVALID_ARGS")
    return message


async def _reply(work: Callable[[], Awaitable[Any]]) -> Reply:
    began = time.monotonic()
    try:
        return Reply(await work())
    except FlpocError as error:
        log.info("answered %s after %.3f s: %s", error.code, time.monotonic() - began, error.message)
        return Reply(error.data, error.code, error.message, error.hint)
    except StopAsyncIteration:
        return Reply(None, "INVALID_ARGS", "the stream ended before its first message")
    except Exception:
        log.exception("a call failed")
        ours = InternalError("the server failed to answer", hint="see the server's log")
        return Reply(None, ours.code, ours.message, ours.hint)
