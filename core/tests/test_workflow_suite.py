"""What core offers keeps what every workflow must, and the suite notices when one does not."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import attrs
import numpy as np
import pytest

from flpoc.aggregating import Update
from flpoc.models.tensors import write_tensors
from flpoc.plugins import Plugins
from flpoc.testing.rehearsal import job
from flpoc.testing.workflow_suite import WorkflowSuite
from flpoc.workflows import Federation, RoundResult, Workflow
from flpoc.workflows.fedavg import FedAvg
from flpoc.workflows.settings import FedAvgSettings


def maker(name: str, **settings: Any) -> Callable[[], Workflow]:
    plugins = Plugins.load()

    def make() -> Workflow:
        found = plugins.create("workflows", name, settings)
        assert isinstance(found, Workflow)
        return found

    return make


class TestFedAvg(WorkflowSuite):
    @pytest.fixture
    def make_workflow(self) -> Callable[[], Workflow]:
        return maker("fedavg", task_meta={"fedprox_mu": 0.01})


class TestFedAvgOfASample(WorkflowSuite):
    asks_all = False

    @pytest.fixture
    def make_workflow(self) -> Callable[[], Workflow]:
        return maker("fedavg", clients_per_round=2, patience=1)


class TestFedAvgWithCrossSiteEvaluation(WorkflowSuite):
    @pytest.fixture
    def make_workflow(self) -> Callable[[], Workflow]:
        return maker("fedavg", key_metric="loss", key_metric_mode="min", cross_site_evaluation={})


class TestCyclic(WorkflowSuite):
    @pytest.fixture
    def make_workflow(self) -> Callable[[], Workflow]:
        return maker("cyclic", order="random", cross_site_evaluation={"sites": ["site-1", "site-3"]})


class TestCrossSiteEvaluation(WorkflowSuite):
    trains = False

    @pytest.fixture
    def make_workflow(self) -> Callable[[], Workflow]:
        return maker("cross_site_evaluation")


class Plain(Workflow):
    """The least that keeps all promises; what is wrong below inherits from it."""

    keeps_state: ClassVar[bool] = True
    rounds: ClassVar[int] = 0

    def run(self, federation: Federation) -> None:
        if federation.state and self.keeps_state:
            federation.aggregator.restore(federation.state)
        self.begin(federation)
        for number in range(self.first(federation), federation.job.rounds + self.rounds):
            result = self.asked(federation, number)
            model = federation.folder / f"model.{number}"
            self.aggregate(federation, result.updates, model)
            federation.commit(number, model, federation.aggregator.state(), {})
        self.end(federation)

    def begin(self, federation: Federation) -> None:
        if federation.next_round == 0 and federation.job.initial_model and federation.model is None:
            federation.start_from(federation.code / federation.job.initial_model)

    def first(self, federation: Federation) -> int:
        return federation.next_round

    def asked(self, federation: Federation, number: int) -> RoundResult:
        return federation.collect(number, "train")

    def aggregate(self, federation: Federation, updates: tuple[Update, ...], into: Path) -> None:
        federation.aggregator.aggregate(updates, federation.model, into)

    def end(self, federation: Federation) -> None:
        federation.finish({})


class TestPlain(WorkflowSuite):
    @pytest.fixture
    def make_workflow(self) -> Callable[[], Workflow]:
        return Plain


class NeverFinishes(Plain):
    def end(self, federation: Federation) -> None:
        return


class TrainsTooLong(Plain):
    rounds = 1


class AsksOneSiteOnly(Plain):
    def asked(self, federation: Federation, number: int) -> RoundResult:
        return federation.collect(number, "train", sites=["site-1"])


class NeedsTwoRounds(Plain):
    def run(self, federation: Federation) -> None:
        assert federation.job.rounds > 1
        super().run(federation)


class DependsOnTheClock(Plain):
    def aggregate(self, federation: Federation, updates: tuple[Update, ...], into: Path) -> None:
        write_tensors(into, {"w": np.full(3, float(time.time_ns()))})


class ForgetsTheAggregator(Plain):
    keeps_state = False


class BeginsAgain(Plain):
    def first(self, federation: Federation) -> int:
        return 0


class CommitsTwice(Plain):
    def asked(self, federation: Federation, number: int) -> RoundResult:
        federation.commit(number, None, b"", {})
        return super().asked(federation, number + 1)


class RemembersInTheProcess(Plain):
    """What it knows is in its attributes, so another process does not know it."""

    def __init__(self) -> None:
        self._seen = 0

    def aggregate(self, federation: Federation, updates: tuple[Update, ...], into: Path) -> None:
        self._seen += 1
        plain = into.with_name("plain")
        super().aggregate(federation, updates, plain)
        from flpoc.models.tensors import TensorFile

        write_tensors(into, {name: array * self._seen for name, array in TensorFile.open(plain).items()})
        plain.unlink()


class WantsAllUpdates(Plain):
    def asked(self, federation: Federation, number: int) -> RoundResult:
        result = super().asked(federation, number)
        assert len(result.updates) == len(federation.sites)
        return result


class TakesChangesForModels(Plain):
    def aggregate(self, federation: Federation, updates: tuple[Update, ...], into: Path) -> None:
        federation.aggregator.aggregate([attrs.evolve(one, params_type="FULL") for one in updates], None, into)


class IgnoresTheInitialModel(Plain):
    def begin(self, federation: Federation) -> None:
        return


class MakesOneUp(Plain):
    def begin(self, federation: Federation) -> None:
        if federation.model is None:
            write_tensors(federation.folder / "zeros", {"w": np.zeros(3)})
            federation.start_from(federation.folder / "zeros")


class TakesTheMetrics(Plain):
    def aggregate(self, federation: Federation, updates: tuple[Update, ...], into: Path) -> None:
        super().aggregate(federation, updates, into)
        for update in updates:
            update.metrics.clear()


_CAUGHT: list[tuple[type[Workflow], str, dict[str, Any]]] = [
    (NeverFinishes, "test_comes_to_its_end", {}),
    (TrainsTooLong, "test_comes_to_its_end", {}),
    (AsksOneSiteOnly, "test_comes_to_its_end", {}),
    (CommitsTwice, "test_comes_to_its_end", {}),
    (NeedsTwoRounds, "test_ends_a_job_of_one_round", {}),
    (DependsOnTheClock, "test_does_the_same_again", {}),
    (ForgetsTheAggregator, "test_goes_on_from_wherever_it_is_killed", {"after": True}),
    (BeginsAgain, "test_goes_on_from_wherever_it_is_killed", {"after": False}),
    (RemembersInTheProcess, "test_goes_on_from_wherever_it_is_killed", {"after": False}),
    (BeginsAgain, "test_goes_on_when_every_controller_is_killed", {}),
    (ForgetsTheAggregator, "test_goes_on_when_every_controller_is_killed", {}),
    (WantsAllUpdates, "test_goes_on_without_a_site_that_fails", {}),
    (TakesChangesForModels, "test_takes_changes_like_models", {}),
    (IgnoresTheInitialModel, "test_begins_with_the_model_of_the_job", {}),
    (MakesOneUp, "test_begins_with_the_model_of_the_job", {}),
    (TakesTheMetrics, "test_leaves_what_it_is_given_as_it_is", {}),
]


@pytest.mark.parametrize(("wrong", "promise", "arguments"), _CAUGHT, ids=lambda value: getattr(value, "__name__", None))
def test_the_suite_catches(
    wrong: Callable[[], Workflow], promise: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(AssertionError):
        getattr(WorkflowSuite(), promise)(wrong, job(), tmp_path, **arguments)


def test_every_promise_of_the_suite_has_one_that_breaks_it() -> None:
    promises = {name for name, _ in inspect.getmembers(WorkflowSuite, inspect.isfunction) if name.startswith("test_")}
    assert promises == {promise for _, promise, _ in _CAUGHT}


def test_a_workflow_is_made_from_its_settings_alone() -> None:
    assert isinstance(maker("fedavg")(), FedAvg)
    assert FedAvg(FedAvgSettings()) is not None
