"""What a server and its sites do about each other."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from catalogue.attack import becomes

from flpoc.errors import AuthError, ConnectionFailed, JobError
from flpoc.provision.building import provision
from flpoc.provision.project_file import sample_project
from flpoc.session import Session

from .federation import Federation, federation, write_job

SCRIPT = """
    import time
    import numpy as np
    import flpoc.client as flare

    flare.init()
    while flare.is_running():
        model = flare.receive()
        time.sleep(0.1)
        flare.log("loss", 1.0 / (1 + model.current_round))
        print("round", model.current_round, flush=True)
        params = model.params or {"w": np.zeros(4, "float32")}
        flare.send(flare.FLModel(params={name: value + 1 for name, value in params.items()}))
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with federation(tmp_path_factory.mktemp("services")) as found:
        yield found


@pytest.mark.row("P7")
def test_a_second_server_on_the_same_state_is_refused_and_told_who_has_it(running: Federation) -> None:
    argv = [sys.executable, "-m", "flpoc.server", str(running.prod / "server"), "--state", str(running.state("server"))]
    second = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode != 0
    assert "in use by a server (pid" in second.stderr


@pytest.mark.row("K11", "W15")
def test_of_two_agents_with_one_kit_the_newer_stays(running: Federation, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "flpoc.site", str(running.prod / "site-2"), "--state", str(tmp_path / "state")]
    older = running._services["site-2"]
    with (tmp_path / "log").open("wb") as log:
        newer = subprocess.Popen(argv, stderr=log)
    try:
        assert older.wait(60) != 0
        assert "from elsewhere" in running.log("site-2")
        running.ready()
    finally:
        newer.terminate()
        newer.wait(60)
        running.start("site-2")
        running.ready()


@pytest.mark.row("K12")
def test_a_kit_of_another_project_is_refused(running: Federation, tmp_path: Path) -> None:
    other = provision(sample_project(["site-1"], port=int(running.address.rpartition(":")[2])), tmp_path)
    with pytest.raises((ConnectionFailed, AuthError)) as caught:
        Session.open(other / "admin@nvidia.com", timeout=30).status()
    assert "another project" in caught.value.message


@pytest.mark.row("D14")
@pytest.mark.parametrize("kit", ["org-admin@nvidia.com"])
def test_a_role_that_may_not_submit_is_told_which_may(running: Federation, tmp_path: Path, kit: str) -> None:
    job = write_job(tmp_path / "job", SCRIPT, sites=running.sites)
    with Session.open(running.prod / kit) as session, pytest.raises(AuthError) as caught:
        session.submit_job(job)
    assert "lead" in caught.value.hint


def test_a_lead_cannot_abort_the_job_of_another(running: Federation, tmp_path: Path) -> None:
    job = write_job(tmp_path / "job", SCRIPT, sites=["site-1", "site-9"])
    with running.session() as admin, Session.open(running.prod / "lead@nvidia.com") as lead:
        found = admin.submit_job(job)
        with pytest.raises(AuthError):
            lead.abort_job(found)
        admin.abort_job(found)


def test_logs_and_metrics_of_sites_reach_the_server_while_the_job_runs(running: Federation, tmp_path: Path) -> None:
    job = write_job(tmp_path / "job", SCRIPT, rounds=1000, sites=running.sites)
    with running.session() as session:
        found = session.submit_job(job)
        assert any(meta["rounds_committed"] >= 1 for meta in session.watch_job(found))
        assert becomes(lambda: "round 3\n" in (session.get_job_logs(found, "all")["logs"].get("site-1") or ""))
        assert session.get_job_status(found) == "RUNNING"
        session.abort_job(found)


@pytest.mark.row("C9", "S13")
def test_the_same_token_and_job_give_the_same_job(running: Federation, tmp_path: Path) -> None:
    job = write_job(tmp_path / "job", SCRIPT, sites=running.sites, rounds=1)
    with running.session() as session:
        first = session.submit_job(job, submit_token="once")
        assert session.submit_job(job, submit_token="once") == first
        other = write_job(tmp_path / "other", SCRIPT, sites=running.sites, rounds=2)
        with pytest.raises(JobError) as caught:
            session.submit_job(other, submit_token="once")
        assert caught.value.code == "SUBMIT_TOKEN_CONFLICT"
        session.wait_for_job(first, timeout=60)
        session.delete_job(first)
        with pytest.raises(JobError) as caught:
            session.submit_job(job, submit_token="once")
        assert caught.value.code == "SUBMIT_TOKEN_JOB_DELETED"


def test_jobs_start_in_order_four_at_once(running: Federation, tmp_path: Path) -> None:
    with running.session() as session:
        folders = [write_job(tmp_path / f"job-{n}", SCRIPT, sites=running.sites, rounds=5) for n in range(6)]
        jobs = [session.submit_job(folder) for folder in folders]
        ends = [session.wait_for_job(job, timeout=90) for job in jobs]
    assert [meta["status"] for meta in ends] == ["FINISHED:COMPLETED"] * 6
    starts = [meta["start_time"] for meta in ends]
    assert max(starts[:4]) < min(starts[4:])


@pytest.mark.row("P6")
def test_a_state_folder_without_its_models_is_not_started_on(tmp_path: Path) -> None:
    with federation(tmp_path, sites=1) as running:
        job = write_job(tmp_path / "job", SCRIPT, rounds=200, sites=running.sites)
        with running.session() as session:
            for meta in session.watch_job(session.submit_job(job)):
                if meta["rounds_committed"] >= 2:
                    break
        running.stop()
        for models in (running.state("server") / "jobs").glob("*/models"):
            shutil.rmtree(models)
        running.start("server")
        service = running._services.pop("server")
        assert service.wait(60) != 0
        assert "is missing" in running.log("server")


def test_an_initial_model_is_where_the_sites_start(running: Federation, tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    job = write_job(tmp_path / "job", SCRIPT, rounds=2, sites=running.sites, initial_model="start.safetensors")
    save_file({"w": np.full(4, 40.0, "float32")}, job / "code" / "start.safetensors", metadata={"origin": "elsewhere"})
    with running.session() as session:
        found = session.submit_job(job)
        assert session.wait_for_job(found, timeout=60)["status"] == "FINISHED:COMPLETED"
        folder = session.download_job_result(found, tmp_path / "out").path
    from safetensors.numpy import load_file

    assert load_file(folder / "FL_global_model.safetensors")["w"].tolist() == [42.0] * 4
