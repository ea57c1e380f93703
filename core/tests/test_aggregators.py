"""What core offers keeps what every aggregator must, and the suite notices when one does not."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flpoc.aggregating import Aggregator, Update
from flpoc.errors import FlpocError, IntegrityError
from flpoc.models.tensors import TensorFile, write_tensors
from flpoc.plugins import Plugins
from flpoc.testing.aggregator_suite import AggregatorSuite
from flpoc.workflows.fedopt import FedOpt
from flpoc.workflows.mean import WeightedMean


def made(name: str, /, **settings: Any) -> Aggregator:
    found = Plugins.load().create("aggregators", name, settings)
    assert isinstance(found, Aggregator)
    return found


class TestWeightedMean(AggregatorSuite):
    @pytest.fixture
    def aggregator(self) -> Aggregator:
        return made("mean", weights={"site-1": 2.0, "site-2": 0.5})


class TestMedian(AggregatorSuite):
    @pytest.fixture
    def aggregator(self) -> Aggregator:
        return made("median")


class TestTrimmedMean(AggregatorSuite):
    @pytest.fixture
    def aggregator(self) -> Aggregator:
        return made("trimmed_mean", trim=0.4)


class TestKrum(AggregatorSuite):
    fewest = 5

    @pytest.fixture
    def aggregator(self) -> Aggregator:
        return made("krum", byzantine=1)


class TestMultiKrum(AggregatorSuite):
    fewest = 5

    @pytest.fixture
    def aggregator(self) -> Aggregator:
        return made("krum", byzantine=1, select=3)


class TestFedOpt(AggregatorSuite):
    @pytest.fixture(params=["adam", "yogi", "adagrad", "sgd"])
    def aggregator(self, request: pytest.FixtureRequest) -> Aggregator:
        return made("fedopt", optimizer=request.param)


_OF_A_JOB = """
from flpoc.aggregating import ModelAggregator
from flpoc.models.flmodel import FLModel


class Own(ModelAggregator):
    def reset_stats(self):
        self.models = []

    def accept_model(self, model):
        self.models.append(model.params)
        self.kind = model.params_type

    def aggregate_model(self):
        first = self.models[0]
        real = {name for name, array in first.items() if array.dtype.kind == "f"}
        mean = {name: sum(one[name] for one in self.models) / len(self.models) for name in real}
        return FLModel(params_type=self.kind, params={**first, **mean})
"""


class TestCodeOfAJob(AggregatorSuite):
    growth = 512 << 20  # what a job's own code holds is its own affair

    @pytest.fixture
    def aggregator(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Aggregator:
        monkeypatch.setattr(sys, "path", [*sys.path])
        monkeypatch.setenv("FLPOC_CODE", str(tmp_path / "code"))
        (tmp_path / "code").mkdir()
        (tmp_path / "code" / "of_a_job.py").write_text(_OF_A_JOB)
        return made("code", file="of_a_job.py", name="Own")


class WritesAnotherFormat(WeightedMean):
    def aggregate(self, updates: Sequence[Update], base: TensorFile | None, into: Path) -> None:
        with into.open("wb") as file:
            np.save(file, updates[0].model["layer.weight"])


class ForgetsATensor(WeightedMean):
    def aggregate(self, updates: Sequence[Update], base: TensorFile | None, into: Path) -> None:
        arrays = updates[0].model.arrays()
        arrays.pop("layer.bias")
        write_tensors(into, arrays)


class ChangesTheDtype(WeightedMean):
    def aggregate(self, updates: Sequence[Update], base: TensorFile | None, into: Path) -> None:
        arrays = updates[0].model.arrays()
        write_tensors(into, {**arrays, "layer.weight": arrays["layer.weight"].astype(np.float64)})


class NeedsTwo(WeightedMean):
    def aggregate(self, updates: Sequence[Update], base: TensorFile | None, into: Path) -> None:
        super().aggregate([updates[1], updates[0], *updates[2:]], base, into)


class NeedsAModel(WeightedMean):
    def aggregate(self, updates: Sequence[Update], base: TensorFile | None, into: Path) -> None:
        assert base is not None
        super().aggregate(updates, base, into)


class ScalesInPlace(WeightedMean):
    def aggregate(self, updates: Sequence[Update], base: TensorFile | None, into: Path) -> None:
        updates[0].model.arrays()["layer.weight"][:] *= 2
        super().aggregate(updates, base, into)


class TakesTheMetrics(WeightedMean):
    def aggregate(self, updates: Sequence[Update], base: TensorFile | None, into: Path) -> None:
        for update in updates:
            update.metrics.clear()
        super().aggregate(updates, base, into)


class DependsOnTheClock(WeightedMean):
    def aggregate(self, updates: Sequence[Update], base: TensorFile | None, into: Path) -> None:
        write_tensors(into, {**updates[0].model.arrays(), "layer.bias": np.full(5, float(time.time_ns()))})


class LetsNaNPass(WeightedMean):
    def aggregate(self, updates: Sequence[Update], base: TensorFile | None, into: Path) -> None:
        write_tensors(into, updates[0].model.arrays())


class NamesNobody(WeightedMean):
    def aggregate(self, updates: Sequence[Update], base: TensorFile | None, into: Path) -> None:
        try:
            super().aggregate(updates, base, into)
        except IntegrityError:
            raise IntegrityError("something is not a number") from None


class LeavesAFile(WeightedMean):
    def aggregate(self, updates: Sequence[Update], base: TensorFile | None, into: Path) -> None:
        try:
            super().aggregate(updates, base, into)
        except IntegrityError:
            into.write_bytes(b"half")
            raise


class TakesChangesForModels(WeightedMean):
    def aggregate(self, updates: Sequence[Update], base: TensorFile | None, into: Path) -> None:
        super().aggregate([Update(u.site, u.weight, u.model) for u in updates], None, into)


class HoldsAllModels(WeightedMean):
    def aggregate(self, updates: Sequence[Update], base: TensorFile | None, into: Path) -> None:
        held = [{name: np.array(array) for name, array in update.model.items()} for update in updates]
        write_tensors(into, held[0])


class _Counts(WeightedMean):
    def __init__(self) -> None:
        self.rounds = 0

    def aggregate(self, updates: Sequence[Update], base: TensorFile | None, into: Path) -> None:
        self.rounds += 1
        write_tensors(into, {**updates[0].model.arrays(), "layer.bias": np.full(5, float(self.rounds))})


class ForgetsItsState(_Counts):
    pass


class TakesUpNothing(_Counts):
    def state(self) -> bytes:
        return str(self.rounds).encode()


class TakesUpNoFile(FedOpt):
    def restore_file(self, file: TensorFile) -> None:
        """Go on with nothing."""


class KeepsItsState(TakesUpNothing):
    def restore(self, state: bytes) -> None:
        self.rounds = int(state)


_NAN = (float("nan"), "F32")
_CAUGHT: list[tuple[type[Aggregator], str, tuple[Any, ...]]] = [
    (WritesAnotherFormat, "test_writes_a_file_with_the_same_tensors", ()),
    (ForgetsATensor, "test_writes_a_file_with_the_same_tensors", ()),
    (ChangesTheDtype, "test_writes_a_file_with_the_same_tensors", ()),
    (NeedsTwo, "test_works_with_the_fewest_updates", ()),
    (NeedsAModel, "test_works_in_a_first_round_without_a_model", ()),
    (ScalesInPlace, "test_leaves_its_inputs_as_they_are", ()),
    (TakesTheMetrics, "test_leaves_its_inputs_as_they_are", ()),
    (DependsOnTheClock, "test_gives_the_same_bits_again", ()),
    (LetsNaNPass, "test_refuses_what_cannot_be_averaged", _NAN),
    (NamesNobody, "test_refuses_what_cannot_be_averaged", _NAN),
    (LeavesAFile, "test_refuses_what_cannot_be_averaged", _NAN),
    (TakesChangesForModels, "test_no_change_leaves_the_model_as_it_was", ()),
    (HoldsAllModels, "test_memory_does_not_grow_with_the_number_of_sites", ()),
    (ForgetsItsState, "test_goes_on_from_its_state_after_a_restart", ()),
    (TakesUpNothing, "test_goes_on_from_its_state_after_a_restart", ()),
    (TakesUpNoFile, "test_goes_on_from_its_state_after_a_restart", ()),
]


@pytest.mark.parametrize(("wrong", "promise", "arguments"), _CAUGHT, ids=lambda value: getattr(value, "__name__", None))
def test_the_suite_catches(
    wrong: Callable[[], Aggregator], promise: str, arguments: tuple[Any, ...], tmp_path: Path
) -> None:
    expected = (AssertionError, FlpocError, IndexError, pytest.fail.Exception)
    with pytest.raises(expected):
        getattr(AggregatorSuite(), promise)(wrong(), tmp_path, *arguments)


def test_every_promise_of_the_suite_has_one_that_breaks_it() -> None:
    promises = {name for name in dir(AggregatorSuite) if name.startswith("test_")}
    assert promises == {promise for _, promise, _ in _CAUGHT}


def test_an_aggregator_with_state_can_keep_the_promise(tmp_path: Path) -> None:
    AggregatorSuite().test_goes_on_from_its_state_after_a_restart(KeepsItsState(), tmp_path)
