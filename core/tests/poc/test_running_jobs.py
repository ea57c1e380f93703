"""Jobs that run while their proof of concept is stopped and started."""

from __future__ import annotations

import pytest

from .conftest import kill

pytest.importorskip("flpoc.runner.trainer")

SCRIPT = """
import os, signal, sys
import numpy as np
import flpoc.client as flare

flare.init()
while flare.is_running():
    model = flare.receive()
    if model is None:
        break
    if flare.is_evaluate():
        flare.send(flare.FLModel(metrics={"accuracy": 1.0}))
        continue
    if not os.path.exists(sys.argv[1]):
        signal.pause()
    params = dict(model.params) or {"w": np.zeros(4, np.float32)}
    flare.send(flare.FLModel(params={name: np.asarray(value) + 1 for name, value in params.items()}))
"""


@pytest.fixture
def running(place):
    """A system with a job whose scripts wait until a file is there; gives the job's id and that file."""
    from flpoc.session import Session

    place.prepare()
    place.run("start")
    folder, go = place.home / "job", place.home / "go"
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "train.py").write_text(SCRIPT)
    (folder / "job.conf").write_text(
        f'name = patient\nscript = train.py\nargs = ["{go}"]\nsites = [site-1, site-2]\nrounds = 2\nworkflow = fedavg\n'
    )
    with Session.open(place.kit("admin@nvidia.com"), timeout=10) as session:
        job = session.submit_job(folder)
        for meta in session.watch_job(job, timeout=60):
            assert not meta["status"].startswith("FINISHED"), meta
            if meta["status"] == "RUNNING":
                break
    return job, go


def finish(place, job: str) -> str:
    from flpoc.session import Session

    with Session.open(place.kit("admin@nvidia.com"), timeout=10) as session:
        return str(session.wait_for_job(job, timeout=90)["status"])


def test_a_stop_names_them_and_leaves_none_of_their_processes(place, running):
    job, _ = running
    data = place.run("stop").data
    assert (data["active_job_ids"], data["active_jobs_aborted"]) == ([job], False)
    assert not place.processes


def test_the_next_start_goes_on_with_them(place, running):
    job, go = running
    place.run("stop")
    go.touch()
    place.run("start")
    assert finish(place, job) == "FINISHED:COMPLETED"


def test_trainers_of_a_killed_agent_do_not_outlive_a_stop(place, running):
    pids = place.run("start").data["already_running"]
    for pid in pids.values():
        kill(pid)
    data = place.run("stop").data
    assert data["job_processes_ended"]
    assert not place.processes
