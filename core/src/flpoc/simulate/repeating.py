"""Whether scripts send the same when they are given the same: two runs of a job's first rounds, compared bit by bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import attrs
import numpy as np

from flpoc.models.tensors import BFLOAT16, Array, TensorFile, widen
from flpoc.wire.trainer_messages import Submit

_BLOCK: Final = 1 << 20


@attrs.frozen
class Difference:
    """What one site has sent otherwise in the second run.

    Attributes:
        site: The site.
        round: The round, 0-based.
        tensor: Name of the tensor; empty if it is something else.
        what: What differs.
        elements: How many elements of the tensor.
        largest: By how much at most; None where that cannot be said.
    """

    site: str
    round: int
    tensor: str
    what: str
    elements: int = 0
    largest: float | None = None


def keep(folder: Path, round_number: int, site: str, update: Path, submit: Submit) -> None:
    """Copy an update to a folder, with what is said beside its tensors."""
    name = f"{round_number}.{site}"
    shutil.copyfile(update, folder / f"{name}.safetensors")
    said = {"weight": submit.weight, "params_type": submit.params_type}
    (folder / f"{name}.json").write_text(json.dumps(said), encoding="utf-8")


def differences(first: Path, second: Path) -> list[Difference]:
    """Compare the updates of two runs; gives what differs in the first round in which anything does."""
    names = {path.stem for folder in (first, second) for path in folder.glob("*.safetensors")}
    found: list[Difference] = []
    for number, site in sorted((int(name.partition(".")[0]), name.partition(".")[2]) for name in names):
        if found and found[0].round != number:
            break
        found += _of_site(number, site, first, second)
    return found


def _of_site(number: int, site: str, first: Path, second: Path) -> Iterator[Difference]:
    paths = [folder / f"{number}.{site}.safetensors" for folder in (first, second)]
    if not all(path.exists() for path in paths):
        yield Difference(site, number, "", "sent in one of the runs only")
        return
    one, other = [json.loads(path.with_suffix(".json").read_text()) for path in paths]
    for key, value in one.items():
        if value != other[key]:
            yield Difference(site, number, "", f"{key}: {value}, then {other[key]}")
    with TensorFile.open(paths[0]) as before, TensorFile.open(paths[1]) as after:
        if differs := before.header.same_layout(after.header):
            yield Difference(site, number, "", differs)
            return
        for spec in before.header.tensors:
            elements, largest = _compared(before, after, spec.name, spec.elements)
            if elements:
                what = f"{elements} of {spec.elements} elements"
                yield Difference(site, number, spec.name, what, elements, largest)


def _compared(before: TensorFile, after: TensorFile, name: str, count: int) -> tuple[int, float | None]:
    """How many elements have other bits, and by how much they differ at most."""
    elements, largest = 0, None
    for start in range(0, count, _BLOCK):
        one, other = (file.block(name, start, start + _BLOCK) for file in (before, after))
        differ = (one.view(np.uint8) != other.view(np.uint8)).reshape(len(one), -1).any(axis=1)
        if not differ.any():
            continue
        elements += int(differ.sum())
        apart = np.abs(_real(one[differ]) - _real(other[differ])) if one.dtype.names in (None, BFLOAT16.names) else None
        if apart is not None and np.isfinite(apart).any():
            largest = max(largest or 0.0, float(np.nanmax(apart)))
    return elements, largest


def _real(array: Array) -> np.ndarray[Any, np.dtype[np.float64]]:
    return (widen(array) if array.dtype == BFLOAT16 else array).astype(np.float64)
