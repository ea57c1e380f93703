"""Federated averaging: which model is the best, when training ends, who is asked, what is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from flpoc.errors import ConfigError, JobError
from flpoc.models.checksums import sha256_file
from flpoc.models.tensors import TensorFile, write_tensors
from flpoc.plugins import Plugins
from flpoc.testing.rehearsal import Rehearsal, Rehearsed, Reply, Task, adding, job
from flpoc.workflows import Workflow
from flpoc.workflows.fedavg import mean_metrics
from flpoc.workflows.sampling import sampled
from flpoc.workflows.settings import StopCondition


def fedavg(**settings: Any) -> Callable[[], Workflow]:
    plugins = Plugins.load()
    return lambda: plugins.create("workflows", "fedavg", settings)  # type: ignore[no-any-return]


def scripted(values: Sequence[float | None], name: str = "accuracy", final: float | None = None) -> Any:
    """Sites that report these values, round by round, of the model that they receive; then *final* of the last one."""

    def script(task: Task) -> Reply:
        value = final if task.kind == "evaluate" else values[task.round]
        metrics = {} if value is None else {name: value}
        return Reply(None if task.kind == "evaluate" else {"w": np.full(2, float(task.round))}, metrics)

    return script


def rehearsed(folder: Path, values: Sequence[float | None], final: float | None = None, **settings: Any) -> Rehearsal:
    """A job of as many rounds as there are values, with an initial model."""
    code = folder / "code"
    code.mkdir(parents=True)
    write_tensors(code / "start", {"w": np.full(2, -1.0)})
    spec = job(rounds=len(values), initial_model="start")
    script = scripted(values, settings.get("key_metric", "accuracy"), final)
    found = Rehearsal(folder / "job", spec, script, code=code, evaluates=final is not None)
    return found.run(fedavg(**settings))


def best_number(done: Rehearsal) -> float | None:
    """Which model is the best: the number of its round, -1 for the initial one."""
    return None if done.best is None else float(TensorFile.open(done.best)["w"][0])


@pytest.mark.parametrize(
    ("values", "final", "mode", "best"),
    [
        ([0.1, 0.5, 0.3], None, "max", 0),
        ([0.1, 0.5, 0.3], 0.9, "max", 2),
        ([0.1, 0.5, 0.3], 0.5, "max", 0),  # an equal one is not better
        ([0.9, 0.5, 0.3], None, "max", -1),
        ([0.9, 0.5, 0.7], 0.6, "min", 0),
        ([0.9, 0.5, 0.7], 0.1, "min", 2),
        ([None, None, None], None, "max", None),
        ([None, 0.2, None], None, "max", 0),
    ],
)
def test_metrics_judge_the_model_that_was_received(
    tmp_path: Path, values: list[float | None], final: float | None, mode: str, best: float | None
) -> None:
    assert best_number(rehearsed(tmp_path, values, final, key_metric_mode=mode)) == best


def test_another_metric_can_be_the_key(tmp_path: Path) -> None:
    done = rehearsed(tmp_path, [3.0, 1.0, 2.0], key_metric="loss", key_metric_mode="min")
    assert best_number(done) == 0


def test_in_a_first_round_without_a_model_nothing_is_judged(tmp_path: Path) -> None:
    spec = job(rounds=3)
    done = Rehearsal(tmp_path, spec, scripted([0.9, 0.1, 0.2]), evaluates=False).run(fedavg(stop_cond="accuracy > 0.5"))
    assert [commit.best for commit in done.commits] == [False, True, True]
    assert best_number(done) == 1


def test_training_ends_when_the_condition_holds_and_the_models_are_both_there(tmp_path: Path) -> None:
    done = rehearsed(tmp_path, [0.1, 0.5, 0.92, 0.95, 0.99], stop_cond="accuracy >= 0.9")
    assert [commit.round for commit in done.commits] == [0, 1, 2]
    assert best_number(done) == 1  # the one that was measured
    assert done.arrays["w"].tolist() == [2, 2]


@pytest.mark.parametrize(
    ("comparison", "value", "rounds"),
    [("<=", 0.5, 3), ("=", 0.5, 3), ("<", 0.5, 4), (">=", 0.9, 1), (">", 0.9, 5)],
)
def test_every_comparison_ends_training(tmp_path: Path, comparison: str, value: float, rounds: int) -> None:
    settings = {"key_metric": "x", "key_metric_mode": "max" if ">" in comparison else "min"}
    done = rehearsed(tmp_path, [0.9, 0.7, 0.5, 0.3, 0.1], stop_cond=f"x {comparison} {value}", **settings)
    assert len(done.commits) == rounds


@pytest.mark.parametrize(
    ("values", "patience", "rounds"),
    [
        ([0.1, 0.5, 0.5, 0.4, 0.6, 0.6], 2, 4),  # an equal one is no improvement
        ([0.1, 0.5, 0.5, 0.6, 0.5, 0.7], 2, 6),
        ([0.1, 0.5, None, None, None, 0.4], 2, 6),  # rounds without the metric do not count
        ([0.5, 0.4, 0.4, 0.4, 0.4, 0.4], 1, 2),
    ],
)
def test_patience_counts_measured_rounds_without_a_better_value(
    tmp_path: Path, values: list[float | None], patience: int, rounds: int
) -> None:
    assert len(rehearsed(tmp_path, values, patience=patience).commits) == rounds


def test_patience_watches_the_metric_of_the_condition_in_its_direction(tmp_path: Path) -> None:
    def script(task: Task) -> Reply:
        loss = [5.0, 4.0, 4.5, 4.2, 1.0, 0.5][task.round]
        return Reply({"w": np.zeros(1)}, {"accuracy": 0.1 * task.round, "loss": loss})

    spec = job(rounds=6)
    done = Rehearsal(tmp_path, spec, script, evaluates=False).run(fedavg(stop_cond="loss <= 0.1", patience=2))
    assert len(done.commits) == 4


def test_the_final_evaluation_comes_right_after_an_early_end(tmp_path: Path) -> None:
    done = rehearsed(tmp_path, [0.1, 0.95, 0.5, 0.5], final=0.97, stop_cond="accuracy > 0.9")
    assert [(task.round, task.kind) for task in done.tasks if task.site == "site-1"] == [
        (0, "train"),
        (1, "train"),
        (2, "evaluate"),
    ]
    assert done.end is not None
    assert done.end.metrics == {"accuracy": 0.97}
    assert done.end.best


def test_the_final_model_is_not_evaluated_if_nobody_wants_it(tmp_path: Path) -> None:
    done = rehearsed(tmp_path, [0.1], final=0.9, evaluate_final=False)
    assert {task.kind for task in done.tasks} == {"train"}


def test_everybody_finds_the_meta_of_the_tasks(tmp_path: Path) -> None:
    done = Rehearsal(tmp_path).run(fedavg(task_meta={"fedprox_mu": 0.01}))
    assert all(task.meta == {"fedprox_mu": 0.01} for task in done.tasks)
    assert {task.kind for task in done.tasks} == {"train", "evaluate"}


MANY = [f"site-{number}" for number in range(1, 21)]


def test_the_sites_of_a_round_follow_from_seed_and_round_alone() -> None:
    rounds = [sampled(MANY, 5, 7, number) for number in range(50)]
    assert rounds == [sampled(list(MANY), 5, 7, number) for number in range(50)]
    assert all(one is not None and len(set(one)) == 5 and one == [s for s in MANY if s in one] for one in rounds)
    assert len({tuple(one or ()) for one in rounds}) > 40
    assert {site for one in rounds for site in one or ()} == set(MANY)
    assert rounds != [sampled(MANY, 5, 8, number) for number in range(50)]
    assert sampled(MANY, 20, 7, 0) is None


def test_a_sample_is_fair() -> None:
    counts = dict.fromkeys(MANY, 0)
    for number in range(2000):
        for site in sampled(MANY, 5, 0, number) or ():
            counts[site] += 1
    # 500 each on the average, with a standard deviation of 19
    assert all(400 < count < 600 for count in counts.values()), counts


def test_only_the_sample_is_asked_to_train(tmp_path: Path) -> None:
    done = Rehearsal(tmp_path, job(rounds=6), sites=MANY).run(fedavg(clients_per_round=3))
    for number in range(6):
        assert [task.site for task in done.tasks if task.round == number] == sampled(MANY, 3, 0, number)
    assert len([task for task in done.tasks if task.kind == "evaluate"]) == 20


def test_a_site_that_failed_is_not_drawn_any_more(tmp_path: Path) -> None:
    def script(task: Task) -> Reply | None:
        return None if task.site == "site-2" else adding(task)

    spec = job(rounds=8, quorum=1)
    done = Rehearsal(tmp_path, spec, script, sites=MANY[:4], evaluates=False).run(fedavg(clients_per_round=2))
    assert len([task for task in done.tasks if task.site == "site-2"]) == 1
    assert len([task for task in done.tasks if task.site != "site-2"]) >= 2 * 8 - 1


def test_weights_of_the_aggregator_hold_for_metrics_too(tmp_path: Path) -> None:
    plugins = Plugins.load()

    def script(task: Task) -> Reply:
        return Reply({"w": np.zeros(1)}, {"accuracy": float(task.site[-1])}, weight=2.0)

    weights = {"weights": {"site-1": 3.0, "site-3": 0.0}}
    done = Rehearsal(
        tmp_path,
        job(rounds=1),
        script,
        aggregator=lambda: plugins.create("aggregators", "mean", weights),
        evaluates=False,
    ).run(fedavg())
    assert done.commits[0].metrics == pytest.approx({"accuracy": (3 * 1 + 1 * 2) / 4})


def test_a_metric_that_one_site_does_not_send_has_no_mean() -> None:
    from flpoc.aggregating import Update

    model: Any = None
    one = Update("site-1", 1.0, model, metrics={"accuracy": 0.5, "loss": 1.0})
    two = Update("site-2", 3.0, model, metrics={"accuracy": 0.9})
    assert mean_metrics([one, two]) == pytest.approx({"accuracy": 0.8})
    assert mean_metrics([]) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("accuracy>=0.9", "is not 'METRIC COMPARISON VALUE'"),
        ("accuracy  >= 0.9", "is not 'METRIC COMPARISON VALUE'"),
        ("accuracy == 0.9", "'==' is none of <= = >= < >"),
        ("accuracy >= high", "'high' is not a number"),
        ("accuracy >= nan", "'nan' is not a number"),
    ],
)
def test_a_condition_that_is_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StopCondition.parse(text)
    with pytest.raises(ConfigError, match=message):
        fedavg(stop_cond=text)()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stop_cond": "loss <= 0.1", "key_metric": "loss"}, "contradicts key_metric_mode 'max'"),
        ({"patience": 0}, "patience must be between 1"),
        ({"clients_per_round": 0}, "clients_per_round must be between 1"),
        ({"key_metric_mode": "high"}, "key_metric_mode"),
        ({"initial_checkpoint": "start.npz"}, "'start.npz' is not an absolute path"),
        ({"persistor": {"file": "p.py"}}, "name"),
        ({"cross_site_evaluation": {"site": []}}, "workflow.fedavg.cross_site_evaluation.site: no such setting"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fedavg(**settings)()


# -- what it starts from, and who hears of models


class Granting(Rehearsal):
    """A server that grants folders with checkpoints."""

    def granted(self, *folders: Path) -> Granting:
        self.folders = folders
        return self

    def federation(self, *args: Any, **kwargs: Any) -> Rehearsed:
        found = super().federation(*args, **kwargs)
        found.checkpoints = self.folders
        return found


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_a_checkpoint_at_the_server_is_what_it_starts_from(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "granted" / f"start{suffix}"
    path.parent.mkdir()
    if suffix == ".npz":
        np.savez(path, w=np.full(3, 7.0))
    else:
        write_tensors(path, {"w": np.full(3, 7.0)})
    before = sha256_file(path)
    done = Granting(tmp_path / "job").granted(path.parent).run(fedavg(initial_checkpoint=str(path)))
    first = done.tasks[0].model
    assert first is not None
    assert first["w"].tolist() == [7, 7, 7]
    assert sha256_file(path) == before


def test_a_checkpoint_that_the_server_does_not_grant_is_refused(tmp_path: Path) -> None:
    granted, secret = tmp_path / "granted", tmp_path / "secret"
    granted.mkdir()
    secret.mkdir()
    write_tensors(secret / "model.safetensors", {"w": np.zeros(1)})
    (granted / "link.safetensors").symlink_to(secret / "model.safetensors")
    for path in (secret / "model.safetensors", granted / "link.safetensors", granted / ".." / "secret" / "x"):
        with pytest.raises(JobError, match="below no folder that the server grants"):
            Granting(tmp_path / f"job-{path.name}").granted(granted).run(fedavg(initial_checkpoint=str(path)))
    with pytest.raises(JobError, match="there is no file"):
        Granting(tmp_path / "none").granted(granted).run(fedavg(initial_checkpoint=str(granted / "none.npz")))


def test_a_checkpoint_with_objects_in_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.npz"
    np.savez(path, w=np.array([object()]))
    with pytest.raises(JobError, match=r"cannot be read: .*pickle"):
        Granting(tmp_path / "job").granted(tmp_path).run(fedavg(initial_checkpoint=str(path)))


def test_two_beginnings_are_refused(tmp_path: Path) -> None:
    write_tensors(tmp_path / "start.safetensors", {"w": np.zeros(1)})
    spec = job(initial_model="start.safetensors")
    path = str(tmp_path / "start.safetensors")
    with pytest.raises(ConfigError, match="say one of them"):
        Granting(tmp_path, spec).granted(tmp_path).run(fedavg(initial_checkpoint=path))


PERSISTOR = """
import json
from pathlib import Path

import numpy as np

from flpoc.models.flmodel import FLModel
from flpoc.workflows.persisting import ModelPersistor


class Keeps(ModelPersistor):
    def __init__(self, folder, start=None):
        self.folder, self.start = Path(folder), start

    def load_model(self):
        return None if self.start is None else FLModel(params={"w": np.full(3, self.start)})

    def save_model(self, model):
        saved = {"round": model.current_round, "w": model.params["w"].tolist()}
        with (self.folder / "saved.jsonl").open("a") as file:
            file.write(json.dumps(saved) + "\\n")


class Odd(Keeps):
    def load_model(self):
        return {"w": 1.0}
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import sys

    monkeypatch.setattr(sys, "path", [*sys.path])
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "persisting_here.py").write_text(PERSISTOR)
    return folder


def persistor(folder: Path, name: str = "Keeps", **args: Any) -> dict[str, Any]:
    return {"file": "persisting_here.py", "name": name, "args": {"folder": str(folder), **args}}


def saved(folder: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (folder / "saved.jsonl").read_text().splitlines()]
    return [(line["round"], line["w"][0]) for line in lines]


def test_a_persistor_gives_the_first_model_and_hears_of_every_other(tmp_path: Path, code: Path) -> None:
    settings = {"persistor": persistor(tmp_path, start=5.0)}
    done = Rehearsal(tmp_path / "job", code=code).run(fedavg(**settings))
    first = done.tasks[0].model
    assert first is not None
    assert first["w"].tolist() == [5, 5, 5]
    assert [number for number, _ in saved(tmp_path)] == [0, 1, 2]
    assert saved(tmp_path)[-1][1] == done.arrays["w"][0]


def test_a_persistor_hears_of_the_last_model_again_after_a_restart(tmp_path: Path, code: Path) -> None:
    make = fedavg(persistor=persistor(tmp_path))
    rehearsal = Rehearsal(tmp_path / "job", code=code)
    rehearsal.attempt(make(), lambda number, _: number == 1, after=True)  # killed before it could tell
    assert not (tmp_path / "saved.jsonl").exists()
    rehearsal.run(make)
    assert [number for number, _ in saved(tmp_path)] == [0, 1, 2]


def test_a_persistor_that_gives_something_else_is_refused(tmp_path: Path, code: Path) -> None:
    with pytest.raises(JobError, match="load_model gives dict"):
        Rehearsal(tmp_path / "job", code=code).run(fedavg(persistor=persistor(tmp_path, "Odd")))


# -- the closed form


def test_one_full_batch_step_a_site_is_centralised_gradient_descent(tmp_path: Path) -> None:
    """With the numbers of samples as weights, the mean of the sites' steps is the step on all data together."""
    rng = np.random.default_rng(4)
    sizes, lr = {"site-1": 11, "site-2": 200, "site-3": 57}, 0.1
    truth = np.array([1.0, -2.0, 0.5, 3.0])
    data = {}
    for place, (site, size) in enumerate(sizes.items()):
        inputs = rng.normal(place, 1 + place, (size, 4))  # every site has other data
        data[site] = inputs, inputs @ truth + rng.normal(0, 0.1, size)

    def gradient(inputs: Any, targets: Any, w: Any) -> Any:
        return inputs.T @ (inputs @ w - targets) / len(targets)

    def script(task: Task) -> Reply:
        w = task.model["w"] if task.model is not None else np.zeros(4)
        inputs, targets = data[task.site]
        loss = float(np.mean((inputs @ w - targets) ** 2))
        return Reply({"w": w - lr / 10 * gradient(inputs, targets, w)}, {"loss": loss}, weight=float(len(targets)))

    spec = job(rounds=40)
    done = Rehearsal(tmp_path, spec, script, evaluates=False).run(fedavg(key_metric="loss", key_metric_mode="min"))
    inputs = np.concatenate([one for one, _ in data.values()])
    targets = np.concatenate([one for _, one in data.values()])
    w, losses = np.zeros(4), []
    for _ in range(40):
        losses.append(float(np.mean((inputs @ w - targets) ** 2)))
        w = w - lr / 10 * gradient(inputs, targets, w)
    assert np.abs(done.arrays["w"] - w).max() < 1e-6
    assert [commit.metrics["loss"] for commit in done.commits] == pytest.approx(losses, rel=1e-9)
    assert attrs.asdict(done.commits[-1])["best"]
