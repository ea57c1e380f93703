"""What the server must not forget, in SQLite.

One thread writes; the event loop never waits for a disk. A write is either
durable (survives power loss: states, commits) or merely safe (survives the
death of any process: received updates, events).
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import attrs

from flpoc.errors import IntegrityError, ResourceError, ServiceError
from flpoc.jobs.spec import Manifest
from flpoc.jobs.states import JobState
from flpoc.models.checksums import refusals
from flpoc.settings import parse_json, structure
from flpoc.tracking import EventKind, RunEvent

T = TypeVar("T")

_SCHEMA_VERSION = 6
_SCHEMA = """
CREATE TABLE jobs (
    id TEXT PRIMARY KEY, seq INTEGER NOT NULL, name TEXT NOT NULL, study TEXT NOT NULL, state TEXT NOT NULL,
    submitter TEXT NOT NULL, org TEXT NOT NULL, role TEXT NOT NULL, folder TEXT NOT NULL,
    manifest BLOB NOT NULL, signature BLOB NOT NULL, certificate BLOB NOT NULL,
    archive TEXT NOT NULL, archive_size INTEGER NOT NULL,
    submitted REAL NOT NULL, started REAL, finished REAL, scheduled REAL, schedules INTEGER NOT NULL DEFAULT 0,
    run INTEGER NOT NULL DEFAULT 1, chosen TEXT NOT NULL DEFAULT '[]', joined TEXT NOT NULL DEFAULT '[]',
    cause TEXT, partial INTEGER NOT NULL DEFAULT 0, sha256 TEXT NOT NULL DEFAULT '',
    metrics TEXT NOT NULL DEFAULT '{}', cloned TEXT NOT NULL DEFAULT '');
CREATE TABLE rounds (
    job TEXT, run INTEGER, round INTEGER, checksum TEXT, size INTEGER, state BLOB, metrics TEXT, committed REAL,
    trained INTEGER NOT NULL, best TEXT NOT NULL, kept INTEGER NOT NULL, state_file TEXT NOT NULL,
    PRIMARY KEY (job, run, round));
CREATE TABLE updates (
    job TEXT, run INTEGER, round INTEGER, site TEXT, size INTEGER, checksum TEXT, facts TEXT,
    received INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (job, run, round, site));
CREATE TABLE ledger (
    job TEXT, run INTEGER, round INTEGER, site TEXT, status TEXT, weight REAL, reason TEXT,
    PRIMARY KEY (job, run, round, site));
CREATE TABLE tokens (
    scope TEXT, token TEXT, content TEXT, job TEXT, deleted REAL, PRIMARY KEY (scope, token));
CREATE TABLE events (
    place INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT, kind TEXT, time REAL, site TEXT, round INTEGER, detail TEXT);
CREATE INDEX events_by_job ON events (job);
CREATE TABLE studies (
    name TEXT PRIMARY KEY, sites TEXT NOT NULL, users TEXT NOT NULL, created REAL NOT NULL, by TEXT NOT NULL);
CREATE TABLE disabled (site TEXT PRIMARY KEY, by TEXT NOT NULL, time REAL NOT NULL, reason TEXT NOT NULL);
CREATE TABLE certificates (
    serial TEXT PRIMARY KEY, name TEXT NOT NULL, kind TEXT NOT NULL, role TEXT NOT NULL, org TEXT NOT NULL,
    ends REAL NOT NULL, seen REAL NOT NULL);
CREATE TABLE listeners (plugin TEXT PRIMARY KEY, place INTEGER NOT NULL);
"""

_METRICS_VERSION = 2
_METRICS_SCHEMA = """
CREATE TABLE metrics (
    place INTEGER PRIMARY KEY, job TEXT, run INTEGER, site TEXT, key TEXT, value REAL, step INTEGER, round INTEGER,
    time REAL);
CREATE INDEX metrics_by_job ON metrics (job, run);
CREATE TABLE logged (
    job TEXT, run INTEGER, site TEXT, seen INTEGER NOT NULL, kept INTEGER NOT NULL, PRIMARY KEY (job, run, site));
CREATE TABLE tracking (
    job TEXT, run INTEGER, tracker TEXT, settings TEXT NOT NULL, about TEXT NOT NULL, place INTEGER NOT NULL DEFAULT 0,
    ended REAL, closed INTEGER NOT NULL DEFAULT 0, trouble TEXT NOT NULL DEFAULT '', PRIMARY KEY (job, run, tracker));
"""

#: What is said of an event is left out if it is longer than this.
_LONGEST_DETAIL = 1 << 20


@attrs.frozen
class JobRow:
    """A job as the server keeps it; times are seconds since 1970."""

    id: str
    seq: int
    name: str
    study: str
    state: str
    submitter: str
    org: str
    role: str
    folder: str
    manifest: bytes = attrs.field(repr=False)
    signature: bytes = attrs.field(repr=False)
    certificate: bytes = attrs.field(repr=False)
    archive: str
    archive_size: int
    submitted: float
    started: float | None
    finished: float | None
    scheduled: float | None
    schedules: int
    run: int
    chosen: tuple[str, ...]
    joined: tuple[str, ...]
    cause: dict[str, Any] | None
    partial: bool
    sha256: str
    metrics: dict[str, float]
    cloned: str = ""

    @classmethod
    def of(cls, row: sqlite3.Row) -> JobRow:
        data = dict(row)
        for key in ("chosen", "joined"):
            data[key] = tuple(json.loads(data[key]))
        data["cause"] = json.loads(data["cause"]) if data["cause"] else None
        data["metrics"] = json.loads(data["metrics"])
        data["partial"] = bool(data["partial"])
        return cls(**data)


class Store:
    """The database of a server; every method of the loop's thread is awaited."""

    def __init__(self, state: Path) -> None:
        self._path = state / "server.sqlite"
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._db = self._open()
        self._metrics = self._open_metrics(state / "metrics.sqlite")
        self._closed = False
        self._durable = True
        self._noted = False
        self._heard: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._work, name="store", daemon=True)
        self._thread.start()

    def _open(self) -> sqlite3.Connection:
        fresh = not self._path.exists()
        if fresh:
            self._refuse_orphans("is gone")
        with refusals(self._path):
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        db = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
        try:
            db.row_factory = sqlite3.Row
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if fresh or version == 0:
                self._refuse_orphans("is empty")
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            if fresh or version == 0:
                db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={_SCHEMA_VERSION}; COMMIT;")
            elif version != _SCHEMA_VERSION:
                raise IntegrityError(f"{self._path} was written by another version of flpoc (schema {version})")
            if db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("quick_check failed")
        except sqlite3.DatabaseError as error:
            db.close()
            raise IntegrityError(f"{self._path} is damaged: {error}", hint="restore it from a backup") from None
        except IntegrityError:
            db.close()
            raise
        return db

    def _refuse_orphans(self, what: str) -> None:
        """A new database beside the files of an old one would forget all jobs."""
        if (self._path.parent / "jobs").exists():
            raise IntegrityError(
                f"{self._path} {what}, but its jobs are still there",
                hint="restore it from a backup, or clean the folder",
            )

    def _open_metrics(self, path: Path) -> sqlite3.Connection:
        db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                db.executescript(f"BEGIN; {_METRICS_SCHEMA} PRAGMA user_version={_METRICS_VERSION}; COMMIT;")
            elif version != _METRICS_VERSION:
                raise sqlite3.DatabaseError(f"written by another version of flpoc (schema {version})")
        except sqlite3.DatabaseError as error:
            db.close()
            self._db.close()
            raise IntegrityError(
                f"{path} is damaged: {error}", hint="delete it: only the numbers that scripts logged are lost"
            ) from None
        db.row_factory = sqlite3.Row
        return db

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def close(self) -> None:
        """Finish what was asked for, then close; whoever asks later gets an error."""
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        self._thread.join()
        self._db.close()
        self._metrics.close()

    async def write(self, act: Callable[[sqlite3.Connection], T], *, durable: bool = True) -> T:
        """Run *act* in a transaction of the writing thread."""
        loop = asyncio.get_running_loop()

        def run() -> T:
            if durable != self._durable:
                self._db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                self._durable = durable
            self._noted = False
            result = _in_transaction(self._db, act)
            if self._noted:
                _call(loop, self._heard)
            return result

        return await self._submit(run)

    async def read(self, act: Callable[[sqlite3.Connection], T]) -> T:
        """Run *act*, which only reads."""
        return await self._submit(lambda: act(self._db))

    async def metrics(self, act: Callable[[sqlite3.Connection], T]) -> T:
        """Run *act* in a transaction on the database of metrics."""
        return await self._submit(lambda: _in_transaction(self._metrics, act))

    async def _submit(self, act: Callable[[], T]) -> T:
        if self._closed:
            raise ServiceError("the server is stopping")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            try:
                result = act()
            except sqlite3.OperationalError as error:
                self._answer(loop, future, None, _translated(error))
            except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
                self._answer(loop, future, None, error)
            else:
                self._answer(loop, future, result, None)

        self._jobs.put(run)
        return await future

    @staticmethod
    def _answer(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], result: Any, error: Any) -> None:
        def settle() -> None:
            if future.cancelled():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

        _call(loop, settle)

    async def jobs(self, where: str = "1", *values: Any) -> list[JobRow]:
        """Jobs in order of submission."""
        query = f"SELECT * FROM jobs WHERE {where} ORDER BY seq"  # noqa: S608 - *where* is written in this package
        return await self.read(lambda db: [JobRow.of(row) for row in db.execute(query, values)])

    async def job(self, job: str) -> JobRow | None:
        found = await self.jobs("id = ?", job)
        return found[0] if found else None

    async def change(self, job: str, *, only_if: str = "", durable: bool = True, **values: Any) -> bool:
        """Change columns of a job's row; lists and dicts are stored as JSON.

        With *only_if*, only a job in that state is changed; says whether it
        was. A new state is an event, too, and noted together with it.
        """
        plain = {key: json.dumps(v) if isinstance(v, (dict, list, tuple)) else v for key, v in values.items()}
        columns = ", ".join(f"{key} = ?" for key in plain)
        query = f"UPDATE jobs SET {columns} WHERE id = ? AND (? = '' OR state = ?)"  # noqa: S608 - our own names
        row = (*plain.values(), job, only_if, only_if)
        event = _state_event(job, values)

        def act(db: sqlite3.Connection) -> bool:
            changed = db.execute(query, row).rowcount > 0
            if changed and event is not None:
                self.note(db, event)
            return changed

        return await self.write(act, durable=durable)

    def note(self, db: sqlite3.Connection, event: RunEvent) -> None:
        """Add to the history of a job, inside a :meth:`write`; events are for people, the rows are the truth."""
        detail = json.dumps(event.detail)
        if len(detail) > _LONGEST_DETAIL:
            detail = "{}"
        row = (event.job, event.kind, event.time, event.site, event.round, detail)
        query = "INSERT INTO events (job, kind, time, site, round, detail) VALUES (?, ?, ?, ?, ?, ?)"
        db.execute(query, row)
        self._noted = True

    def listen(self, heard: Callable[[], None]) -> None:
        """Have *heard* called in the event loop after every write that noted an event."""
        self._heard = heard


def _state_event(job: str, values: dict[str, Any]) -> RunEvent | None:
    """What a change of columns tells."""
    if "state" not in values:
        return None
    now, state = time.time(), JobState(values["state"])
    if not state.terminal:
        kinds: dict[JobState, EventKind] = {JobState.DISPATCHED: "dispatched", JobState.RUNNING: "running"}
        detail = {"sites": list(values["chosen"])} if "chosen" in values else {}
        return RunEvent(job, kinds[state], now, detail=detail) if state in kinds else None
    cause = {"cause": values["cause"]} if values.get("cause") else {}
    return RunEvent(job, "finished", now, detail={"status": state.value, **cause})


def _in_transaction(db: sqlite3.Connection, act: Callable[[sqlite3.Connection], T]) -> T:
    db.execute("BEGIN IMMEDIATE")
    try:
        result = act(db)
        db.execute("COMMIT")
    except BaseException:
        # a full disk may have ended the transaction already, or only refused its commit
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return result


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(function)
    except RuntimeError:
        return  # the loop has ended; nobody waits any more


def _translated(error: sqlite3.OperationalError) -> Exception:
    """A full disk is for people to mend; everything else is a defect."""
    if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
        return ResourceError("no space left for the server's database", code="DISK_FULL", hint="free some space there")
    return error


def manifest_of(row: JobRow) -> Manifest:
    """The job as its submitter signed it."""
    return structure(parse_json(row.manifest, row.id), Manifest)
