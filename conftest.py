"""Testers that run side by side do not take each other's ports."""

from __future__ import annotations

import os

#: More proofs of concept than the tests of one tester have at the same time.
_PORTS = 50


def pytest_configure() -> None:
    """A POC that is started again wants the port it had: no other tester's may have it meanwhile."""
    tester = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    if tester.isdecimal():
        os.environ["FLPOC_POC_PORT"] = str(8002 + _PORTS * int(tester))
