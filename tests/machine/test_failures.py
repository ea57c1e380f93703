"""A job that fails says why: where, in which round, at which line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from catalogue.attack import becomes

from flpoc.errors import JobError
from flpoc.jobs.states import Cause
from flpoc.settings import structure

from .federation import Federation, federation, write_job

LOOP = """
    import os, signal, sys, time
    import numpy as np
    import flpoc.client as flare

    flare.init()
    print("script begins", flush=True)
    while flare.is_running():
        model = flare.receive()
        site, number = flare.get_site_name(), model.current_round
        params = {"w": np.ones(10, "float32")}
        BODY
        flare.send(flare.FLModel(params=params))
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with federation(tmp_path_factory.mktemp("failures")) as found:
        yield found


def outcome(running: Federation, folder: Path, body: str, *, script: str = LOOP, **settings: Any) -> tuple[Any, Cause]:
    """Run a job; gives its final meta and its first cause."""
    job = write_job(folder / "job", script.replace("BODY", body), **{"rounds": 3, "sites": running.sites, **settings})
    with running.session() as session:
        meta = session.wait_for_job(session.submit_job(job), timeout=60)
    cause = structure(meta["cause"], Cause) if meta["cause"] else Cause(site="")
    assert len(cause.lines()) <= 10
    return meta, cause


@pytest.mark.row("J4")
def test_an_exception_fails_the_job_with_its_line(running: Federation, tmp_path: Path) -> None:
    body = 'if site == "site-2" and number == 1: raise ValueError("bad label 11")'
    meta, cause = outcome(running, tmp_path, body)
    assert meta["status"] == "FINISHED:FAILED"
    assert (cause.site, cause.round, cause.exception, cause.message) == ("site-2", 1, "ValueError", "bad label 11")
    assert (cause.file, cause.line) == ("train.py", 12)
    assert any("script begins" in line for line in cause.log_tail)
    assert meta["rounds_committed"] == 1


@pytest.mark.row("J4")
def test_a_missing_package_is_named(running: Federation, tmp_path: Path) -> None:
    _, cause = outcome(running, tmp_path, "", script="import no_such_package_here\n")
    assert cause.exception == "ModuleNotFoundError"
    assert "no_such_package_here" in cause.hint
    assert (cause.file, cause.line) == ("train.py", 1)


@pytest.mark.row("J5")
def test_an_exit_code_is_reported(running: Federation, tmp_path: Path) -> None:
    meta, cause = outcome(running, tmp_path, 'sys.exit(7) if site == "site-1" else None')
    assert meta["status"] == "FINISHED:FAILED"
    assert (cause.site, cause.exit_code) == ("site-1", 7)


@pytest.mark.row("J5")
def test_a_script_that_ends_too_early_is_a_failure(running: Federation, tmp_path: Path) -> None:
    meta, cause = outcome(running, tmp_path, 'if site == "site-1" and number == 1: break')
    assert meta["status"] == "FINISHED:FAILED"
    assert cause.site == "site-1"
    assert "ended before" in cause.message


@pytest.mark.row("J5")
def test_a_script_that_is_killed_again_and_again_fails_with_the_signal(running: Federation, tmp_path: Path) -> None:
    body = 'if site == "site-2" and number == 1: os.kill(os.getpid(), signal.SIGKILL)'
    meta, cause = outcome(running, tmp_path, body)
    assert meta["status"] == "FINISHED:FAILED"
    assert (cause.site, cause.signal) == ("site-2", "SIGKILL")
    assert "out of memory" in "\n".join(cause.lines())
    assert cause.peak_rss


@pytest.mark.row("J6")
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('params = {"w": np.ones(11, "float32")} if number == 1 else params', "w"),
        ('params = {"w": np.ones(10, "float64")} if number == 1 else params', "w"),
        ('params = {"v": np.ones(10, "float32")} if number == 1 else params', "v"),
        ('params = {"w": params["w"] * np.nan} if number == 1 else params', "w"),
        ('params = {"w": params["w"][: 10 if site == "site-1" else 9]}', "w"),
        ("params = None", "params"),
        ('params = {"w": "text"}', "w"),
        ('params = {"w": np.array([{}])}', "w"),
        ('params = ["w"]', "dict"),
    ],
)
def test_a_model_that_cannot_be_averaged_is_named(running: Federation, tmp_path: Path, body: str, said: str) -> None:
    meta, cause = outcome(running, tmp_path, body)
    assert meta["status"] == "FINISHED:FAILED"
    assert said in cause.message
    assert "site-" in cause.site or "site-" in cause.message


@pytest.mark.row("J6")
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("flare.send(params)", "takes an FLModel, not dict"),
        ('flare.send(flare.FLModel(params=params, metrics={"loss": "low"}))', "metric 'loss' is str, not a number"),
        ('flare.send(flare.FLModel(params=params, meta={"x": params}))', "meta must be plain JSON data"),
        ('flare.send(flare.FLModel(params=params, meta={"NUM_STEPS_CURRENT_ROUND": -1}))', "greater than 0 is needed"),
        ('flare.FLModel(params_type="DIFF")', "params_type is given without params"),
        ('flare.FLModel(params=params, params_type="HALF")', "'HALF' is not a valid ParamsType"),
        ("flare.send(flare.FLModel(params=params)); flare.send(flare.FLModel(params=params))", "without a task"),
    ],
)
def test_an_answer_of_a_wrong_kind_is_said_with_its_line(
    running: Federation, tmp_path: Path, body: str, said: str
) -> None:
    meta, cause = outcome(running, tmp_path, body, sites=["site-1"])
    assert meta["status"] == "FINISHED:FAILED"
    assert said in cause.message
    assert (cause.site, cause.phase, cause.file, cause.line) == ("site-1", "training", "train.py", 12)


@pytest.mark.row("J6")
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('params = {"v": np.ones(10, "float32")} if number else params', "'v' is not among the tensors received"),
        ('params = {"w": np.ones(11, "float32")} if number else params', "received as F32[10] and is now F32[11]"),
        ('params = {"w": np.ones(10)} if number else params', "received as float32 and is now float64"),
    ],
)
def test_a_model_without_a_difference_is_named(running: Federation, tmp_path: Path, body: str, said: str) -> None:
    meta, cause = outcome(running, tmp_path, body, sites=["site-1"], transfer_type="DIFF")
    assert meta["status"] == "FINISHED:FAILED"
    assert said in cause.message
    assert (cause.round, cause.file) == (1, "train.py")


@pytest.mark.row("J5")
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import flpoc.client as flare\nflare.receive()\n", "flare.init() has not been called"),
        ("print('does nothing')\n", "the script ended before the job did"),
        ("import sys\nsys.exit('no data here')\n", ""),
    ],
)
def test_a_script_that_takes_no_part_fails_with_what_it_did(
    running: Federation, tmp_path: Path, script: str, said: str
) -> None:
    meta, cause = outcome(running, tmp_path, "", script=script, sites=["site-1"])
    assert meta["status"] == "FINISHED:FAILED"
    assert said in cause.message
    assert said or (cause.exit_code == 1 and "no data here" in cause.log_tail)


def test_a_script_that_never_begins_is_said_to(running: Federation, tmp_path: Path) -> None:
    script = "import threading\nthreading.Event().wait()\n"
    meta, cause = outcome(running, tmp_path, "", script=script, sites=["site-1"], timeouts={"join_timeout": 3.0})
    assert meta["status"] == "FINISHED:FAILED"
    assert (cause.site, cause.message) == ("site-1", "site-1 did not join within 3 s")


@pytest.mark.row("J5")
def test_a_site_that_makes_no_progress_is_lost(running: Federation, tmp_path: Path) -> None:
    body = 'time.sleep(60) if site == "site-1" and number == 1 else None'
    meta, cause = outcome(running, tmp_path, body, timeouts={"stall": 4.0})
    assert meta["status"] == "FINISHED:FAILED"
    assert cause.site == "site-1"
    assert "no progress" in cause.message


def test_a_site_that_computes_is_not_lost_however_long_it_takes(running: Federation, tmp_path: Path) -> None:
    body = "end = time.time() + 6\n        while time.time() < end and number == 1: pass"
    meta, _ = outcome(running, tmp_path, body, timeouts={"stall": 4.0}, rounds=2)
    assert meta["status"] == "FINISHED:COMPLETED"


def test_a_quorum_lets_the_job_complete_without_a_failed_site(running: Federation, tmp_path: Path) -> None:
    body = 'if site == "site-2" and number == 1: raise ValueError("only here")'
    meta, _ = outcome(running, tmp_path, body, quorum=1)
    assert meta["status"] == "FINISHED:COMPLETED_PARTIAL" or meta["partial_allowed"]
    assert meta["rounds_committed"] == 3


def test_a_round_deadline_closes_the_round_with_those_who_came(running: Federation, tmp_path: Path) -> None:
    body = 'time.sleep(6) if site == "site-2" and number == 0 else None'
    meta, _ = outcome(running, tmp_path, body, quorum=1, timeouts={"round_deadline": 3.0})
    assert meta["status"].startswith("FINISHED:COMPLETED")


def test_a_round_deadline_counts_from_when_the_scripts_have_begun(running: Federation, tmp_path: Path) -> None:
    source = "\n    import time; time.sleep(1.5)" + LOOP.replace("BODY", "time.sleep(60)")
    job = write_job(tmp_path / "job", source, sites=["site-1"], timeouts={"round_deadline": 1.0})
    with running.session() as session:
        meta = session.wait_for_job(session.submit_job(job), timeout=60)
    assert meta["status"] == "FINISHED:FAILED"
    assert meta["cause"]["message"] == "no update from site-1"


@pytest.mark.row("C15")
def test_a_job_that_names_an_absent_site_says_for_whom_it_waits_and_can_be_aborted(
    running: Federation, tmp_path: Path
) -> None:
    job = write_job(tmp_path / "job", LOOP.replace("BODY", ""), sites=["site-1", "site-9"])
    with running.session() as session:
        found = session.submit_job(job)
        waiting = next(m["waiting_for"] for m in session.watch_job(found) if m["waiting_for"])
        assert "site-9 (never connected)" in waiting
        session.abort_job(found)
        assert session.get_job_meta(found)["status"] == "FINISHED:ABORTED"


@pytest.mark.row("C15")
def test_a_running_job_is_aborted_and_its_processes_are_gone(running: Federation, tmp_path: Path) -> None:
    job = write_job(tmp_path / "job", LOOP.replace("BODY", "time.sleep(0.2)"), rounds=1000, sites=running.sites)
    with running.session() as session:
        found = session.submit_job(job)
        for meta in session.watch_job(found):
            if meta["rounds_committed"] >= 1:
                break
        session.abort_job(found)
        assert session.get_job_meta(found)["status"] == "FINISHED:ABORTED"
        with pytest.raises(JobError, match="ABORTED") as caught:
            session.abort_job(found)
        assert caught.value.code == "JOB_NOT_RUNNING"
    session = running.session()
    for name in running.sites:
        wait_until_gone(running, name)
    session.close()


def wait_until_gone(running: Federation, name: str) -> None:
    """The site is told in the background: wait for its job folder to go."""
    import time

    end = time.monotonic() + 60
    while any((running.state(name) / "jobs").glob("*")) and time.monotonic() < end:
        time.sleep(0.05)
    assert not list((running.state(name) / "jobs").glob("*"))
    assert not running.job_processes(name)


def test_an_update_that_comes_after_its_round_was_closed_is_never_taken_for_the_next(
    running: Federation, tmp_path: Path
) -> None:
    body = """
        params = {"w": np.full(10, 10.0 * number if site == "site-1" else 1000.0 + number, "float32")}
        time.sleep(9) if site == "site-2" and number == 0 else time.sleep(0.3)
    """
    meta, _ = outcome(running, tmp_path, body, quorum=1, rounds=6, timeouts={"round_deadline": 6.0})
    with running.session() as session:  # logs come beside everything else
        job = meta["job_id"]
        assert becomes(
            lambda: "was closed without this site" in (session.get_job_logs(job, "all")["logs"].get("site-2") or "")
        )
    assert running.final_model(meta["job_id"], tmp_path / "out")["w"][0] == (10.0 * 5 + 1000.0 + 5) / 2


def test_a_site_that_has_no_room_for_a_job_says_so_and_lives_on(tmp_path: Path) -> None:
    with federation(tmp_path / "small", 1) as running:
        running.stop("site-1")
        jobs = running.state("site-1") / "jobs"
        jobs.touch()  # no folder can be made in it
        running.start("site-1")
        running.ready()
        meta, cause = outcome(running, tmp_path / "first", "")
        assert (meta["status"], cause.site, cause.phase) == ("FINISHED:FAILED", "site-1", "preparing")
        jobs.unlink()
        meta, _ = outcome(running, tmp_path / "second", "")
        assert meta["status"] == "FINISHED:COMPLETED"


def test_what_a_killed_agent_left_of_a_job_is_deleted(tmp_path: Path) -> None:
    with federation(tmp_path, 1) as running:
        running.kill("site-1")
        left = running.state("site-1") / "jobs" / "00000000-0000-0000-0000-000000000007.1" / "in"
        left.mkdir(parents=True)
        (left / "model.safetensors").write_bytes(b"half deleted")
        running.start("site-1")
        running.ready()
        assert not left.parent.exists()
