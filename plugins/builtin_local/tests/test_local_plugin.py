"""The plugin keeps what every plugin must keep."""

from __future__ import annotations

import subprocess
import sys

from flpoc.testing import PluginSuite
from flpoc_builtin_local.landlock import this_kernel


class TestLocalPlugin(PluginSuite):
    plugin = "flpoc_builtin_local.hooks"


def test_plugins_show_says_what_is_confined_on_this_machine() -> None:
    argv = [sys.executable, "-c", "from flpoc.cli.main import main; main()", "plugins", "show", "local"]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout
    assert this_kernel().said in said
    assert "confine" in said
