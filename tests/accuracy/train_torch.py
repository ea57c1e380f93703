"""A site's part, in PyTorch: the same course as in NumPy, by autograd and torch's own optimiser."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
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
    optimiser = torch.optim.SGD(params.values(), lr=ask["rate"])
    layers = len(params) // 2
    for step in batches(len(rows), ask["epochs"], ask["batch"], np.random.default_rng(flare.get_seed())):
        value = rows[step]
        for place in range(layers):
            value = value @ params[f"{place}.weight"] + params[f"{place}.bias"]
            value = torch.relu(value) if place + 1 < layers else value
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(value, labels[step]).backward()
        optimiser.step()
    flare.send(flare.FLModel(params=params, meta={"NUM_STEPS_CURRENT_ROUND": len(rows)}))
