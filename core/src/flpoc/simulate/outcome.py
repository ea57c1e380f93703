"""How a simulation has ended."""

from __future__ import annotations

from pathlib import Path

import attrs

from flpoc.jobs.states import Cause


@attrs.frozen
class Outcome:
    """How a simulation has ended.

    Attributes:
        state: The state of the job, as a server calls it.
        cause: Why it failed; None if it did not.
        results: The folder of its results.
        partial_allowed: Whether the job allows that sites are missing.
    """

    state: str
    cause: Cause | None
    results: Path
    partial_allowed: bool = False
