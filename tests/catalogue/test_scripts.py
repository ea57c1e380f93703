"""Scripts that misbehave: the job says how, nothing of them is left, and the next job runs as if nothing had been."""

from __future__ import annotations

import contextlib
import os
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from machine.federation import paths_below

from .conftest import User

BEGIN = """
import ctypes, os, signal, subprocess, sys, time
import numpy as np
import flpoc.client as flare

flare.init()
"""
TURN = """
while flare.is_running():
    model = flare.receive()
    if model is None:
        break
    params = {"w": np.ones(4, "float32")}
    BODY
    flare.send(flare.FLModel(params=params))
"""


@pytest.fixture
def run(running: User, tmp_path: Path) -> Iterator[Callable[..., dict[str, Any]]]:
    """Run a script at site-1 alone, and give everything about the job; afterwards all is as it was."""

    def go(script: str, **settings: Any) -> dict[str, Any]:
        name = f"job-{tmp_path.name}"[:60]
        folder = running.job(name, sites=["site-1"], min_clients=1, **settings)
        (folder / "code" / "train.py").write_text(script)
        job = running.run("job", "submit", "-j", str(folder)).data["job_id"]
        running.run("job", "wait", job, "--timeout", "60")
        return dict(running.run("job", "meta", job).data)

    before = services(running)
    yield go
    assert services(running) == before
    until = time.monotonic() + 60
    while found := left_over(running):
        assert time.monotonic() < until, found
        time.sleep(0.05)


def services(user: User) -> Any:
    return user.run("poc", "start", "--timeout", "60").data["already_running"]


def left_over(user: User) -> list[str]:
    """Command lines of processes that work in a job's folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                where = os.readlink(entry / "cwd")
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if f"{user.workspace}/state/site-1/jobs" in where:
                found.append(f"{entry.name} {words} in {where}")
    return found


def body(text: str) -> str:
    return BEGIN + TURN.replace("BODY", textwrap.indent(textwrap.dedent(text), "    ").strip())


ENDS = {
    "os._exit(0)": ("os._exit(0)", {"exit_code": 0}),
    "os._exit(3)": ("os._exit(3)", {"exit_code": 3}),
    "segmentation fault": ("ctypes.string_at(0)", {"signal": "SIGSEGV"}),
    "abort": ("os.abort()", {"signal": "SIGABRT"}),
    "closes its output": ("os.close(1)\nos.close(2)\nraise SystemExit(5)", {"exit_code": 5}),
    "closes everything": ("os.closerange(0, 1024)\nos._exit(6)", {"exit_code": 6}),
    "exception": ("raise ValueError('bad label')", {"exception": "ValueError"}),
    "endless recursion": ("def f(): f()\nf()", {"exception": "RecursionError"}),
    "exit from a thread": ("import threading\nthreading.Thread(target=os._exit, args=(8,)).start()\ntime.sleep(60)",
                           {"exit_code": 8}),
}  # fmt: skip


@pytest.mark.row("J5")
@pytest.mark.parametrize("name", ENDS)
def test_however_a_script_ends_the_job_says_how(run, name):
    code, wanted = ENDS[name]
    meta = run(body(code))
    assert meta["status"] == "FINISHED:FAILED"
    assert {key: meta["cause"][key] for key in wanted} == wanted
    assert meta["cause"]["site"] == "site-1"


@pytest.mark.row("J4")
def test_an_import_that_fails_is_told_with_its_line(run):
    meta = run("import numpy\nimport no_such_package\n")
    assert meta["status"] == "FINISHED:FAILED"
    assert (meta["cause"]["exception"], meta["cause"]["line"]) == ("ModuleNotFoundError", 2)
    assert meta["cause"]["site"] == "site-1"
    assert "no_such_package" in meta["cause"]["hint"]


@pytest.mark.row("J5")
def test_an_endless_loop_ends_with_the_rounds_deadline(run):
    meta = run(body("while True: pass"), timeouts={"round_deadline": 2})
    assert meta["status"].startswith("FINISHED:FAILED")
    assert "site-1" in str(meta["cause"])


@pytest.mark.row("J5")
def test_what_a_script_has_started_ends_with_it(run):
    """Children of children, in sessions of their own, that ignore being asked to end."""
    child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    meta = run(
        body(f"""
        for _ in range(20):
            subprocess.Popen([sys.executable, "-c", {child!r}], start_new_session=True)
        raise ValueError("and now it ends")
    """)
    )
    assert meta["cause"]["exception"] == "ValueError"


@pytest.mark.row("J5")
def test_memory_beyond_what_the_job_asked_for_is_refused_and_named(run):
    meta = run(body("x = np.ones(4 << 30, 'uint8')"), needs={"memory_gib": 1})
    assert meta["status"] == "FINISHED:FAILED"
    assert "emory" in str(meta["cause"])


@pytest.mark.row("J5")
def test_a_script_that_ignores_being_asked_to_end_is_ended(running, tmp_path):
    folder = running.job("stubborn", sites=["site-1"], min_clients=1)
    text = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf', flush=True)\ntime.sleep(600)"
    (folder / "code" / "train.py").write_text(body(text))
    job = running.run("job", "submit", "-j", str(folder)).data["job_id"]
    until = time.monotonic() + 90
    while not left_over(running):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert running.run("job", "abort", job, "--force").data["job_id"] == job
    while left_over(running):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert running.run("job", "meta", job).data["status"] == "FINISHED:ABORTED"


@pytest.mark.row("J5")
def test_endless_printing_ends_at_the_limit_of_the_log(run, running):
    meta = run(body("for _ in range(130): os.write(1, b'x' * (1 << 20) + b'\\n')"))
    assert meta["status"] == "FINISHED:COMPLETED"
    kept = 0
    for path in paths_below(running.workspace / "state"):
        with contextlib.suppress(FileNotFoundError):  # what is left of the job is just deleted
            kept += path.lstat().st_size
    assert kept < 260 << 20


UPDATES = {
    "more elements": 'np.ones(5, "float32")',
    "other type": 'np.ones(4, "float64")',
    "other shape": 'np.ones((2, 2), "float32")',
    "NaN": 'np.array([1, 2, np.nan, 4], "float32")',
    "infinity": 'np.array([1, 2, np.inf, 4], "float32")',
    "objects": "np.array([{}, {}, {}, {}])",
    "text": '"weights"',
    "nothing": "None",
}


@pytest.mark.row("J6")
@pytest.mark.parametrize("name", UPDATES)
def test_an_update_that_cannot_be_used_names_site_and_tensor(run, name):
    meta = run(body(f"params = {{'w': {UPDATES[name]}}} if model.current_round else params"), rounds=2)
    assert meta["status"] == "FINISHED:FAILED"
    said = meta["cause"]
    assert "site-1" in str(said["site"]) + str(said["message"])
    assert "'w'" in said["message"] or "w" in said["message"].split()


@pytest.mark.row("J6")
@pytest.mark.parametrize("params", ["{}", "{'v': params['w']}", "{**params, 'v': params['w']}", "None", "[1]"])
def test_other_names_of_tensors_are_refused(run, params):
    meta = run(body(f"params = {params} if model.current_round else params"), rounds=2)
    assert meta["status"] == "FINISHED:FAILED"
    assert meta["cause"]["message"]


@pytest.mark.row("G13")
def test_a_job_for_more_sites_than_there_are_says_for_whom_it_waits(running):
    folder = running.job("many", min_clients=5)
    job = running.run("job", "submit", "-j", str(folder)).data["job_id"]
    done = running.run("job", "wait", job, "--timeout", "3")
    found = done.refused("TIMEOUT", "2 of 5 sites")
    assert found["data"]["job_id"] == job
    assert running.run("job", "abort", job, "--force").code == 0
