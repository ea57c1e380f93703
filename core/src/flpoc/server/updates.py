"""How a site's update comes into the open round: announced, judged, in its place, written down, counted."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from flpoc.cancelling import in_thread, to_the_end
from flpoc.errors import FlpocError, IntegrityError, ResourceError, ServiceError
from flpoc.models.header import Header
from flpoc.server.judging import check_kind, check_layout, has_model
from flpoc.server.models import check_room, header_of, store_inline
from flpoc.server.rounds import UpdateRow
from flpoc.wire.messages import Announce, Answer, Verdict

if TYPE_CHECKING:
    from flpoc.server.runs import Run


class Updates:
    """The updates of one run."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def announce(self, site: str, message: Announce) -> Answer:
        """A site has an update: say whether it is wanted, and take it at once if it is small."""
        run = self._run
        run.alive(site)
        if message.round == run.next_round:
            await run.settled()  # answers to a round count only once the one before is committed
        verdict, reason = self._judge(site, message)
        if verdict == "ALL":
            try:
                verdict = await self._take(site, message)
            except (ResourceError, OSError, sqlite3.Error) as error:
                verdict, reason = "WAIT", run.no_room(error)
            except ServiceError:
                raise  # the server is stopping: without an answer the site keeps its update for the next one
            except FlpocError as error:
                verdict, reason = "REJECTED", error.message
                run.reject(site, message, reason)
        return self.answer(message, verdict, reason)

    def answer(self, message: Announce, verdict: Verdict, reason: str = "", have: int = 0) -> Answer:
        """What a site is told of its update."""
        return Answer(self._run.id, self._run.row.run, message.round, message.checksum, verdict, have, reason)

    def _judge(self, site: str, message: Announce) -> tuple[Verdict, str]:
        run = self._run
        if run.over or message.run != run.row.run:
            return "ABORTED", ""
        if site not in run.sites or site in run.failures:
            return "STALE", "this site takes no part any more"
        return run.round.judge(site, message)

    async def _take(self, site: str, message: Announce) -> Verdict:
        run = self._run
        if site in run.round.received:
            return "ALL"
        if message.inline is None:
            await asyncio.to_thread(check_room, run.files.folder, message, run.given)
            await run.records.announce(site, message)
            return "HAVE"
        path = run.files.update(message.round, site, message.checksum)
        header = await in_thread(store_inline, path, message.inline, message.size, message.checksum)
        await self._accept(UpdateRow.of(site, message), path, header, message)
        return "ALL"

    async def arrived(self, site: str, round_number: int, checksum: str) -> None:
        """An update's file is complete and in place.

        Raises:
            IntegrityError: It is not a model that can be averaged with the others; it is deleted.
        """
        run = self._run
        run.alive(site)
        path = run.files.update(round_number, site, checksum)
        facts = await run.records.announced(round_number, site)
        if facts is None or not run.awaits(site, round_number):
            return
        try:
            header = await asyncio.to_thread(header_of, path)
        except IntegrityError:
            path.unlink(missing_ok=True)
            raise
        await self._accept(facts, path, header, None)

    async def _accept(self, facts: UpdateRow, path: Path, header: Header, announced: Announce | None) -> None:
        """Count an update whose file is in place; *announced* when it has no row yet."""
        assign = self._run.round.assign
        try:
            if assign is not None:
                check_kind(facts.kind, assign.kind)
            if has_model(facts.kind, header):
                self._check_layout(header, facts.params_type)
        except IntegrityError:
            path.unlink(missing_ok=True)
            raise
        # what is written down is counted, also if the site's connection is lost meanwhile
        await to_the_end(self._count(facts, path, announced))

    async def _count(self, facts: UpdateRow, path: Path, announced: Announce | None) -> None:
        run = self._run
        round_number = run.next_round
        if not run.awaits(facts.site, round_number):
            return
        await run.records.received(round_number, facts, announced)
        if run.awaits(facts.site, round_number):  # the round may have been closed while this was written down
            run.count(facts, path)

    def _check_layout(self, header: Header, params_type: str) -> None:
        # a server that was just restarted hears of an update before it hears from the controller
        run = self._run
        known = run.round.assign is not None
        given = run.given.header if run.given is not None else None
        check_layout(header, params_type, given, known=known, partial=run.spec.partial)
