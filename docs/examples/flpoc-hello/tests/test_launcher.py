"""The launcher keeps what every launcher must keep."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from flpoc.launching import Launcher, LaunchRequest
from flpoc.testing import LauncherSuite

from flpoc_hello.launcher import HelloLauncher
from flpoc_hello.settings import HelloSettings


class TestHelloLauncher(LauncherSuite):
    @pytest.fixture
    def launcher(self) -> Launcher:
        return HelloLauncher(HelloSettings())


@pytest.mark.parametrize("nice", [0, 5])
def test_its_processes_give_way_as_much_as_they_are_told(nice: int, tmp_path: Path) -> None:
    launcher = HelloLauncher(HelloSettings(nice=nice))
    request = LaunchRequest(
        name="nice",
        argv=(sys.executable, "-c", "import os; print(os.nice(0))"),
        workdir=str(tmp_path),
        state=str(tmp_path / "state"),
        log=str(tmp_path / "log"),
    )
    handle = launcher.launch(request)
    assert launcher.wait(handle, 20).code == 0
    assert int(launcher.logs(handle)) == os.nice(0) + nice
