"""Users of this catalogue: each with a home, a configuration and folders that exist only for a test."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from machine.ports import free_port

from flpoc.errors import EXIT_STATUS

from .quick import Quick

RUN = "import sys; from flpoc.cli.main import main; sys.exit(main())"
TRAIN = """
import numpy as np

import flpoc.client as flare

flare.init()
while flare.is_running():
    model = flare.receive()
    if model is None:
        break
    print("round", model.current_round, flush=True)
    STEP
    params = dict(model.params) or {"w": np.zeros(4, np.float32)}
    flare.send(flare.FLModel(params={"w": params["w"] + 1}, metrics={"loss": 1.0}))
"""


@attrs.frozen
class Answer:
    """What a command said, and how long it took to say it."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def document(self) -> dict[str, Any]:
        """The one document on standard output."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        assert "Traceback" not in self.err
        assert found["exit_code"] == self.code, self
        return found

    @property
    def data(self) -> Any:
        """What a command that succeeded has to say."""
        assert self.code == 0, f"{self.out}\n{self.err}"
        return self.document["data"]

    def refused(self, code: str, *words: str) -> dict[str, Any]:
        """Check that the command was refused as it should be; gives the document."""
        assert self.code != 0, self.out
        assert "Traceback" not in self.out
        found = self.document
        assert (found["status"], found["error_code"]) == ("error", code), found
        assert self.code == EXIT_STATUS.get(code, 1)
        assert found["hint"], found
        assert len(found["message"]) < 2000
        assert [word for word in words if word not in found["message"] + found["hint"]] == [], found
        return found


class User:
    """Somebody at a command line, with a home and a workspace of their own.

    Args:
        folder: Where everything of this user is.
        quick: Runs commands that need nothing special.
    """

    def __init__(self, folder: Path, quick: Quick | None = None) -> None:
        self.quick = quick
        self.folder = folder
        self.home = folder / "home"
        self.here = folder / "here"
        self.workspace = folder / "ws"
        for one in (self.home, self.here):
            one.mkdir(parents=True)
        kept = {
            name: value
            for name, value in os.environ.items()
            if name == "FLPOC_POC_PORT" or not name.startswith(("FLPOC_", "PYTHONUNBUF"))
        }
        mark = {name: value for name, value in os.environ.items() if name.startswith("FLPOC_TESTS")}
        more = {"HOME": str(self.home), "FLPOC_POC_WORKSPACE": str(self.workspace), "COLUMNS": "100"}
        self.environment = {**kept, **mark, **more}

    def begin(
        self,
        *words: str | bytes,
        text: bool = False,
        env: Mapping[str, str | None] | None = None,
        code: str = RUN,
        **more: Any,
    ) -> subprocess.Popen[str]:
        """Start a command; a variable that *env* gives None is not set."""
        return subprocess.Popen(
            [sys.executable, "-c", code, *([] if text else ["--format", "json"]), *words],
            **{
                "env": self._with(env),
                "cwd": self.here,
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                "text": True,
                **more,
            },
        )

    def run(self, *words: str | bytes, text: bool = False, limit: float = 60.0, **more: Any) -> Answer:
        """Run a command; one that takes longer than *limit* seconds hangs."""
        began = time.monotonic()
        # what is preloaded counts only where a program begins
        if self.quick is not None and not more.keys() - {"env"} and "LD_PRELOAD" not in (more.get("env") or {}):
            line = [*([] if text else ["--format", "json"]), *map(os.fsdecode, words)]
            environment = self._with(more.get("env"))
            return Answer(*self.quick.run(line, environment, self.here, limit), time.monotonic() - began)
        with self.begin(*words, text=text, **more) as process:
            try:
                out, err = process.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return Answer(process.returncode, out or "", err or "", time.monotonic() - began)

    def _with(self, env: Mapping[str, str | None] | None) -> dict[str, str]:
        merged = {**self.environment, **(env or {})}
        return {name: value for name, value in merged.items() if value is not None}

    def job(self, name: str = "hello", step: str = "pass", **settings: Any) -> Path:
        """Write a job folder."""
        folder = self.here / name
        (folder / "code").mkdir(parents=True)
        (folder / "code" / "train.py").write_text(TRAIN.replace("STEP", step))
        content = {"name": name.replace("/", "-"), "script": "train.py", "rounds": 2, "min_clients": 2, **settings}
        (folder / "job.json").write_text(json.dumps(content))
        return folder

    def prepare(self, sites: int = 2) -> dict[str, Any]:
        """Prepare a proof of concept with a port that nobody else takes."""
        people = [
            f"{{name: server, type: server, org: nvidia, fed_learn_port: {free_port()}, default_host: localhost}}",
            *(f"{{name: site-{number}, type: client, org: nvidia}}" for number in range(1, sites + 1)),
            "{name: admin@nvidia.com, type: admin, org: nvidia, role: project_admin}",
            "{name: org-admin@nvidia.com, type: admin, org: nvidia, role: org_admin}",
        ]
        path = self.folder.parent / f"{self.folder.name}.yml"
        lines = "".join(f"  - {one}\n" for one in people)
        path.write_text(f"api_version: 3\nname: example_project\nparticipants:\n{lines}")
        return dict(self.run("poc", "prepare", "-i", str(path)).data)

    def stopped(self) -> None:
        """Stop what this user has started, whatever state it is in."""
        if (self.workspace / "state").exists():
            self.run("poc", "stop")


def snapshot(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Everything below a folder, with what it holds: equal before and after means that nothing happened."""
    return {str(path.relative_to(folder)): _state(path) for path in sorted(folder.rglob("*"))}


def _state(path: Path) -> tuple[Any, ...]:
    found = path.lstat()
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(found.st_mode) else ""
    return (oct(found.st_mode), digest, os.readlink(path) if path.is_symlink() else "")


def interrupted(user: User, *words: str, after: float, **more: Any) -> tuple[int, str, str]:
    """Begin a command and press Ctrl-C *after* so many seconds; gives its exit status and what it said.

    The time counts from when flpoc begins: before that it is the interpreter that is interrupted.
    """
    ours, theirs = os.pipe()
    begins = f"import os; os.write({theirs}, b'.'); os.close({theirs})"
    code = RUN.replace("sys.exit", f"{begins}; sys.exit")
    process = user.begin(*words, code=code, pass_fds=(theirs,), **more)
    os.close(theirs)
    os.read(ours, 1)
    os.close(ours)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(after)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    if process.returncode == -signal.SIGINT and out:
        return 0, out, err  # all was said already, and the interpreter was about to end
    assert process.returncode in (0, 130), out + err
    if process.returncode == 130:
        assert "Traceback" not in out + err
    return process.returncode, out, err


@pytest.fixture
def user(tmp_path: Path, quick: Quick) -> Iterator[User]:
    found = User(tmp_path / "user", quick)
    yield found
    found.stopped()


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quick]:
    found = Quick(tmp_path_factory.mktemp("quick"), os.environ)
    yield found
    found.close()


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory, quick: Quick) -> User:
    """A user for commands that must change nothing; shared by the tests of a module."""
    return User(tmp_path_factory.mktemp("idle") / "user", quick)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, quick: Quick) -> Iterator[User]:
    """A user whose proof of concept runs: a server and two sites, shared by the tests of a module."""
    found = User(tmp_path_factory.mktemp("running") / "user", quick)
    try:
        found.prepare()
        assert found.run("poc", "start").code == 0
        yield found
    finally:
        found.stopped()


@pytest.fixture(scope="module")
def finished(running: User) -> str:
    """The id of a job that has completed."""
    job = running.run("job", "submit", "-j", str(running.job("finished"))).data["job_id"]
    assert running.run("job", "wait", job, "--timeout", "60").data["status"] == "FINISHED:COMPLETED"
    return str(job)


@pytest.fixture
def endless(running: User, tmp_path: Path) -> Callable[[], str]:
    """Submit a job that runs until it is aborted, and wait until it runs."""
    from flpoc.session import Session

    def submit() -> str:
        name = f"endless-{tmp_path.name}"
        job = str(
            running.run("job", "submit", "-j", str(running.job(name, "__import__('time').sleep(600)"))).data["job_id"]
        )
        with Session.open(running.workspace / "example_project" / "prod_00" / "admin@nvidia.com") as session:
            assert any(meta["status"] == "RUNNING" for meta in session.watch_job(job, timeout=60))
        return job

    return submit
