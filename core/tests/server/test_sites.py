"""A site's connection: what is sent is sent in order, what is asked is answered, or it is said that it was not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from flpoc.jobs.statements import SignedStatement
from flpoc.server import operations
from flpoc.server.operations import Operations
from flpoc.server.sites import Sites, SiteSession
from flpoc.wire.messages import PROTOCOL, Hello, Instruct, JobWant, Told

HELLO = Hello(PROTOCOL, "1", 1, {})
SIGNED = SignedStatement(b"{}", b"s", b"c")


def run(work: Callable[[], Awaitable[Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(work(), 60))  # type: ignore[arg-type]


def session(name: str = "site-1") -> SiteSession:
    return SiteSession(name, "org", 1, HELLO, 0.0, 0.0)


async def everything(one: SiteSession) -> list[Any]:
    found = []
    while (message := await one.outgoing()) is not None:
        found.append(message)
    return found


def test_what_is_wanted_takes_the_place_of_what_was_wanted_before() -> None:
    async def work() -> list[Any]:
        one = session()
        for message in (JobWant("a", 1, "run"), JobWant("b", 1, "run"), JobWant("a", 1, "drop")):
            one.send(message)
        one.close()
        one.send(JobWant("c", 1, "run"))
        return await everything(one)

    assert run(work) == [JobWant("a", 1, "drop"), JobWant("b", 1, "run")]


def test_each_question_gets_its_own_answer() -> None:
    async def work() -> list[Any]:
        one = session()
        asked = [asyncio.create_task(one.ask(lambda number: Instruct(number, SIGNED))) for _ in range(3)]
        numbers = [(await one.outgoing()).number for _ in asked]
        for number in reversed(numbers):
            one.answered(number, Told(number, f"answer {number}"))
        one.answered(99, Told(99))  # nobody waits for it
        one.answered(numbers[0], Told(numbers[0], "again"))
        return [(await task).data for task in asked] == [f"answer {number}" for number in numbers]  # type: ignore[return-value]

    assert run(work) is True


def instruct(monkeypatch: pytest.MonkeyPatch, answer: Callable[[SiteSession, int], None], within: float = 60) -> Any:
    """What becomes of an order that a site treats like this."""
    monkeypatch.setattr(operations, "ANSWER_WITHIN", within)
    nothing: Any = SimpleNamespace()

    async def work() -> Any:
        one = session()
        task = asyncio.create_task(Operations(nothing, nothing)._instruct(one, SIGNED))
        answer(one, (await one.outgoing()).number)
        return await task

    return run(work)


def test_an_order_is_answered_refused_or_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    assert instruct(monkeypatch, lambda one, number: one.answered(number, Told(number, {"a": 1}))) == {"data": {"a": 1}}
    found = instruct(
        monkeypatch, lambda one, number: one.answered(number, Told(number, None, "AUTH_FAILED", "no", "ask"))
    )
    assert found == {"error": {"code": "AUTH_FAILED", "message": "no", "hint": "ask"}}
    found = instruct(monkeypatch, lambda one, number: one.gone())
    assert (found["error"]["code"], found["error"]["message"]) == ("SITE_NOT_FOUND", "site-1 has gone away")
    found = instruct(monkeypatch, lambda one, number: None, 0.05)
    assert (found["error"]["code"], "has not answered" in found["error"]["message"]) == ("TIMEOUT", True)


def test_whoever_listens_hears_of_every_coming_and_going() -> None:
    async def work() -> list[int]:
        sites, heard = Sites(), []
        sites.listen(changed := lambda: heard.append(len(sites.connected)))
        first = sites.attach("site-1", "org", 1, HELLO)
        second = sites.attach("site-1", "org", 2, HELLO)
        sites.detach(first)  # the newer one stays
        assert sites.connected == {"site-1": second}
        sites.detach(second)
        sites.forget(changed)
        sites.attach("site-2", "org", 1, HELLO)
        return heard

    assert run(work) == [1, 1, 0]
