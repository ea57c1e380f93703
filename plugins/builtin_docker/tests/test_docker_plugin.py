"""The plugin keeps what every plugin must keep."""

from __future__ import annotations

from flpoc.testing import PluginSuite


class TestDockerPlugin(PluginSuite):
    plugin = "flpoc_builtin_docker.hooks"
