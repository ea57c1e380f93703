"""The docker launcher keeps what every launcher must keep."""

from __future__ import annotations

import engine as engines
import pytest

from flpoc.testing import LauncherSuite
from flpoc_builtin_docker.launcher import DockerLauncher
from flpoc_builtin_docker.settings import DockerSettings


class TestDockerLauncher(LauncherSuite):
    runs_on_host = False
    python = "/usr/local/bin/python3"
    engine_env = frozenset({"PATH", "PWD", "HOSTNAME", "HOME"})
    patience = 40.0
    at_once = 3.0

    @pytest.fixture
    def launcher(self, engine: engines.Engine) -> DockerLauncher:
        return DockerLauncher(DockerSettings(engine=engine.address, image=engines.BASE))
