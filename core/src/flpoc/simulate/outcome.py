"""How a simulation has ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs

from flpoc.jobs.states import Cause
from flpoc.server.result_files import MANIFEST_NAME


@attrs.frozen
class Outcome:
    """How a simulation has ended.

    Attributes:
        name: The name of the job.
        state: The state of the job, as a server calls it.
        cause: Why it failed; None if it did not.
        results: The folder of its results.
        partial_allowed: Whether the job allows that sites are missing.
    """

    name: str
    state: str
    cause: Cause | None
    results: Path
    partial_allowed: bool = False

    def summary(self) -> dict[str, Any]:
        """Metrics of the final model, number of rounds, and the SHA-256 of the model; None if there is none."""
        about = json.loads((self.results / "metrics_summary.json").read_text())
        digests = json.loads((self.results / MANIFEST_NAME).read_text())["sha256"]
        return {"metrics": about["metrics"], "rounds": about["rounds"], "sha256": digests.get("global_model")}
