"""Updates from arrays, and what an aggregator makes of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flpoc.aggregating import Aggregator, Update
from flpoc.models.tensors import BFLOAT16, TensorFile, widen, write_tensors

Arrays = Mapping[str, Any]


class Aggregated:
    """Gives rounds to an aggregator, in files of one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()

    def file(self, arrays: Arrays) -> TensorFile:
        path = self._folder / f"{next(self._numbers)}.safetensors"
        write_tensors(path, arrays)
        return TensorFile.open(path)

    def updates(
        self, models: Sequence[Arrays], weights: Sequence[float] | None = None, kind: str = "FULL"
    ) -> list[Update]:
        weights = weights or [1.0] * len(models)
        return [
            Update(f"site-{place}", weight, self.file(arrays), kind)
            for place, (arrays, weight) in enumerate(zip(models, weights, strict=True), start=1)
        ]

    def __call__(
        self,
        aggregator: Aggregator,
        models: Sequence[Arrays],
        *,
        weights: Sequence[float] | None = None,
        base: Arrays | None = None,
        kind: str = "FULL",
    ) -> dict[str, Any]:
        """What becomes of a round, as arrays; bfloat16 as float32."""
        into = self._folder / f"result.{next(self._numbers)}"
        received = self.file(base) if base is not None else None
        aggregator.aggregate(self.updates(models, weights, kind), received, into)
        with TensorFile.open(into) as result:
            return {n: widen(np.array(a)) if a.dtype == BFLOAT16 else np.array(a) for n, a in result.items()}


@pytest.fixture
def aggregated(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    folder = tmp_path / "rounds"
    folder.mkdir()
    return Aggregated(folder)
