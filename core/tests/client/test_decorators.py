"""Functions that take the received model and give the answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flpoc.client as flare
from flpoc.errors import UsageError

ONES = np.ones(2, np.float32)


def test_a_training_function_gets_the_model_and_its_result_is_sent_with_what_was_measured(owner: Any) -> None:
    owner.script(owner.give(0, w=ONES), owner.give(1, w=ONES), owner.give(2, "evaluate", w=ONES))

    @flare.evaluate
    def judge(model: flare.FLModel, scale: float = 1.0) -> dict[str, float]:
        return {"accuracy": float(model.params["w"][0]) * scale, "loss": 3.0}

    @flare.train
    def fit(model: flare.FLModel | None = None, lr: float = 0.0, *, steps: int = 1) -> flare.FLModel:
        """Add."""
        assert model is not None
        return flare.FLModel(
            params={"w": model.params["w"] + lr}, metrics={"loss": 2.0}, meta={"NUM_STEPS_CURRENT_ROUND": steps}
        )

    assert fit.__doc__ == "Add."
    while flare.is_running():
        judge(None, scale=0.5)
        fit(lr=1.0, steps=7)
    sent = owner.submitted
    assert [(one.kind, one.weight) for one in sent] == [("train", 7.0), ("train", 7.0), ("evaluate", 1.0)]
    assert [one.metrics for one in sent] == [{"accuracy": 0.5, "loss": 2.0}] * 2 + [{"accuracy": 0.5, "loss": 3.0}]
    assert [one.evaluates for one in sent] == [True] * 3
    assert owner.answer(0)["w"].tolist() == [2, 2]


def test_a_training_function_gives_none_when_the_job_is_over(owner: Any) -> None:
    owner.script()

    @flare.train
    def fit(model: flare.FLModel) -> flare.FLModel:
        raise AssertionError

    assert fit(None) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "metrics"),
    [
        (flare.FLModel(metrics={"auc": 0.5}), {"auc": 0.5}),
        ({"auc": 0.5}, {"auc": 0.5}),
        (0.25, {"accuracy": 0.25}),
        (np.float32(0.25), {"accuracy": 0.25}),
    ],
)
def test_an_evaluation_may_give_a_model_numbers_by_name_or_a_number(owner: Any, found: Any, metrics: Any) -> None:
    owner.script(owner.give(0, "evaluate", w=ONES))
    assert flare.evaluate(lambda model: found)(None) is found
    assert owner.submitted[0].metrics == metrics


@pytest.mark.parametrize("found", [None, "good", flare.FLModel(), {}])
def test_an_evaluation_without_metrics_is_refused(owner: Any, found: Any) -> None:
    owner.script(owner.give(0, "evaluate", w=ONES))
    with pytest.raises(UsageError, match="must return metrics"):
        flare.evaluate(lambda model: found)(None)


def test_what_a_training_function_must_give_is_said(owner: Any) -> None:
    owner.script(owner.give(0, w=ONES))

    @flare.train
    def fit(model: Any) -> Any:
        return model.params

    with pytest.raises(UsageError, match=r"fit\(\) must return an FLModel, not dict"):
        fit(None)
    with pytest.raises(UsageError, match="takes no model"):
        flare.train(lambda: None)()  # type: ignore[arg-type,return-value]


def test_a_task_that_no_function_is_for_is_said_and_not_skipped(owner: Any) -> None:
    owner.script(owner.give(0, "submit_model"))
    assert flare.is_submit_model()

    @flare.train
    def fit(model: Any) -> Any:
        raise AssertionError

    with pytest.raises(UsageError, match="the task is submit_model, and fit trains"):
        fit(None)
