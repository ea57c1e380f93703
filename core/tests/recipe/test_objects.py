"""A user's own objects travel as source file, name of the class, and what they were made with."""

from __future__ import annotations

import importlib
import runpy
import sys
import textwrap
from pathlib import Path

import pytest

from flpoc.errors import FlpocError
from flpoc.recipe import FedAvgRecipe, NumpyFedAvgRecipe

AGGREGATORS = '''
    """Aggregators of our own."""
    from flpoc.recipe import ModelAggregator, ModelPersistor
    from weights import weigh

    class Own(ModelAggregator):
        def __init__(self, factor, *rest, names=(), **more):
            self.factor = factor
        def reset_stats(self): ...
        def accept_model(self, model): ...
        def aggregate_model(self): ...

    class Declared(Own):
        data_kind = "WEIGHT_DIFF"
        def __init__(self): ...

    class Persistor(ModelPersistor):
        def load_model(self): ...
        def save_model(self, model): ...

    class Outer:
        class Inner(Declared): ...

    class Forgetful(Declared):
        def __new__(cls):
            return object.__new__(cls)

    def made():
        class Local(Declared):
            def reset_stats(self): ...
        return Local()
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The module with somebody's own classes, imported from a folder beside their program."""
    folder = tmp_path / "authors"
    folder.mkdir()
    (folder / "own_aggregators.py").write_text(textwrap.dedent(AGGREGATORS))
    (folder / "weights.py").write_text("weigh = 1\n")
    (folder / "train.py").write_text("pass\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(folder)
    yield importlib.import_module("own_aggregators")
    for name in ("own_aggregators", "weights", "pack", "pack.inner"):
        sys.modules.pop(name, None)


def recipe(**given) -> NumpyFedAvgRecipe:
    return NumpyFedAvgRecipe(**{"min_clients": 1, "train_script": "train.py", **given})


def test_an_aggregator_is_written_as_file_class_and_arguments(own, tmp_path):
    made = recipe(aggregator=own.Own(0.5, names=("a", "b"), deep={"x": [1, None, True]}))
    assert made.job.settings["aggregator"] == "code"
    assert made.job.settings["aggregator_settings"] == {
        "file": "own_aggregators.py",
        "name": "Own",
        "args": {"factor": 0.5, "names": ["a", "b"], "deep": {"x": [1, None, True]}},
    }
    made.job.settings |= {"aggregator": "mean", "aggregator_settings": {}}  # known to whoever reads it
    folder = made.export(tmp_path / "jobs")
    assert sorted(one.name for one in (folder / "code").iterdir()) == ["own_aggregators.py", "train.py", "weights.py"]


def test_a_persistor_is_written_with_the_workflow(own):
    made = recipe(model_persistor=own.Persistor(), model=None)
    assert made.job.settings["workflow_settings"]["persistor"] == {
        "file": "own_aggregators.py",
        "name": "Persistor",
        "args": {},
    }
    described = {"class_path": "net.Net"}
    with pytest.raises(ValueError, match="model_persistor: a model that is described is made by one of its own"):
        FedAvgRecipe(min_clients=1, train_script="train.py", model=described, model_persistor=own.Persistor())


def test_a_class_of_a_package_keeps_its_place(own, tmp_path):
    (tmp_path / "authors" / "pack").mkdir()
    (tmp_path / "authors" / "pack" / "__init__.py").write_text("")
    (tmp_path / "authors" / "pack" / "inner.py").write_text(textwrap.dedent(AGGREGATORS))
    inner = importlib.import_module("pack.inner")
    made = recipe(aggregator=inner.Own(1))
    assert made.job.settings["aggregator_settings"]["file"] == "pack/inner.py"
    assert set(made.job.files) == {"pack/inner.py", "weights.py"}


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda own: own.Own(1, 2), "aggregator: Own: the argument 'rest' has no name"),
        (lambda own: own.Own(print), "aggregator: the argument 'factor' of Own: builtin_function_or_method cannot be"),
        (lambda own: own.Own({"a": float("inf")}), "the argument 'factor' of Own.a: inf cannot be"),
        (lambda own: own.Own(1 << 70), "cannot be written into a job"),
        (lambda own: own.Own({1: 2}), "the key 1 is no text"),
        (lambda own: own.Own, "aggregator: the class Own, not an object"),
        (lambda own: own.Persistor(), "aggregator: Persistor; wanted is an object of your own flpoc.recipe.ModelAggr"),
        (lambda own: own.Outer.Inner(), "the class Inner is made inside Outer"),
        (lambda own: own.made(), "the class Local is made inside made"),
        (lambda own: own.Forgetful(), "Forgetful.__new__ must call that of its base"),
        (lambda own: own.Declared(), "aggregator_data_kind: it is WEIGHTS, but Declared declares WEIGHT_DIFF"),
    ],
)
def test_what_cannot_be_written_down_is_named_at_once(own, make, told):
    with pytest.raises(ValueError, match=told):
        recipe(aggregator=make(own))


def test_what_an_aggregator_gets_must_be_what_is_sent(own):
    with pytest.raises(ValueError, match="WEIGHT_DIFF needs params_transfer_type='DIFF'"):
        recipe(aggregator=own.Declared(), aggregator_data_kind="WEIGHT_DIFF")
    recipe(aggregator=own.Declared(), aggregator_data_kind="WEIGHT_DIFF", params_transfer_type="DIFF")


PROGRAM = """
from flpoc.recipe import ModelAggregator, NumpyFedAvgRecipe

class Mine(ModelAggregator):
    def reset_stats(self): ...
    def accept_model(self, model): ...
    def aggregate_model(self): ...

def main():
    return NumpyFedAvgRecipe(min_clients=1, train_script="train.py", aggregator=Mine())
"""


@pytest.mark.parametrize(
    ("end", "refused"),
    [('if __name__ == "__main__":\n    made = main()\n', False), ("made = main()\n", True)],
)
def test_a_class_of_the_program_itself_needs_a_program_that_can_be_imported(own, tmp_path, end, refused):
    path = tmp_path / "authors" / "job.py"
    path.write_text(PROGRAM + end)
    if refused:
        with pytest.raises(ValueError, match=r"the class Mine is in job\.py, which the server would run"):
            runpy.run_path(str(path), run_name="__main__")
        return
    made = runpy.run_path(str(path), run_name="__main__")["made"]
    assert made.job.settings["aggregator_settings"]["file"] == "job.py"


def test_a_class_of_no_file_is_refused(own):
    names: dict = {}
    code = compile(PROGRAM, "<typed>", "exec")
    exec(code, names)
    with pytest.raises(ValueError, match="the class Mine is in no file"):
        names["main"]()


def test_two_files_of_one_name_are_refused(own, tmp_path):
    (tmp_path / "authors" / "elsewhere").mkdir()
    (tmp_path / "authors" / "elsewhere" / "weights.py").write_text("")
    made = recipe(aggregator=own.Own(1))
    with pytest.raises(FlpocError, match=r"would both be weights\.py"):
        made.add_server_file(Path("elsewhere/weights.py"))
