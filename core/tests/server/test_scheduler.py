"""Which job starts: the table."""

from __future__ import annotations

from typing import Any

import pytest

from flpoc.filtering import FilterSpec
from flpoc.jobs.spec import JobSpec, ScriptSpec
from flpoc.server.scheduler import Decision, decide
from flpoc.wire.messages import PROTOCOL, Hello

DEFAULT = {"@default": ScriptSpec("t.py")}


def spec(**changes: Any) -> JobSpec:
    return JobSpec(**({"name": "j", "scripts": DEFAULT} | changes))


def sites(**plugins: str) -> dict[str, Hello]:
    return {name: Hello(PROTOCOL, "1", 1, dict.fromkeys(has.split(), "1")) for name, has in plugins.items()}


AB = ("a", "b")
TABLE: dict[str, tuple[JobSpec, dict[str, Hello], Decision]] = {
    "nobody is there": (spec(), {}, Decision(waiting="0 of 1 sites are connected")),
    "one is enough": (spec(), sites(a=""), Decision(("a",))),
    "all that are there, in order": (spec(), sites(b="", a=""), Decision(AB)),
    "too few": (spec(min_clients=2), sites(a=""), Decision(waiting="1 of 2 sites are connected")),
    "named, all there": (spec(sites=("b", "a")), sites(a="", b="", c=""), Decision(("b", "a"))),
    "named, one was there": (spec(sites=AB), sites(a=""), Decision(waiting="waiting for b (disconnected)")),
    "named, one never was": (spec(sites=("a", "x")), sites(a=""), Decision(waiting="waiting for x (never connected)")),
    "named, fewer are enough": (spec(sites=AB, min_clients=1), sites(a=""), Decision(("a",))),
    "mandatory is absent": (
        spec(mandatory_sites=("b",)), sites(a=""), Decision(waiting="waiting for b (disconnected) (mandatory)"),
    ),
    "a plugin is missing for good": (
        spec(sites=AB, filters=(FilterSpec("f"),)), sites(a="filters/f", b=""),
        Decision(never="filters/f is not installed, or not allowed, at b"),
    ),
    "a filter has another name": (
        spec(filters=(FilterSpec("clp"),)), sites(a="filters/clip frameworks/clp2"),
        Decision(never="filters/clp is not installed, or not allowed, at a; did you mean 'clip'?"),
    ),
    "a plugin is missing, others are enough": (
        spec(sites=AB, min_clients=1, plugins=("x/y",)), sites(a="", b="x/y"), Decision(("b",)),
    ),
    "a plugin is missing, an absent site may make up for it": (
        spec(sites=("a", "b", "c"), min_clients=2, plugins=("x/y",)), sites(a="", b="x/y"),
        Decision(waiting="waiting for other sites: x/y is not installed, or not allowed, at a"),
    ),
    "a plugin is missing everywhere": (
        spec(plugins=("x/y",)), sites(a="", b=""), Decision(never="x/y is not installed, or not allowed, at a"),
    ),
    "a plugin is missing at a mandatory site": (
        spec(mandatory_sites=("b",), plugins=("x/y",)), sites(a="x/y", b=""),
        Decision(never="x/y is not installed, or not allowed, at b"),
    ),
    "a site that has no script takes no part": (
        spec(scripts={"b": ScriptSpec("t.py")}), sites(a="", b=""), Decision(("b",)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLE)
def test_a_job_starts_waits_or_can_never_run(case: str) -> None:
    job, connected, decision = TABLE[case]
    assert decide(job, connected, frozenset(AB), 0, 4) == decision


def test_no_more_jobs_run_than_allowed() -> None:
    assert "4 at most" in decide(spec(), sites(a=""), frozenset(), 4, 4).waiting
