"""The plugin keeps what every plugin must keep."""

from __future__ import annotations

from flpoc.testing import PluginSuite


class TestLocalPlugin(PluginSuite):
    plugin = "flpoc_builtin_local.hooks"
