"""NVFlare's proof of concept, driven by its own commands, and jobs that do the same work as ours.

The script answers with what it received plus one and makes random numbers in the
first round; FedAvg without a persistor saves the model after each round. Both are
in the job's folder as that system documents it; nothing of it is imported here.
"""

from __future__ import annotations

import datetime
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import procs
from place import Bench, BenchError, Place, place

#: The port of its sample project.
PORT = 8002
START_SECONDS = 150.0
JOB_SECONDS = 300.0

#: Writes down when it received a model and when its answer was ready, as the file of its site.
SCRIPT = """\
import sys
import time

import numpy as np

import nvflare.client as flare

TENSORS = 4 if int(sys.argv[1]) >= 4096 else 1
COUNT = int(sys.argv[1]) // TENSORS

flare.init()
while flare.is_running():
    model = flare.receive()
    given = time.time()
    if model.params:
        params = {name: value + 1 for name, value in model.params.items()}
    else:
        rng = np.random.default_rng()
        params = {f"tensor-{n}": rng.random(COUNT, dtype="float32") for n in range(TENSORS)}
    with open(f"{sys.argv[2]}/{flare.get_site_name()}", "a") as times:
        times.write(f"{given} {time.time()}\\n")
    flare.send(flare.FLModel(params=params, params_type="FULL"))
"""


def command(where: Place, *args: str, seconds: float = 60.0) -> Any:
    """What a command answers.

    Raises:
        BenchError: It failed, took too long or answered nothing.
    """
    said = where.run(where.program("nvflare"), "--format", "json", *args, seconds=seconds)
    try:
        return json.loads(said.strip().splitlines()[-1])["data"]
    except (ValueError, LookupError, TypeError):
        raise BenchError(f"nvflare {' '.join(args)}: no answer in\n{said}") from None


@contextmanager
def fresh(bench: Bench) -> Iterator[Place]:
    """A place with its own workspace; whatever runs in it is ended by process id."""
    with place(bench.programs) as where:
        where.env["NVFLARE_POC_WORKSPACE"] = str(where.workspace)
        try:
            yield where
        finally:
            procs.kill_all(where.folder)


def prepare(where: Place, sites: int) -> None:
    command(where, "poc", "prepare", "-n", str(sites), "--force")


def start(where: Place) -> None:
    """Start everything; returns once sites are registered."""
    ready = str(int(START_SECONDS) - 30)
    command(where, "poc", "start", "--timeout", ready, seconds=START_SECONDS)


def prepare_to_start(where: Place, sites: int) -> None:
    """Prepare a project whose port is free; the sample project always uses the same one."""
    prepare(where, sites)
    sample = (where.workspace / "project.yml").read_text(encoding="utf-8")
    project = where.folder / "project.yml"
    project.write_text(sample.replace(str(PORT), str(_free_port())), encoding="utf-8")
    command(where, "poc", "prepare", "-i", str(project), "--force")


@contextmanager
def poc(bench: Bench, sites: int = 2) -> Iterator[Place]:
    """A proof of concept that runs."""
    with fresh(bench) as where:
        prepare_to_start(where, sites)
        start(where)
        yield where


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


# -- jobs


@attrs.frozen
class Job:
    """A job's folder, and where its scripts write their times."""

    folder: Path
    times: Path
    sites: int
    rounds: int


def write_job(folder: Path, *, numbers: int, rounds: int, sites: int) -> Job:
    """A job whose model has so many float32 numbers."""
    job = Job(folder / "bench", folder / "times", sites, rounds)
    config = job.folder / "app" / "config"
    config.mkdir(parents=True)
    job.times.mkdir()
    custom = job.folder / "app" / "custom"
    custom.mkdir()
    (custom / "train.py").write_text(SCRIPT, encoding="utf-8")
    meta = {"name": "bench", "min_clients": sites, "resource_spec": {}, "deploy_map": {"app": ["@ALL"]}}
    (job.folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    (config / "config_fed_server.json").write_text(json.dumps(_server(rounds, sites)), encoding="utf-8")
    (config / "config_fed_client.json").write_text(json.dumps(_client(numbers, job.times)), encoding="utf-8")
    return job


def _server(rounds: int, sites: int) -> dict[str, Any]:
    fedavg = {
        "id": "controller",
        "path": "nvflare.app_common.workflows.fedavg.FedAvg",
        "args": {"num_clients": sites, "num_rounds": rounds, "persistor_id": ""},
    }
    return {
        "format_version": 2,
        "workflows": [fedavg],
        "components": [],
        "task_data_filters": [],
        "task_result_filters": [],
    }


def _client(numbers: int, times: Path) -> dict[str, Any]:
    executor = {
        "path": "nvflare.app_common.executors.client_api_executor.ClientAPIExecutor",
        "args": {
            "execution_mode": "in_process",
            "task_script_path": "train.py",
            "task_script_args": f"{numbers} {times}",
            "params_exchange_format": "numpy",
        },
    }
    return {
        "format_version": 2,
        "executors": [{"tasks": ["*"], "executor": executor}],
        "components": [],
        "task_data_filters": [],
        "task_result_filters": [],
    }


def submit(where: Place, job: Job) -> str:
    return str(command(where, "job", "submit", "-j", str(job.folder))["job_id"])


def completed(where: Place, job_id: str, seconds: float = JOB_SECONDS) -> Mapping[str, Any]:
    """Wait for a job's end; gives what is known of it.

    Raises:
        BenchError: It did not complete.
    """
    said = command(where, "job", "wait", job_id, "--timeout", str(int(seconds)), seconds=seconds + 30)
    if said["status"] != "FINISHED:COMPLETED":
        raise BenchError(f"the job ended as {said['status']}\n{_cause(where, job_id)}".rstrip())
    meta: Mapping[str, Any] = said["job_meta"]
    return meta


def _cause(where: Place, job_id: str) -> str:
    """The end of the first error log that a job has left."""
    for log in sorted(where.workspace.rglob(f"{job_id}/error_log.txt")):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        if lines:
            return "\n".join(lines[-15:])
    return ""


def finished_at(meta: Mapping[str, Any]) -> float:
    """Seconds since 1970 of a job's end: its start and how long it ran, which are both in its meta."""
    hours, minutes, seconds = str(meta["duration"]).split(":")
    return at(meta["start_time"]) + int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def at(text: str) -> float:
    return datetime.datetime.fromisoformat(text).timestamp()


def times_of(job: Job) -> list[list[tuple[float, float]]]:
    """For every site, when each round was given to its script and when the answer was ready."""
    found = []
    for path in sorted(job.times.iterdir()):
        lines = path.read_text(encoding="utf-8").splitlines()
        found.append([(float(given), float(ready)) for given, ready in (line.split() for line in lines)])
    return found


def await_rounds(job: Job, rounds: int, seconds: float = 120.0) -> None:
    """Wait until the scripts of all sites have done so many rounds.

    Raises:
        BenchError: They have not within *seconds*.
    """
    until = time.monotonic() + seconds
    while True:
        sites = times_of(job)
        if len(sites) == job.sites and all(len(one) >= rounds for one in sites):
            return
        if time.monotonic() > until:
            raise BenchError(f"no round {rounds} within {seconds:.0f} s")
        time.sleep(0.05)


def round_times(job: Job) -> list[float]:
    """How long every round but the first took: from the last site's answer to its next one.

    Raises:
        BenchError: A site has missed a round.
    """
    sites = times_of(job)
    if len(sites) != job.sites or any(len(one) != job.rounds for one in sites):
        raise BenchError(f"{job.sites} sites and {job.rounds} rounds; answered were {[len(one) for one in sites]}")
    last: Sequence[float] = [max(ready for _, ready in one) for one in zip(*sites, strict=True)]
    return [after - before for before, after in pairwise(last)]


def memory_at_hand_mb() -> float:
    """Memory that could be had without swapping."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    kib = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    return kib * 1024 / 1e6


def processors() -> int:
    return os.cpu_count() or 1
