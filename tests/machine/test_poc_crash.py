"""What an operator does after a crash: ``flpoc poc start`` again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .federation import write_job
from .test_crashes import ROUNDS, script

Flpoc = Callable[..., Any]


@pytest.fixture(scope="module")
def flpoc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flpoc]:
    """Run a command as a user would; gives the data of its answer."""
    home = tmp_path_factory.mktemp("home")
    env = {**os.environ, "HOME": str(home), "FLPOC_POC_WORKSPACE": str(home / "poc")}
    env.pop("FLPOC_STARTUP_KIT_DIR", None)

    def run(*words: str) -> Any:
        argv = [str(Path(sys.executable).parent / "flpoc"), *words, "--format", "json"]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return json.loads(done.stdout)["data"]

    run("poc", "prepare", "-n", "2")
    run("poc", "start")
    yield run
    run("poc", "clean", "--force")


def train(flpoc: Flpoc, folder: Path, disturb: Callable[[], None], *, pause: float = 0.3) -> str:
    """Train ten rounds, with something happening in the third or soon after; gives the model's SHA-256."""
    job = write_job(folder / "job", script(pause, pause), rounds=ROUNDS, sites=["site-1", "site-2"])
    found = flpoc("job", "submit", "-j", str(job))["job_id"]
    while flpoc("job", "meta", found)["rounds_committed"] < 2:
        continue
    disturb()
    assert flpoc("job", "wait", found, "--timeout", "60")["status"] == "FINISHED:COMPLETED"
    meta = flpoc("job", "meta", found)
    assert meta["rounds_committed"] == ROUNDS
    return str(meta["sha256"])


@pytest.fixture(scope="module")
def undisturbed(flpoc: Flpoc, tmp_path_factory: pytest.TempPathFactory) -> str:
    return train(flpoc, tmp_path_factory.mktemp("undisturbed"), lambda: None)


@pytest.mark.parametrize("victims", [("server",), ("site-1",), ("server", "site-1", "site-2")])
def test_poc_start_after_a_crash_goes_on_with_the_job(
    flpoc: Flpoc, undisturbed: str, tmp_path: Path, victims: tuple[str, ...]
) -> None:
    def crash() -> None:
        running = flpoc("poc", "start")["already_running"]
        for name in victims:
            os.kill(running[name], signal.SIGKILL)
        again = flpoc("poc", "start")
        assert set(again["already_running"]) == {"server", "site-1", "site-2"} - set(victims)

    assert train(flpoc, tmp_path, crash) == undisturbed


def test_poc_stop_and_start_go_on_with_the_job(flpoc: Flpoc, undisturbed: str, tmp_path: Path) -> None:
    def pause() -> None:
        stopped = flpoc("poc", "stop")
        assert len(stopped["active_job_ids"]) == 1
        assert not stopped["active_jobs_aborted"]
        flpoc("poc", "start")

    # commands take seconds where much else is to be done: the job must not be over by then
    assert train(flpoc, tmp_path, pause, pause=1.5) == undisturbed
