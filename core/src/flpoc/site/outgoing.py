"""How a job's updates get from the outbox to the server: announced, answered, uploaded."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import attrs
import grpc

from flpoc.errors import FlpocError
from flpoc.jobs.states import Cause
from flpoc.site.departures import AGAIN_LATER
from flpoc.wire.codec import encode
from flpoc.wire.messages import INLINE_BYTES, PUSHED, Announce, Answer, Push
from flpoc.wire.transfers import read_chunks

if TYPE_CHECKING:
    from flpoc.site.agent import Agent
    from flpoc.site.jobs import SiteJob

log = logging.getLogger("flpoc.site")


class Outgoing:
    """The updates of one run at this site that the server has not taken yet."""

    def __init__(self, agent: Agent, owner: SiteJob) -> None:
        self._agent = agent
        self._owner = owner
        self._uploads: dict[int, asyncio.Task[None]] = {}

    def announce(self, entry: Announce) -> None:
        """Tell the server that an update is in the outbox; a small one goes along."""
        if self._owner.report.phase == "failed":
            return  # nothing more of it leaves
        if entry.size <= INLINE_BYTES:
            try:
                entry = attrs.evolve(entry, inline=self._owner.outbox.read(entry))
            except OSError as error:
                self._fail(entry, error)
                return
        self._agent.send(entry)

    def announce_all(self) -> None:
        """Say again what waits for an answer: a connection has begun."""
        for entry in self._owner.outbox.all():
            self.announce(entry)

    def answered(self, answer: Answer) -> None:
        """Do what the server answers: send what it lacks, wait, or let go of the update."""
        box = self._owner.outbox
        entry = box.get(answer.round)
        if entry is None or entry.checksum != answer.checksum:
            return
        if answer.verdict == "HAVE":
            if (older := self._uploads.get(answer.round)) is None or older.done():
                self._uploads[answer.round] = asyncio.create_task(self._upload(entry, answer.have))
        elif answer.verdict == "WAIT":
            log.warning("job %s: round %d waits: %s", entry.job, answer.round + 1, answer.reason)
            self._agent.loop.call_later(AGAIN_LATER, self._announce_again, entry)
        elif answer.verdict != "ALL":
            log.info("job %s: round %d: %s %s", entry.job, answer.round + 1, answer.verdict, answer.reason)
            box.drop(entry)

    async def _upload(self, entry: Announce, have: int) -> None:
        box = self._owner.outbox
        start = encode(Push(entry.job, entry.run, entry.round, entry.checksum, have))
        try:
            answer = PUSHED.decode(await self._agent.push(start, read_chunks(box.path(entry), have, entry.size)))
        except grpc.aio.AioRpcError as error:
            log.info("job %s: round %d: upload stopped (%s)", entry.job, entry.round + 1, error.code().name)
            answer = None
        except (FlpocError, OSError) as error:
            self._fail(entry, error)
            return
        finally:
            self._uploads.pop(entry.round, None)
        if answer is not None:
            self.answered(answer)
        elif box.get(entry.round) is entry:
            # the next connection announces it anyway; this is for a call that failed alone
            self._agent.loop.call_later(1.0, self._announce_again, entry)

    def _announce_again(self, entry: Announce) -> None:
        if self._owner.outbox.get(entry.round) is entry and self._owner.is_wanted:
            self.announce(entry)

    def _fail(self, entry: Announce, error: Exception) -> None:
        self._owner.fail(Cause(site=self._agent.name, phase="sending", round=entry.round, message=str(error)))

    def stop(self) -> None:
        """End what is on its way; it stays in the outbox."""
        for upload in list(self._uploads.values()):
            upload.cancel()
