"""A project that really runs: a server and two sites, each a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from flpoc.session import Session

TRAIN = """
    import time

    import numpy as np

    import flpoc.client as flare

    flare.init()
    while flare.is_running():
        model = flare.receive()
        if model is None:
            break
        if flare.is_evaluate():
            flare.send(flare.FLModel(metrics={"accuracy": 0.9}))
            continue
        print("round", model.current_round, flush=True)
        STEP
        params = dict(model.params) or {"w": np.zeros(4, np.float32)}
        flare.send(flare.FLModel(
            params={name: np.asarray(value) + 1 for name, value in params.items()},
            metrics={"accuracy": 0.1 * (model.current_round + 1), "loss": 2.0},
        ))
"""


class Deployment:
    """A provisioned project whose server and sites can be started and stopped."""

    def __init__(self, folder: Path) -> None:
        from flpoc.provision.kits import provision
        from flpoc.provision.project_file import sample_project

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        self.prod = provision(sample_project(["site-1", "site-2", "site-3"], port=self.port), folder)
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    def kit(self, name: str = "admin@nvidia.com") -> Path:
        return self.prod / name

    def start(self, *names: str) -> None:
        """Start participants, and wait until the server lists those that are sites."""
        for name in names:
            module = "flpoc.server" if name == "server" else "flpoc.site"
            words = [sys.executable, "-m", module, str(self.prod / name), "--state", str(self.folder / f"state-{name}")]
            with (self.folder / f"{name}.log").open("ab") as log:
                # a session of its own: whatever it starts can be ended with it
                self._running[name] = subprocess.Popen(words, stderr=log, stdout=log, start_new_session=True)
        self.wait_until_ready([name for name in names if name != "server"])

    def wait_until_ready(self, sites: list[str]) -> None:
        from flpoc.session import Session

        with Session.open(self.kit()) as session:
            session.wait_ready(sites, 30)

    def stop(self, *names: str) -> None:
        """Ask to end, wait, and reap."""
        for name in names:
            self._running[name].terminate()
        for name in names:
            process = self._running.pop(name)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(15)

    def stop_all(self) -> None:
        self.stop(*self._running)


@pytest.fixture(scope="session")
def deployment_class() -> type[Deployment]:
    """For modules that need a project of their own."""
    return Deployment


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A server and two sites for all tests that leave them as they are; site-3 is never there."""
    found = Deployment(tmp_path_factory.mktemp("deployment"))
    try:
        found.start("server", "site-1", "site-2")
        yield found
    finally:
        found.stop_all()


@pytest.fixture
def own_deployment(tmp_path: Path) -> Iterator[Deployment]:
    """A project for one test, nothing of it started."""
    found = Deployment(tmp_path)
    try:
        yield found
    finally:
        found.stop_all()


@pytest.fixture(scope="session")
def make_job(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a job folder: its name, what each round does, and lines of its job file."""

    def make(name: str = "hello", *, step: str = "pass", rounds: int = 2, lines: str = "") -> Path:
        folder = tmp_path_factory.mktemp("jobs") / name
        (folder / "code").mkdir(parents=True)
        (folder / "code" / "train.py").write_text(textwrap.dedent(TRAIN.replace("STEP", step)))
        text = f'name = {name}\nrounds = {rounds}\nmin_clients = 2\nscript = "train.py"\n{lines}\n'
        (folder / "job.conf").write_text(text)
        return folder

    return make


def logs_have_come(session: Session, job: str, sites: set[str]) -> None:
    """Wait for logs, which sites send beside everything else and nobody announces."""
    until = time.monotonic() + 20
    while sites - {name for name, text in session.get_job_logs(job, "all")["logs"].items() if text}:
        assert time.monotonic() < until, "logs did not come"
        time.sleep(0.05)


@pytest.fixture(scope="session")
def finished(deployment: Deployment, make_job: Callable[..., Path]) -> str:
    """The id of a job that has completed; for reading only."""
    from flpoc.session import Session

    with Session.open(deployment.kit()) as session:
        job = session.submit_job(make_job("finished", rounds=3))
        assert session.wait_for_job(job, 60)["status"] == "FINISHED:COMPLETED"
        logs_have_come(session, job, {"site-1", "site-2"})
    return job


@pytest.fixture(scope="session")
def failed(deployment: Deployment, make_job: Callable[..., Path]) -> str:
    """The id of a job whose script has failed; for reading only."""
    from flpoc.session import Session

    with Session.open(deployment.kit()) as session:
        job = session.submit_job(make_job("failed", step='raise ValueError("no such column: age")'))
        meta = session.wait_for_job(job, 60)
        assert meta["status"] == "FINISHED:FAILED"
        logs_have_come(session, job, {meta["cause"]["site"]})
    return job


@pytest.fixture
def endless(deployment: Deployment, make_job: Callable[..., Path]) -> Iterator[str]:
    """The id of a job that runs until it is aborted."""
    from flpoc.errors import JobError
    from flpoc.session import Session

    with Session.open(deployment.kit()) as session:
        job = session.submit_job(make_job("endless", step='__import__("threading").Event().wait()'))
        for meta in session.watch_job(job, timeout=60):
            if meta["status"] == "RUNNING":
                break
        yield job
        with contextlib.suppress(JobError):
            session.abort_job(job)
        session.wait_for_job(job, 60)
