"""A site's part, in NumPy: epochs of stochastic gradient descent on the cross-entropy."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from problem import batches, forward, load, parts

import flpoc.client as flare

ask = json.loads(sys.argv[1])
folder = ask["folder"] or str(Path(__file__).parent)
flare.init()
site = int(flare.get_site_name().rpartition("-")[2]) - 1
data = load(folder, ask["data"], ask["seed"])
mine = parts(folder, ask["data"], ask["seed"], ask["sites"], ask["split"])[site]
rows, labels = data.rows[mine], data.labels[mine]
while flare.is_running():
    model = flare.receive()
    if ask.get("first", flare.get_site_name()) not in ("", flare.get_site_name()):
        time.sleep(0.3)  # the others are done later
    params = model.params
    for step in batches(len(rows), ask["epochs"], ask["batch"], np.random.default_rng(flare.get_seed())):
        values = forward(params, rows[step])
        scores = np.exp(values[-1] - values[-1].max(axis=1, keepdims=True))
        slope = scores / scores.sum(axis=1, keepdims=True)
        slope[np.arange(len(step)), labels[step]] -= 1
        slope /= len(step)
        for place in reversed(range(len(params) // 2)):
            below = slope @ params[f"{place}.weight"].T if place else None
            params[f"{place}.weight"] -= ask["rate"] * (values[place].T @ slope)
            params[f"{place}.bias"] -= ask["rate"] * slope.sum(axis=0)
            slope = below * (values[place] > 0) if place else None
    flare.send(flare.FLModel(params=params, meta={"NUM_STEPS_CURRENT_ROUND": len(rows)}))
