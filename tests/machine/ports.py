"""Ports for the servers of tests."""

from __future__ import annotations

import itertools
import os

from flpoc.ports import is_free

#: Each in its turn.
_PLACES = itertools.cycle(range(250))


def free_port() -> int:
    """A port that no other tester takes, and that the system gives to no connection: not even while nobody listens."""
    tester = int(os.environ.get("FLPOC_POC_PORT", "8002")) - 8002  # 50 ports further than the one before
    first = 20_000 + 5 * tester % 12_000
    return next(port for place in _PLACES if is_free(port := first + place))
