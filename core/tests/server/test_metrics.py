"""What scripts logged is kept once, in order, and not without bounds; each tracker knows how far it is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from flpoc.server import metrics
from flpoc.server.metrics import MetricRecords
from flpoc.server.store import Store
from flpoc.tracking import TrackedJob, TrackerSpec
from flpoc.wire.messages import Metrics
from flpoc.wire.vocabulary import MetricRow

JOB = TrackedJob("j", "name", "default", 1, 3, ("a", "b"), "u")
PAPER = ("j", 1, "paper")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = Store(tmp_path)
    yield found
    found.close()


@pytest.fixture
def records(store: Store) -> MetricRecords:
    return MetricRecords(store)


def logged(first: int, *values: float, job: str = "j") -> Metrics:
    return Metrics(job, 1, first, tuple(MetricRow("k", value, None, 0, 1.0) for value in values))


async def kept(records: MetricRecords, site: str = "a") -> list[float]:
    return [one.value for one in (await records.after("j", 1, 0, 1000))[1] if one.site == site]


async def trackers(records: MetricRecords) -> list[str]:
    return [row.key[2] for row in await records.tracked()]


def test_repeated_numbers_are_kept_once(records: MetricRecords) -> None:
    async def run() -> None:
        await records.add("a", logged(0, 1, 2, 3))
        await records.add("a", logged(1, 2, 3, 4))
        await records.add("a", logged(0, 1, 2))
        await records.add("b", logged(0, 9))
        assert await kept(records) == [1, 2, 3, 4]
        assert await records.seen("j", 1, "a") == 4
        assert (await records.seen("j", 2, "a"), await records.dropped("j", 1)) == (0, 0)

    asyncio.run(run())


@pytest.mark.row("P3")
def test_more_than_a_job_may_keep_is_dropped_and_counted(
    records: MetricRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "KEPT_PER_JOB", 5)

    async def run() -> None:
        await records.add("a", logged(0, 1, 2, 3))
        await records.add("b", logged(0, 1, 2, 3))
        await records.add("b", logged(2, 3, 4))
        assert (await kept(records), await kept(records, "b")) == ([1, 2, 3], [1, 2])
        assert (await records.dropped("j", 1), await records.seen("j", 1, "b")) == (2, 4)

    asyncio.run(run())


def test_what_a_site_itself_could_not_keep_is_counted_as_dropped(records: MetricRecords) -> None:
    async def run() -> None:
        await records.add("a", logged(0, 1))
        await records.add("a", logged(11, 2))
        assert (await kept(records), await records.dropped("j", 1)) == ([1, 2], 10)

    asyncio.run(run())


def test_the_means_of_a_round_are_kept_once_however_often_it_is_committed(records: MetricRecords) -> None:
    async def run() -> None:
        for round_number in (0, 0, 1, 1):
            await records.add_means("j", 1, round_number, {"acc": round_number / 2, "a\nb": 1.0})
        _, rows = await records.after("j", 1, 0, 100)
        assert [(one.key, one.value, one.round) for one in rows] == [
            ("acc", 0.0, 0), ("a?b", 1.0, 0), ("acc", 0.5, 1), ("a?b", 1.0, 1),
        ]  # fmt: skip
        assert await records.dropped("j", 1) == 0

    asyncio.run(run())


def test_a_tracker_that_is_through_is_asked_again_for_what_comes_late(records: MetricRecords) -> None:
    async def run() -> None:
        await records.track(JOB, (TrackerSpec("paper", {"size": 3}),))
        await records.add("a", logged(0, 1))
        await records.ended("j", 1)
        [row] = await records.tracked()
        assert (row.key, row.settings, row.about, row.place) == (PAPER, {"size": 3}, JOB, 0)
        await records.closed(PAPER)
        assert await trackers(records) == ["paper"], "it has not written everything"
        await records.written(PAPER, 1)
        await records.closed(PAPER)
        assert await trackers(records) == []
        await records.add("a", logged(0, 1))
        assert await trackers(records) == [], "a repeat is nothing new"
        await records.add("a", logged(1, 2))
        [row] = await records.tracked()
        assert await records.after("j", 1, row.place, 10) == (2, (await records.after("j", 1, 0, 10))[1][1:])

    asyncio.run(run())


def test_a_run_that_goes_on_after_a_restart_keeps_its_trackers_places(records: MetricRecords) -> None:
    async def run() -> None:
        await records.track(JOB, (TrackerSpec("paper"),))
        await records.written(PAPER, 7)
        await records.ended("j", 1)
        await records.track(JOB, (TrackerSpec("paper"),))
        [row] = await records.tracked()
        assert (row.place, row.ended) == (7, None)

    asyncio.run(run())


def test_people_see_what_is_to_be_written_and_what_went_wrong(records: MetricRecords) -> None:
    async def run() -> None:
        await records.track(JOB, (TrackerSpec("paper"), TrackerSpec("copy")))
        await records.add("a", logged(0, 1, 2, 3))
        await records.written(("j", 1, "copy"), 1)
        await records.troubled(PAPER, "no ink")
        assert await records.describe("j", 1) == [
            {"tracker": "paper", "to_write": 3, "trouble": "no ink"},
            {"tracker": "copy", "to_write": 2, "trouble": ""},
        ]
        await records.give_up(PAPER)
        assert await trackers(records) == ["copy"]
        await records.forget("j")
        assert (await records.describe("j", 1), await kept(records)) == ([], [])

    asyncio.run(run())


def test_the_file_of_a_job_has_what_sites_logged_and_no_means(records: MetricRecords, tmp_path: Path) -> None:
    path = tmp_path / "logged.jsonl"

    async def run() -> None:
        await records.add_means("j", 1, 0, {"acc": 0.5})
        assert not await records.write_file("j", 1, path)
        assert not path.exists()
        await records.add("a", logged(0, *range(12_000)))
        assert await records.write_file("j", 1, path)

    asyncio.run(run())
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [one["value"] for one in lines] == list(range(12_000))
    assert lines[0] == {"site": "a", "key": "k", "value": 0.0, "step": None, "round": 0, "time": 1.0}
