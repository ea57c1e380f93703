"""Scripts in the shape that a comparable system teaches run with only their import lines changed."""

from __future__ import annotations

import logging
import os
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

TORCH = """
import argparse
import os

import torch
from torch import nn
from torch.optim import SGD

# (1) import the client API
import nvflare.client as flare
from nvflare.client.tracking import SummaryWriter


class SimpleNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(8, 6)
        self.norm = nn.BatchNorm1d(6)
        self.fc2 = nn.Linear(6, 2)

    def forward(self, x):
        return self.fc2(torch.relu(self.norm(self.fc1(x))))


def evaluate(net, data_loader, device):
    net.eval()
    correct, total = 0, 0
    with torch.no_grad():
        for data in data_loader:
            images, labels = data[0].to(device), data[1].to(device)
            _, predicted = torch.max(net(images).data, 1)
            total += labels.size(0)
            correct += (predicted == labels).sum().item()
    return 100 * correct // total


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=1)
    args = parser.parse_args()

    # (2) initialise the client API
    flare.init()
    sys_info = flare.system_info()
    client_name = sys_info["site_name"]

    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    net = SimpleNetwork()
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(1))
    train_set = torch.utils.data.TensorDataset(x, (x[:, 0] > 0).long())
    loader = torch.utils.data.DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    summary_writer = SummaryWriter()

    while flare.is_running():
        # (3) receive the global model
        input_model = flare.receive()
        print(f"site = {client_name}, current_round={input_model.current_round}")
        # (4) load it
        net.load_state_dict(input_model.params)
        net.to(device)
        # (5) evaluate it
        accuracy = evaluate(net, loader, device)
        if flare.is_evaluate():
            flare.send(flare.FLModel(metrics={"accuracy": accuracy}))
            continue

        criterion = nn.CrossEntropyLoss()
        optimizer = SGD(net.parameters(), lr=0.05, momentum=0.9)
        net.train()
        steps = args.epochs * len(loader)
        for epoch in range(args.epochs):
            running_loss = 0.0
            for i, data in enumerate(loader, 0):
                inputs, labels = data[0].to(device), data[1].to(device)
                optimizer.zero_grad()
                loss = criterion(net(inputs), labels)
                loss.backward()
                optimizer.step()
                running_loss += loss.item()
                global_step = input_model.current_round * steps + epoch * len(loader) + i
                summary_writer.add_scalar(tag="loss", scalar=loss.item(), global_step=global_step)

        torch.save(net.state_dict(), "./local_model.pth")
        # (6) construct the trained model, and (7) send it
        output_model = flare.FLModel(
            params=net.cpu().state_dict(),
            metrics={"accuracy": accuracy},
            meta={"NUM_STEPS_CURRENT_ROUND": steps},
        )
        flare.send(output_model)


if __name__ == "__main__":
    main()
"""

LIGHTNING = """
import torch
from pytorch_lightning import LightningDataModule, LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

# (0) import the client API for Lightning
import nvflare.client.lightning as flare

seed_everything(7)


class LitNet(LightningModule):
    def __init__(self):
        super().__init__()
        self.save_hyperparameters()
        self.model = nn.Linear(8, 2)

    def forward(self, x):
        return self.model(x)

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def evaluate(self, batch, stage):
        accuracy = (self(batch[0]).argmax(dim=1) == batch[1]).float().mean()
        self.log(f"{stage}_acc", accuracy, prog_bar=True)

    def validation_step(self, batch, batch_idx):
        self.evaluate(batch, "val")

    def test_step(self, batch, batch_idx):
        self.evaluate(batch, "test")

    def predict_step(self, batch, batch_idx, dataloader_idx=0):
        return self(batch[0])

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
        return {"optimizer": optimizer}


class DataModule(LightningDataModule):
    def setup(self, stage):
        x = torch.randn(80, 8, generator=torch.Generator().manual_seed(1))
        whole = TensorDataset(x, (x[:, 0] > 0).long())
        if stage in ("fit", "validate"):
            self.train, self.val = random_split(whole, [0.8, 0.2])
        self.test = whole

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=8)

    def val_dataloader(self):
        return DataLoader(self.val, batch_size=8)

    def test_dataloader(self):
        return DataLoader(self.test, batch_size=8)

    def predict_dataloader(self):
        return DataLoader(self.test, batch_size=8)


def main():
    # (1) only needed if a function of the client API is used
    flare.init()
    print(f"site={flare.get_site_name()}")
    model, data = LitNet(), DataModule()
    trainer = Trainer(max_epochs=1, accelerator="auto", devices="auto")

    # (2) patch the trainer
    flare.patch(trainer)

    while flare.is_running():
        # (3) receive the model; trainer.fit and trainer.validate get it by themselves
        input_model = flare.receive()
        print(f"[Current Round={input_model.current_round}, Site = {flare.get_site_name()}]")
        # (4) evaluate the current global model, then train, test and predict
        trainer.validate(model, datamodule=data)
        trainer.fit(model, datamodule=data)
        trainer.test(ckpt_path="best", datamodule=data)
        trainer.predict(ckpt_path="best", datamodule=data)


if __name__ == "__main__":
    main()
"""


def run(script: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *args: str) -> None:
    """Run a script in a folder of its own, its import lines changed and nothing else."""
    changed = re.sub(r"^((?:import|from) )nvflare\b", r"\1flpoc", script, flags=re.MULTILINE)
    assert [old for old, new in zip(script.splitlines(), changed.splitlines(), strict=True) if old != new and
            not old.startswith(("import", "from"))] == []  # fmt: skip
    assert "nvflare" not in changed
    (folder / "client.py").write_text(changed)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["client.py", *args])
    runpy.run_path(str(folder / "client.py"), run_name="__main__")


@pytest.mark.filterwarnings("ignore")
def test_a_script_with_pytorch(tasks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    torch.manual_seed(0)
    start = torch.nn.ModuleDict(
        {"fc1": torch.nn.Linear(8, 6), "norm": torch.nn.BatchNorm1d(6), "fc2": torch.nn.Linear(6, 2)}
    )
    arrays = {name: value.numpy() for name, value in start.state_dict().items()}
    tasks.begin("train", "train", "evaluate", model=arrays, framework="pytorch")
    run(TORCH, tmp_path, monkeypatch, "--epochs", "2")
    assert [one.kind for one in tasks.answers] == ["train", "train", "evaluate"]
    assert [one.weight for one in tasks.answers[:2]] == [32, 32]
    assert tasks.sent(0)["norm.num_batches_tracked"].tolist() == 32
    assert tasks.sent(0).keys() == arrays.keys()
    assert tasks.answers[2].metrics["accuracy"] > 80
    assert [row.key for row in tasks.logged] == ["loss"] * 64
    assert [row.step for row in tasks.logged][:33:32] == [0, 32]


@pytest.mark.filterwarnings("ignore")
def test_a_script_with_lightning(tasks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    monkeypatch.setitem(os.environ, "PL_GLOBAL_SEED", "7")  # seed_everything sets it; put back afterwards
    start = {"model.weight": np.zeros((2, 8), np.float32), "model.bias": np.zeros(2, np.float32)}
    tasks.begin("train", "train", "evaluate", model=start, framework="pytorch")
    run(LIGHTNING, tmp_path, monkeypatch)
    assert [one.kind for one in tasks.answers] == ["train", "train", "evaluate"]
    assert [one.weight for one in tasks.answers[:2]] == [8, 8]
    assert tasks.answers[0].metrics["val_acc"] < tasks.answers[2].metrics["val_acc"]
    assert tasks.sent(1).keys() == start.keys()
