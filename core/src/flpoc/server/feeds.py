"""What the courier is fed with: for each lane the next piece after the one that is done."""

from __future__ import annotations

import json
import sqlite3
import time
from abc import ABC, abstractmethod
from typing import Any

from flpoc.server.metrics import MetricRecords, TrackingRow
from flpoc.server.store import Store
from flpoc.tracking import RunEvent
from flpoc.wire.courier_messages import Listen, Tell, Track, Write

#: Numbers that a tracker gets at once.
BATCH = 500
#: Seconds after a job's end in which sites may still send what its scripts logged last.
LINGER = 1.0
#: Seconds after a job's end for which a tracker that fails is asked again.
KEEPS_TRYING = 86_400.0


class Feed(ABC):
    """One lane's place in the database, and what comes after it."""

    #: Whose it is, for the log.
    name: str

    @abstractmethod
    def opening(self, lane: int) -> Any:
        """The message that opens the lane."""

    @abstractmethod
    async def piece(self, lane: int) -> Write | Tell | None:
        """What comes next; None if there is nothing now."""

    @abstractmethod
    async def done(self, upto: int) -> None:
        """Everything up to there is written, or told."""

    async def troubled(self, text: str) -> None:
        """It failed; what is said of it is for people."""

    async def closed(self) -> None:
        """It has come to its end."""

    def over_in(self) -> float | None:
        """Seconds until nothing more is to be expected; None if that is not known."""
        return None

    @property
    def given_up(self) -> bool:
        """Whether one that fails is not asked again."""
        return False

    async def give_up(self) -> None:
        """It has come to its end, although not everything is done."""


class TrackerFeed(Feed):
    """The numbers of a job, for one of its trackers."""

    def __init__(self, records: MetricRecords, row: TrackingRow) -> None:
        self._records = records
        self._place = row.place
        self.row = row
        self.name = f"job {row.key[0]}: tracker {row.key[2]}"

    def opening(self, lane: int) -> Track:
        return Track(lane, self.row.key[2], self.row.settings, self.row.about)

    async def piece(self, lane: int) -> Write | None:
        job, run, _ = self.row.key
        upto, metrics = await self._records.after(job, run, self._place, BATCH)
        return Write(lane, upto, metrics) if metrics else None

    async def done(self, upto: int) -> None:
        self._place = upto
        await self._records.written(self.row.key, upto)

    async def troubled(self, text: str) -> None:
        await self._records.troubled(self.row.key, text)

    async def closed(self) -> None:
        await self._records.closed(self.row.key)

    def over_in(self) -> float | None:
        return None if self.row.ended is None else self.row.ended + LINGER - time.time()

    @property
    def given_up(self) -> bool:
        return self.row.ended is not None and time.time() > self.row.ended + KEEPS_TRYING

    async def give_up(self) -> None:
        await self._records.give_up(self.row.key)


class ListenerFeed(Feed):
    """What happens in jobs, for one plugin that hears of it."""

    def __init__(self, store: Store, plugin: str, place: int) -> None:
        self._store = store
        self._plugin = plugin
        self._place = place
        self.name = f"plugin {plugin}: flpoc_run_event"

    def opening(self, lane: int) -> Listen:
        return Listen(lane, self._plugin)

    async def piece(self, lane: int) -> Tell | None:
        query = "SELECT * FROM events WHERE place>? ORDER BY place LIMIT 1"
        row = await self._store.read(lambda db: db.execute(query, (self._place,)).fetchone())
        if row is None:
            return None
        detail = json.loads(row["detail"])
        event = RunEvent(row["job"], row["kind"], row["time"], row["site"], row["round"], detail)
        return Tell(lane, row["place"], event)

    async def done(self, upto: int) -> None:
        self._place = upto
        query = "UPDATE listeners SET place=? WHERE plugin=?"
        await self._store.write(lambda db: db.execute(query, (upto, self._plugin)) and None, durable=False)


async def listener_feeds(store: Store, plugins: tuple[str, ...]) -> list[ListenerFeed]:
    """A feed for each plugin that hears events; one that is new hears what happens from now on."""

    def act(db: sqlite3.Connection) -> list[tuple[str, int]]:
        known = {row["plugin"]: row["place"] for row in db.execute("SELECT * FROM listeners").fetchall()}
        last = db.execute("SELECT COALESCE(MAX(place), 0) FROM events").fetchone()[0]
        db.execute("DELETE FROM listeners")
        found = [(plugin, known.get(plugin, last)) for plugin in plugins]
        db.executemany("INSERT INTO listeners VALUES (?, ?)", found)
        return found

    return [ListenerFeed(store, *one) for one in await store.write(act)]
