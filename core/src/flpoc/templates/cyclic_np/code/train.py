"""The model goes from site to site: each fits the line to its own points, and hands it on."""

from __future__ import annotations

import argparse
import zlib

import numpy as np

import flpoc.client as flare

SLOPE, OFFSET = 3.0, -2.0


def points(site: str, count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """This site's data: it stays here. Put yours in its place."""
    rng = np.random.default_rng(zlib.crc32(site.encode()))
    x = rng.uniform(-1, 1, count)
    return x, SLOPE * x + OFFSET + rng.normal(0, 0.1, count)


def loss(params: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean((params["slope"] * x + params["offset"] - y) ** 2))


def train(params: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray, steps: int, rate: float) -> None:
    """Change the parameters in place, by gradient descent."""
    for _ in range(steps):
        error = params["slope"] * x + params["offset"] - y
        params["slope"] -= rate * 2 * np.mean(error * x)
        params["offset"] -= rate * 2 * np.mean(error)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20, help="steps of gradient descent a round")
    parser.add_argument("--rate", type=float, default=0.1, help="learning rate")
    wanted = parser.parse_args()

    flare.init()
    x, y = points(flare.get_site_name())
    while flare.is_running():
        model = flare.receive()
        if model is None:
            break
        params = model.params or {"slope": np.zeros(1), "offset": np.zeros(1)}
        # about the model that was received; the final one is only evaluated
        metrics = {"loss": loss(params, x, y)}
        if flare.is_evaluate():
            flare.send(flare.FLModel(metrics=metrics))
            continue
        train(params, x, y, wanted.steps, wanted.rate)
        meta = {flare.MetaKey.NUM_STEPS_CURRENT_ROUND: wanted.steps}
        flare.send(flare.FLModel(params=params, metrics=metrics, meta=meta))


if __name__ == "__main__":
    main()
