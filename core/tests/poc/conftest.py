"""A user with a home, a configuration and a workspace that exist only for one test."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from machine.ports import free_port

RUN = "import sys; from flpoc.cli.main import main; sys.exit(main())"


class Answer:
    """What a command said."""

    def __init__(self, code: int, out: str, err: str, seconds: float) -> None:
        self.code, self.out, self.err, self.seconds = code, out, err, seconds

    @property
    def document(self) -> dict[str, Any]:
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found

    @property
    def data(self) -> dict[str, Any]:
        assert self.code == 0, f"{self.out}\n{self.err}"
        return self.document["data"]

    @property
    def error(self) -> tuple[str, int]:
        return self.document["error_code"], self.code


class Place:
    """One workspace, with its user."""

    def __init__(self, workspace: Path, home: Path) -> None:
        self.workspace = workspace
        self.home = home
        home.mkdir(exist_ok=True)
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("FLPOC_")}
        if port := os.environ.get("FLPOC_POC_PORT"):  # testers side by side have different ones
            self.env["FLPOC_POC_PORT"] = port
        self.env |= {"HOME": str(home), "FLPOC_POC_WORKSPACE": str(workspace)}

    def begin(self, *words: str, text: bool = False, **more: str) -> subprocess.Popen[str]:
        form = [] if text else ["--format", "json"]
        return subprocess.Popen(
            [sys.executable, "-c", RUN, *form, *words],
            env={**self.env, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, text: bool = False, **more: str) -> Answer:
        """Run a command of ``flpoc poc``."""
        return self.answer("poc", *words, text=text, **more)

    def answer(self, *words: str, text: bool = False, **more: str) -> Answer:
        """Run any command."""
        began = time.monotonic()
        with self.begin(*words, text=text, **more) as process:
            out, err = process.communicate(timeout=120)
        return Answer(process.returncode, out, err, time.monotonic() - began)

    def prepare(self, sites: int = 2, port: int = 0) -> dict[str, Any]:
        """Prepare with a port that no other test uses."""
        return self.run("prepare", "-i", str(self.project_file(sites, port or free_port())), "--force").data

    def project_file(self, sites: int, port: int) -> Path:
        path = self.home / "project.yml"
        people = [
            f"{{name: server, type: server, org: nvidia, fed_learn_port: {port}, default_host: localhost}}",
            *(f"{{name: site-{number}, type: client, org: nvidia}}" for number in range(1, sites + 1)),
            "{name: admin@nvidia.com, type: admin, org: nvidia, role: project_admin}",
        ]
        lines = "".join(f"  - {one}\n" for one in people)
        path.write_text(f"api_version: 3\nname: example_project\nparticipants:\n{lines}")
        return path

    @property
    def config(self) -> dict[str, Any]:
        return json.loads((self.home / ".flpoc" / "config.conf").read_text())

    @property
    def spare_port(self) -> int:
        return free_port()

    def kit(self, name: str) -> Path:
        return self.workspace / "example_project" / "prod_00" / name

    @property
    def processes(self) -> list[int]:
        """Everything that runs on behalf of this workspace: by its words, or where it works."""
        return sorted(pid for pid, signs in all_processes() if str(self.workspace) in signs)


def kill(pid: int) -> None:
    """Kill a process, and wait until it has ended."""
    handle = os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGKILL)
        ended = select.poll()
        ended.register(handle, select.POLLIN)
        assert ended.poll(60_000), f"{pid} does not end"
    finally:
        os.close(handle)


def all_processes() -> Iterator[tuple[int, str]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().decode(errors="replace")
                yield int(folder.name), f"{words}\0{os.readlink(folder / 'cwd')}"
            except OSError:
                continue  # it has just ended, or is none of ours


@pytest.fixture
def make_place(tmp_path):
    made: list[Place] = []

    def make(name: str = "ws", home: str = "home") -> Place:
        made.append(Place(tmp_path / name, tmp_path / home))
        return made[-1]

    yield make
    for place in made:
        if (place.workspace / "state").exists():
            place.run("stop")
        left = place.processes
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left, "the test left processes behind"


@pytest.fixture
def place(make_place) -> Place:
    return make_place()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Place:
    """A workspace with one site for tests that leave it as it is; nothing of it runs."""
    folder = tmp_path_factory.mktemp("prepared")
    found = Place(folder / "ws", folder / "home")
    found.prepare(sites=1)
    return found
