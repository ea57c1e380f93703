"""The courier as the server sees it: a child that is fed, and started again when it dies.

The server never waits for it. Each lane has at most one piece outside the
database, so a tracker that is slow, fails or hangs holds up only itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sqlite3
import sys
from collections.abc import Callable, Coroutine, Hashable
from typing import Any

import attrs

from flpoc.errors import FlpocError, ServiceError
from flpoc.plugins import Plugins
from flpoc.server.commits import AGAIN_AFTER
from flpoc.server.feeds import Feed, TrackerFeed, listener_feeds
from flpoc.server.metrics import MetricRecords
from flpoc.server.store import Store
from flpoc.tracking import TrackedJob, TrackerSpec
from flpoc.wire.courier_messages import FROM_COURIER, Close, Closed, CourierStart, Done, Trouble
from flpoc.wire.local import Link

log = logging.getLogger("flpoc.server")

#: Seconds that a courier gets to end by itself.
GRACE = 1.0
#: Seconds without an answer after which a lane counts as hung.
HANGS_AFTER = 600.0
#: Pause before a courier that died is started again: the first, and the longest.
PAUSES = (0.5, 60.0)
#: After so many seconds a courier's end is the first one again.
STEADY_AFTER = 60.0


@attrs.define(eq=False)
class _Lane:
    """A feed that the running courier knows; ``busy`` while an answer is awaited."""

    number: int
    feed: Feed
    busy: bool = False
    hung: asyncio.TimerHandle | None = None

    def free(self) -> None:
        self.busy = False
        if self.hung is not None:
            self.hung.cancel()


@attrs.define(eq=False)
class _Courier:
    """A running courier process."""

    process: asyncio.subprocess.Process
    link: Link

    async def end(self) -> None:
        """Let it finish what it has in hand, insist after :data:`GRACE` seconds."""
        self.link.finish()
        try:
            async with asyncio.timeout(GRACE):
                await self.process.wait()
        except TimeoutError:
            self.kill()
            await self.process.wait()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()


class CourierHost:
    """Feeds the courier while there is anything to feed it with."""

    def __init__(
        self,
        store: Store,
        records: MetricRecords,
        plugins: Plugins,
        names: tuple[str, ...],
        later: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._store = store
        self._records = records
        self._listeners = plugins.listeners()
        self._names = names
        self._later = later
        self._feeds: dict[Hashable, Feed] = {}
        self._lanes: dict[Hashable, _Lane] = {}
        self._count = 0
        self._courier: _Courier | None = None
        #: All that have not ended yet, with whoever listens to them.
        self._reading: dict[_Courier, asyncio.Task[None]] = {}
        self._pause = PAUSES[0]
        self._not_before = self._started = 0.0
        self._wake = asyncio.Event()
        self._stopping = False

    # -- what the server says

    async def restore(self, active: set[str]) -> None:
        """Go on where a former server was; jobs that are not *active* have ended."""
        for row in await self._records.tracked():
            if row.ended is None and row.key[0] not in active:
                await self._records.ended(row.key[0], row.key[1])
        self._feeds = {one.name: one for one in await listener_feeds(self._store, self._listeners)}
        if self._listeners:
            self._store.listen(self.ring)
        self._later(self._feed_forever())
        self.ring()

    def ring(self) -> None:
        """Something was written down that somebody may want to hear."""
        self._wake.set()

    async def track(self, about: TrackedJob, trackers: tuple[TrackerSpec, ...]) -> None:
        """A run of a job begins, or goes on, that names trackers."""
        await self._records.track(about, trackers)
        self.ring()

    async def ended(self, job: str, run: int) -> None:
        """A run that names trackers has come to its end."""
        await self._records.ended(job, run)
        self.ring()

    async def stop(self) -> None:
        """End the courier; what it has not done goes on at the next start."""
        self._stopping = True
        await asyncio.gather(*(one.end() for one in self._reading))
        await asyncio.gather(*self._reading.values(), return_exceptions=True)

    # -- feeding

    async def _feed_forever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._stopping:
                return
            try:
                await self._feed()
            except ServiceError:
                return  # the server is stopping
            except Exception:
                log.exception("trackers cannot be fed; tried again in %g s", AGAIN_AFTER)
                self._ring_in(AGAIN_AFTER)

    def _ring_in(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(max(seconds, 0.0), self.ring)

    async def _feed(self) -> None:
        feeds = await self._wanted()
        for key in [one for one in self._lanes if one not in feeds]:
            self._close(self._lanes.pop(key))
        if not feeds:
            self._dismiss()
            return
        courier = await self._running()
        if courier is None:
            return
        for key, feed in feeds.items():
            if key not in self._lanes:
                self._lanes[key] = self._open(courier, feed)
            await self._give(courier, self._lanes[key])
            if self._courier is not courier:
                return  # it died meanwhile, and whoever noticed rings

    async def _wanted(self) -> dict[Hashable, Feed]:
        """All feeds that are not at their end."""
        rows = {row.key: row for row in await self._records.tracked()}
        for key in [one for one, feed in self._feeds.items() if isinstance(feed, TrackerFeed) and one not in rows]:
            del self._feeds[key]
        for key, row in rows.items():
            feed = self._feeds.setdefault(key, TrackerFeed(self._records, row))
            assert isinstance(feed, TrackerFeed)
            feed.row = row
        return dict(self._feeds)

    def _open(self, courier: _Courier, feed: Feed) -> _Lane:
        self._count += 1
        courier.link.send(feed.opening(self._count))
        return _Lane(self._count, feed)

    async def _give(self, courier: _Courier, lane: _Lane) -> None:
        """Give a lane its next piece, or say that there will be none."""
        if lane.busy:
            return
        message: Any = await lane.feed.piece(lane.number)
        if self._courier is not courier:
            return
        if message is None:
            over_in = lane.feed.over_in()
            if over_in is None:
                return
            if over_in > 0:
                self._ring_in(over_in)
                return
            message = Close(lane.number)
        lane.busy = True
        self._watch(lane)
        courier.link.send(message)

    def _close(self, lane: _Lane) -> None:
        lane.free()
        if self._courier is not None:
            self._courier.link.send(Close(lane.number))

    # -- what the courier says

    async def _read(self, courier: _Courier) -> None:
        try:
            async for message in courier.link.messages():
                await self._take(message)
        except ServiceError:
            return  # the server is stopping
        except (FlpocError, sqlite3.Error) as error:
            log.warning("the courier is stopped: %s", error)
            courier.kill()
        except Exception:
            log.exception("the courier is stopped")
            courier.kill()
        courier.link.close()
        code = await courier.process.wait()
        del self._reading[courier]
        if courier is self._courier:
            self._lost(f"the courier ended ({code})")

    async def _take(self, message: Any) -> None:
        found = [(key, lane) for key, lane in self._lanes.items() if lane.number == message.lane]
        if not found:
            return  # nobody wants to know any more
        [(key, lane)] = found
        match message:
            case Done():
                lane.free()
                await lane.feed.done(message.upto)
            case Trouble():
                log.warning("%s: %s", lane.feed.name, message.text)
                if lane.busy:
                    self._watch(lane)  # it answers, if only by failing
                await lane.feed.troubled(message.text)
                if lane.feed.given_up:
                    log.warning("%s: given up", lane.feed.name)
                    await lane.feed.give_up()
            case Closed():
                await lane.feed.closed()
                lane.free()
                self._lanes.pop(key, None)
        self.ring()

    def _watch(self, lane: _Lane) -> None:
        if lane.hung is not None:
            lane.hung.cancel()
        lane.hung = asyncio.get_running_loop().call_later(HANGS_AFTER, self._hangs, lane)

    def _hangs(self, lane: _Lane) -> None:
        text = f"no answer for {HANGS_AFTER:g} s; the courier is started again"
        log.warning("%s: %s", lane.feed.name, text)
        self._later(lane.feed.troubled(text))
        if self._courier is not None:
            self._courier.kill()

    # -- the process

    async def _running(self) -> _Courier | None:
        """The courier; None if it may not be started yet."""
        if self._courier is not None:
            return self._courier
        if asyncio.get_running_loop().time() < self._not_before or self._stopping:
            return None
        self._started = asyncio.get_running_loop().time()
        try:
            self._courier = await _start(self._names)
        except OSError as error:
            self._lost(f"the courier cannot be started: {error}")
            return None
        self._reading[self._courier] = asyncio.create_task(self._read(self._courier))
        return self._courier

    def _lost(self, why: str) -> None:
        """There is no courier; all lanes begin again from the database."""
        self._forget_lanes()
        self._courier = None
        if self._stopping:
            return
        now = asyncio.get_running_loop().time()
        if now - self._started > STEADY_AFTER:
            self._pause = PAUSES[0]
        log.warning("%s; it is started again in %g s", why, self._pause)
        self._not_before = now + self._pause
        self._ring_in(self._pause)
        self._pause = min(2 * self._pause, PAUSES[1])

    def _dismiss(self) -> None:
        """Nobody needs the courier any more."""
        courier, self._courier = self._courier, None
        if courier is not None:
            self._forget_lanes()
            self._later(courier.end())

    def _forget_lanes(self) -> None:
        for lane in self._lanes.values():
            lane.free()
        self._lanes.clear()


async def _start(plugins: tuple[str, ...]) -> _Courier:
    """Start a courier: it has one end of a socket, and nothing that leads to the kit."""
    ours, theirs = socket.socketpair()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLPOC_")}
    try:
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "flpoc.server.courier", stdin=theirs.fileno(), env=environment
            )
        reader, writer = await asyncio.open_unix_connection(sock=ours)
    except BaseException:
        ours.close()
        raise
    link = Link(reader, writer, FROM_COURIER)
    link.send(CourierStart(plugins))
    return _Courier(process, link)
