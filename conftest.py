"""Testers side by side: whose ports, who has the Docker engine; what could not be tested at all is said last."""

from __future__ import annotations

import os
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

#: Tests of one Docker engine, for one tester: an engine and an image for each would take longer than what it saves.
_ONE_ENGINE = "plugins/builtin_docker/"
#: More proofs of concept than the tests of one tester have at the same time.
_PORTS = 50


def pytest_configure() -> None:
    """A POC that is started again wants the port it had: no other tester's may have it meanwhile."""
    tester = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    if tester.isdecimal():
        os.environ["FLPOC_POC_PORT"] = str(8002 + _PORTS * int(tester))


class _ByFile(LoadFileScheduling):
    """The tests of a file go to one tester, those of the engine all to the same."""

    def _split_scope(self, nodeid: str) -> str:
        return _ONE_ENGINE if nodeid.startswith(_ONE_ENGINE) else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    """What ``--dist loadfile`` means here."""
    return _ByFile(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Tests of a whole launcher that were skipped are not to be overlooked among single ones."""
    skipped = [str(one.longrepr[2]) for one in terminalreporter.stats.get("skipped", ()) if one.longrepr]
    loud = [reason for reason in skipped if "NO DOCKER ENGINE" in reason]
    if loud:
        terminalreporter.section(f"{len(loud)} tests were not run", sep="!", red=True, bold=True)
        terminalreporter.line(loud[0].removeprefix("Skipped: "), red=True, bold=True)
