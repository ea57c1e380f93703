"""Killed at any moment, the job goes on, and its model has the same bits as an undisturbed one's."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .federation import Federation, federation, kill_all, write_job

ROUNDS = 10

SCRIPT = """
    import time
    import numpy as np
    import flpoc.client as flare

    flare.init()
    while flare.is_running():
        model = flare.receive()
        rng = np.random.default_rng(flare.get_seed())
        params = model.params or {"w": np.zeros((40, 50), "float32"), "b": np.zeros(7)}
        time.sleep(0.15 + DELAY[flare.get_site_name()])
        noise = {name: rng.standard_normal(value.shape) for name, value in params.items()}
        params = {name: (value * 0.9 + noise[name]).astype(value.dtype) for name, value in params.items()}
        meta = {"NUM_STEPS_CURRENT_ROUND": 3 if flare.get_site_name() == "site-1" else 5}
        flare.send(flare.FLModel(params=params, metrics={"norm": float(np.abs(params["w"]).sum())}, meta=meta))
"""


def script(site_1: float = 0.0, site_2: float = 0.0) -> str:
    return SCRIPT.replace("DELAY", f'{{"site-1": {site_1}, "site-2": {site_2}}}')


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with federation(tmp_path_factory.mktemp("crashes")) as found:
        yield found


@pytest.fixture(scope="module")
def undisturbed(running: Federation, tmp_path_factory: pytest.TempPathFactory) -> str:
    """SHA-256 of the model of an undisturbed run."""
    meta = run(running, tmp_path_factory.mktemp("undisturbed"), lambda _: None)
    return str(meta["sha256"])


def run(
    running: Federation, folder: Path, in_round_three: Callable[[str], None], source: str | None = None
) -> dict[str, Any]:
    """Run the job, disturbing it once when its third round has begun; gives its final meta."""
    job_folder = write_job(folder / "job", source or script(), rounds=ROUNDS, sites=["site-1", "site-2"])
    disturbed = False
    with running.session() as session:
        job = session.submit_job(job_folder)
        for meta in session.watch_job(job):
            if not disturbed and meta["rounds_committed"] >= 2:
                disturbed = True
                in_round_three(job)
        final = session.get_job_meta(job)
    assert disturbed
    assert final["status"] == "FINISHED:COMPLETED", (final["cause"], running.log("server"))
    assert final["rounds_committed"] == ROUNDS
    return final


def test_the_same_job_twice_gives_the_same_bits(running: Federation, undisturbed: str, tmp_path: Path) -> None:
    assert run(running, tmp_path, lambda _: None)["sha256"] == undisturbed


@pytest.mark.parametrize("slow", ["site-1", "site-2"])
def test_the_order_of_arrival_does_not_matter(running: Federation, undisturbed: str, tmp_path: Path, slow: str) -> None:
    source = script(**{slow.replace("-", "_"): 0.05})
    assert run(running, tmp_path, lambda _: None, source)["sha256"] == undisturbed


@pytest.mark.row("D22", "P8")
def test_a_killed_server_goes_on_when_started_again(running: Federation, undisturbed: str, tmp_path: Path) -> None:
    def disturb(_: str) -> None:
        running.kill("server")
        running.start("server")

    assert run(running, tmp_path, disturb)["sha256"] == undisturbed


@pytest.mark.row("P8")
@pytest.mark.parametrize("site", ["site-1", "site-2"])
def test_a_killed_agent_goes_on_when_started_again(
    running: Federation, undisturbed: str, tmp_path: Path, site: str
) -> None:
    trainers: list[list[int]] = []

    def disturb(job: str) -> None:
        trainers.append(running.job_processes(site, job))
        running.kill(site)
        running.start(site)
        running.ready()
        trainers.append(running.job_processes(site, job))

    assert run(running, tmp_path, disturb)["sha256"] == undisturbed
    assert trainers[0]
    assert trainers[0] == trainers[1], "training was interrupted by the death of the agent"


@pytest.mark.row("P8")
def test_a_killed_trainer_is_launched_again(running: Federation, undisturbed: str, tmp_path: Path) -> None:
    def disturb(job: str) -> None:
        (trainer,) = running.job_processes("site-1", job)
        os.kill(trainer, signal.SIGKILL)

    assert run(running, tmp_path, disturb)["sha256"] == undisturbed
    assert "launching it again" in running.log("site-1")


@pytest.mark.row("P8")
def test_a_killed_controller_is_launched_again(running: Federation, undisturbed: str, tmp_path: Path) -> None:
    def disturb(job: str) -> None:
        (controller,) = running.job_processes("server", job)
        os.kill(controller, signal.SIGKILL)

    assert run(running, tmp_path, disturb)["sha256"] == undisturbed
    assert "launching it again" in running.log("server")


@pytest.mark.row("P8")
def test_everything_killed_at_once_goes_on(running: Federation, undisturbed: str, tmp_path: Path) -> None:
    def disturb(_: str) -> None:
        victims = [pid for name in ("server", *running.sites) for pid in running.job_processes(name)]
        for name in ("server", *running.sites):
            running.kill(name)
        kill_all(victims)
        running.start()

    assert run(running, tmp_path, disturb)["sha256"] == undisturbed


def test_a_stopped_federation_goes_on_when_started_again(running: Federation, undisturbed: str, tmp_path: Path) -> None:
    def disturb(_: str) -> None:
        running.stop()
        assert not [pid for name in ("server", *running.sites) for pid in running.job_processes(name)]
        running.start()

    assert run(running, tmp_path, disturb)["sha256"] == undisturbed
