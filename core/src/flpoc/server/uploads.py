"""Updates on their way from sites: a few at a time, one writer a file, none that stands still."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs

from flpoc.errors import FlpocError, ResourceError, ServiceError
from flpoc.server.pace import Pace, Places
from flpoc.server.runs import Run
from flpoc.wire.messages import Announce, Answer, Push
from flpoc.wire.transfers import Incoming


@attrs.define
class _OfRun:
    """What is known of the uploads of one run, as long as the run itself is."""

    announced: dict[str, Announce] = attrs.field(factory=dict)
    turns: dict[str, asyncio.Lock] = attrs.field(factory=dict)
    damaged: set[Path] = attrs.field(factory=set)


class Uploads:
    """Receives the files of updates that were announced."""

    def __init__(self) -> None:
        self._places = Places()
        self._runs: weakref.WeakKeyDictionary[Run, _OfRun] = weakref.WeakKeyDictionary()
        self._writers: dict[Path, asyncio.Future[Answer]] = {}

    async def announce(self, run: Run, site: str, message: Announce) -> Answer:
        """A site has an update: one after the other, as each may be the same one again."""
        async with self._of(run).turns.setdefault(site, asyncio.Lock()):
            part = _part(run, site, message.round, message.checksum)
            if message.inline is not None:
                await self._end_writer(part)
            answer = await run.updates.announce(site, message)
            if answer.verdict == "HAVE":
                answer = run.updates.answer(message, "HAVE", have=await self._expect(run, site, message, part))
            return answer

    async def _expect(self, run: Run, site: str, message: Announce, part: Path) -> int:
        """An update will come as a file; says how many bytes of it are here.

        A site has one such file at a time: what is here of another is deleted.
        """
        self._of(run).announced[site] = message
        for other in part.parent.glob(f"{site}.*.part"):
            if other != part:
                await self._end_writer(other)
                other.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            return min(part.stat().st_size, message.size)
        return 0

    async def take(self, run: Run, site: str, start: Push, stream: AsyncIterator[bytes], context: Any) -> Answer | None:
        """Receive a file that is expected, once there is a place for it; None if it is not."""
        announced = self._of(run).announced.get(site)
        if announced is None or (announced.round, announced.checksum) != (start.round, start.checksum):
            return None
        part = _part(run, site, start.round, start.checksum)
        await self._end_writer(part)
        work = asyncio.ensure_future(self._when_placed(run, site, announced, start, stream=stream, context=context))
        self._writers[part] = work
        try:
            return await work
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise FlpocError("a newer transfer of this update has begun", code="SUPERSEDED") from None
        finally:
            if self._writers.get(part) is work:
                del self._writers[part]

    async def _when_placed(
        self, run: Run, site: str, announced: Announce, start: Push, *, stream: AsyncIterator[bytes], context: Any
    ) -> Answer:
        run.in_line.add(site)
        try:
            async with self._places.one(site):
                run.in_line.discard(site)
                run.alive(site)
                # the site waits for this: what it sent before would wait in memory here
                await context.send_initial_metadata(())
                return await self._receive(run, site, announced, start, stream)
        finally:
            run.in_line.discard(site)

    def _of(self, run: Run) -> _OfRun:
        return self._runs.setdefault(run, _OfRun())

    async def _end_writer(self, part: Path) -> None:
        """A newer transfer of the same file ends the older one, and waits for it."""
        while (older := self._writers.get(part)) is not None:  # while this waits, a third may have begun
            older.cancel()
            await asyncio.wait([older])
            if self._writers.get(part) is older:
                del self._writers[part]

    async def _receive(
        self, run: Run, site: str, announced: Announce, start: Push, stream: AsyncIterator[bytes]
    ) -> Answer:
        part = _part(run, site, start.round, start.checksum)
        incoming = Incoming(part, announced.size, announced.checksum)
        final = run.files.update(start.round, site, start.checksum)
        damaged = self._of(run).damaged
        try:
            have = await incoming.begin()
            if start.offset != have:
                return run.updates.answer(announced, "HAVE", have=have)
            pace = Pace(run.spec.timeouts.stall)
            while (chunk := await _next_chunk(stream, pace)) is not None:
                if pace.moved(len(chunk)):
                    run.alive(site)
                await incoming.write(chunk)
            if incoming.have < announced.size:
                return run.updates.answer(announced, "HAVE", have=incoming.have)
            await incoming.finish(final)
            await run.updates.arrived(site, start.round, start.checksum)
        except TimeoutError:
            return run.updates.answer(announced, "HAVE", have=incoming.have)
        except (ResourceError, OSError) as error:
            return run.updates.answer(announced, "WAIT", run.no_room(error))
        except ServiceError:
            raise  # the server is stopping: without an answer the site keeps its update for the next one
        except FlpocError as error:
            if incoming.damaged and part not in damaged:
                damaged.add(part)  # once may be the network's fault: from the beginning again
                return run.updates.answer(announced, "HAVE")
            if error.code == "INTEGRITY_FAILED":
                run.reject(site, announced, error.message)
            return run.updates.answer(announced, "REJECTED", error.message)
        finally:
            await incoming.close()
        return run.updates.answer(announced, "ALL")


async def _next_chunk(stream: AsyncIterator[bytes], pace: Pace) -> bytes | None:
    """The next piece; None at the end."""
    try:
        async with asyncio.timeout_at(pace.until):
            return await anext(stream)
    except StopAsyncIteration:
        return None


def _part(run: Run, site: str, round_number: int, checksum: str) -> Path:
    final = run.files.update(round_number, site, checksum)
    return final.with_name(final.name + ".part")
