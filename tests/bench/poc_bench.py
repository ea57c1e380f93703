"""How long the commands take, and a proof of concept's small jobs."""

from __future__ import annotations

import datetime
import json
import statistics
import time
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from figures import Figure, spread
from place import Bench, BenchError, Place, in_turn, place, poc, seconds_of
from procs import Everything, everything

#: What `flpoc --help` cannot do without.
BARE_IMPORTS = "import click, pluggy, attrs, importlib_metadata"
NUMBERS = 10
JOB_SECONDS = 600.0

#: Sends what it received plus one, and when it received and sent it; makes random numbers in a first round.
SCRIPT = """\
import sys
import time

import numpy as np

import flpoc.client as flare

TENSORS = 4 if int(sys.argv[1]) >= 4096 else 1
COUNT = int(sys.argv[1]) // TENSORS

flare.init()
while flare.is_running():
    given = time.time()
    model = flare.receive()
    if model.params:
        params = {name: value + 1 for name, value in model.params.items()}
    else:
        rng = np.random.default_rng(flare.get_seed())
        params = {f"tensor-{n}": rng.random(COUNT, dtype="float32") for n in range(TENSORS)}
    flare.send(flare.FLModel(params=params, metrics={"given": given, "trained": time.time()}))
"""


def write_job(folder: Path, *, numbers: int, rounds: int, sites: int, name: str = "bench") -> Path:
    """A job whose model has so many float32 numbers."""
    (folder / "code").mkdir(parents=True, exist_ok=True)
    (folder / "code" / "train.py").write_text(SCRIPT)
    job = {
        "name": name,
        "script": "train.py",
        "args": [str(numbers)],
        "rounds": rounds,
        "sites": [f"site-{number}" for number in range(1, sites + 1)],
    }
    (folder / "job.json").write_text(json.dumps(job))
    return folder


def run_job(session: Any, folder: Path) -> dict[str, Any]:
    """Submit a job and wait for its end.

    Raises:
        BenchError: It did not complete.
    """
    return completed(session, session.submit_job(folder))


def completed(session: Any, job: str) -> dict[str, Any]:
    """Wait for a job's end; gives everything about it."""
    meta: dict[str, Any] = session.wait_for_job(job, timeout=JOB_SECONDS)
    if meta["status"] != "FINISHED:COMPLETED":
        raise BenchError(f"the job ended as {meta['status']}: {json.dumps(meta['cause'], indent=1)}")
    return meta


def seconds(text: str) -> float:
    """Seconds since 1970 of a time in a job's meta."""
    return datetime.datetime.fromisoformat(text).timestamp()


def round_times(meta: Mapping[str, Any]) -> list[float]:
    """How long every round but the first took, from commit to commit."""
    at = [seconds(one["time"]) for one in meta["rounds"]]
    return [after - before for before, after in pairwise(at)]


# -- the command line


def command_line(bench: Bench) -> Iterator[Figure]:
    """Commands without and with a server, beside what any Python program takes."""
    with place() as where, poc(where):
        figures = (
            ("python -c pass", lambda: where.python("pass"), ""),
            ("bare imports of click, pluggy, attrs, importlib_metadata", lambda: where.python(BARE_IMPORTS), ""),
            ("flpoc --help", lambda: where.flpoc("--help"), "<= 0.2"),
            ("flpoc plugins list", lambda: where.flpoc("plugins", "list"), ""),
            ("flpoc job list -h", lambda: where.flpoc("job", "list", "-h"), ""),
            ("flpoc job list, server runs", lambda: where.flpoc("job", "list"), "<= 0.3"),
        )
        times = 3 if bench.quick else 7
        medians = in_turn([act for _, act, _ in figures], times)
        keys = ("python", "imports", "help", "plugins_list", "job_list_help", "job_list")
        for key, (what, _, limit), median in zip(keys, figures, medians, strict=True):
            note = f"median of {times}, taken in turn; processor time {median.cpu:.2f} s"
            yield Figure(f"cli.{key}", what, median.seconds, "s", limit, note)


# -- prepare, start, stop


def prepare(bench: Bench) -> Iterator[Figure]:
    """Make the kits of small and large projects."""
    for sites, times, limit in ((2, 3, "<= 0.5"), (50, 3, "<= 1.5")):
        runs = []
        for _ in range(bench.times(times)):
            with place() as where:
                runs.append(_prepared(where, sites))
                where.flpoc("poc", "clean", "--force")
        what = f"poc prepare, {sites} sites"
        yield Figure(f"poc.prepare.{sites}", what, statistics.median(runs), "s", limit, spread(runs))


def _prepared(where: Place, sites: int) -> float:
    return seconds_of(lambda: where.flpoc("poc", "prepare", "-n", str(sites)))


def start_and_stop(bench: Bench) -> Iterator[Figure]:
    """Start until ready, stop, stop nothing; with two sites."""
    started, stopped, nothing = [], [], []
    with place() as where:
        where.flpoc("poc", "prepare", "-n", "2")
        try:
            for _ in range(bench.times(3)):
                started.append(seconds_of(lambda: where.flpoc("poc", "start")))
                stopped.append(seconds_of(lambda: where.flpoc("poc", "stop")))
                nothing.append(seconds_of(lambda: where.flpoc("poc", "stop")))
        finally:
            where.flpoc("poc", "clean", "--force")
    for key, what, runs, limit in (
        ("start", "poc start until ready, 2 sites", started, "<= 2"),
        ("stop", "poc stop, 2 sites", stopped, "<= 1.5"),
        ("stop_nothing", "poc stop, nothing runs", nothing, ""),
    ):
        yield Figure(f"poc.{key}", what, statistics.median(runs), "s", limit, spread(runs))


# -- small jobs


def trivial_job(bench: Bench) -> Iterator[Figure]:
    """A job of two rounds over two sites, and what then runs."""
    from flpoc.session import Session

    whole, first_task = [], []
    memory: list[Everything] = []
    with place() as where, poc(where) as kit, Session.open(kit) as session:
        folder = write_job(where.folder / "job", numbers=NUMBERS, rounds=2, sites=2)
        for _ in range(bench.times(3)):
            began = time.time()
            meta = completed(session, where.flpoc_json("job", "submit", "-j", str(folder))["job_id"])
            whole.append(seconds(meta["finish_time"]) - began)
            first_task.append(meta["rounds"][0]["metrics"]["given"] - seconds(meta["submit_time"]))
        # long enough to be looked at while it runs
        job = session.submit_job(write_job(where.folder / "long", numbers=NUMBERS, rounds=200, sites=2))
        for state in session.watch_job(job, timeout=JOB_SECONDS):
            if len(memory) < 3 and state["rounds_committed"] >= 20 * (len(memory) + 1):
                memory.append(everything(where.folder))
        completed(session, job)
    yield Figure(
        "job.trivial", "trivial job (10 numbers, 2 sites, 2 rounds): submit command to FINISHED",
        statistics.median(whole), "s", "<= 2", spread(whole),
    )  # fmt: skip
    yield Figure(
        "job.first_task", "the same: submission at the server to first task in the scripts",
        statistics.median(first_task), "s", "", spread(first_task),
    )  # fmt: skip
    if not memory:
        raise BenchError("the job was over before its processes could be looked at")
    most = max(memory, key=lambda one: one.pss_mb)
    keepers = most.roles.get("keeper", 0)
    parts = ", ".join(f"{count} {role}" for role, count in sorted(most.roles.items()))
    yield Figure("job.pss", "memory of server, 2 sites and a trivial job (PSS)", most.pss_mb, "MB", "<= 300", parts)
    yield Figure("job.processes", "processes of these, without keepers", most.processes - keepers, "", "<= 6")
    yield Figure("job.keepers", "keepers of these", keepers, "", "", "one for each launched process")


def small_round(bench: Bench) -> Iterator[Figure]:
    """A round of a model of ten numbers, without training."""
    from flpoc.session import Session

    rounds, counted = 50, 40
    with place() as where, poc(where) as kit, Session.open(kit) as session:
        folder = write_job(where.folder / "job", numbers=NUMBERS, rounds=rounds, sites=2)
        runs = []
        for _ in range(bench.times(3)):
            last = round_times(run_job(session, folder))[-counted:]
            runs.append(sum(last) / len(last))
    note = f"mean of the last {counted} of {rounds} rounds; {spread(runs)}"
    yield Figure("round.small", "round of a 10-number model, 2 sites", statistics.median(runs), "s", "<= 0.02", note)


BENCHES = {
    "cli": command_line,
    "prepare": prepare,
    "start": start_and_stop,
    "job": trivial_job,
    "round": small_round,
}
