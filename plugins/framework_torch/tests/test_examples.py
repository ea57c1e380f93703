"""The examples and the job template run, in the simulator and in a real federation, with the same bits."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine.federation import Federation, federation

EXAMPLES = Path(__file__).resolve().parents[3] / "docs" / "examples"


@pytest.fixture(scope="module")
def torch_federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with federation(tmp_path_factory.mktemp("federation"), plugins=("local", "torch")) as found:
        yield found


def as_a_user(folder: Path, *words: str, **variables: str) -> str:
    """Run a command in *folder* as somebody with an empty home; gives what it printed."""
    (folder / "home").mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLPOC")}
    env = {
        **kept,
        "HOME": str(folder / "home"),
        "FLPOC_SIMULATOR_WORKSPACE_ROOT": str(folder / "simulated"),
        **variables,
    }
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def sha256(results: Path) -> str:
    return hashlib.sha256((results / "FL_global_model.safetensors").read_bytes()).hexdigest()


def accuracy(results: Path) -> float:
    return float(json.loads((results / "metrics_summary.json").read_text())["metrics"]["accuracy"])


def submitted(found: Federation, job: Path, into: Path) -> Path:
    """The results of a job folder that was run by the federation."""
    with found.session() as session:
        number = session.submit_job(job)
        meta = session.wait_for_job(number, 150)
        assert meta["status"] == "FINISHED:COMPLETED", meta.get("cause")
        return session.download_job_result(number, into).path


@pytest.mark.parametrize("example", ["hello-pt", "hello-lightning"])
def test_an_example_is_under_forty_lines_besides_its_model(example: str) -> None:
    lines = [line for name in ("client.py", "job.py") for line in (EXAMPLES / example / name).read_text().splitlines()]
    assert len([line for line in lines if line.strip()]) < 40


def test_hello_pt_gives_the_same_model_simulated_and_in_a_federation(torch_federation: Federation, tmp_path) -> None:
    program = str(EXAMPLES / "hello-pt" / "job.py")
    printed = as_a_user(tmp_path, program)
    simulated = tmp_path / "simulated" / "hello-pt"
    assert printed.splitlines()[-1] == str(simulated)
    assert accuracy(simulated) > 0.92
    as_a_user(tmp_path, program, FLPOC_EXPORT_DIR=str(tmp_path / "jobs"))
    real = submitted(torch_federation, tmp_path / "jobs" / "hello-pt", tmp_path / "real")
    assert sha256(real) == sha256(simulated)
    assert accuracy(real) == accuracy(simulated)
    losses = [json.loads(line) for line in (simulated / "site_metrics.jsonl").read_text().splitlines()]
    assert {row["key"] for row in losses} == {"train_loss"}


def test_hello_lightning_learns(tmp_path: Path) -> None:
    as_a_user(tmp_path, str(EXAMPLES / "hello-lightning" / "job.py"))
    assert accuracy(tmp_path / "simulated" / "hello-lightning") > 0.9


def test_the_template_is_a_job_that_learns(torch_federation: Federation, tmp_path: Path) -> None:
    as_a_user(tmp_path, "-c", "from flpoc.cli.main import main; main()", "job", "create", "-j", "mine", "-w", "sag_pt")
    assert accuracy(submitted(torch_federation, tmp_path / "mine", tmp_path / "results")) > 0.85
