"""`flpoc poc stop`: when it returns, nothing is left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys

import attrs
import pytest

from flpoc.jobs.attempts import Attempt
from flpoc.launching import LaunchRequest
from flpoc.poc.services import GRACE, Services
from flpoc.ports import is_free

flpoc_builtin_local = pytest.importorskip("flpoc_builtin_local.launcher")


def leave_a_job_process(place, site: str):
    """Launch what an agent would have launched, and forget it as a killed agent does; gives its launcher and handle."""
    state = place.workspace / "state" / site
    (state / "handles").mkdir(mode=0o700, parents=True, exist_ok=True)
    launcher = flpoc_builtin_local.LocalLauncher()
    handle = launcher.launch(
        LaunchRequest(
            name=f"job.1.{site}.1",
            argv=(sys.executable, "-c", "import signal; signal.pause()", str(place.workspace)),
            workdir=str(state),
            state=str(state / "launches"),
            log=str(state / "log"),
        )
    )
    attempt = Attempt("job", 1, site, 1, str(state), "", handle)
    (state / "handles" / f"{attempt.name}.json").write_text(json.dumps(attrs.asdict(attempt)))
    return launcher, handle


@pytest.mark.row("D1")
def test_nothing_is_left(place):
    port = place.prepare()["port"]
    place.run("start")
    data = place.run("stop").data
    assert data["status"] == "stopped"
    assert data["services"] == dict.fromkeys(("server", "site-1", "site-2"), "stopped")
    assert not place.processes
    assert is_free(port)
    assert not list((place.workspace / "state" / "poc" / "handles").iterdir())


def test_what_was_reachable_and_running_is_reported(place):
    place.prepare(sites=1)
    place.run("start")
    data = place.run("stop").data
    assert data["server_reachable"] is True
    assert data["already_stopped"] is False
    assert (data["active_job_ids"], data["active_jobs_aborted"]) == ([], False)


@pytest.mark.row("D3")
def test_stopping_what_does_not_run_is_a_success_at_once(place):
    place.prepare()
    answer = place.run("stop")
    assert answer.data["already_stopped"] is True
    assert answer.data["elapsed_s"] < GRACE  # nothing was waited for


def test_a_stopped_system_starts_again(place):
    place.prepare(sites=1)
    for _ in range(2):
        assert place.run("start").data["ready"] is True
        assert place.run("stop").code == 0


def test_one_service_can_be_stopped_alone(place):
    place.prepare()
    place.run("start")
    assert place.run("stop", "-p", "server").data["services"] == {"server": "stopped"}
    assert set(place.run("start").data["already_running"]) == {"site-1", "site-2"}


def test_one_service_can_go_on(place):
    place.prepare()
    place.run("start")
    place.run("stop", "-ex", "site-2")
    assert set(place.run("start").data["already_running"]) == {"site-2"}


@pytest.mark.row("D2")
def test_a_service_that_was_still_starting_is_stopped_too(place):
    place.prepare()
    place.run("start", "--no-wait")
    place.run("stop")
    assert not place.processes


def test_nobody_needs_to_wait_and_whoever_comes_next_does(place):
    place.prepare()
    first = place.run("start").data["started"]
    assert place.run("stop", "--no-wait").data["status"] == "shutdown_initiated"
    data = place.run("start").data
    assert data["already_running"] == {}
    assert not set(data["started"].values()) & set(first.values())


def test_a_paused_service_is_stopped(place):
    place.prepare(sites=1)
    pids = place.run("start").data["started"]
    for pid in pids.values():
        os.kill(pid, signal.SIGSTOP)
    assert place.run("stop").code == 0
    assert not place.processes


def test_a_job_process_that_a_dead_agent_left_is_ended(place):
    place.prepare(sites=1)
    launcher, handle = leave_a_job_process(place, "site-1")
    data = place.run("stop").data
    assert data["job_processes_ended"] == ["job.1.site-1.1"]
    assert not launcher.poll(handle).running
    assert not list((place.workspace / "state" / "site-1" / "handles").iterdir())


@pytest.mark.row("D1")
def test_clean_refuses_while_a_job_process_lives(place):
    place.prepare(sites=1)
    launcher, handle = leave_a_job_process(place, "site-1")
    assert place.run("clean").error == ("INVALID_ARGS", 4)
    assert place.run("clean", "--force").code == 0
    assert not launcher.poll(handle).running


def test_a_service_whose_start_was_killed_in_between_is_found(place, monkeypatch):
    from flpoc.plugins import Plugins
    from flpoc.poc import open_workspace

    place.prepare(sites=1)
    services = Services(place.workspace, Plugins.load(), open_workspace(place.workspace))
    handle = services.launch("site-1")
    record = place.workspace / "state" / "poc" / "handles" / "site-1.json"
    record.write_text(json.dumps({"name": "site-1", "handle": None}))  # as it is before the launcher has answered
    assert place.run("stop").code == 0
    assert not services.is_running(handle)


@pytest.mark.parametrize("seconds", [0.3, 0.4, 0.5, 0.7])
def test_nothing_outlives_a_start_that_was_killed(place, seconds):
    place.prepare()
    with place.begin("poc", "start") as process:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=seconds)
        process.kill()
    assert place.run("stop").code == 0
    assert not place.processes


def test_there_must_be_a_workspace(place):
    assert place.run("stop").error == ("INVALID_ARGS", 4)


@pytest.mark.row("D5")
def test_preparing_again_says_what_was_stopped_and_replaced(place):
    place.prepare(sites=1)
    place.run("start")
    assert place.run("prepare").error == ("INVALID_ARGS", 4)
    data = place.run("prepare", "--force").data
    assert data["stopped"] == ["server", "site-1"]
    assert "example_project" in data["replaced"]
    assert not place.processes
