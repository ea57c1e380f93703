"""Jobs with PyTorch at confined sites: processes of their own, `torchrun`, and a checkpoint of the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flpoc.models.tensors import write_tensors

from .federation import Federation, federation, write_job

#: Longer than the name of a socket may be.
DEEP = "a-workspace-that-lies-deep/below-many-folders/of-a-shared-file-system/of-a-large-organisation/and-its-lab"

#: Other processes share tensors with the script: a manager, and workers that load data.
SHARES = """
    import multiprocessing

    import torch
    from torch.utils.data import DataLoader, TensorDataset

    import flpoc.client as flare

    flare.init()
    while flare.is_running():
        model = flare.receive()
        with multiprocessing.Manager() as manager:
            seen = manager.list()
            data = DataLoader(TensorDataset(torch.arange(64.0)), batch_size=8, num_workers=2)
            for (rows,) in data:
                seen.append(rows.sum().item())
            total = sum(seen)
        flare.send(flare.FLModel(params={"w": torch.tensor([total])}))
"""

#: Two processes train one model: each has half of the rows, and they add up what they have.
TOGETHER = """
    import torch
    import torch.distributed as dist

    import flpoc.client as flare

    dist.init_process_group("gloo")
    rank = dist.get_rank()
    flare.init(rank)
    while True:
        going = [flare.is_running() if rank == 0 else None]
        dist.broadcast_object_list(going, src=0)
        if not going[0]:
            break
        model = flare.receive()
        total = model.params["w"].clone() if rank == 0 else torch.zeros(2)
        dist.broadcast(total, src=0)
        mine = torch.tensor([1.0, float(rank + 1)])
        dist.all_reduce(mine)
        if rank == 0:
            flare.send(flare.FLModel(params={"w": total + mine}))
    dist.destroy_process_group()
"""

GOES_ON = """
    import torch

    import flpoc.client as flare

    flare.init()
    while flare.is_running():
        model = flare.receive()
        assert isinstance(model.params["net.weight"], torch.Tensor)
        flare.send(flare.FLModel(params={name: value + 1 for name, value in model.params.items()}))
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    place = tmp_path_factory.mktemp("t") / DEEP
    place.mkdir(parents=True)
    policies: dict[str, dict[str, Any]] = {
        "site-1": {"launcher_settings": {"confine": "always"}},
        "server": {"checkpoints": [str(place / "checkpoints")]},
    }
    with federation(place, 1, ("local", "torch"), policies=policies) as found:
        yield found


def job(folder: Path, script: str, **settings: Any) -> Path:
    given = {"framework": "pytorch", "sites": ["site-1"], "timeouts": {"stall": 60.0}}
    return write_job(folder / "job", script, **given, **settings)


def final(running: Federation, folder: Path) -> dict[str, Any]:
    """Run the job in a folder to its end; gives the final model."""
    meta = running.completed(folder, timeout=150)
    return {name: array.tolist() for name, array in running.final_model(meta["job_id"], folder / "out").items()}


def test_other_processes_share_with_a_confined_script_however_deep_the_workspace_lies(
    running: Federation, tmp_path: Path
) -> None:
    assert len(str(running.state("site-1"))) > 107
    assert final(running, job(tmp_path, SHARES, rounds=1)) == {"w": [2016.0]}


def test_torchrun_starts_several_processes_of_a_confined_script(running: Federation, tmp_path: Path) -> None:
    command = ["torchrun", "--nproc_per_node=2", "--standalone"]
    folder = job(tmp_path, TOGETHER, rounds=2, command=command, initial_model="start.safetensors")
    write_tensors(folder / "code" / "start.safetensors", {"w": np.zeros(2, np.float32)})
    assert final(running, folder) == {"w": [4.0, 6.0]}


def test_a_job_starts_from_a_checkpoint_of_pytorch_at_the_server(running: Federation, tmp_path: Path) -> None:
    folder = running.folder / "checkpoints"
    folder.mkdir()
    torch.save({"net.weight": torch.tensor([1.0, 2.0]), "net.bias": torch.tensor([0.5])}, folder / "start.pt")
    settings = {"initial_checkpoint": str(folder / "start.pt")}
    found = final(running, job(tmp_path, GOES_ON, rounds=2, workflow_settings=settings))
    assert found == {"net.weight": [3.0, 4.0], "net.bias": [2.5]}
