"""What every workflow must keep, whatever the course of its job is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import attrs
import numpy as np
import pytest

from flpoc.aggregating import Update
from flpoc.jobs.spec import JobSpec
from flpoc.models.tensors import TensorFile, write_tensors
from flpoc.testing.rehearsal import Rehearsal, Reply, Task, adding, adding_changes, job
from flpoc.workflows import Workflow
from flpoc.workflows.mean import WeightedMean

Maker: TypeAlias = Callable[[], Workflow]


class WorkflowSuite:
    """Tests of a workflow; a subclass gives the fixture ``make_workflow``.

    It makes the workflow anew each time: a controller that is killed is
    followed by another process.

    Attributes:
        trains: Whether it has sites train, so that models are made.
        takes_changes: Whether sites may send changes (``params_type`` DIFF), too.
        asks_all: Whether every site is asked at least once.
    """

    trains: ClassVar[bool] = True
    takes_changes: ClassVar[bool] = True
    asks_all: ClassVar[bool] = True

    @pytest.fixture
    def make_workflow(self) -> Maker:
        raise NotImplementedError("a subclass of WorkflowSuite gives the fixture `make_workflow`")

    @pytest.fixture
    def spec(self) -> JobSpec:
        """The job of these tests; a subclass may give another."""
        return job()

    def test_comes_to_its_end(self, make_workflow: Maker, spec: JobSpec, tmp_path: Path) -> None:
        """It says that it is over, in no more rounds of training than the job has; everybody has been asked."""
        done = Rehearsal(tmp_path, spec).run(make_workflow)
        made = [commit for commit in done.commits if commit.made]
        assert len(made) <= spec.rounds, f"{len(made)} models were made; the job has {spec.rounds} rounds"
        if self.trains:
            assert any(task.kind == "train" for task in done.tasks), "nobody was asked to train"
            assert made, "no model was made"
        if self.asks_all:
            assert {task.site for task in done.tasks} == set(done.sites), "not every site was asked"

    def test_ends_a_job_of_one_round(self, make_workflow: Maker, spec: JobSpec, tmp_path: Path) -> None:
        """The first round may be the last."""
        Rehearsal(tmp_path, attrs.evolve(spec, rounds=1)).run(make_workflow)

    def test_does_the_same_again(self, make_workflow: Maker, spec: JobSpec, tmp_path: Path) -> None:
        """The same job gives the same rounds, metrics and models, bit by bit."""
        first = Rehearsal(tmp_path / "first", spec).run(make_workflow)
        second = Rehearsal(tmp_path / "second", spec).run(make_workflow)
        assert first.outcome == second.outcome

    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    def test_goes_on_from_wherever_it_is_killed(
        self, make_workflow: Maker, spec: JobSpec, tmp_path: Path, *, after: bool
    ) -> None:
        """Killed before or after any call, the next controller comes to the same end, bit by bit."""
        whole = Rehearsal(tmp_path / "undisturbed", spec, aggregator=_Stateful).run(make_workflow)
        for place in range(whole.calls):
            killed = Rehearsal(tmp_path / f"call-{place}", spec, aggregator=_Stateful)
            killed.attempt(make_workflow(), lambda number, _, place=place: number == place, after=after)  # type: ignore[misc]
            if killed.end is None:
                killed.run(make_workflow)
            where = f"killed {'after' if after else 'before'} call {place}: "
            assert killed.outcome == whole.outcome, where + _difference(killed.outcome, whole.outcome)

    def test_goes_on_when_every_controller_is_killed(self, make_workflow: Maker, spec: JobSpec, tmp_path: Path) -> None:
        """If each ends with its first commit, the last one still comes to the same end."""
        whole = Rehearsal(tmp_path / "undisturbed", spec, aggregator=_Stateful).run(make_workflow)
        killed = Rehearsal(tmp_path / "killed", spec, aggregator=_Stateful)
        for _ in range(len(whole.commits) + 2):
            if killed.end is None:
                killed.attempt(make_workflow(), lambda _, call: call in ("commit", "start_from"), after=True)
        assert killed.end is not None, "with every attempt ended by its first commit, the job comes to no end"
        assert killed.outcome == whole.outcome, _difference(killed.outcome, whole.outcome)

    def test_goes_on_without_a_site_that_fails(self, make_workflow: Maker, spec: JobSpec, tmp_path: Path) -> None:
        """A job that allows it (quorum) ends without the site, and does not wait for it."""

        def script(task: Task) -> Reply | None:
            return None if task.site == "site-2" and task.round >= 1 else adding(task)

        spec = attrs.evolve(spec, quorum=1)
        Rehearsal(tmp_path, spec, script).run(make_workflow)

    def test_takes_changes_like_models(self, make_workflow: Maker, spec: JobSpec, tmp_path: Path) -> None:
        """Sites that send what they have changed come to the same model as those that send all of it."""
        if not (self.takes_changes and self.trains):
            pytest.skip("takes models only")
        models = Rehearsal(tmp_path / "models", spec).run(make_workflow)
        changes = Rehearsal(tmp_path / "changes", spec, adding_changes).run(make_workflow)
        assert np.allclose(changes.arrays["w"], models.arrays["w"], rtol=1e-6), "changes lead to another model"

    def test_begins_with_the_model_of_the_job(self, make_workflow: Maker, spec: JobSpec, tmp_path: Path) -> None:
        """An initial model is what the sites get first; without one they begin with their own."""
        code = tmp_path / "code"
        code.mkdir()
        write_tensors(code / "start.safetensors", {"w": np.full(3, 7.0)})
        given = Rehearsal(tmp_path / "given", attrs.evolve(spec, initial_model="start.safetensors"), code=code)
        first = given.run(make_workflow).tasks[0]
        assert first.model is not None, "the first task has no model"
        assert first.model["w"].tolist() == [7.0] * 3, "the first task has another model"
        if self.trains:
            own = Rehearsal(tmp_path / "own", spec).run(make_workflow).tasks[0]
            assert own.model is None, "the first task has a model that nobody gave"

    def test_leaves_what_it_is_given_as_it_is(self, make_workflow: Maker, spec: JobSpec, tmp_path: Path) -> None:
        """Updates belong to the server: their files, metrics and meta stay as they came."""
        done = Rehearsal(tmp_path, spec).run(make_workflow)
        assert done.touched() == ""


class _Stateful(WeightedMean):
    """Adds to the mean how many models it has made: a workflow that forgets its state makes other models."""

    def __init__(self) -> None:
        super().__init__()
        self._made = 0

    def aggregate(self, updates: Sequence[Update], base: TensorFile | None, into: Path) -> None:
        plain = into.with_name(f"{into.name}.plain")
        super().aggregate(updates, base, plain)
        self._made += 1
        with TensorFile.open(plain) as model:
            write_tensors(into, {name: array + self._made for name, array in model.items()})
        plain.unlink()

    def state(self) -> bytes:
        return str(self._made).encode()

    def restore(self, state: bytes) -> None:
        self._made = int(state or b"0")


def _difference(found: tuple[Any, ...], wanted: tuple[Any, ...]) -> str:
    for one, other in zip(found, wanted, strict=False):
        if one != other:
            return f"{one} instead of {other}"
    return f"{len(found)} commits and ends instead of {len(wanted)}"
