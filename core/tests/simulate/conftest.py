"""Jobs for simulations."""

from __future__ import annotations

import hashlib
import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

from flpoc.simulate import Outcome, run

SCRIPT = """
    import os, signal, sys, time
    import numpy as np
    import flpoc.client as flare

    flare.init()
    while flare.is_running():
        model = flare.receive()
        site, number = flare.get_site_name(), model.current_round
        rng = np.random.default_rng(flare.get_seed())
        params = {"w": model.params.get("w", np.zeros(50)) + rng.normal(size=50)}
        BODY
        flare.send(flare.FLModel(params=params, metrics={"seen": number}))
"""


def names(count: int) -> list[str]:
    return [f"site-{number}" for number in range(1, count + 1)]


class Simulation:
    """Simulates jobs in a folder of one test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "results"

    def write(self, body: str = "pass", *, script: str = SCRIPT, **settings: Any) -> Path:
        job = self.folder / "job"
        (job / "code").mkdir(parents=True, exist_ok=True)
        body = textwrap.indent(textwrap.dedent(body), " " * 4).strip()
        (job / "code" / "train.py").write_text(textwrap.dedent(script).replace("BODY", body))
        (job / "job.json").write_text(json.dumps({"name": "test", "script": "train.py", "rounds": 3, **settings}))
        return job

    def run(
        self,
        body: str = "pass",
        *,
        sites: int = 3,
        how: dict[str, Any] | None = None,
        job: dict[str, Any] | None = None,
        **more: Any,
    ) -> Outcome:
        found = self.write(body, **(job or {}), **more)
        return run(found, **{"sites": names(sites), "workspace": self.root, **(how or {})})

    def sha256(self, outcome: Outcome) -> str:
        return hashlib.sha256((outcome.results / "FL_global_model.safetensors").read_bytes()).hexdigest()

    def ledger(self, outcome: Outcome) -> dict[tuple[int, str], tuple[str, str]]:
        rows = json.loads((outcome.results / "ledger.json").read_text())
        return {(row["round"], row["site"]): (row["status"], row["reason"]) for row in rows}


@pytest.fixture
def simulation(tmp_path: Path) -> Simulation:
    return Simulation(tmp_path)
