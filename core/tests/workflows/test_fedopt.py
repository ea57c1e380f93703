"""The server's optimisers, against the formulas of Reddi et al. written out."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flpoc.errors import ConfigError
from flpoc.models.tensors import TensorFile
from flpoc.plugins import Plugins
from flpoc.settings import structure
from flpoc.workflows.fedopt import FedOpt
from flpoc.workflows.schedules import LrSchedule

Aggregated = Callable[..., dict[str, Any]]
WEIGHTS = [3.0, 1.0]


def fedopt(**settings: Any) -> FedOpt:
    found = Plugins.load().create("aggregators", "fedopt", settings)
    assert isinstance(found, FedOpt)
    return found


def plainly(optimizer: str, start: float, changes: list[float], **given: float) -> float:
    """One number, step by step (algorithm 2 of arXiv:2003.00295; sgd: arXiv:1909.06335)."""
    lr, beta1, beta2, tau, momentum = (given[name] for name in ("lr", "beta1", "beta2", "tau", "momentum"))
    x, m, v = start, 0.0, tau**2
    for d in changes:
        if optimizer == "sgd":
            m = momentum * m + d
            x += lr * m
            continue
        m = beta1 * m + (1 - beta1) * d
        if optimizer == "adagrad":
            v = v + d * d
        elif optimizer == "adam":
            v = beta2 * v + (1 - beta2) * d * d
        else:
            v = v - (1 - beta2) * d * d * math.copysign(1.0, v - d * d)
        x += lr * m / (math.sqrt(v) + tau)
    return x


@pytest.mark.parametrize("kind", ["FULL", "DIFF"])
@pytest.mark.parametrize("optimizer", ["adam", "yogi", "adagrad", "sgd"])
def test_it_takes_the_steps_of_the_paper(aggregated: Aggregated, optimizer: str, kind: str) -> None:
    rng = np.random.default_rng(3)
    steps = rng.standard_normal((4, 2, 20))
    given = {"lr": 0.3, "tau": 0.01, "momentum": 0.8}
    aggregator = fedopt(optimizer=optimizer, betas=[0.8, 0.9], **given)
    model = {"w": rng.standard_normal(20)}
    start = model["w"]
    for one in steps:
        models = [{"w": model["w"] + d if kind == "FULL" else d} for d in one]
        model = aggregated(aggregator, models, weights=WEIGHTS, base=model, kind=kind)
    for place in range(20):
        changes = [(3 * one[0][place] + one[1][place]) / 4 for one in steps]
        expected = plainly(optimizer, start[place], changes, beta1=0.8, beta2=0.9, **given)
        assert model["w"][place] == pytest.approx(expected, rel=1e-9)


def test_without_momentum_and_at_rate_1_sgd_is_the_mean(aggregated: Aggregated) -> None:
    models = [{"w": np.float32([1, 2])}, {"w": np.float32([5, 10])}]
    base = {"w": np.float32([9, 9])}
    found = aggregated(fedopt(optimizer="sgd", momentum=0.0), models, weights=WEIGHTS, base=base)
    assert found["w"].tolist() == [2, 4]


def test_the_learning_rate_depends_on_the_optimiser_if_it_is_not_given(aggregated: Aggregated) -> None:
    base, change = {"w": np.array([0.0])}, [{"w": np.array([1.0])}]
    assert aggregated(fedopt(optimizer="sgd"), change, base=base, kind="DIFF")["w"] == 1.0
    expected = plainly("adam", 0.0, [1.0], lr=0.01, beta1=0.9, beta2=0.99, tau=1e-3, momentum=0)
    assert aggregated(fedopt(), change, base=base, kind="DIFF")["w"] == pytest.approx(expected)


def test_a_first_round_without_a_model_is_the_mean(aggregated: Aggregated) -> None:
    aggregator = fedopt()
    found = aggregated(aggregator, [{"w": np.float32([1])}, {"w": np.float32([5])}], weights=WEIGHTS)
    assert found["w"].tolist() == [2]
    assert aggregator.state_file() is None


def test_statistics_counters_and_masks_are_averaged_and_excluded_tensors_stay(aggregated: Aggregated) -> None:
    def model(number: float) -> dict[str, Any]:
        return {
            "bn.running_var": np.float32([number]),
            "bn.num_batches_tracked": np.int64([number]),
            "mask": np.array([number > 1]),
            "head": np.float32([number]),
        }

    found = aggregated(fedopt(exclude="head"), [model(4), model(8)], weights=WEIGHTS, base=model(1))
    assert found["bn.running_var"].tolist() == [5]
    assert found["bn.num_batches_tracked"].tolist() == [5]
    assert found["mask"].tolist() == [True]
    assert found["head"].tolist() == [1]


def test_bfloat16_is_stepped_with_moments_in_float32(aggregated: Aggregated) -> None:
    from flpoc.models.tensors import narrow

    aggregator = fedopt(optimizer="sgd", momentum=0.5)
    base = {"w": narrow(np.float32([1]))}
    found = aggregated(aggregator, [{"w": narrow(np.float32([0.25]))}], base=base, kind="DIFF")
    assert found["w"].tolist() == [1.25]
    file = aggregator.state_file()
    assert file is not None
    with TensorFile.open(file) as moments:
        assert {name: (a.dtype.str, a.tolist()) for name, a in moments.items()} == {"1.w": ("<f4", [0.25])}


def test_a_restarted_server_takes_the_same_steps(aggregated: Aggregated, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rounds = [[{"w": rng.standard_normal(9)} for _ in range(2)] for _ in range(3)]
    base = {"w": np.zeros(9)}
    undisturbed, model = fedopt(optimizer="yogi"), base
    for models in rounds:
        model = aggregated(undisturbed, models, base=model)
    again, restarted = base, fedopt(optimizer="yogi")
    for models in rounds:
        again = aggregated(restarted, models, base=again)
        state, file = restarted.state(), restarted.state_file()
        assert file is not None
        restarted = fedopt(optimizer="yogi")
        restarted.restore(state)
        restarted.restore_file(TensorFile.open(file))
    assert again["w"].tobytes() == model["w"].tobytes()


def test_the_learning_rate_changes_from_step_to_step_also_after_a_restart(aggregated: Aggregated) -> None:
    def made() -> FedOpt:
        return fedopt(optimizer="sgd", momentum=0.0, lr=0.8, lr_schedule={"name": "step", "step_size": 2, "gamma": 0.5})

    aggregator, model, moved = made(), {"w": np.array([0.0])}, []
    first = aggregated(made(), [{"w": np.array([1.0])}])
    assert first["w"] == 1.0
    for _ in range(5):
        before = model["w"]
        model = aggregated(aggregator, [{"w": np.array([1.0])}], base=model, kind="DIFF")
        moved.append(round(float(model["w"][0] - before[0]), 9))
        state, file = aggregator.state(), aggregator.state_file()
        assert file is not None
        aggregator = made()
        aggregator.restore(state)
        aggregator.restore_file(TensorFile.open(file))
    assert moved == [0.8, 0.8, 0.4, 0.4, 0.2]


SCHEDULES = {
    "step": ({"step_size": 2}, [1.0, 1.0, 0.1, 0.1]),
    "multistep": ({"milestones": [1, 2], "gamma": 0.5}, [1.0, 0.5, 0.25, 0.25]),
    "exponential": ({"gamma": 0.5}, [1.0, 0.5, 0.25, 0.125]),
    "cosine": ({"t_max": 2, "eta_min": 0.2}, [1.0, 0.6, 0.2, 0.6]),
    "linear": ({"start_factor": 0.5, "total_iters": 2}, [0.5, 0.75, 1.0, 1.0]),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_of_the_learning_rate(name: str) -> None:
    settings, expected = SCHEDULES[name]
    schedule = structure({"name": name, **settings}, LrSchedule)
    assert [schedule.at(1.0, step) for step in range(4)] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "adamw"}, "optimizer"),
        ({"lr": 0.0}, "lr must be greater than 0"),
        ({"betas": [0.9, 1.0]}, "betas: 1.0 is not between 0 and 1"),
        ({"lr_schedule": {"name": "warm"}}, "lr_schedule.name"),
        ({"lr_schedule": {"name": "step"}}, "'step' needs step_size"),
        ({"lr_schedule": {"name": "step", "step_size": 0}}, "step_size must be greater than 0"),
        ({"lr_schedule": {"name": "exponential", "gamma": 0.5, "t_max": 3}}, "'exponential' has no t_max"),
        ({"lr_schedule": {"name": "multistep", "milestones": [3, 2]}}, "milestones: .* rising order"),
        ({"average": "["}, "average: .* is not a regular expression"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fedopt(**settings)
