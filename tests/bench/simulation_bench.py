"""How long simulations take, from the command until it returns, and how much memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from figures import Figure, spread
from place import Bench, Measurement, Place, place, seconds_of
from poc_bench import NUMBERS, median_of, write_job
from procs import watching

#: Data like MNIST: 5,000 images of 784 numbers, dealt to sites; loaded once in each process.
DATA = """\
import numpy as np

rng = np.random.default_rng(5)
centres = rng.random((10, 784), dtype="float32")
labels = rng.integers(0, 10, 5000)
images = centres[labels] + rng.normal(0, 0.5, (5000, 784)).astype("float32")
onehot = np.eye(10, dtype="float32")[labels]
"""
SOFTMAX = """\
import numpy as np

import flpoc.client as flare
from data import images, onehot

flare.init()
while flare.is_running():
    model = flare.receive()
    rng = np.random.default_rng(flare.get_seed())
    mine = rng.choice(len(images), 60, replace=False)
    x, y = images[mine], onehot[mine]
    w = model.params.get("w", np.zeros((784, 10), dtype="float32"))
    b = model.params.get("b", np.zeros(10, dtype="float32"))
    for _ in range(3):
        logits = x @ w + b
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        w = w - 0.05 * x.T @ (p - y) / len(x)
        b = b - 0.05 * (p - y).mean(0)
    accuracy = float((p.argmax(1) == y.argmax(1)).mean())
    flare.send(flare.FLModel(params={"w": w, "b": b}, metrics={"accuracy": accuracy}))
"""


def _simulated(where: Place, job: Path, sites: int) -> float:
    words = ("simulator", str(job), "-n", str(sites), "-w", str(where.folder / "simulated"))
    return seconds_of(lambda: where.flpoc(*words))


def _trivial(where: Place, sites: int, rounds: int) -> Path:
    return write_job(where.folder / f"job-{sites}", numbers=NUMBERS, rounds=rounds, sites=sites)


def simulate(sites: int, rounds: int) -> Measurement:
    """A job of ten numbers."""
    key = f"simulate.{sites}x{rounds}"

    def run(bench: Bench) -> Iterator[Figure]:
        with place() as where:
            job = _trivial(where, sites, rounds)
            yield median_of(key, [_simulated(where, job, sites) for _ in range(bench.times(3))])

    return Measurement(run, (key,))


def sampled(bench: Bench) -> Iterator[Figure]:
    """A thousand sites, of which ten are asked in each of a hundred rounds."""
    with place() as where:
        folder = where.folder / "softmax"
        (folder / "code").mkdir(parents=True)
        (folder / "code" / "data.py").write_text(DATA)
        (folder / "code" / "train.py").write_text(SOFTMAX)
        workflow = {"name": "fedavg", "clients_per_round": 10}
        job = {"name": "softmax", "script": "train.py", "rounds": 100, "workflow": workflow, "quorum": 10}
        (folder / "job.json").write_text(json.dumps(job))
        runs = [_simulated(where, folder, 1000) for _ in range(bench.times(3))]
        said = json.loads((where.folder / "simulated" / "softmax" / "metrics_summary.json").read_text())
    note = f"accuracy {said['metrics']['accuracy']:.2f}; {spread(runs)}"
    yield Figure("simulate.sampled", sorted(runs)[len(runs) // 2], note)


def memory(bench: Bench) -> Iterator[Figure]:
    """Peaks of all processes of small and large simulations."""
    few, many = (100, 10_000) if not bench.quick else (100, 1000)
    peaks = {}
    for sites in (few, many):
        with place() as where:
            job = _trivial(where, sites, 1)
            with watching(where.folder) as watch:
                _simulated(where, job, sites)
            peaks[sites] = watch.all
    yield Figure("simulate.memory.few", peaks[few], f"{few} sites")
    yield Figure("simulate.memory.many", peaks[many], f"{many} sites")
    yield Figure("simulate.memory.growth", peaks[many] / peaks[few], f"{many} sites by {few}")


BENCHES: Mapping[str, Measurement] = {
    "simulate-2": simulate(2, 3),
    "simulate-16": simulate(16, 3),
    "simulate-1000": simulate(1000, 1),
    "simulate-sampled": Measurement(sampled, ("simulate.sampled",)),
    "simulate-memory": Measurement(memory, ("simulate.memory.few", "simulate.memory.many", "simulate.memory.growth")),
}
