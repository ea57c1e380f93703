"""A project that really runs: a server and two sites, each a process of its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from machine.ports import free_port

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


@pytest.fixture(scope="session")
def spare_port() -> Callable[[], int]:
    """For whoever starts a server."""
    return free_port


class Deployment:
    """A provisioned project whose server and sites can be started and stopped."""

    def __init__(self, folder: Path) -> None:
        from flpoc.provision.building import provision
        from flpoc.provision.project_file import sample_project

        self.port = free_port()
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
            session.wait_ready(sites, 60)

    def stop(self, *names: str) -> None:
        """Ask to end, wait, and reap."""
        for name in names:
            self._running[name].terminate()
        for name in names:
            process = self._running.pop(name)
            try:
                process.wait(30)
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


def logs_have_come(session: Session, job: str, last_words: dict[str, str]) -> None:
    """Wait for logs, which sites send beside everything else, in pieces, and nobody announces."""
    until = time.monotonic() + 60
    while True:
        logs = session.get_job_logs(job, "all")["logs"]
        if all(words in (logs.get(site) or "") for site, words in last_words.items()):
            return
        assert time.monotonic() < until, f"logs did not come: {logs}"
        time.sleep(0.05)


@pytest.fixture(scope="session")
def finished(deployment: Deployment, make_job: Callable[..., Path]) -> str:
    """The id of a job that has completed; for reading only."""
    from flpoc.session import Session

    with Session.open(deployment.kit()) as session:
        job = session.submit_job(make_job("finished", rounds=3))
        assert session.wait_for_job(job, 120)["status"] == "FINISHED:COMPLETED"
        logs_have_come(session, job, dict.fromkeys(("site-1", "site-2"), "round 2\n"))
    return job


@pytest.fixture(scope="session")
def failed(deployment: Deployment, make_job: Callable[..., Path]) -> str:
    """The id of a job whose script has failed; for reading only."""
    from flpoc.session import Session

    with Session.open(deployment.kit()) as session:
        job = session.submit_job(make_job("failed", step='raise ValueError("no such column: age")'))
        meta = session.wait_for_job(job, 120)
        assert meta["status"] == "FINISHED:FAILED"
        logs_have_come(session, job, {meta["cause"]["site"]: "ValueError: no such column: age\n"})
    return job


@pytest.fixture
def endless(deployment: Deployment, make_job: Callable[..., Path]) -> Iterator[str]:
    """The id of a job that runs until it is aborted."""
    from flpoc.errors import JobError
    from flpoc.session import Session

    with Session.open(deployment.kit()) as session:
        job = session.submit_job(make_job("endless", step='__import__("threading").Event().wait()'))
        for meta in session.watch_job(job, timeout=120):
            if meta["status"] == "RUNNING":
                break
        yield job
        with contextlib.suppress(JobError):
            session.abort_job(job)
        session.wait_for_job(job, 60)


class Terminal:
    """A command in a terminal, as somebody who types sees it."""

    _RUN = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from flpoc.cli.main import main
sys.exit(main())
"""
    _CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()=>].?|\r")

    def __init__(self, words: tuple[str, ...], environ: dict[str, str], columns: int) -> None:
        self._screen, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        env = {**os.environ, "TERM": "vt100", "NO_COLOR": "1", **environ}
        env.pop("COLUMNS", None)
        argv = [sys.executable, "-c", self._RUN, *words]
        self.process = subprocess.Popen(argv, stdin=inner, stdout=inner, stderr=inner, env=env, start_new_session=True)
        os.close(inner)
        self._unread = ""
        self.seen = ""

    def type(self, text: str) -> None:
        """Press these keys; ``\\x03`` is Ctrl-C, ``\\x04`` Ctrl-D."""
        os.write(self._screen, text.encode())

    def expect(self, pattern: str, timeout: float = 60.0) -> re.Match[str]:
        """Read until *pattern* has come; what was read up to it is not looked at again."""
        until = time.monotonic() + timeout
        while (found := re.search(pattern, self._unread)) is None:
            assert self._read(until), f"no {pattern!r} in:\n{self.seen}"
        self._unread = self._unread[found.end() :]
        return found

    def ask(self, line: str) -> str:
        """Type a line and give what is said until the next prompt."""
        self.type(f"{line}\n")
        self.expect(re.escape(line) + r"\n")
        said = self.expect(r"(?s)(.*?)(?:Done|Failed|Cancelled) \[.*? s\]\n").group(1)
        self.expect("> ")
        return said

    def rest(self) -> None:
        """Wait until it waits: a signal that comes while readline draws is heard with the next key only."""
        until = time.monotonic() + 60
        while Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
            assert time.monotonic() < until, "it never waits"

    def end(self) -> int:
        """Wait for its end; gives its exit status."""
        until = time.monotonic() + 60
        while self._read(until):
            pass
        return self.process.wait(max(0.1, until - time.monotonic()))

    def _read(self, until: float) -> bool:
        """Take what comes; false when nothing has come until then, or nothing can come any more."""
        left = until - time.monotonic()
        if left <= 0 or not select.select([self._screen], [], [], left)[0]:
            return False
        try:
            data = os.read(self._screen, 1 << 16)
        except OSError:  # all that wrote to it have ended
            data = b""
        text = self._CONTROLS.sub("", data.decode(errors="replace"))
        self._unread += text
        self.seen += text
        return bool(data)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)
        os.close(self._screen)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    """Run flpoc in a terminal of its own."""
    made: list[Terminal] = []

    def run(*words: str, columns: int = 150, **environ: str) -> Terminal:
        made.append(Terminal(words, environ, columns))
        return made[-1]

    yield run
    for one in made:
        one.close()
