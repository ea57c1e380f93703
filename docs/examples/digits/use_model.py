"""Use what a job has made: load the downloaded model and try it on images that no site has trained with.

python use_model.py results/JOB_ID
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

DIGITS = Path(__file__).with_name("digits.csv.gz")
ENOUGH = 0.92


def main(results: Path) -> int:
    model = next(results.rglob("FL_global_model.safetensors"))
    params = load_file(model)
    digits = np.loadtxt(DIGITS, delimiter=",")
    held_out = digits[np.random.default_rng(0).permutation(len(digits))[: len(digits) // 5]]
    scores = (held_out[:, :-1] / 16) @ params["weight"] + params["bias"]
    accuracy = float((scores.argmax(axis=1) == held_out[:, -1]).mean())
    shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in params.items())
    print(f"{model}: {shapes}")
    print(f"accuracy {accuracy:.4f} on {len(held_out)} images that no site has trained with (wanted: {ENOUGH})")
    return 0 if accuracy >= ENOUGH else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
