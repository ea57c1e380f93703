"""What is sent of a model if the job wants differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flpoc.client as flare
from flpoc.client.difference import difference
from flpoc.errors import UsageError
from flpoc.models.tensors import narrow, numpy_dtype, widen

OLD = {
    "f": np.array([1.5, -2.0], np.float32),
    "d": np.array([[0.25]], np.float64),
    "i": np.array([7, -3], np.int64),
    "u": np.array([5], np.uint8),
    "b": np.array([True, False]),
    "h": narrow(np.array([1.0, 2.0], np.float32)),
}
NEW = {
    "f": np.array([2.0, -2.5], np.float32),
    "d": np.array([[1.0]], np.float64),
    "i": np.array([9, -9], np.int64),
    "u": np.array([6], np.uint8),
    "b": np.array([True, True]),
    "h": narrow(np.array([1.5, 1.0], np.float32)),
}


def test_what_has_changed_is_sent_in_the_dtypes_of_the_model(owner: Any) -> None:
    owner.script(owner.give(0, **OLD), transfer_type="DIFF")
    model = flare.receive()
    assert model is not None
    for array in model.params.values():
        array[...] = 0  # what was received may be changed in place
    flare.send(flare.FLModel(params=NEW))
    (sent,) = owner.submitted
    assert sent.params_type == "DIFF"
    found = owner.answer()
    assert {name: array.dtype for name, array in found.items()} == {name: array.dtype for name, array in OLD.items()}
    assert widen(found.pop("h")).tolist() == [0.5, -1.0]
    assert {name: array.tolist() for name, array in found.items()} == {
        "f": [0.5, -0.5], "d": [[0.75]], "i": [2, -6], "u": [1], "b": [False, True],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "model", "kind"),
    [
        ({"transfer_type": "FULL"}, flare.FLModel(params=NEW), "FULL"),
        ({"transfer_type": "FULL"}, flare.FLModel(params=NEW, params_type="DIFF"), "DIFF"),
        ({"transfer_type": "DIFF"}, flare.FLModel(params=NEW, params_type="DIFF"), "DIFF"),
    ],
)
def test_what_the_script_itself_says_of_its_model_holds(owner: Any, settings: Any, model: Any, kind: str) -> None:
    owner.script(owner.give(0, **OLD), **settings)
    flare.receive()
    flare.send(model)
    assert owner.submitted[0].params_type == kind
    assert owner.answer()["f"].tolist() == NEW["f"].tolist()


def test_without_a_received_model_all_of_it_is_sent(owner: Any) -> None:
    owner.script(owner.give(0), transfer_type="DIFF")
    flare.receive()
    flare.send(flare.FLModel(params=NEW))
    assert owner.submitted[0].params_type == "FULL"


def test_the_sites_own_model_is_sent_as_it_is(owner: Any) -> None:
    owner.script(owner.give(0, "submit_model", **OLD), transfer_type="DIFF")
    assert flare.is_submit_model()
    flare.send(flare.FLModel(params=NEW))
    assert owner.submitted[0].params_type == "FULL"


def test_a_part_of_the_model_has_a_difference_too() -> None:
    assert list(difference({"i": NEW["i"]}, OLD)) == ["i"]


F8 = np.zeros(1, numpy_dtype("F8_E4M3"))


@pytest.mark.parametrize(
    ("new", "old", "said"),
    [
        ({"v": OLD["f"]}, OLD, "'v' is not among the tensors received"),
        ({"f": np.ones(3, np.float32)}, OLD, r"'f' was received as F32\[2\] and is now F32\[3\]"),
        ({"f": np.ones(2)}, OLD, r"'f' was received as F32\[2\] and is now F64\[2\]"),
        ({"f": np.array([{}, {}])}, OLD, "'f' was received as F32.* and is now object"),
        ({"u": np.array([4], np.uint8)}, OLD, "'u': its change cannot be written as U8"),
        ({"i": np.array([100], np.int8)}, {"i": np.array([-100], np.int8)}, "'i': its change cannot be written as I8"),
        ({"x": F8}, {"x": F8}, "'x': a difference of F8_E4M3 cannot be had"),
    ],
)
def test_a_tensor_without_a_difference_is_named(new: Any, old: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        difference(new, old)
