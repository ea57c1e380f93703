"""The filter, without a federation around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flpoc_clip.clipping import Clip
from flpoc_clip.settings import ClipSettings

from flpoc.errors import IntegrityError
from flpoc.filtering import Departure
from flpoc.models.tensors import TensorFile, write_tensors

DRAWS = np.random.default_rng(7)


def clip(tmp_path: Path, update: dict[str, Any], received: dict[str, Any] | None, kind: str = "FULL") -> dict[str, Any]:
    """What is left of an update, with a bound of 2."""
    departure = Departure("site-1", "job", 1, 0, "train", kind, 1.0, tmp_path, lambda: bytes(32))
    write_tensors(tmp_path / "update", update)
    if received is not None:
        write_tensors(tmp_path / "received", received)
    model = TensorFile.open(tmp_path / "received") if received is not None else None
    with TensorFile.open(tmp_path / "update") as given:
        Clip(ClipSettings(2.0)).apply(given, model, tmp_path / "into", departure)
    return dict(TensorFile.open(tmp_path / "into").arrays())


def norm(change: dict[str, Any]) -> float:
    return float(np.sqrt(sum((value.astype(float) ** 2).sum() for value in change.values())))


def test_a_large_change_is_scaled_to_the_bound_over_all_tensors(tmp_path: Path) -> None:
    received = {"a": DRAWS.standard_normal((300, 400)), "b": DRAWS.standard_normal(9).astype("float32")}
    update = {name: value + DRAWS.standard_normal(value.shape).astype(value.dtype) for name, value in received.items()}
    left = clip(tmp_path, update, received)
    change = {name: left[name].astype(float) - received[name] for name in left}
    assert norm(change) == pytest.approx(2.0, rel=1e-6)
    before = {name: update[name].astype(float) - received[name] for name in update}
    assert np.allclose(change["a"], before["a"] * 2.0 / norm(before))


def test_a_small_change_leaves_as_it_is(tmp_path: Path) -> None:
    received, update = {"a": np.zeros(5, "float32")}, {"a": np.full(5, 0.1, "float32")}
    assert np.array_equal(clip(tmp_path, update, received)["a"], update["a"])


def test_a_difference_is_compared_with_nothing(tmp_path: Path) -> None:
    left = clip(tmp_path, {"a": np.array([30.0, 40.0])}, {"a": np.array([7.0, 7.0])}, "DIFF")
    assert np.allclose(left["a"], [1.2, 1.6])


def test_what_is_no_floating_point_number_leaves_as_it_was_received(tmp_path: Path) -> None:
    received = {"a": np.zeros(2), "n": np.array([3, 4])}
    left = clip(tmp_path, {"a": np.ones(2), "n": np.array([123, 456])}, received)
    assert left["n"].tolist() == [3, 4]


@pytest.mark.parametrize(
    ("update", "received", "told"),
    [
        ({"a": np.array([1.0, np.nan])}, {"a": np.zeros(2)}, "not finite"),
        ({"a": np.zeros(3)}, {"a": np.zeros(2)}, "does not fit"),
        ({"a": np.zeros(2)}, None, "no model yet"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, update: Any, received: Any, told: str) -> None:
    with pytest.raises(IntegrityError, match=told):
        clip(tmp_path, update, received)
    assert not (tmp_path / "into").exists()
