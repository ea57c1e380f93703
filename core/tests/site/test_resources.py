"""What a site gives to jobs: never more than there is, never one thing to two."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from flpoc.errors import ConfigError, IntegrityError
from flpoc.jobs.spec import ScriptSpec
from flpoc.site.resources import Resources, Share, resource_policy
from flpoc.wire.messages import Capacity


def resources(max_jobs: int = 0, **policy: Any) -> Resources:
    return Resources(resource_policy(policy), max_jobs)


def script(**needs: Any) -> ScriptSpec:
    return ScriptSpec("t.py", **needs)


def run(work: Callable[[], Awaitable[Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(work(), 60))  # type: ignore[arg-type]


async def settled(task: asyncio.Task[Any]) -> bool:
    """Whether a task comes to its end when everybody has had a turn."""
    for _ in range(5):
        await asyncio.sleep(0)
    return task.done()


def test_the_policy_says_what_there_is() -> None:
    assert resources().capacity == Capacity()
    assert resources(3, cpus=2.5, memory_gib=8, gpus=["7", "9"]).capacity == Capacity(2.5, 8.0, 2, 3)
    assert resources(gpus=[]).exact
    assert not resources().exact


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ({"cpu": 1}, "cpu"),
        ({"cpus": 0}, "cpus: 0 is not greater than 0"),
        ({"cpus": -1}, "not greater than 0"),
        ({"cpus": "two"}, "cpus"),
        ({"memory_gib": 0.0}, "memory_gib: 0 is not greater than 0"),
        ({"gpus": 2}, "gpus"),
        ({"gpus": [0, 1]}, "gpus"),
        ({"gpus": ["0", "1", "0"]}, "one is named twice"),
    ],
)
def test_a_policy_that_is_wrong_stops_the_agent(found: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resource_policy(found)
    assert "local/policy.json: resources" in caught.value.message
    assert why in caught.value.message


@pytest.mark.parametrize(
    ("given", "ids"),
    [("3,1", ("3", "1")), (" 0 , 2 ", ("0", "2")), ("", ()), ("-1", ()), ("0,0", ("0",)), ("GPU-ab", ("GPU-ab",))],
)
def test_without_a_word_in_the_policy_there_is_what_the_agent_was_given(
    monkeypatch: pytest.MonkeyPatch, given: str, ids: tuple[str, ...]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert resources().gpus == ids
    assert resources(gpus=["9"]).gpus == ("9",)
    assert not resources().exact
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert resources().gpus == ()


def test_graphics_processors_are_dealt_in_the_order_of_the_policy_and_never_twice(tmp_path: Path) -> None:
    async def work() -> None:
        here = resources(gpus=["7", "3", "5"])
        assert await here.take("a", script(gpus=1), tmp_path / "a") == Share(1.0, 0.0, ("7",))
        assert (await here.take("b", script(gpus=2), tmp_path / "b")).gpus == ("3", "5")
        assert (await here.take("c", script(), tmp_path / "c")).gpus == ()
        assert (await here.take("a", script(gpus=1), tmp_path / "a")).gpus == ("7",)
        assert here.held_by() == {"a": ["7"], "b": ["3", "5"]}
        waiting = asyncio.create_task(here.take("d", script(gpus=2), tmp_path / "d"))
        assert not await settled(waiting)
        await here.free("a")
        assert not await settled(waiting)
        await here.free("b")
        assert (await waiting).gpus == ("7", "3")

    run(work)


@pytest.mark.parametrize(
    ("policy", "needs", "most"),
    [
        ({"cpus": 4.0}, {"cpus": 2.0}, 2),
        ({"memory_gib": 10.0}, {"memory_gib": 3.0}, 3),
        ({"gpus": ["0", "1", "2"]}, {"gpus": 1}, 3),
        ({"max_jobs": 5}, {"cpus": 9.0}, 5),
        ({"cpus": 3.0, "memory_gib": 2.0}, {"cpus": 1.0, "memory_gib": 1.0}, 2),
    ],
)
def test_no_more_is_given_than_there_is(tmp_path: Path, policy: Any, needs: Any, most: int) -> None:
    async def work() -> None:
        here = resources(**policy)
        tasks = [
            asyncio.create_task(here.take(f"{one}", script(**needs), tmp_path / f"{one}")) for one in range(most + 2)
        ]
        await settled(tasks[-1])
        assert [task.done() for task in tasks] == [True] * most + [False, False]
        await here.free("0")
        await here.free("0")  # once is enough
        await here.free("nobody")
        await settled(tasks[-1])
        assert sum(task.done() for task in tasks) == most + 1
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run(work)


def test_who_gives_up_waiting_takes_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        here = resources(gpus=["0"])
        await here.take("a", script(gpus=1), tmp_path / "a")
        waiting = [asyncio.create_task(here.take(name, script(gpus=1), tmp_path / name)) for name in "bc"]
        await settled(waiting[0])
        waiting[0].cancel()
        await here.free("a")
        assert (await waiting[1]).gpus == ("0",)
        assert here.held_by() == {"c": ["0"]}

    run(work)


@pytest.mark.parametrize(
    ("policy", "needs", "why"),
    [
        ({"gpus": ["0"]}, {"gpus": 2}, "the job wants 2 GPUs; this site gives 1"),
        ({}, {"gpus": 1}, "the job wants 1 GPUs; this site gives 0"),
        ({"cpus": 2.0}, {"cpus": 2.5}, "the job wants 2.5 processors; this site gives 2"),
        ({"memory_gib": 2.0}, {"memory_gib": 3.0}, "the job wants 3 GiB of memory; this site gives 2"),
    ],
)
def test_what_never_fits_is_refused_whatever_the_server_thinks(
    tmp_path: Path, policy: Any, needs: Any, why: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        run(lambda: resources(**policy).take("a", script(**needs), tmp_path / "a"))
    assert caught.value.message == why
    assert "policy.json decides" in caught.value.hint
    assert not os.listdir(tmp_path)


def test_a_later_agent_knows_what_jobs_have(tmp_path: Path) -> None:
    async def before() -> None:
        here = resources(gpus=["0", "1"], cpus=4)
        await here.take("a", script(gpus=1, cpus=3), tmp_path / "a")
        await here.take("b", script(), tmp_path / "b")

    async def after() -> None:
        here = resources(gpus=["1", "0"], cpus=4)
        for name in "abc":
            here.adopt(name, tmp_path / name)
        assert here.held_by() == {"a": ["0"]}
        assert (await here.take("a", script(gpus=1, cpus=3), tmp_path / "a")).gpus == ("0",)
        waiting = asyncio.create_task(here.take("d", script(gpus=1), tmp_path / "d"))
        assert not await settled(waiting), "a and b have all four processors"
        await here.free("b")
        assert (await waiting).gpus == ("1",)

    run(before)
    run(after)
    assert json.loads((tmp_path / "a").read_text()) == {"cpus": 3.0, "gpus": ["0"], "memory_gib": 0.0}


def test_a_share_that_could_not_be_written_down_is_written_the_next_time(tmp_path: Path) -> None:
    async def work() -> None:
        here = resources(gpus=["0", "1"])
        (tmp_path / "a.part").mkdir()
        with pytest.raises(OSError, match="directory"):
            await here.take("a", script(gpus=1), tmp_path / "a")
        (tmp_path / "a.part").rmdir()
        assert (await here.take("a", script(gpus=1), tmp_path / "a")).gpus == ("0",)

    run(work)
    assert json.loads((tmp_path / "a").read_text())["gpus"] == ["0"]


@pytest.mark.parametrize("content", [b"", b"[]", b'{"gpus": "0"}', b"\xff"])
def test_a_record_that_is_damaged_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(IntegrityError, match="is damaged"):
        resources(gpus=["0"]).adopt("a", tmp_path / "a")
