"""The column of NVFlare: the same work through its own commands, in the rows that it has, too.

It takes some twelve minutes on a machine that has nothing else to do.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import install_bench
import nvflare_place as nvflare
import procs
from figures import Figure, spread
from place import Bench, BenchError, Measurement, Place, seconds_of
from poc_bench import JOB_KEYS, NUMBERS, START_KEYS, commands, median_of, memory_in_job, memory_of
from procs import Everything, everything, watching
from rows import ROWS, is_watched
from traffic import Load, memory, server_memory, speeds

#: All processes together took up to so many times what all sites' models weigh, and so much more for themselves.
_MEMORY_OF_A_MODEL, _MEMORY_OF_PROCESSES_MB = 11, 1500
#: A job has a second or two of its own; the rest is this for each MB of each site and round.
_SECONDS_OF_A_MEGABYTE = 0.2


def _version() -> str:
    wanted = Path(__file__).with_name("peer-nvflare.txt").read_text(encoding="utf-8").strip()
    return wanted.partition("==")[2]


TITLE = f"NVFlare {_version()}"


def command_line(bench: Bench) -> Iterator[Figure]:
    """Commands without and with a server."""
    with nvflare.poc(bench) as where:
        program = where.program("nvflare")
        acts: Mapping[str, Callable[[], object]] = {
            "cli.help": lambda: where.run(program, "--help"),
            "cli.job_list_help": lambda: where.run(program, "job", "list", "-h"),
            "cli.job_list": lambda: where.run(program, "job", "list"),
        }
        yield from commands(acts, 1 if bench.quick else 5)


def prepare(bench: Bench) -> Iterator[Figure]:
    """Make the kits of small and large projects."""
    for sites in (2, 50):
        runs = []
        for _ in range(bench.times(3)):
            with nvflare.fresh(bench) as where:
                runs.append(_prepared(where, sites))
        yield median_of(f"poc.prepare.{sites}", runs)


def _prepared(where: Place, sites: int) -> float:
    return seconds_of(lambda: nvflare.prepare(where, sites))


def start_and_stop(bench: Bench) -> Iterator[Figure]:
    """Start until ready, stop, stop nothing; with two sites. A stop counts until its command returns."""
    started, stopped, nothing = [], [], []
    failures: list[BenchError] = []
    with nvflare.fresh(bench) as where:
        nvflare.prepare_to_start(where, 2)
        for _ in range(bench.times(2)):
            started.append(seconds_of(lambda: nvflare.start(where)))
            try:
                stopped.append(seconds_of(lambda: nvflare.command(where, "poc", "stop", seconds=90)))
            except BenchError as error:
                failures.append(error)
            # the command returns while scripts that restart services are still there
            procs.kill_all(where.folder)
        nothing.append(seconds_of(lambda: nvflare.command(where, "poc", "stop", seconds=90)))
    yield median_of("poc.start", started)
    if not stopped:
        raise failures[0]
    note = f"; {len(failures)} of {len(started)} failed" if failures else ""
    yield Figure("poc.stop", statistics.median(stopped), spread(stopped) + note)
    yield median_of("poc.stop_nothing", nothing)


def trivial_job(bench: Bench) -> Iterator[Figure]:
    """A job of two rounds over two sites, and what then runs."""
    whole, first_task = [], []
    seen: list[Everything] = []
    with nvflare.poc(bench) as where:
        yield from memory_of("idle", everything(where.folder))
        for number in range(bench.times(2)):
            job = nvflare.write_job(where.folder / f"job-{number}", numbers=NUMBERS, rounds=2, sites=2)
            began = time.time()
            job_id = nvflare.submit(where, job)
            nvflare.await_rounds(job, 1)
            seen.append(everything(where.folder))
            meta = nvflare.completed(where, job_id)
            whole.append(nvflare.finished_at(meta) - began)
            first = min(given for (given, _), *_ in nvflare.times_of(job))
            first_task.append(first - nvflare.at(meta["submit_time"]))
    yield median_of("job.trivial", whole)
    yield median_of("job.first_task", first_task)
    yield from memory_in_job(seen)


def small_round(bench: Bench) -> Iterator[Figure]:
    """A round of a model of ten numbers, without training."""
    rounds = 4 if bench.quick else 12
    with nvflare.poc(bench) as where:
        job = nvflare.write_job(where.folder / "job", numbers=NUMBERS, rounds=rounds, sites=2)
        nvflare.completed(where, nvflare.submit(where, job))
        times = nvflare.round_times(job)
    yield Figure("round.small", statistics.mean(times), f"mean of the last {len(times)} of {rounds} rounds")


def traffic(load: Load) -> Measurement:
    """A bench of a model of that size."""

    def run(bench: Bench) -> Iterator[Figure]:
        rounds = min(load.rounds, 3) if bench.quick else load.rounds
        yield from _moved(bench, Load(load.megabytes, load.sites, rounds))

    key = f"traffic.{load.megabytes}x{load.sites}."
    # processor time is left out: here the job's own processes move the models, there server and agents do
    keys = tuple(one for one in ROWS if one.startswith(key) and not one.endswith((".cpu", ".share")))
    return Measurement(run, keys)


def _moved(bench: Bench, load: Load) -> Iterator[Figure]:
    needed = _MEMORY_OF_A_MODEL * load.megabytes * load.sites + _MEMORY_OF_PROCESSES_MB
    if nvflare.memory_at_hand_mb() < needed:
        raise BenchError(f"it may need {needed} MB of memory, which this machine does not have at hand")
    numbers = load.megabytes * 1_000_000 // 4
    patience = nvflare.JOB_SECONDS + _SECONDS_OF_A_MEGABYTE * load.megabytes * load.sites * load.rounds
    watched = is_watched(load.megabytes, load.sites)
    with nvflare.poc(bench, load.sites) as where:
        idle = server_memory(where)
        with watching(where.folder) as before:
            if watched:
                small = nvflare.write_job(where.folder / "small", numbers=NUMBERS, rounds=2, sites=load.sites)
                nvflare.completed(where, nvflare.submit(where, small))
        job = nvflare.write_job(where.folder / "job", numbers=numbers, rounds=load.rounds, sites=load.sites)
        with watching(where.folder) as during:
            nvflare.completed(where, nvflare.submit(where, job), patience)
        times = nvflare.round_times(job)
    yield from speeds(load, times)
    if watched:
        yield from memory(f"traffic.{load.megabytes}x{load.sites}.memory", idle, before, during)


def install(bench: Bench) -> Iterator[Figure]:
    """The package without extras."""
    del bench
    wanted = Path(__file__).with_name("peer-nvflare.txt")
    yield from install_bench.installed(["-r", str(wanted)])


def simulate(sites: int, rounds: int) -> Measurement:
    """A bench of its simulator, from the command until it returns; as many threads as there are processors."""
    key = f"simulate.{sites}x{rounds}"

    def run(bench: Bench) -> Iterator[Figure]:
        with nvflare.fresh(bench) as where:
            job = nvflare.write_job(where.folder / "job", numbers=NUMBERS, rounds=rounds, sites=sites)
            threads = min(sites, nvflare.processors())
            argv = ["simulator", str(job.folder), "-w", str(where.folder / "simulated")]
            argv += ["-n", str(sites), "-t", str(threads)]
            took = seconds_of(lambda: where.run(where.program("nvflare"), *argv, seconds=nvflare.JOB_SECONDS))
            nvflare.round_times(job)  # all have answered
        yield Figure(key, took, f"{threads} threads")

    return Measurement(run, (key,))


BENCHES: Mapping[str, Measurement] = {
    "cli": Measurement(command_line, ("cli.help", "cli.job_list_help", "cli.job_list")),
    "prepare": Measurement(prepare, ("poc.prepare.2", "poc.prepare.50")),
    "start": Measurement(start_and_stop, START_KEYS),
    "job": Measurement(trivial_job, JOB_KEYS),
    "round": Measurement(small_round, ("round.small",)),
    **{f"traffic-{size}": traffic(Load(size, 2, 5)) for size in (1, 10, 100)},
    "traffic-500": traffic(Load(500, 2, 3)),
    "install": Measurement(install, install_bench.KEYS),
    "simulate-2": simulate(2, 3),
    "simulate-16": simulate(16, 3),
}
