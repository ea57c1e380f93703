"""Which updates an open round wants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flpoc.server.open_round import OpenRound
from flpoc.server.rounds import UpdateRow
from flpoc.wire.controller_messages import Assign
from flpoc.wire.messages import Announce

SITES = ("site-1", "site-2", "site-3")


def announce(round_number: int = 4, checksum: str = "a" * 32) -> Announce:
    return Announce(
        job="job", run=1, round=round_number, kind="train", attempt=1, size=8, checksum=checksum, weight=2.0,
        params_type="FULL", metrics={}, meta={}, evaluates=False,
    )  # fmt: skip


@pytest.fixture
def opened() -> OpenRound:
    found = OpenRound(4, assign=Assign(4, "train", SITES, True))
    found.count(UpdateRow.of("site-1", announce()), Path("/updates/site-1"))
    return found


@pytest.mark.parametrize(
    ("site", "message", "verdict"),
    [
        ("site-2", announce(), "ALL"),
        ("site-1", announce(), "ALL"),
        ("site-1", announce(checksum="b" * 32), "SUPERSEDED"),
        ("site-2", announce(3), "STALE"),
        ("site-2", announce(5), "WAIT"),
    ],
)
def test_an_update_is_judged_by_its_round_and_checksum(
    opened: OpenRound, site: str, message: Any, verdict: str
) -> None:
    assert opened.judge(site, message)[0] == verdict


def test_who_is_late_is_not_counted_any_more(opened: OpenRound) -> None:
    opened.late.add("site-2")
    assert opened.judge("site-2", announce())[0] == "STALE"
    assert not opened.awaits("site-2")
    assert opened.owing({}) == ["site-3"]


def test_closing_gives_updates_in_site_order_and_says_who_is_missing(opened: OpenRound) -> None:
    opened.count(UpdateRow.of("site-3", announce()), Path("/updates/site-3"))
    opened.late.add("site-2")
    closed = opened.close({})
    assert [update.site for update in closed.updates] == ["site-1", "site-3"]
    assert closed.missing == {"site-2": "late"}
    assert opened.trained == {"site-1": 2.0, "site-3": 2.0}


def test_a_failed_site_owes_nothing(opened: OpenRound) -> None:
    assert opened.owing({"site-3": "failed: ..."}) == ["site-2"]
    assert opened.close({"site-3": "failed: why"}).missing == {"site-2": "late", "site-3": "failed: why"}


@pytest.mark.parametrize(
    ("later", "quorum", "failed", "lacks"),
    [
        (("site-2", "site-3"), 3, (), False),  # those who are still to be asked may well answer
        (("site-2", "site-3"), 3, ("site-2",), True),
        (("site-2", "site-3"), 2, ("site-2",), False),
        ((), 1, ("site-2",), False),
        ((), 2, ("site-2",), True),
    ],
)
def test_a_round_whose_sites_are_asked_in_turn_counts_those_to_come(
    opened: OpenRound, later: tuple[str, ...], quorum: int, failed: tuple[str, ...], lacks: bool
) -> None:
    asked = tuple(site for site in SITES if site not in later)
    opened.assign = Assign(4, "train", asked, True, later)
    assert opened.lacks(quorum, failed) is lacks
