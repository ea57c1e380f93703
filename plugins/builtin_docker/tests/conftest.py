"""A real engine for all tests of this plugin."""

from __future__ import annotations

from collections.abc import Iterator

import engine as engines
import pytest


@pytest.fixture(scope="session")
def engine() -> Iterator[engines.Engine]:
    with engines.engine_for_tests() as found:
        yield found


@pytest.fixture(scope="session")
def image(engine: engines.Engine) -> str:
    """An image with flpoc."""
    return engines.make_image(engine)
