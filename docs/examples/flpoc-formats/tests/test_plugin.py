"""The plugin keeps what every plugin must keep."""

from __future__ import annotations

from flpoc.testing import PluginSuite


class TestFormats(PluginSuite):
    plugin = "flpoc_formats.hooks"
