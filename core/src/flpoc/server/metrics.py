"""Numbers that scripts logged, and how far each tracker has taken them.

A tracker's place is that of the last number it has written. It lies in the
same database as the numbers, so the two can never disagree.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from flpoc.server.store import Store
from flpoc.settings import parse_json, plain, structure
from flpoc.tracking import Metric, TrackedJob, TrackerSpec
from flpoc.wire.checks import as_metric_name
from flpoc.wire.messages import Metrics

#: Numbers that are kept of one run of a job; what comes after them is dropped and counted.
KEPT_PER_JOB = 1_000_000
#: Whose numbers the means of a round are.
MEANS = "server"
#: More than this are not counted for people.
_COUNTED = 10_000
_PIECE = 5_000

Key = tuple[str, int, str]


@attrs.frozen
class TrackingRow:
    """A tracker of one run of a job.

    Attributes:
        key: Job, run, and the tracker's name.
        settings: Its settings.
        about: What it is told of the job.
        place: Up to where it has written.
        ended: When the run ended, seconds since 1970; None while it goes on.
    """

    key: Key
    settings: dict[str, Any]
    about: TrackedJob
    place: int
    ended: float | None

    @classmethod
    def of(cls, row: sqlite3.Row) -> TrackingRow:
        key = (row["job"], row["run"], row["tracker"])
        about = structure(parse_json(row["about"], "tracking"), TrackedJob)
        return cls(key, json.loads(row["settings"]), about, row["place"], row["ended"])


class MetricRecords:
    """The database of metrics."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # -- what was logged

    async def seen(self, job: str, run: int, site: str) -> int:
        """How many numbers of a site have come; it goes on from there."""
        return await self._store.metrics(lambda db: _logged(db, job, run, site)[0])

    async def add(self, site: str, message: Metrics) -> None:
        """Keep what a site's script has logged; what came before is recognised by its number."""

        def act(db: sqlite3.Connection) -> None:
            seen, kept = _logged(db, message.job, message.run, site)
            fresh = message.rows[max(0, seen - message.first) :]
            if not fresh:
                return
            total = db.execute(
                "SELECT COALESCE(SUM(kept), 0) FROM logged WHERE job=? AND run=?", (message.job, message.run)
            ).fetchone()[0]
            taken = fresh[: max(0, KEPT_PER_JOB - total)]
            rows = [(message.job, message.run, site, m.key, m.value, m.step, m.round, m.time) for m in taken]
            _insert(db, message.job, message.run, rows)
            counts = (message.first + len(message.rows), kept + len(taken))
            db.execute("REPLACE INTO logged VALUES (?, ?, ?, ?, ?)", (message.job, message.run, site, *counts))

        await self._store.metrics(act)

    async def add_means(self, job: str, run: int, round_number: int, means: Mapping[str, float]) -> None:
        """Keep the means of a round, once, however often the round is committed."""
        when = (round_number, round_number, time.time())
        rows = [(job, run, MEANS, as_metric_name(key), value, *when) for key, value in means.items()]

        def act(db: sqlite3.Connection) -> None:
            if round_number >= _logged(db, job, run, MEANS)[0]:
                _insert(db, job, run, rows)
                counts = (round_number + 1, round_number + 1)
                db.execute("REPLACE INTO logged VALUES (?, ?, ?, ?, ?)", (job, run, MEANS, *counts))

        await self._store.metrics(act)

    async def dropped(self, job: str, run: int) -> int:
        """How many numbers were not kept, here or at a site that was cut off for long."""
        query = "SELECT COALESCE(SUM(seen - kept), 0) FROM logged WHERE job=? AND run=?"
        return await self._store.metrics(lambda db: int(db.execute(query, (job, run)).fetchone()[0]))

    async def latest(self, job: str, run: int) -> dict[str, dict[str, float]]:
        """The newest value of every number, by site and name."""
        query = "SELECT site, key, value, MAX(place) FROM metrics WHERE job=? AND run=? GROUP BY site, key"
        rows = await self._store.metrics(lambda db: db.execute(query, (job, run)).fetchall())
        found: dict[str, dict[str, float]] = {}
        for row in rows:
            found.setdefault(row["site"], {})[row["key"]] = row["value"]
        return found

    async def after(self, job: str, run: int, place: int, limit: int) -> tuple[int, tuple[Metric, ...]]:
        """The next numbers after a place, in the order in which they came, and the place of the last."""
        query = (
            "SELECT place, job, site, key, value, step, round, time FROM metrics "
            "WHERE job=? AND run=? AND place>? ORDER BY place LIMIT ?"
        )
        rows = await self._store.metrics(lambda db: db.execute(query, (job, run, place, limit)).fetchall())
        return (rows[-1][0] if rows else place), tuple(Metric(*row[1:]) for row in rows)

    async def write_file(self, job: str, run: int, path: Path) -> bool:
        """Write what sites have logged as JSON lines; no file if that is nothing."""
        place, metrics = await self.after(job, run, 0, _PIECE)
        part = path.with_name(path.name + ".part")
        part.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        while metrics:
            await asyncio.to_thread(_append, part, metrics)
            place, metrics = await self.after(job, run, place, _PIECE)
        if not part.exists() or not part.stat().st_size:
            part.unlink(missing_ok=True)
            return False
        part.rename(path)
        return True

    async def forget(self, job: str) -> None:
        """Delete all of a job."""

        def act(db: sqlite3.Connection) -> None:
            for table in ("metrics", "logged", "tracking"):
                db.execute(f"DELETE FROM {table} WHERE job=?", (job,))  # noqa: S608 - names of our tables

        await self._store.metrics(act)

    # -- trackers

    async def track(self, about: TrackedJob, trackers: tuple[TrackerSpec, ...]) -> None:
        """Have trackers take what a run of a job logs, for the first time or again after a restart."""
        text = json.dumps(plain(about))
        rows = [(about.id, about.run, one.name, json.dumps(one.settings), text) for one in trackers]
        query = (
            "INSERT INTO tracking (job, run, tracker, settings, about) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET ended=NULL, closed=0"
        )
        await self._store.metrics(lambda db: db.executemany(query, rows) and None)

    async def tracked(self) -> list[TrackingRow]:
        """All trackers that are not through with their job."""
        query = "SELECT * FROM tracking WHERE closed=0 ORDER BY rowid"
        return await self._store.metrics(lambda db: [TrackingRow.of(row) for row in db.execute(query)])

    async def ended(self, job: str, run: int) -> None:
        """A run has come to its end."""
        values = (time.time(), job, run)
        await self._change("UPDATE tracking SET ended=? WHERE job=? AND run=? AND ended IS NULL", values)

    async def written(self, key: Key, place: int) -> None:
        await self._change("UPDATE tracking SET place=?, trouble='' WHERE job=? AND run=? AND tracker=?", (place, *key))

    async def troubled(self, key: Key, text: str) -> None:
        await self._change("UPDATE tracking SET trouble=? WHERE job=? AND run=? AND tracker=?", (text, *key))

    async def closed(self, key: Key) -> None:
        """A tracker is through, unless something came while it was told so."""
        rest = "SELECT 1 FROM metrics WHERE job=tracking.job AND run=tracking.run AND place>tracking.place"
        query = f"UPDATE tracking SET closed=1 WHERE job=? AND run=? AND tracker=? AND NOT EXISTS ({rest})"  # noqa: S608
        await self._change(query, key)

    async def give_up(self, key: Key) -> None:
        """A tracker has failed for too long."""
        await self._change("UPDATE tracking SET closed=1 WHERE job=? AND run=? AND tracker=?", key)

    async def _change(self, query: str, values: tuple[Any, ...]) -> None:
        await self._store.metrics(lambda db: db.execute(query, values) and None)

    async def describe(self, job: str, run: int) -> list[dict[str, Any]]:
        """For people: what each tracker of a run still has to write, and what it last had trouble with."""
        query = "SELECT tracker, place, trouble FROM tracking WHERE job=? AND run=? ORDER BY rowid"
        count = "SELECT COUNT(*) FROM (SELECT 1 FROM metrics WHERE job=? AND run=? AND place>? LIMIT ?)"

        def act(db: sqlite3.Connection) -> list[dict[str, Any]]:
            return [
                {
                    "tracker": row["tracker"],
                    "to_write": db.execute(count, (job, run, row["place"], _COUNTED)).fetchone()[0],
                    "trouble": row["trouble"],
                }
                for row in db.execute(query, (job, run)).fetchall()
            ]

        return await self._store.metrics(act)


def _logged(db: sqlite3.Connection, job: str, run: int, site: str) -> tuple[int, int]:
    query = "SELECT seen, kept FROM logged WHERE job=? AND run=? AND site=?"
    row = db.execute(query, (job, run, site)).fetchone()
    return (row[0], row[1]) if row else (0, 0)


def _insert(db: sqlite3.Connection, job: str, run: int, rows: list[tuple[Any, ...]]) -> None:
    columns = "job, run, site, key, value, step, round, time"
    db.executemany(f"INSERT INTO metrics ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)  # noqa: S608 - our names
    if rows:  # trackers that thought that they were through are not
        db.execute("UPDATE tracking SET closed=0 WHERE job=? AND run=? AND closed=1", (job, run))


def _append(path: Path, metrics: tuple[Metric, ...]) -> None:
    with path.open("a", encoding="utf-8") as file:
        for one in metrics:
            if one.site != MEANS:
                told = attrs.asdict(one)
                del told["job"]
                file.write(json.dumps(told) + "\n")
