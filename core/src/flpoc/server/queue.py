"""The jobs that wait: which of them can start now, and why the others cannot."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from flpoc.errors import ServiceError
from flpoc.jobs.states import Cause, JobState
from flpoc.server.commits import AGAIN_AFTER
from flpoc.server.rounds import RoundRecords
from flpoc.server.scheduler import Decision, decide, load_of
from flpoc.server.store import JobRow, manifest_of
from flpoc.settings import plain

if TYPE_CHECKING:
    from flpoc.server.service import Server

log = logging.getLogger("flpoc.server")

#: Jobs that run at the same time.
MAX_JOBS = 4


class Queue:
    """The submitted jobs of one server, in the order in which they came."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._wake = asyncio.Event()
        self._reasons: dict[str, str] = {}
        #: Sites that have been connected since this server started.
        self._known: set[str] = set()

    def wake(self) -> None:
        """Look through the jobs: something has changed that may let one start."""
        self._wake.set()

    def reason(self, job: str) -> str:
        """What a job waits for; empty if it does not."""
        return self._reasons.get(job, "")

    def forget(self, job: str) -> None:
        """A job waits no longer."""
        self._reasons.pop(job, None)

    async def serve(self) -> None:
        """Start what can start, whenever woken, until the server stops."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._look_through()
            except ServiceError:
                return  # the server is stopping
            except Exception:
                log.exception("jobs cannot be scheduled; tried again in %g s", AGAIN_AFTER)
                asyncio.get_running_loop().call_later(AGAIN_AFTER, self.wake)

    async def _look_through(self) -> None:
        server = self._server
        self._known |= set(server.sites.connected)
        for row in await server.store.jobs("state = ?", JobState.SUBMITTED.value):
            if why := server.locked_out(row):
                await self._refuse(row, why)
                continue
            decision = self._decide(row)
            if decision.never:
                await self._refuse(row, decision.never)
            elif decision.sites:
                self.forget(row.id)
                await self._dispatch(row, decision)
                self.wake()  # those before it may wait for more by now
            elif self.reason(row.id) != decision.waiting:
                self._reasons[row.id] = decision.waiting
                server.bell.ring(row.id)

    def _decide(self, row: JobRow) -> Decision:
        server = self._server
        spec = manifest_of(row).spec
        connected = {name: session.hello for name, session in server.sites_of(row.study).items()}
        runs = server.runs.values()
        load = load_of((run.spec, [one for one in run.sites if one not in run.failures]) for run in runs)
        foreign = server.studies.foreign(row.study, spec.named_sites)
        return decide(spec, connected, frozenset(self._known), len(runs), MAX_JOBS, load=load, foreign=foreign)

    async def _dispatch(self, row: JobRow, decision: Decision) -> None:
        store = self._server.store
        changed = await store.change(
            row.id, only_if=JobState.SUBMITTED.value, state=JobState.DISPATCHED.value, chosen=list(decision.sites),
            scheduled=time.time(), schedules=row.schedules + 1,
        )  # fmt: skip
        if not changed:
            return  # it was aborted meanwhile
        found = await store.job(row.id)
        if found is not None:
            records = RoundRecords(store, found.id, found.run)
            for site, lack in decision.without.items():
                log.warning("job %s starts without %s: %s", found.id, site, lack)
                await records.note(0, site, "absent", lack)
            await self._server.begin(found, [])

    async def _refuse(self, row: JobRow, reason: str) -> None:
        await self._server.store.change(
            row.id, only_if=JobState.SUBMITTED.value, state=JobState.CAN_NOT_SCHEDULE.value, finished=time.time(),
            cause=plain(Cause(site="server", phase="scheduling", message=reason)),
        )  # fmt: skip
        self._server.bell.ring(row.id)

    async def abort(self, job: str) -> bool:
        """Abort a job that has not begun; true if it is at its end now."""
        store = self._server.store
        aborted = await store.change(
            job, only_if=JobState.SUBMITTED.value, state=JobState.ABORTED.value, finished=time.time()
        )
        if aborted:
            self.forget(job)
            self._server.bell.ring(job)
            return True
        found = await store.job(job)
        return found is None or JobState(found.state).terminal
