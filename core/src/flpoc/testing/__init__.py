"""Conformance suites: what a plugin must keep, as tests to subclass.

Write a test class that inherits from a suite and says what to test::

    class TestSlurmLauncher(LauncherSuite):
        @pytest.fixture
        def launcher(self):
            return SlurmLauncher(SlurmSettings(partition="test"))

The plugins that come with flpoc pass exactly these suites.
"""

from __future__ import annotations

import pytest

# before they are imported, so that their assertions say what was compared
_SUITES = ("aggregator", "authority", "formatter", "framework", "launcher", "plugin", "workflow")
_PARTS = ("launcher_bench", "launcher_starts", "launcher_ends", "launcher_stops", "rehearsal")
pytest.register_assert_rewrite(*(f"flpoc.testing.{name}" for name in (*_PARTS, *(f"{kind}_suite" for kind in _SUITES))))

from flpoc.testing.aggregator_suite import AggregatorSuite  # noqa: E402 - see above
from flpoc.testing.authority_suite import AuthoritySuite  # noqa: E402 - see above
from flpoc.testing.formatter_suite import FormatterSuite  # noqa: E402 - see above
from flpoc.testing.framework_suite import FrameworkSuite  # noqa: E402 - see above
from flpoc.testing.launcher_suite import LauncherSuite  # noqa: E402 - see above
from flpoc.testing.plugin_suite import PluginSuite  # noqa: E402 - see above
from flpoc.testing.workflow_suite import WorkflowSuite  # noqa: E402 - see above

__all__ = [
    "AggregatorSuite",
    "AuthoritySuite",
    "FormatterSuite",
    "FrameworkSuite",
    "LauncherSuite",
    "PluginSuite",
    "WorkflowSuite",
]
