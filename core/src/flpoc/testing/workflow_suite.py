"""What every workflow must keep, whatever the course of its job is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
import pytest

from flpoc.aggregating import Update
from flpoc.jobs.spec import JobSpec
from flpoc.models.checksums import checksum_file
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
        done = _rehearsal(tmp_path, spec).run(make_workflow)
        trained = {task.round for task in done.tasks if task.kind == "train"}
        if self.trains:
            assert trained, "nobody was asked to train"
            assert len(trained) <= spec.rounds, f"{len(trained)} rounds of training; the job has {spec.rounds}"
        if self.asks_all:
            assert {task.site for task in done.tasks} == set(done.sites), "not every site was asked"

    def test_ends_a_job_of_one_round(self, make_workflow: Maker, spec: JobSpec, tmp_path: Path) -> None:
        """The first round may be the last."""
        import attrs

        _rehearsal(tmp_path, attrs.evolve(spec, rounds=1)).run(make_workflow)

    def test_does_the_same_again(self, make_workflow: Maker, spec: JobSpec, tmp_path: Path) -> None:
        """The same job gives the same rounds, metrics and models, bit by bit."""
        first = _rehearsal(tmp_path / "first", spec).run(make_workflow)
        second = _rehearsal(tmp_path / "second", spec).run(make_workflow)
        assert first.outcome == second.outcome

    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    def test_goes_on_from_wherever_it_is_killed(
        self, make_workflow: Maker, spec: JobSpec, tmp_path: Path, *, after: bool
    ) -> None:
        """Killed before or after any call, the next controller comes to the same end, bit by bit."""
        whole = _rehearsal(tmp_path / "undisturbed", spec, stateful=True).run(make_workflow)
        for place in range(whole.calls):
            killed = _rehearsal(tmp_path / f"call-{place}", spec, stateful=True)
            killed.attempt(make_workflow(), killed_at=place, after=after)
            if killed.end is None:
                killed.run(make_workflow)
            where = f"killed {'after' if after else 'before'} call {place}: "
            assert killed.outcome == whole.outcome, where + _difference(killed.outcome, whole.outcome)

    def test_goes_on_when_every_controller_is_killed(self, make_workflow: Maker, spec: JobSpec, tmp_path: Path) -> None:
        """With one call a controller, or two, it still gets to the same end."""
        whole = _rehearsal(tmp_path / "undisturbed", spec, stateful=True).run(make_workflow)
        killed = _rehearsal(tmp_path / "killed", spec, stateful=True)
        for _ in range(4 * whole.calls):
            calls = len(killed.commits), len(killed.tasks), killed.model
            killed.attempt(make_workflow(), killed_at=0, after=True)
            if killed.end is not None:
                break
            if calls == (len(killed.commits), len(killed.tasks), killed.model):
                killed.attempt(make_workflow(), killed_at=_calls_until_commit(whole), after=True)
        assert killed.outcome == whole.outcome, _difference(killed.outcome, whole.outcome)

    def test_goes_on_without_a_site_that_fails(self, make_workflow: Maker, spec: JobSpec, tmp_path: Path) -> None:
        """A job that allows it (quorum) ends without the site, and does not wait for it."""
        import attrs

        def script(task: Task) -> Reply | None:
            return None if task.site == "site-2" and task.round >= 1 else adding(task)

        spec = attrs.evolve(spec, quorum=1)
        Rehearsal(tmp_path, spec, script).run(make_workflow)

    def test_takes_changes_like_models(self, make_workflow: Maker, spec: JobSpec, tmp_path: Path) -> None:
        """Sites that send what they have changed come to the same model as those that send all of it."""
        if not (self.takes_changes and self.trains):
            pytest.skip("takes models only")
        models = _rehearsal(tmp_path / "models", spec).run(make_workflow)
        changes = Rehearsal(tmp_path / "changes", spec, adding_changes).run(make_workflow)
        assert np.allclose(changes.arrays["w"], models.arrays["w"], rtol=1e-6), "changes lead to another model"

    def test_begins_with_the_model_of_the_job(self, make_workflow: Maker, spec: JobSpec, tmp_path: Path) -> None:
        """An initial model is what the sites get first; without one they begin with their own."""
        import attrs

        code = tmp_path / "code"
        code.mkdir()
        write_tensors(code / "start.safetensors", {"w": np.full(3, 7.0)})
        given = Rehearsal(tmp_path / "given", attrs.evolve(spec, initial_model="start.safetensors"), code=code)
        first = given.run(make_workflow).tasks[0]
        assert first.model is not None, "the first task has no model"
        assert first.model["w"].tolist() == [7.0] * 3, "the first task has another model"
        if self.trains:
            own = _rehearsal(tmp_path / "own", spec).run(make_workflow).tasks[0]
            assert own.model is None, "the first task has a model that nobody gave"

    def test_leaves_what_it_is_given_as_it_is(self, make_workflow: Maker, spec: JobSpec, tmp_path: Path) -> None:
        """Updates belong to the server: their files, metrics and meta stay as they came."""
        seen: list[tuple[Update, str, str]] = []

        class Watching(WeightedMean):
            def aggregate(self, updates: Sequence[Update], base: TensorFile | None, into: Path) -> None:
                super().aggregate(updates, base, into)

        done = _Watched(tmp_path, spec, aggregator=Watching)
        done.seen = seen
        done.run(make_workflow)
        for update, path, words in seen:
            assert checksum_file(Path(path)) == words.partition(" ")[0], f"the update of {update.site} was changed"
            assert _words(update) == words.partition(" ")[2], f"what {update.site} said was changed"


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


def _rehearsal(folder: Path, spec: JobSpec, *, stateful: bool = False) -> Rehearsal:
    if spec.initial_model:
        return Rehearsal(folder, spec, aggregator=_Stateful if stateful else WeightedMean)
    return Rehearsal(folder, spec, aggregator=_Stateful if stateful else WeightedMean)


class _Watched(Rehearsal):
    """Notes what updates were like when they came."""

    seen: list[tuple[Update, str, str]]


def _words(update: Update) -> str:
    return repr((update.site, update.weight, update.params_type, sorted(update.metrics.items()), update.meta))


def _calls_until_commit(whole: Rehearsal) -> int:
    return whole.calls


def _difference(found: tuple[Any, ...], wanted: tuple[Any, ...]) -> str:
    for one, other in zip(found, wanted, strict=False):
        if one != other:
            return f"{one} instead of {other}"
    return f"{len(found)} commits and ends instead of {len(wanted)}"
