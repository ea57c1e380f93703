"""Which job starts: the table."""

from __future__ import annotations

from typing import Any

import pytest

from flpoc.filtering import FilterSpec
from flpoc.jobs.spec import JobSpec, ScriptSpec
from flpoc.server.scheduler import Decision, Load, decide, load_of
from flpoc.wire.messages import PROTOCOL, Capacity, Hello

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
        spec(sites=AB, min_clients=1, plugins=("x/y",)), sites(a="", b="x/y"),
        Decision(("b",), without={"a": "x/y is not installed, or not allowed, at a"}),
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


# -- resources


def having(**capacities: Capacity) -> dict[str, Hello]:
    return {name: Hello(PROTOCOL, "1", 1, {}, capacity=one) for name, one in capacities.items()}


def wanting(sites: tuple[str, ...] = (), *, least: int | None = None, **needs: Any) -> JobSpec:
    return spec(sites=sites, min_clients=least, scripts={"@default": ScriptSpec("t.py", **needs)})


TWO = Capacity(gpus=2)
SMALL = Capacity(cpus=4.0, memory_gib=8.0, jobs=2)
#: What the job wants, what sites have, what running jobs take of them.
RESOURCES: dict[str, tuple[JobSpec, dict[str, Hello], dict[str, Load], Decision]] = {
    "nothing is limited": (wanting(AB, cpus=500, memory_gib=9e3), having(a=Capacity(), b=Capacity()), {}, Decision(AB)),
    "all fits": (wanting(AB, gpus=2), having(a=TWO, b=TWO), {}, Decision(AB)),
    "what is there is taken to the last": (
        wanting(("a",), cpus=1.5, memory_gib=3), having(a=SMALL), {"a": Load(2.5, 5.0, 0, 1)}, Decision(("a",)),
    ),
    "graphics processors are in use": (
        wanting(AB, gpus=2), having(a=TWO, b=TWO), {"b": Load(gpus=1, jobs=1)},
        Decision(waiting="waiting for resources: 1 of 2 GPUs of b are in use, 2 wanted"),
    ),
    "processors are in use": (
        wanting(("a",), cpus=2), having(a=SMALL), {"a": Load(cpus=2.5, jobs=1)},
        Decision(waiting="waiting for resources: 2.5 of 4 processors of a are in use, 2 wanted"),
    ),
    "memory is in use": (
        wanting(("a",), memory_gib=6), having(a=SMALL), {"a": Load(memory_gib=4, jobs=1)},
        Decision(waiting="waiting for resources: 4 of 8 GiB of memory of a are in use, 6 wanted"),
    ),
    "as many jobs run as may": (
        wanting(("a",)), having(a=SMALL), {"a": Load(cpus=2, jobs=2)},
        Decision(waiting="waiting for resources: a runs 2 jobs, 2 at most"),
    ),
    "a job that wants none waits for none": (
        wanting(AB), having(a=TWO, b=TWO), {"a": Load(gpus=2, jobs=9), "b": Load(gpus=2, jobs=9)}, Decision(AB),
    ),
    "all named sites are waited for, though fewer would do": (
        wanting(AB, least=1, gpus=1), having(a=TWO, b=TWO), {"b": Load(gpus=2, jobs=1)},
        Decision(waiting="waiting for resources: 2 of 2 GPUs of b are in use, 1 wanted"),
    ),
    "of sites that are not named, those with room are enough": (
        wanting(least=1, gpus=1), having(a=TWO, b=TWO), {"b": Load(gpus=2, jobs=1)}, Decision(("a",)),
    ),
    "of sites that are not named, too few have room": (
        wanting(least=2, gpus=1), having(a=TWO, b=TWO), {"b": Load(gpus=2, jobs=1)},
        Decision(waiting="waiting for resources: 2 of 2 GPUs of b are in use, 1 wanted"),
    ),
    "a mandatory site has no room": (
        spec(mandatory_sites=("b",), scripts={"@default": ScriptSpec("t.py", gpus=1)}), having(a=TWO, b=TWO),
        {"b": Load(gpus=2, jobs=1)},
        Decision(waiting="waiting for resources: 2 of 2 GPUs of b are in use, 1 wanted"),
    ),
    "several have no room": (
        wanting(AB, gpus=1), having(a=TWO, b=TWO), {"a": Load(gpus=2, jobs=1), "b": Load(gpus=2, jobs=1)},
        Decision(
            waiting="waiting for resources: 2 of 2 GPUs of a are in use, 1 wanted; "
            "2 of 2 GPUs of b are in use, 1 wanted"
        ),
    ),
    "it can never fit: graphics processors": (
        wanting(AB, gpus=3), having(a=TWO, b=TWO), {}, Decision(never="a has 2 GPUs, the job wants 3"),
    ),
    "it can never fit: one graphics processor": (
        wanting(("a",), gpus=1), having(a=Capacity()), {}, Decision(never="a has 0 GPUs, the job wants 1"),
    ),
    "it can never fit: processors": (
        wanting(("a",), cpus=4.5), having(a=SMALL), {}, Decision(never="a has 4 processors, the job wants 4.5"),
    ),
    "it can never fit: memory": (
        wanting(("a",), memory_gib=16), having(a=SMALL), {}, Decision(never="a has 8 GiB of memory, the job wants 16"),
    ),
    "it can never fit at one site, the others are enough": (
        wanting(least=1, gpus=2), having(a=Capacity(gpus=1), b=TWO), {},
        Decision(("b",), without={"a": "a has 1 GPU, the job wants 2"}),
    ),
    "needs of one site": (
        spec(sites=AB, scripts={"@default": ScriptSpec("t.py"), "b": ScriptSpec("t.py", gpus=2)}),
        having(a=Capacity(), b=TWO), {}, Decision(AB),
    ),
    "needs of one site that has not so much": (
        spec(sites=AB, scripts={"@default": ScriptSpec("t.py", gpus=2), "b": ScriptSpec("t.py")}),
        having(a=Capacity(), b=TWO), {}, Decision(never="a has 0 GPUs, the job wants 2"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", RESOURCES)
def test_a_job_waits_for_resources_and_what_never_fits_never_runs(case: str) -> None:
    job, connected, load, decision = RESOURCES[case]
    assert decide(job, connected, frozenset(AB), 0, 4, load=load) == decision


def test_a_site_that_is_not_in_the_study_any_more_stops_a_job_for_good() -> None:
    found = decide(spec(sites=AB, study="s"), having(a=TWO, b=TWO), frozenset(AB), 0, 4, foreign=["b"])
    assert found == Decision(never="b: not in study 's'")


def test_the_load_of_a_site_is_what_its_jobs_want_of_it() -> None:
    one = spec(scripts={"@default": ScriptSpec("t.py", cpus=2, memory_gib=1), "b": ScriptSpec("t.py", gpus=3)})
    running = [(one, ("a", "b")), (wanting(gpus=1), ("b",)), (wanting(), ())]
    assert load_of(running) == {"a": Load(2.0, 1.0, 0, 1), "b": Load(2.0, 0.0, 4, 2)}
    assert load_of([]) == {}
