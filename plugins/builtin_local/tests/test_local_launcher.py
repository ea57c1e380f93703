"""The local launcher keeps what every launcher must keep."""

from __future__ import annotations

import pytest

from flpoc.testing import LauncherSuite
from flpoc_builtin_local.launcher import LocalLauncher


class TestLocalLauncher(LauncherSuite):
    @pytest.fixture
    def launcher(self) -> LocalLauncher:
        return LocalLauncher()
