"""The rounds of one run in the database: updates, commits, the ledger."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import attrs

from flpoc.models.checksums import checksum_file
from flpoc.server.metrics import MetricRecords
from flpoc.server.store import Store
from flpoc.settings import plain
from flpoc.tracking import EventKind, RunEvent
from flpoc.wire.controller_messages import Commit, SiteUpdate
from flpoc.wire.messages import Announce
from flpoc.wire.vocabulary import DONE

log = logging.getLogger("flpoc.server")


@attrs.frozen
class CommitRow:
    """A committed round.

    ``best`` is the name of the file of the best model so far, ``state_file`` that of what the aggregator keeps; empty
    if there is none. So is ``checksum``, where no model has been made yet.
    """

    round: int
    checksum: str
    size: int
    state: bytes
    best: str
    state_file: str


#: What is kept of an announcement as JSON.
_FACTS = ("kind", "weight", "params_type", "metrics", "meta", "evaluates", "submits")


@attrs.frozen
class UpdateRow:
    """An update that was announced, and what was said of it."""

    site: str
    size: int
    checksum: str
    kind: str
    weight: float
    params_type: str
    metrics: dict[str, float]
    meta: dict[str, Any]
    evaluates: bool
    submits: bool

    @classmethod
    def of(cls, site: str, message: Announce) -> UpdateRow:
        """What a site announced."""
        facts = {key: getattr(message, key) for key in _FACTS}
        return cls(site, message.size, message.checksum, **facts)

    def is_whole(self, path: Path) -> bool:
        """Whether the file is there with the bytes that were received (blocking)."""
        return path.is_file() and path.stat().st_size == self.size and checksum_file(path) == self.checksum

    def as_site_update(self, path: Path) -> SiteUpdate:
        said = (self.weight, self.params_type, self.metrics, self.meta, self.evaluates, self.submits)
        return SiteUpdate(self.site, str(path), *said)


_INSERT_UPDATE = "INSERT OR REPLACE INTO updates VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_DROP_UPDATES = (
    "DELETE FROM updates WHERE job=? AND run=? AND round<=? AND NOT EXISTS (SELECT 1 FROM rounds WHERE "
    "rounds.job=updates.job AND rounds.run=updates.run AND rounds.round=updates.round AND rounds.kept=1)"
)


class RoundRecords:
    """What is written down about the rounds of a run."""

    def __init__(self, store: Store, job: str, run: int) -> None:
        self._store = store
        self._key = (job, run)
        self._tasks: set[asyncio.Task[None]] = set()

    def later(self, writing: Coroutine[Any, Any, None]) -> None:
        """Write without waiting for it."""
        task = asyncio.create_task(writing)
        self._tasks.add(task)
        task.add_done_callback(self._written)

    def _written(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # the next start finds out anew what this note would have said
            log.warning("not written down: %s", error)

    async def last_commit(self) -> CommitRow | None:
        query = (
            "SELECT round, checksum, size, state, best, state_file FROM rounds WHERE job=? AND run=? "
            "ORDER BY round DESC LIMIT 1"
        )
        row = await self._store.read(lambda db: db.execute(query, self._key).fetchone())
        return CommitRow(**dict(row)) if row else None

    async def failures(self) -> dict[str, str]:
        """Sites that take no further part, and why."""
        query = (
            "SELECT site, status, reason FROM ledger "
            "WHERE job=? AND run=? AND status IN ('failed', 'lost', 'rejected') ORDER BY round DESC"
        )
        rows = await self._store.read(lambda db: db.execute(query, self._key).fetchall())
        return {row["site"]: f"{row['status']}: {row['reason']}" for row in rows}

    async def counted(self) -> dict[str, int]:
        """The newest round in which an answer of each site was counted."""
        query = (
            "SELECT site, MAX(round) AS last FROM ledger WHERE job=? AND run=? AND status IN (?, ?, ?) GROUP BY site"
        )
        rows = await self._store.read(lambda db: db.execute(query, (*self._key, *DONE.values())).fetchall())
        return {row["site"]: row["last"] for row in rows}

    async def late(self, round_number: int) -> set[str]:
        """Sites that a round was closed without."""
        query = "SELECT site FROM ledger WHERE job=? AND run=? AND round=? AND status='late'"
        rows = await self._store.read(lambda db: db.execute(query, (*self._key, round_number)).fetchall())
        return {row["site"] for row in rows}

    async def updates(self, round_number: int) -> list[UpdateRow]:
        """Updates received for a round."""
        query = "SELECT * FROM updates WHERE job=? AND run=? AND round=? AND received=1"
        rows = await self._store.read(lambda db: db.execute(query, (*self._key, round_number)).fetchall())
        return [_update(row) for row in rows]

    async def kept(self) -> list[tuple[int, UpdateRow]]:
        """Updates of committed rounds that are needed until the job is over, with their rounds, in order."""
        query = (
            "SELECT updates.* FROM updates JOIN rounds USING (job, run, round) "
            "WHERE job=? AND run=? AND rounds.kept=1 AND received=1 ORDER BY round, site"
        )
        rows = await self._store.read(lambda db: db.execute(query, self._key).fetchall())
        return [(row["round"], _update(row)) for row in rows]

    async def announced(self, round_number: int, site: str) -> UpdateRow | None:
        query = "SELECT * FROM updates WHERE job=? AND run=? AND round=? AND site=?"
        row = await self._store.read(lambda db: db.execute(query, (*self._key, round_number, site)).fetchone())
        return _update(row) if row else None

    async def announce(self, site: str, message: Announce) -> None:
        """Note an update before its first byte is taken."""
        row = self._update_values(site, message)

        def act(db: sqlite3.Connection) -> None:
            db.execute(_INSERT_UPDATE, (*row, 0))

        await self._store.write(act, durable=False)

    def _update_values(self, site: str, message: Announce) -> tuple[Any, ...]:
        facts = {key: plain(getattr(message, key)) for key in _FACTS}
        return (*self._key, message.round, site, message.size, message.checksum, json.dumps(facts))

    async def received(self, round_number: int, update: UpdateRow, announced: Announce | None) -> None:
        """Note that an update's file is complete; *announced* when it has no row yet."""
        key = (*self._key, round_number, update.site)
        row = (*self._update_values(update.site, announced), 1) if announced is not None else None
        done = DONE[update.kind]

        def act(db: sqlite3.Connection) -> None:
            if row is not None:
                db.execute(_INSERT_UPDATE, row)
            else:
                db.execute("UPDATE updates SET received=1 WHERE job=? AND run=? AND round=? AND site=?", key)
            db.execute("INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, ?, ?, ?, '')", (*key, done, update.weight))

        await self._store.write(act, durable=False)

    async def note(self, round_number: int, site: str, status: str, reason: str, event: RunEvent | None = None) -> None:
        row = (*self._key, round_number, site, status, reason)

        def act(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, ?, ?, NULL, ?)", row)
            if event is not None:
                self._store.note(db, event)

        await self._store.write(act, durable=False)

    async def site_failed(self, round_number: int, site: str, status: str, reason: str, *, told: bool) -> None:
        """Note that a site takes no further part; it is an event, too, unless the job had ended before (*told*)."""
        kinds: dict[str, EventKind] = {"failed": "site-failed", "lost": "site-lost", "rejected": "site-rejected"}
        event = RunEvent(self._key[0], kinds[status], time.time(), site, round_number, {"reason": reason})
        await self.note(round_number, site, status, reason, event if told else None)

    async def means(self, round_number: int, means: dict[str, float]) -> None:
        """Note what trackers are to show of a round."""
        await MetricRecords(self._store).add_means(*self._key, round_number, means)

    async def site_joined(self, site: str) -> None:
        event = RunEvent(self._key[0], "site-joined", time.time(), site)
        await self._store.write(lambda db: self._store.note(db, event), durable=False)

    async def commit(
        self,
        message: Commit,
        trained: dict[str, float],
        failures: dict[str, str],
        expected: tuple[str, ...],
        *,
        partial: bool,
        best: str,
        state_file: str,
    ) -> None:
        """Write a committed round, all of it or nothing, so that it survives power loss."""
        job, run = self._key
        row = (job, run, message.round, message.checksum, message.size, message.state)
        metrics = json.dumps(message.metrics)
        is_round = bool(message.file) and message.round >= 0
        kinds = (int(is_round), best, int(message.keep), state_file)
        missing = {site: failures.get(site, "absent: not connected") for site in expected if site not in trained}
        detail = {"metrics": message.metrics, "sites": sorted(trained)}
        event = RunEvent(job, "round-committed", time.time(), round=message.round, detail=detail)

        def act(db: sqlite3.Connection) -> None:
            values = (*row, metrics, time.time(), *kinds)
            db.execute("INSERT INTO rounds VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
            db.execute(_DROP_UPDATES, (job, run, message.round))
            for site, weight in trained.items() if is_round else ():
                done = (job, run, message.round, site, weight)
                db.execute("INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, ?, 'trained', ?, '')", done)
            for site, why in missing.items():
                status, _, reason = why.partition(": ")
                absent = (job, run, message.round, site, status, reason)
                db.execute("INSERT OR IGNORE INTO ledger VALUES (?, ?, ?, ?, ?, NULL, ?)", absent)
            db.execute("UPDATE jobs SET partial=max(partial, ?) WHERE id=?", (int(partial), job))
            if is_round:
                db.execute("UPDATE jobs SET metrics=? WHERE id=?", (metrics, job))
                self._store.note(db, event)

        await self._store.write(act)


def _update(row: sqlite3.Row) -> UpdateRow:
    facts = json.loads(row["facts"])
    return UpdateRow(row["site"], row["size"], row["checksum"], **facts)
