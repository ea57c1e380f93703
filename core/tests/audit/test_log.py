"""The log of a running service: nothing is allowed that is not written down, and nobody waits long."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from flpoc.audit.checking import last_records, verify
from flpoc.audit.files import read_head
from flpoc.audit.log import SYNC_AFTER, AuditLog
from flpoc.audit.records import Decision
from flpoc.errors import ServiceError

Make = Callable[..., Decision]


@contextmanager
def no_larger_files_than(size: int) -> Iterator[None]:
    """As on a disk that is full, for files of this process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_decisions_of_many_callers_are_all_there_in_one_chain(tmp_path: Path, decision: Make) -> None:
    async def work() -> None:
        log = AuditLog(tmp_path)
        await asyncio.gather(*(log.write(decision(number), durable=number % 3 == 0) for number in range(300)))
        await asyncio.to_thread(log.close)

    asyncio.run(work())
    found = verify(tmp_path / "audit")
    assert (found.fault, found.records) == (None, 300)


def test_a_durable_decision_is_below_the_head_when_it_returns_and_others_soon_after(
    tmp_path: Path, decision: Make
) -> None:
    async def work() -> None:
        log = AuditLog(tmp_path)
        await log.write(decision(1), durable=True)
        head = read_head(tmp_path / "audit")
        assert head is not None
        assert head.seq == 1
        await log.write(decision(2))
        async with asyncio.timeout(SYNC_AFTER + 60):
            while (head := read_head(tmp_path / "audit")) is not None and head.seq < 2:  # noqa: ASYNC110 - it is a file
                await asyncio.sleep(0.05)
        await asyncio.to_thread(log.close)

    asyncio.run(work())


def test_what_cannot_be_written_down_is_refused_and_the_gap_is_told_afterwards(tmp_path: Path, decision: Make) -> None:
    async def work() -> None:
        log = AuditLog(tmp_path)
        await log.write(decision(1), durable=True)
        with no_larger_files_than((tmp_path / "audit" / "audit.jsonl").stat().st_size + 10):
            for durable in (True, False):
                with pytest.raises(ServiceError, match="audit log cannot be written"):
                    await log.write(decision(2), durable=durable)
        await log.write(decision(3))
        await asyncio.to_thread(log.close)

    asyncio.run(work())
    found = last_records(tmp_path / "audit", 10)
    assert [(one.decision.verb, one.decision.object) for one in found] == [
        ("List", "study 1"),
        ("gap", "audit log"),
        ("List", "study 3"),
    ]
    assert found[1].decision.reason.startswith("2 decisions since ")
    assert verify(tmp_path / "audit").fault is None


def test_a_log_that_is_closed_takes_nothing_more(tmp_path: Path, decision: Make) -> None:
    async def work() -> None:
        log = AuditLog(tmp_path)
        log.close()
        log.close()
        with pytest.raises(ServiceError, match="closed"):
            await log.write(decision(1))

    asyncio.run(work())


def test_a_log_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "audit").touch()
    with pytest.raises(ServiceError, match="audit log"):
        AuditLog(tmp_path)


def test_a_decision_that_cannot_be_put_into_words_is_refused_and_the_next_taken(tmp_path: Path, decision: Make) -> None:
    async def work() -> None:
        log = AuditLog(tmp_path)
        with pytest.raises(ServiceError):
            await log.write(attrs.evolve(decision(1), outcome=object()))
        await log.write(decision(2))
        await asyncio.to_thread(log.close)

    asyncio.run(work())
    assert [one.decision.verb for one in last_records(tmp_path / "audit", 10)] == ["gap", "List"]
