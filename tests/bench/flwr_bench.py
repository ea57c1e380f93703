"""The column of Flower: the same simulations, by its own engine, which keeps processes of Ray.

It takes some two minutes on a machine that has nothing else to do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import procs
from figures import Figure, spread
from place import Bench, BenchError, Measurement, Place, place, seconds_of
from poc_bench import NUMBERS, median_of
from simulation_bench import DATA

#: A simulation that takes longer is given up.
PATIENCE = 300.0

#: Its arguments: sites, sites of a round, rounds, and the file that gets how many answered in each round.
PROGRAM = """\
import json
import sys

from flwr.client import ClientApp, NumPyClient
from flwr.common import ndarrays_to_parameters
from flwr.server import ServerApp, ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.simulation import run_simulation
from training import initial, trained

SITES, ASKED, ROUNDS = map(int, sys.argv[1:4])
answers = []


class Counting(FedAvg):
    def aggregate_fit(self, server_round, results, failures):
        answers.append(len(results))
        return super().aggregate_fit(server_round, results, failures)


class Site(NumPyClient):
    def __init__(self, number):
        self.number = number

    def fit(self, parameters, config):
        return trained(parameters, config["round"], self.number), 1, {}


def client(context):
    return Site(context.node_config["partition-id"]).to_client()


def server(context):
    strategy = Counting(
        fraction_fit=ASKED / SITES, min_fit_clients=ASKED, min_available_clients=SITES, fraction_evaluate=0.0,
        initial_parameters=ndarrays_to_parameters(initial()), on_fit_config_fn=lambda number: {"round": number},
    )
    return ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=ROUNDS))


run_simulation(
    server_app=ServerApp(server_fn=server), client_app=ClientApp(client_fn=client), num_supernodes=SITES,
    backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
)
with open(sys.argv[4], "w") as file:
    json.dump(answers, file)
"""
#: Answers with what it got plus one.
TRIVIAL = f"""\
import numpy as np


def initial():
    return [np.random.default_rng(0).random({NUMBERS}, dtype="float32")]


def trained(parameters, number, site):
    return [one + 1 for one in parameters]
"""
SOFTMAX = f"""\
{DATA}

def initial():
    return [np.zeros((784, 10), dtype="float32"), np.zeros(10, dtype="float32")]


def trained(parameters, number, site):
    w, b = parameters
    mine = np.random.default_rng([number, site]).choice(len(images), 60, replace=False)
    x, y = images[mine], onehot[mine]
    for _ in range(3):
        logits = x @ w + b
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        w = w - 0.05 * x.T @ (p - y) / len(x)
        b = b - 0.05 * (p - y).mean(0)
    return [w, b]
"""


def _version() -> str:
    wanted = Path(__file__).with_name("peer-flwr.txt").read_text(encoding="utf-8").strip()
    return wanted.partition("==")[2]


TITLE = f"Flower {_version()}"


def _simulated(where: Place, training: str, sites: int, asked: int, rounds: int) -> float:
    """How long a simulation takes.

    Raises:
        BenchError: It failed, took too long, or somebody did not answer.
    """
    program, said = where.folder / "program.py", where.folder / "answers.json"
    program.write_text(PROGRAM, encoding="utf-8")
    (where.folder / "training.py").write_text(training, encoding="utf-8")
    words = (str(where.programs / "python"), str(program), str(sites), str(asked), str(rounds), str(said))
    took = seconds_of(lambda: where.run(*words, seconds=PATIENCE))
    if (answers := json.loads(said.read_text(encoding="utf-8"))) != [asked] * rounds:
        raise BenchError(f"{asked} sites in each of {rounds} rounds were asked; answered have {answers}")
    return took


def _fresh(bench: Bench, training: str, sites: int, asked: int, rounds: int) -> float:
    """The same in a place of its own, which tells nobody of it."""
    with place(bench.programs) as where:
        where.env |= {
            "FLWR_TELEMETRY_ENABLED": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": str(where.folder),
            # what processes of Ray import
            "PYTHONPATH": str(where.folder),
            # as sites of flpoc have it
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        try:
            return _simulated(where, training, sites, asked, rounds)
        finally:
            procs.kill_all(where.folder)  # processes of Ray outlive the simulation for a moment


def simulate(sites: int, rounds: int, times: int) -> Measurement:
    """A job of ten numbers."""
    key = f"simulate.{sites}x{rounds}"

    def run(bench: Bench) -> Iterator[Figure]:
        yield median_of(key, [_fresh(bench, TRIVIAL, sites, sites, rounds) for _ in range(bench.times(times))])

    return Measurement(run, (key,))


def sampled(bench: Bench) -> Iterator[Figure]:
    """A thousand sites, of which ten are asked in each of a hundred rounds."""
    took = _fresh(bench, SOFTMAX, 1000, 10, 100)
    yield Figure("simulate.sampled", took, spread([took]))


BENCHES: Mapping[str, Measurement] = {
    "simulate-2": simulate(2, 3, 2),
    "simulate-16": simulate(16, 3, 2),
    "simulate-1000": simulate(1000, 1, 1),
    "simulate-sampled": Measurement(sampled, ("simulate.sampled",)),
}
