"""The same recipe and seed give the same model, byte by byte: wherever it runs, and whoever is done first."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from accuracy.problem import new_model, widths
from flpoc.recipe import ExecEnv, NumpyFedAvgRecipe, PocEnv, SimEnv

HERE = Path(__file__).parent
SITES = 4


def digest(folder: Path, env: ExecEnv, kind: str, first: str = "") -> str:
    """SHA-256 of the final model; with *first*, that site is done first and the others later."""
    ask: dict[str, Any] = {
        "folder": "", "data": "digits", "seed": 3, "sites": SITES, "split": "dir0.5", "epochs": 1, "batch": 32,
        "rate": 0.1, "first": first,
    }  # fmt: skip
    recipe = NumpyFedAvgRecipe(
        name=f"bits-{kind}{first}",
        model=new_model(widths(str(folder), "digits", (16,), 3), 3),
        min_clients=SITES,
        num_rounds=3,
        clients_per_round=3,
        train_script=str(HERE / f"train_{kind}.py"),
        train_args=[json.dumps(ask)],
        seed=3,
    )
    recipe.add_client_file(str(folder / "digits.npz"))
    run = recipe.run(env)
    found = Path(str(run.get_result())) / "FL_global_model.safetensors"
    assert run.get_status() == "FINISHED:COMPLETED"
    return hashlib.sha256(found.read_bytes()).hexdigest()


@pytest.mark.timeout(600)  # a dozen processes import torch
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_the_model_is_the_same_everywhere(
    kind: str, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FLPOC_POC_WORKSPACE", str(tmp_path / "poc"))
    (tmp_path / "home").mkdir()

    def simulated(workers: int) -> SimEnv:
        return SimEnv(num_clients=SITES, num_threads=workers, workspace_root=str(tmp_path / f"sim{workers}"))

    found = {f"{workers} workers": digest(data_folder, simulated(workers), kind) for workers in (1, 2, 4)}
    found |= {f"{site} first": digest(data_folder, simulated(4), kind, site) for site in ("site-1", "site-4")}
    found["a POC"] = digest(data_folder, PocEnv(num_clients=SITES), kind)
    assert set(found.values()) == {found["1 workers"]}, found
