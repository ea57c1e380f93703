"""The server's database forgets nothing, and says so when it cannot be used."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from flpoc.errors import IntegrityError, ServiceError
from flpoc.jobs.ownership import lock_state
from flpoc.server.store import Store

COLUMNS = (
    "id, seq, name, study, state, submitter, org, role, folder, manifest, signature, certificate, archive, "
    "archive_size, submitted"
)


def insert(db: sqlite3.Connection, job: str, seq: int) -> None:
    row = (job, seq, job, "default", "SUBMITTED", "u", "o", "lead", "f", b"", b"", b"", "", 0, 1.0)
    db.execute(f"INSERT INTO jobs ({COLUMNS}) VALUES ({', '.join('?' * len(row))})", row)


def ids(state: Path) -> list[str]:
    store = Store(state)
    try:
        return [row.id for row in asyncio.run(store.jobs())]
    finally:
        store.close()


WRITER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from flpoc.server.store import Store
from test_store import insert
async def main():
    store = Store(Path(sys.argv[1]))
    for number in range(100_000):
        await store.write(lambda db: insert(db, f"job-{number}", number), durable=number % 5 == 0)
        print(number, flush=True)
asyncio.run(main())
"""


def test_every_write_that_was_answered_survives_kill_9(tmp_path: Path) -> None:
    words = [sys.executable, "-c", WRITER, str(tmp_path), str(Path(__file__).parent)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 40:
            os.kill(process.pid, signal.SIGKILL)
            break
    rest = process.stdout.read().split()
    process.wait()
    process.stdout.close()
    answered = int(rest[-1]) if rest else 40
    found = ids(tmp_path)
    assert found[: answered + 1] == [f"job-{number}" for number in range(answered + 1)]
    assert len(found) <= answered + 2


def test_a_transaction_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def half(db: sqlite3.Connection) -> None:
        insert(db, "a", 1)
        insert(db, "a", 2)

    with pytest.raises(sqlite3.IntegrityError):
        asyncio.run(store.write(half))
    asyncio.run(store.write(lambda db: insert(db, "b", 1)))  # the next is not in the way of the last
    store.close()
    assert ids(tmp_path) == ["b"]


def test_jobs_come_in_order_of_submission(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for job, seq in (("z", 1), ("a", 3), ("m", 2)):
        asyncio.run(store.write(lambda db, job=job, seq=seq: insert(db, job, seq), durable=seq == 2))
    asyncio.run(store.change("m", chosen=("b", "a"), cause={"site": "x"}, partial=1))
    row = asyncio.run(store.job("m"))
    store.close()
    assert (row.chosen, row.cause, row.partial) == (("b", "a"), {"site": "x"}, True)
    assert ids(tmp_path) == ["z", "m", "a"]


def test_whoever_asks_after_the_end_gets_an_error_instead_of_waiting(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.close()
    store.close()
    with pytest.raises(ServiceError):
        asyncio.run(asyncio.wait_for(store.jobs(), 10))


def test_a_commit_that_fails_does_not_block_the_next_one(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def deferred(db: sqlite3.Connection) -> None:
        db.execute("PRAGMA defer_foreign_keys=ON")
        db.execute("INSERT INTO child VALUES (7)")

    store._db.execute("PRAGMA foreign_keys=ON")
    store._db.execute("CREATE TABLE child (parent INTEGER REFERENCES parents (id))")
    store._db.execute("CREATE TABLE parents (id INTEGER PRIMARY KEY)")
    with pytest.raises(sqlite3.IntegrityError):
        asyncio.run(store.write(deferred))
    asyncio.run(store.write(lambda db: insert(db, "b", 1)))
    store.close()
    assert ids(tmp_path) == ["b"]


@pytest.mark.row("P6")
@pytest.mark.parametrize("damage", [b"this is no database" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_database_is_refused_and_left_as_it_is(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "server.sqlite").write_bytes(damage)
    with pytest.raises(IntegrityError, match="damaged"):
        Store(tmp_path)
    assert (tmp_path / "server.sqlite").read_bytes() == damage


@pytest.mark.row("P6")
def test_damaged_pages_are_noticed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number in range(200):
        asyncio.run(store.write(lambda db, n=number: insert(db, f"job-{n}" * 20, n), durable=False))
    store.close()
    path = tmp_path / "server.sqlite"
    data = bytearray(path.read_bytes())
    data[8192:-4096] = b"\xa5" * (len(data) - 8192 - 4096)
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="damaged"):
        Store(tmp_path)


@pytest.mark.row("P6")
def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    Store(tmp_path).close()
    with sqlite3.connect(tmp_path / "server.sqlite") as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(IntegrityError, match="schema 99"):
        Store(tmp_path)


@pytest.mark.row("P6")
@pytest.mark.parametrize("how", ["gone", "empty"])
def test_a_database_that_vanished_from_beside_its_jobs_is_not_begun_anew(tmp_path: Path, how: str) -> None:
    (tmp_path / "jobs" / "j").mkdir(parents=True)
    if how == "empty":
        (tmp_path / "server.sqlite").touch()
    with pytest.raises(IntegrityError, match=f"is {how}, but its jobs are still there"):
        Store(tmp_path)


def test_damaged_metrics_are_named_and_the_database_is_closed(tmp_path: Path) -> None:
    (tmp_path / "metrics.sqlite").write_bytes(b"no database" * 500)
    with pytest.raises(IntegrityError, match=r"metrics.sqlite is damaged") as refused:
        Store(tmp_path)
    assert "only the numbers" in refused.value.hint
    (tmp_path / "metrics.sqlite").unlink()
    assert ids(tmp_path) == []


def test_the_database_is_for_its_owner_only(tmp_path: Path) -> None:
    Store(tmp_path).close()
    assert (tmp_path / "server.sqlite").stat().st_mode & 0o777 == 0o600


@pytest.mark.row("P7")
def test_a_second_owner_of_a_state_folder_is_told_who_the_first_is(tmp_path: Path) -> None:
    code = f"""
import sys, pathlib
from flpoc.jobs.ownership import lock_state
held = lock_state(pathlib.Path({str(tmp_path)!r}), "a server")
print("held", flush=True)
sys.stdin.read()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(ServiceError, match=rf"a server \(pid {process.pid}\)"):
        lock_state(tmp_path, "another")
    process.kill()  # the lock dies with its process
    process.communicate()
    os.close(lock_state(tmp_path, "another"))
