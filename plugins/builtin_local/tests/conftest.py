"""What the tests of the local launcher start from: a launcher, a way to ask, a clean end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flpoc.launching import Handle, LaunchRequest
from flpoc.testing.lifelines import HOLD, Lifeline
from flpoc_builtin_local.launcher import LocalLauncher

Ask = Callable[..., LaunchRequest]


@pytest.fixture
def launcher() -> LocalLauncher:
    return LocalLauncher()


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    def make(code: str, *arguments: str, name: str = "job.site-1.1", **more: Any) -> LaunchRequest:
        argv = more.pop("argv", (sys.executable, "-c", HOLD + code if "say(" in code else code, *arguments))
        more = {"workdir": str(tmp_path), "state": str(tmp_path / "state"), "log": str(tmp_path / "log"), **more}
        return LaunchRequest(name=name, argv=argv, **more)

    return make


@pytest.fixture
def start(launcher: LocalLauncher, ask: Ask) -> Iterator[Callable[..., Handle]]:
    started = []

    def launch(code: str, *arguments: str, **more: Any) -> Handle:
        started.append(launcher.launch(ask(code, *arguments, **more)))
        return started[-1]

    yield launch
    for handle in started:
        launcher.stop(handle, grace=0)


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Lifeline]:
    line = Lifeline(tmp_path / "life")
    yield line
    line.close()
