"""A real engine for all tests of this plugin: without one they are skipped, but never where CI counts on them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import engine as engines
import pytest


@pytest.fixture(scope="session")
def engine() -> Iterator[engines.Engine]:
    with engines.engine_or(_absent) as found:
        yield found


def _absent(why: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"no Docker engine, and CI is set: {why}")
    pytest.skip(f"NO DOCKER ENGINE, NOTHING OF THE docker LAUNCHER IS TESTED: {why}")
