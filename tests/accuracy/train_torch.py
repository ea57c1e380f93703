"""A site's part, in PyTorch: the same course as in NumPy, by autograd and torch's own optimiser."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch._dynamo  # an optimiser imports it when it is first made: done once here, before sites have processes
from problem import batches, load, parts

import flpoc.client as flare

ask = json.loads(sys.argv[1])
folder = ask["folder"] or str(Path(__file__).parent)
flare.init()
site = int(flare.get_site_name().rpartition("-")[2]) - 1
data = load(folder, ask["data"], ask["seed"])
mine = parts(folder, ask["data"], ask["seed"], ask["sites"], ask["split"])[site]
rows, labels = torch.from_numpy(data.rows[mine]), torch.from_numpy(data.labels[mine]).long()
while flare.is_running():
    model = flare.receive()
    if ask.get("first", flare.get_site_name()) not in ("", flare.get_site_name()):
        time.sleep(0.3)  # the others are done later
    params = {name: torch.as_tensor(value).requires_grad_() for name, value in model.params.items()}
    optimiser = torch.optim.SGD(params.values(), lr=ask["rate"], foreach=False)
    layers = len(params) // 2
    steps = batches(len(rows), ask["epochs"], ask["batch"], np.random.default_rng(flare.get_seed()))
    order, sizes = torch.from_numpy(np.concatenate(steps)), [len(step) for step in steps]
    for some, wanted in zip(rows[order].split(sizes), labels[order].split(sizes), strict=True):
        value = some
        for place in range(layers):
            value = torch.addmm(params[f"{place}.bias"], value, params[f"{place}.weight"])
            value = torch.relu(value) if place + 1 < layers else value
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(value, wanted).backward()
        optimiser.step()
    flare.send(flare.FLModel(params=params, meta={"NUM_STEPS_CURRENT_ROUND": len(rows)}))
