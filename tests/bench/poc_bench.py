"""How long the commands take, and a proof of concept's small jobs."""

from __future__ import annotations

import datetime
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from figures import Figure, spread
from place import Bench, BenchError, Measurement, Place, in_turn, place, poc, seconds_of
from procs import Everything, everything

#: What `flpoc --help` cannot do without.
BARE_IMPORTS = "import click, pluggy, attrs, importlib_metadata"
NUMBERS = 10
JOB_SECONDS = 300.0

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
        acts: Mapping[str, Callable[[], object]] = {
            "cli.python": lambda: where.python("pass"),
            "cli.imports": lambda: where.python(BARE_IMPORTS),
            "cli.help": lambda: where.flpoc("--help"),
            "cli.plugins_list": lambda: where.flpoc("plugins", "list"),
            "cli.job_list_help": lambda: where.flpoc("job", "list", "-h"),
            "cli.job_list": lambda: where.flpoc("job", "list"),
        }
        yield from commands(acts, 3 if bench.quick else 7)


def commands(acts: Mapping[str, Callable[[], object]], times: int) -> Iterator[Figure]:
    """What each of several commands takes, by the key of its row."""
    for key, median in zip(acts, in_turn(list(acts.values()), times), strict=True):
        note = f"median of {times}, taken in turn; processor time {median.cpu:.2f} s"
        yield Figure(key, median.seconds, note)


# -- prepare, start, stop


def prepare(bench: Bench) -> Iterator[Figure]:
    """Make the kits of small and large projects."""
    for sites in (2, 50):
        runs = []
        for _ in range(bench.times(3)):
            with place() as where:
                runs.append(_prepared(where, sites))
                where.flpoc("poc", "clean", "--force")
        yield median_of(f"poc.prepare.{sites}", runs)


def median_of(key: str, runs: Sequence[float]) -> Figure:
    return Figure(key, statistics.median(runs), spread(runs))


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
    yield median_of("poc.start", started)
    yield median_of("poc.stop", stopped)
    yield median_of("poc.stop_nothing", nothing)


# -- small jobs


def trivial_job(bench: Bench) -> Iterator[Figure]:
    """A job of two rounds over two sites, and what then runs."""
    from flpoc.session import Session

    whole, first_task = [], []
    memory: list[Everything] = []
    with place() as where, poc(where) as kit, Session.open(kit) as session:
        yield from memory_of("idle", everything(where.folder))
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
    yield median_of("job.trivial", whole)
    yield median_of("job.first_task", first_task)
    yield from memory_in_job(memory)


def memory_of(key: str, seen: Everything) -> Iterator[Figure]:
    """Memory and number of the processes that were seen at one moment."""
    parts = ", ".join(f"{count} {role}" for role, count in sorted(seen.roles.items()))
    yield Figure(f"{key}.pss", seen.pss_mb, parts)
    yield Figure(f"{key}.processes", seen.processes - seen.keepers)


def memory_in_job(seen: Sequence[Everything]) -> Iterator[Figure]:
    """The same for the moment of a job at which they took most.

    Raises:
        BenchError: There was no such moment.
    """
    if not seen:
        raise BenchError("the job was over before its processes could be looked at")
    most = max(seen, key=lambda one: one.pss_mb)
    yield from memory_of("job", most)
    yield Figure("job.keepers", most.keepers, "each stands beside one launched process")


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
    yield Figure("round.small", statistics.median(runs), note)


#: What a proof of concept's benches measure, whoever's it is.
JOB_KEYS = (
    "idle.pss", "idle.processes", "job.trivial", "job.first_task", "job.pss", "job.processes", "job.keepers",
)  # fmt: skip
START_KEYS = ("poc.start", "poc.stop", "poc.stop_nothing")
BENCHES: Mapping[str, Measurement] = {
    "cli": Measurement(
        command_line,
        ("cli.python", "cli.imports", "cli.help", "cli.plugins_list", "cli.job_list_help", "cli.job_list"),
    ),
    "prepare": Measurement(prepare, ("poc.prepare.2", "poc.prepare.50")),
    "start": Measurement(start_and_stop, START_KEYS),
    "job": Measurement(trivial_job, JOB_KEYS),
    "round": Measurement(small_round, ("round.small",)),
}
