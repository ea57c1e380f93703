"""What containers cost a job: from submission to its first task, less the same with local processes."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from figures import Figure, spread
from place import Bench, BenchError, Measurement, Place, place, poc
from poc_bench import NUMBERS, completed, seconds, write_job

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where the tests have their engine

KEY = "docker.first_task"


def first_task(bench: Bench) -> Iterator[Figure]:
    """The same trivial job in containers of an engine of its own, and in local processes.

    Raises:
        BenchError: There is no engine.
    """
    import engine as engines

    try:
        with engines.engine() as engine:
            with place() as where:
                where.env["DOCKER_HOST"] = engine.address
                docker = _first_tasks(bench, where, "-d", engines.make_image(engine))
            with place() as where:
                local = _first_tasks(bench, where)
    except engines.NoEngineError as error:
        raise BenchError(f"no Docker engine: {error}") from None
    more = statistics.median(docker) - statistics.median(local)
    yield Figure(KEY, more, f"docker {spread(docker)}; local {spread(local)}")


def _first_tasks(bench: Bench, where: Place, *prepare: str) -> list[float]:
    from flpoc.session import Session

    found = []
    with poc(where, 2, *prepare) as kit, Session.open(kit) as session:
        folder = write_job(where.folder / "job", numbers=NUMBERS, rounds=2, sites=2)
        for _ in range(bench.times(3)):
            meta = completed(session, session.submit_job(folder))
            found.append(meta["rounds"][0]["metrics"]["given"] - seconds(meta["submit_time"]))
    return found


BENCHES: Mapping[str, Measurement] = {"docker": Measurement(first_task, (KEY,))}
