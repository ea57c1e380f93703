"""The server's side of the courier: one that hangs, dies or fails for ever is dealt with; a real process each time."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from flpoc.plugins import Plugins
from flpoc.server import courier_host, feeds
from flpoc.server.courier_host import CourierHost
from flpoc.server.metrics import MetricRecords
from flpoc.server.store import Store
from flpoc.serving import Background
from flpoc.tracking import TrackedJob, TrackerSpec
from flpoc.wire.messages import Metrics
from flpoc.wire.vocabulary import MetricRow

TRACKER = """
import os, threading
from pathlib import Path
import attrs
from flpoc import Component, hookimpl
from flpoc.tracking import Tracker

FLPOC_API = 1

@attrs.frozen
class Settings:
    pipe: str
    does: str = ""
    once: str = ""

class Odd(Tracker):
    def __init__(self, settings):
        self.settings = settings
        self.pipe = os.open(settings.pipe, os.O_WRONLY)

    def write(self, metrics):
        first = not self.settings.once or not Path(self.settings.once).exists()
        if first and self.settings.once:
            Path(self.settings.once).touch()
        if first:
            os.write(self.pipe, self.settings.does.encode() + b"\\n")
        if first and self.settings.does == "hang":
            threading.Event().wait()
        if first and self.settings.does == "die":
            os._exit(3)
        if first and self.settings.does == "raise":
            raise OSError("the paper is gone")
        os.write(self.pipe, b"wrote %d\\n" % len(metrics))

    def close(self):
        os.write(self.pipe, b"closed\\n")

@hookimpl
def flpoc_trackers():
    yield Component("odd", "Misbehaves", Odd, Settings)
"""
JOB = TrackedJob("j", "name", "default", 1, 3, ("a",), "u")

Said = Callable[[], Any]


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "__init__.py").touch()
    (tmp_path / "odd" / "hooks.py").write_text(TRACKER)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))


@asynccontextmanager
async def tracked(folder: Path, **settings: str) -> AsyncIterator[tuple[CourierHost, MetricRecords, Said]]:
    """A job that has logged three numbers, its tracker, and what that says, line by line."""
    os.mkfifo(folder / "pipe")
    handle = os.open(folder / "pipe", os.O_RDWR)
    store = Store(folder)
    records = MetricRecords(store)
    background = Background(courier_host.log)
    host = CourierHost(store, records, Plugins(), ("odd.hooks",), background.later)
    lines: list[str] = []

    async def said() -> str:
        while not lines:
            lines.extend((await asyncio.wait_for(asyncio.to_thread(os.read, handle, 4096), 60)).decode().splitlines())
        return lines.pop(0)

    try:
        await host.restore(set())
        rows = tuple(MetricRow("k", value, None, 0, 1.0) for value in (1.0, 2.0, 3.0))
        await records.add("a", Metrics("j", 1, 0, rows))
        await host.track(JOB, (TrackerSpec("odd", {"pipe": str(folder / "pipe"), **settings}),))
        yield host, records, said
    finally:
        await host.stop()
        await background.cancel()
        store.close()
        os.write(handle, b"\n")  # a thread may still wait for a line
        os.close(handle)


@pytest.mark.usefixtures("packages")
def test_a_tracker_that_hangs_for_long_is_killed_and_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(courier_host, "HANGS_AFTER", 5.0)  # a busy machine starts a courier in less

    async def run() -> None:
        async with tracked(tmp_path, does="hang", once=str(tmp_path / "hung")) as (_, _, said):
            assert [await said(), await said()] == ["hang", "wrote 3"]

    asyncio.run(run())
    assert "job j: tracker odd: no answer for 5 s; the courier is started again" in caplog.text


@pytest.mark.usefixtures("packages")
def test_a_courier_that_dies_again_and_again_is_started_ever_more_slowly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(courier_host, "PAUSES", (0.05, 0.2))

    async def run() -> None:
        async with tracked(tmp_path, does="die") as (_, _, said):
            for _ in range(5):
                assert await said() == "die"

    asyncio.run(run())
    pauses = [one.message.rpartition(" in ")[2] for one in caplog.records if "the courier ended (3)" in one.message]
    assert pauses[:4] == ["0.05 s", "0.1 s", "0.2 s", "0.2 s"]


@pytest.mark.usefixtures("packages")
def test_a_tracker_that_fails_long_after_the_end_of_its_job_is_given_up_and_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(feeds, "KEEPS_TRYING", 0.0)

    async def run() -> list[dict[str, Any]]:
        async with tracked(tmp_path, does="raise") as (host, records, said):
            assert await said() == "raise"
            await host.ended("j", 1)
            while (line := await said()) == "raise":
                continue
            assert line == "closed"
            assert await records.tracked() == []
            return await records.describe("j", 1)

    [told] = asyncio.run(run())
    assert told["to_write"] == 3
    assert told["trouble"].startswith("OSError: the paper is gone (hooks.py:")
    assert "job j: tracker odd: given up" in caplog.text


@pytest.mark.usefixtures("packages")
def test_a_courier_that_hangs_does_not_hold_up_the_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = 0.0

    async def run() -> None:
        nonlocal begun
        async with tracked(tmp_path, does="hang") as (_, _, said):
            assert await said() == "hang"
            begun = time.monotonic()

    asyncio.run(run())
    assert time.monotonic() - begun < courier_host.GRACE + 15
