"""Large models through the whole machine: files, mutual TLS, checksums, aggregation, commit; and the memory of it."""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
from figures import Figure, spread
from place import Bench, BenchError, Measurement, Place, place, poc
from poc_bench import NUMBERS, round_times, run_job, write_job
from procs import Watch, anonymous_mb, processes_of, watching
from rows import ROLES_WATCHED, ROWS, is_watched

READY_SECONDS = 120.0


@attrs.frozen
class Load:
    """How much is to be moved: a model of so many megabytes (10**6 bytes), each round to and from each site."""

    megabytes: int
    sites: int
    rounds: int


@contextmanager
def started_directly(where: Place, sites: int) -> Iterator[Path]:
    """A server and real agents as plain processes, without launcher; gives the folder of the admin kit."""
    from flpoc.provision.building import provision
    from flpoc.provision.project_file import sample_project
    from flpoc.session import Session

    names = [f"site-{number}" for number in range(1, sites + 1)]
    project = sample_project(names, port=_free_port())
    prod = provision(project, where.workspace)
    running: list[subprocess.Popen[bytes]] = []
    try:
        for name in ("server", *names):
            running.append(_start(where, prod / name, "server" if name == "server" else "site"))
        kit = prod / project.users[0].name
        with Session.open(kit, timeout=READY_SECONDS) as session:
            session.wait_ready(names, READY_SECONDS)
        yield kit
    finally:
        for one in running:
            one.terminate()
        for one in running:
            try:
                one.wait(30)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(where: Place, kit: Path, kind: str) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", f"flpoc.{kind}", str(kit), "--state", str(where.folder / "state" / kit.name)]
    with (where.folder / f"{kit.name}.log").open("ab") as log:
        return subprocess.Popen(argv, env=where.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def traffic(megabytes: int, sites: int = 2, rounds: int = 5) -> Callable[[Bench], Iterator[Figure]]:
    """A bench of a model of that size; with many sites they are started directly."""

    def bench(bench: Bench) -> Iterator[Figure]:
        starter = poc if sites == 2 else started_directly
        with place() as where, starter(where, sites) as kit:
            load = Load(megabytes, sites, min(rounds, 3) if bench.quick else rounds)
            yield from _measure(bench, where, kit, load)

    bench.__doc__ = f"A model of {megabytes} MB to and from {sites} sites."
    return bench


def _measure(bench: Bench, where: Place, kit: Path, load: Load) -> Iterator[Figure]:
    from flpoc.session import Session

    megabytes, sites, rounds = load.megabytes, load.sites, load.rounds
    with Session.open(kit) as session:
        idle = server_memory(where)
        small = write_job(where.folder / "small", numbers=NUMBERS, rounds=2, sites=sites, name="small")
        with watching(where.folder) as before:
            run_job(session, small)
        numbers = megabytes * 1_000_000 // 4
        folder = write_job(where.folder / "job", numbers=numbers, rounds=rounds, sites=sites, name="traffic")
        with watching(where.folder) as during:
            meta = run_job(session, folder)
    key = f"traffic.{megabytes}x{sites}"
    speed, *more = speeds(load, round_times(meta))
    yield from (speed, *more)
    server, agents = during.cpu("server") / rounds, during.cpu("agent") / rounds
    note = f"server {server:.2f}, all agents {agents:.2f} s; less noisy than time where others work, too"
    yield Figure(f"{key}.cpu", server + agents, note)
    if f"{key}.share" in ROWS:
        yield _share(bench, speed.value or 0.0)
    if is_watched(megabytes, sites):
        yield from memory(f"{key}.memory", idle, before, during)


def speeds(load: Load, times: Sequence[float]) -> tuple[Figure, Figure]:
    """How fast models travelled, and how long a round took, when all rounds but the first took so long."""
    key, median = f"traffic.{load.megabytes}x{load.sites}", statistics.median(times)
    speed = load.sites * 2 * load.megabytes / median
    return (
        Figure(f"{key}.speed", speed, f"{load.rounds} rounds, without the first"),
        Figure(f"{key}.round", median, spread(times)),
    )


def _share(bench: Bench, speed: float) -> Figure:
    """The part of a bare stream's speed, measured in the same run."""
    stream = bench.found.get("machine.stream")
    if stream is None:
        from limits import bare_stream

        stream = next(iter(bare_stream(bench))).value
    if not stream:
        raise BenchError("the bare stream could not be measured")
    note = f"bare stream in this run: {stream:.2f} GB/s"
    return Figure("traffic.100x2.share", speed / stream / 10, note)


def server_memory(where: Place) -> float:
    server = [pid for pid, role in processes_of(where.folder).items() if role == "server"]
    if len(server) != 1:
        raise BenchError(f"{len(server)} servers run where one should")
    return anonymous_mb(server[0])


def memory(key: str, idle: float, before: Watch, during: Watch) -> Iterator[Figure]:
    """Above idle: above the server before any job, and the controller in a job of ten numbers."""
    controller = before.peak["controller"]
    above = during.server_side - idle - controller
    note = f"of both together; idle: server {idle:.0f}, controller {controller:.0f} MB"
    yield Figure(key, above, note)
    for role in ROLES_WATCHED:
        least = idle if role == "server" else before.peak[role]
        note = f"of one; idle {least:.0f} MB" + ("; the script's own arrays are in it" if role == "trainer" else "")
        yield Figure(f"{key}.{role}", _peak(during, role), note)
    yield Figure(f"{key}.all", during.all)


def _peak(watch: Watch, role: str) -> float:
    if not watch.peak[role]:
        raise BenchError(f"no {role} was seen while the job ran")
    return watch.peak[role]


def keys_of(megabytes: int, sites: int = 2) -> tuple[str, ...]:
    """The rows of a load."""
    return tuple(key for key in ROWS if key.startswith(f"traffic.{megabytes}x{sites}."))


BENCHES: Mapping[str, Measurement] = {
    **{f"traffic-{size}": Measurement(traffic(size), keys_of(size)) for size in (1, 10, 500)},
    # the figure with a limit: rounds differ by a factor of two where memory is touched for the first time
    "traffic-100": Measurement(traffic(100, rounds=15), keys_of(100)),
    "traffic-32-sites": Measurement(traffic(64, sites=32, rounds=2), keys_of(64, 32)),
}
#: Not run with --quick.
HEAVY = ("traffic-500", "traffic-32-sites")
