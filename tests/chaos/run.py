"""Kill -9 at random instants, again and again: the model must always have the same SHA-256.

    python tests/chaos/run.py [--trials N] [--seed N] [--megabytes MB]

Every trial runs one job, kills one victim (server, agent, controller or
trainer) after a random time, starts services again, and compares.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from machine.federation import Federation, federation, write_job

SCRIPT = """
    import time
    import numpy as np
    import flpoc.client as flare

    flare.init()
    while flare.is_running():
        model = flare.receive()
        rng = np.random.default_rng(flare.get_seed())
        params = model.params or {f"t{i}": np.zeros(SIZE, "float32") for i in range(4)}
        params = {name: value * 0.9 + rng.random(value.shape, dtype="float32") for name, value in params.items()}
        time.sleep(0.02)
        flare.send(flare.FLModel(params=params, metrics={"m": float(params["t0"][0])}))
"""


def trial(running: Federation, folder: Path, megabytes: float, kill: tuple[str, float] | None) -> tuple[str, float]:
    size = max(1, int(megabytes * 1e6 / 16))
    job = write_job(folder / "job", SCRIPT.replace("SIZE", str(size)), rounds=10, sites=running.sites)
    began = time.monotonic()
    with running.session() as session:
        found = session.submit_job(job)
        timer = None
        if kill is not None:
            timer = threading.Timer(kill[1], strike, (running, kill[0]))
            timer.start()
        meta = session.wait_for_job(found, timeout=120)
        if timer is not None:
            timer.join()
        if meta["status"] != "FINISHED:COMPLETED":
            raise SystemExit(f"{kill}: {meta['status']}\n{meta['cause']}\n{running.log('server')[-3000:]}")
        running.ready()
        return str(meta["sha256"]), time.monotonic() - began


def strike(running: Federation, victim: str) -> None:
    """Kill a service, or what a service launched (``server/job``, ``site-1/job``)."""
    name, _, job = victim.partition("/")
    if job:
        for pid in running.job_processes(name):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
    else:
        running.kill(name)
        running.start(name)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--megabytes", type=float, default=8.0)
    args = parser.parse_args()
    chance = random.Random(args.seed)
    victims = ["server", "site-1", "site-2", "server/job", "site-1/job", "site-2/job"]
    with tempfile.TemporaryDirectory(prefix="flpoc-chaos-") as temp, federation(Path(temp)) as running:
        expected, usual = trial(running, Path(temp, "undisturbed"), args.megabytes, None)
        print(f"undisturbed: {expected} in {usual:.1f} s", flush=True)
        for number in range(args.trials):
            victim, moment = chance.choice(victims), chance.uniform(0.0, usual)
            digest, took = trial(running, Path(temp, f"trial-{number}"), args.megabytes, (victim, moment))
            same = "same" if digest == expected else f"OTHER: {digest}"
            print(f"{number + 1:3d} {victim:12s} at {moment:5.2f} s: {same}, {took:5.1f} s", flush=True)
            if digest != expected:
                return 1
    print(f"{args.trials} passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
