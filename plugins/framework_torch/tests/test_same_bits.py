"""The same recipe and seed give the same model, however many sites work at once."""

from __future__ import annotations

import hashlib
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from flpoc.recipe import SimEnv
from flpoc_framework_torch.recipes import FedAvgRecipe

#: Everything that is drawn: the first weights, the order of batches, and dropout.
CLIENT = """
    import torch

    import flpoc.client as flare

    flare.init()
    number = int(flare.get_site_name()[-1])
    x = torch.randn(40, 8, generator=torch.Generator().manual_seed(number))
    y = (x.sum(dim=1) > 0).long()
    net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Dropout(0.5), torch.nn.Linear(16, 2))
    while flare.is_running():
        model = flare.receive()
        net.load_state_dict(model.params)
        torch.manual_seed(flare.get_seed())
        optimizer = torch.optim.Adam(net.parameters())
        data = torch.utils.data.TensorDataset(x, y)
        for rows, labels in torch.utils.data.DataLoader(data, batch_size=8, shuffle=True):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(rows), labels).backward()
            optimizer.step()
        flare.send(flare.FLModel(params=net, meta={"NUM_STEPS_CURRENT_ROUND": number}))
"""


@pytest.fixture
def author(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "client.py").write_text(textwrap.dedent(CLIENT))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("FLPOC_CONFIG", "FLPOC_EXPORT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sha256(author: Path, seed: int, **env: Any) -> str:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Dropout(0.5), torch.nn.Linear(16, 2))
    recipe = FedAvgRecipe(model=net, min_clients=2, num_rounds=3, train_script="client.py", seed=seed)
    made = SimEnv(num_clients=2, workspace_root=str(author / "results"), **env)
    return hashlib.sha256(
        (Path(recipe.run(made).get_result()) / "FL_global_model.safetensors").read_bytes()
    ).hexdigest()


def test_the_same_seed_gives_the_same_bits_however_many_work_at_once(author: Path) -> None:
    in_turn = {"extra": {"in_process": True}}
    found = {sha256(author, 1, **way) for way in ({}, {"num_threads": 1}, in_turn)}
    assert len(found) == 1
    assert sha256(author, 2, **in_turn) not in found
