"""The example that is shown first does what it says, in a simulation and in a POC, with the same bits."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[3] / "docs" / "examples" / "hello-numpy"


@pytest.fixture
def run(home, tmp_path):
    """Run the example as its user would; gives the folder of its results."""

    def running(*words: str) -> Path:
        environment = {**os.environ, "FLPOC_SIMULATOR_WORKSPACE_ROOT": str(tmp_path / "sim")}
        done = subprocess.run(
            [sys.executable, str(EXAMPLE / "job.py"), *words],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found = re.search(r"status: FINISHED:COMPLETED\nresult: (.*)\n", done.stdout)
        assert found, done.stdout
        return Path(found[1])

    return running


def test_it_learns_to_read_digits_with_the_same_bits_in_a_simulation_and_in_a_poc(run):
    models = set()
    for words in ((), ("poc",)):
        results = run(*words)
        assert json.loads((results / "metrics_summary.json").read_text())["metrics"]["accuracy"] > 0.93
        models.add(hashlib.sha256((results / "FL_global_model.safetensors").read_bytes()).hexdigest())
    assert len(models) == 1


def test_its_user_writes_less_than_forty_lines_besides_the_model():
    lines = [line for name in ("job.py", "client.py") for line in (EXAMPLE / name).read_text().splitlines()]
    assert len([line for line in lines if line.strip()]) < 40
