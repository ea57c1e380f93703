"""Every site trains a network on its own points; the mean of their weights knows all of them."""

from __future__ import annotations

import argparse
import zlib
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

import flpoc.client as flare


def points(site: str, count: int = 400) -> TensorDataset:
    """This site's data, which stays here: is a point inside the circle? Put yours in its place."""
    chance = torch.Generator().manual_seed(zlib.crc32(site.encode()))
    x = torch.rand(count, 2, generator=chance) * 2 - 1
    return TensorDataset(x, (x.norm(dim=1) < 0.75).long())


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))


def accuracy(net: nn.Module, data: Dataset[Any], device: torch.device) -> float:
    net.eval()
    with torch.no_grad():
        right = [net(x.to(device)).argmax(dim=1) == y.to(device) for x, y in DataLoader(data, batch_size=100)]
    return torch.cat(right).float().mean().item()


def train(net: nn.Module, data: Dataset[Any], epochs: int, rate: float, device: torch.device) -> int:
    """Train, and say in how many steps."""
    net.train()
    loader = DataLoader(data, batch_size=10, shuffle=True)
    optimizer = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9)
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x.to(device)), y.to(device)).backward()
            optimizer.step()
    return epochs * len(loader)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=1, help="epochs a round")
    parser.add_argument("--rate", type=float, default=0.1, help="learning rate")
    wanted = parser.parse_args()

    flare.init()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)  # without an initial model, all sites start from the same one
    net = network().to(device)
    mine = points(flare.get_site_name())
    held_out, data = Subset(mine, range(100)), Subset(mine, range(100, len(mine)))
    while flare.is_running():
        model = flare.receive()
        if model is None:
            break
        if model.params:
            net.load_state_dict(model.params)
        # about the model that was received; the final one is only evaluated
        metrics = {"accuracy": accuracy(net, held_out, device)}
        if flare.is_evaluate():
            flare.send(flare.FLModel(metrics=metrics))
            continue
        torch.manual_seed(flare.get_seed())  # the order of batches follows from the seed of the job
        steps = train(net, data, wanted.epochs, wanted.rate, device)
        meta = {flare.MetaKey.NUM_STEPS_CURRENT_ROUND: steps}
        flare.send(flare.FLModel(params=net.state_dict(), metrics=metrics, meta=meta))


if __name__ == "__main__":
    main()
