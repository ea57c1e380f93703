"""Aggregators in a job's own code: what they get, and what is said when they are wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flpoc.aggregating import Aggregator
from flpoc.errors import ConfigError, JobError
from flpoc.models.tensors import narrow
from flpoc.plugins import Plugins

Aggregated = Callable[..., dict[str, Any]]

pytestmark = pytest.mark.usefixtures("code")

OWN = """
from flpoc.aggregating import ModelAggregator
from flpoc.models.flmodel import FLModel
from helping import scale


class Largest(ModelAggregator):
    def __init__(self, factor=1):
        self.factor = factor
        self.heard = []

    def reset_stats(self):
        self.heard.append("reset")
        self.models = []

    def accept_model(self, model):
        self.heard.append(model.meta["SITE_NAME"])
        self.models.append(model)

    def aggregate_model(self):
        best = max(self.models, key=lambda model: model.meta["NUM_STEPS_CURRENT_ROUND"])
        params = {name: scale(array, self.factor) for name, array in best.params.items()}
        return FLModel(params_type=best.params_type, params=params)

    def state(self):
        return str(len(self.heard)).encode()

    def restore(self, state):
        self.heard = ["before"] * int(state)


class Raises(Largest):
    def accept_model(self, model):
        raise ZeroDivisionError("own mistake")


class GivesADict(Largest):
    def aggregate_model(self):
        return {"w": 1}


class GivesNothing(Largest):
    def aggregate_model(self):
        return FLModel(metrics={})


class GivesOtherNames(Largest):
    def aggregate_model(self):
        return FLModel(params={"v": 1.0})


class GivesOtherShapes(Largest):
    def aggregate_model(self):
        return FLModel(params={"w": [1.0]})


class GivesText(Largest):
    def aggregate_model(self):
        return FLModel(params={"w": ["a", "b"]})


class GivesNaN(Largest):
    def aggregate_model(self):
        return FLModel(params={"w": [1.0, float("nan")]})


class GivesAChange(Largest):
    def aggregate_model(self):
        return FLModel(params_type="DIFF", params={"w": [1.0, 1.0]})


class Unfinished(ModelAggregator):
    pass


class NoAggregator:
    pass
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(sys, "path", [*sys.path])
    folder = tmp_path / "code"
    monkeypatch.setenv("FLPOC_CODE", str(folder))
    folder.mkdir()
    (folder / "own.py").write_text(OWN)
    (folder / "helping.py").write_text("def scale(array, factor):\n    return array * factor\n")
    yield folder
    for name in [name for name, one in sys.modules.items() if str(folder) in str(getattr(one, "__file__", ""))]:
        del sys.modules[name]


def made(name: str = "Largest", file: str = "own.py", **args: Any) -> Aggregator:
    found = Plugins.load().create("aggregators", "code", {"file": file, "name": name, "args": args})
    assert isinstance(found, Aggregator)
    return found


MODELS = [{"w": np.float32([1, 2])}, {"w": np.float32([3, 4])}, {"w": np.float32([5, 6])}]


def test_it_gets_every_update_in_site_order_and_its_arguments(aggregated: Aggregated) -> None:
    aggregator: Any = made(factor=3)
    assert aggregated(aggregator, MODELS, weights=[1.0, 7.0, 2.0])["w"].tolist() == [9, 12]
    assert aggregator.own.heard == ["reset", "site-1", "site-2", "site-3"]


def test_a_change_is_added_to_the_received_model(aggregated: Aggregated) -> None:
    base = {"w": np.float32([100, 100])}
    found = aggregated(made(), MODELS, weights=[1.0, 7.0, 2.0], base=base, kind="DIFF")
    assert found["w"].tolist() == [103, 104]


def test_dtypes_of_the_model_are_kept(aggregated: Aggregated) -> None:
    models = [{"b": narrow(np.float32([0.5])), "n": np.int32([3]), "h": np.float16([2])}]
    found = aggregated(made(factor=1.5), models)
    assert found["b"].tolist() == [0.75]  # it came as float32
    assert (found["n"].tolist(), found["n"].dtype) == ([4], np.int32)  # 4.5, ties to even
    assert (found["h"].tolist(), found["h"].dtype) == ([3], np.float16)


def test_what_it_keeps_is_kept(aggregated: Aggregated) -> None:
    aggregator = made()
    aggregated(aggregator, MODELS)
    again: Any = made()
    again.restore(aggregator.state())
    assert again.own.heard == ["before"] * 4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("GivesADict", r"GivesADict.aggregate_model of code/own.py gives dict, not FLModel"),
        ("GivesNothing", "gives NoneType as params"),
        ("GivesOtherNames", "adds the tensor 'v'"),
        ("GivesOtherShapes", r"tensor 'w' has shape \(1,\), not \(2,\)"),
        ("GivesText", "tensor 'w' has dtype <U1: no numbers"),
        ("GivesNaN", "tensor 'w' holds NaN or infinity"),
        ("GivesAChange", "gives DIFF; it was given FULL"),
    ],
)
def test_what_is_wrong_with_its_result_is_said(aggregated: Aggregated, name: str, message: str) -> None:
    with pytest.raises(JobError, match=message):
        aggregated(made(name), MODELS)


def test_its_own_exception_is_passed_on(aggregated: Aggregated, code: Path) -> None:
    with pytest.raises(ZeroDivisionError, match="own mistake") as raised:
        aggregated(made("Raises"), MODELS)
    assert str(raised.traceback[-1].path) == str(code / "own.py")


@pytest.mark.parametrize(
    ("name", "file", "message"),
    [
        ("Largest", "missing.py", "code/missing.py is not in the job"),
        ("Smallest", "own.py", "code/own.py has no class 'Smallest'"),
        ("NoAggregator", "own.py", "'NoAggregator' of code/own.py is no ModelAggregator"),
        ("scale", "own.py", "'scale' of code/own.py is no ModelAggregator"),
    ],
)
def test_a_class_that_cannot_be_one_is_refused(name: str, file: str, message: str) -> None:
    with pytest.raises(JobError, match=message):
        made(name, file)


def test_one_that_lacks_methods_or_takes_no_such_arguments_cannot_be_made() -> None:
    with pytest.raises(JobError, match=r"'Unfinished' of code/own.py cannot be made: TypeError"):
        made("Unfinished")
    with pytest.raises(JobError, match=r"cannot be made: TypeError: .*colour"):
        made(colour="red")


def test_an_error_in_its_file_is_told_with_its_line(code: Path) -> None:
    (code / "broken.py").write_text("import flpoc\n\n1 / 0\n")
    with pytest.raises(JobError, match=r"code/broken.py cannot be imported: ZeroDivisionError") as raised:
        made("Own", "broken.py")
    assert (str(raised.traceback[-1].path), raised.traceback[-1].lineno) == (str(code / "broken.py"), 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"file": "../own.py", "name": "A"}, "not a path below code/"),
        ({"file": "own.txt", "name": "A"}, "not a Python file"),
        ({"file": "own.py", "name": "a.B"}, "not the name of a class"),
        ({"file": "own.py", "name": "A", "args": {"a b": 1}}, "not the name of an argument"),
        ({"file": "own.py"}, "name"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Plugins.load().create("aggregators", "code", settings)
