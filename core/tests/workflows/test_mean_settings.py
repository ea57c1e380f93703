"""What the settings of `mean` change, and partial updates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from flpoc.aggregating import Aggregator
from flpoc.errors import ConfigError, IntegrityError
from flpoc.plugins import Plugins

Aggregated = Callable[..., dict[str, Any]]


def mean(**settings: Any) -> Aggregator:
    found = Plugins.load().create("aggregators", "mean", settings)
    assert isinstance(found, Aggregator)
    return found


MODELS = [
    {"layer.w": np.float32([1, 2]), "head.w": np.float32([10])},
    {"layer.w": np.float32([3, 8]), "head.w": [20.0]},
]
MODELS[1]["head.w"] = np.float32([20])
BASE = {"layer.w": np.float32([0, 0]), "head.w": np.float32([7])}


def test_what_is_excluded_keeps_the_received_value(aggregated: Aggregated) -> None:
    found = aggregated(mean(exclude="head"), MODELS, base=BASE)
    assert found["head.w"].tolist() == [7]
    assert found["layer.w"].tolist() == [2, 5]


def test_an_excluded_change_is_not_applied(aggregated: Aggregated) -> None:
    found = aggregated(mean(exclude=r"^head\."), MODELS, base=BASE, kind="DIFF")
    assert found["head.w"].tolist() == [7]
    assert found["layer.w"].tolist() == [2, 5]


def test_without_a_model_what_is_excluded_is_the_first_sites(aggregated: Aggregated) -> None:
    assert aggregated(mean(exclude="head"), MODELS)["head.w"].tolist() == [10]


def test_the_pattern_is_searched_in_the_whole_name(aggregated: Aggregated) -> None:
    found = aggregated(mean(exclude=r"\.w$"), MODELS, base=BASE)
    assert found["head.w"].tolist() == [7]
    assert found["layer.w"].tolist() == [0, 0]


def test_nan_in_what_is_excluded_does_no_harm(aggregated: Aggregated) -> None:
    models = [MODELS[0], {**MODELS[1], "head.w": np.float32([np.nan])}]
    assert aggregated(mean(exclude="head"), models, base=BASE)["head.w"].tolist() == [7]


def test_factors_multiply_the_weights(aggregated: Aggregated) -> None:
    found = aggregated(mean(weights={"site-2": 3.0}), MODELS, weights=[3.0, 2.0])
    assert found["layer.w"] == pytest.approx([(3 * 1 + 6 * 3) / 9, (3 * 2 + 6 * 8) / 9])


def test_a_factor_of_0_leaves_a_site_out(aggregated: Aggregated) -> None:
    assert aggregated(mean(weights={"site-1": 0.0}), MODELS)["layer.w"].tolist() == [3, 8]


def test_factors_that_leave_nobody_are_refused(aggregated: Aggregated) -> None:
    with pytest.raises(IntegrityError, match="site-1, site-2"):
        aggregated(mean(weights={"site-1": 0.0, "site-2": 0.0}), MODELS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"exclude": "("}, "exclude: '\\(' is not a regular expression"),
        ({"weights": {"site-1": -1.0}}, "weights.site-1"),
        ({"exlude": "head"}, "aggregator.mean.exlude: no such setting"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        mean(**settings)


def test_a_tensor_that_some_sites_sent_is_the_mean_of_those(aggregated: Aggregated) -> None:
    models = [{"layer.w": np.float32([1, 2])}, MODELS[1], {"head.w": np.float32([40])}]
    found = aggregated(mean(), models, base=BASE, weights=[1.0, 3.0, 1.0])
    assert found["layer.w"].tolist() == [2.5, 6.5]
    assert found["head.w"].tolist() == [25]


def test_a_tensor_that_nobody_sent_stays_as_it_was(aggregated: Aggregated) -> None:
    models = [{"layer.w": one["layer.w"]} for one in MODELS]
    for kind in ("FULL", "DIFF"):
        found = aggregated(mean(), models, base=BASE, kind=kind)
        assert found["head.w"].tolist() == [7]
        assert found["layer.w"].tolist() == [2, 5]


def test_a_tensor_that_the_model_does_not_have_is_refused(aggregated: Aggregated) -> None:
    models = [MODELS[0], {"head.b": np.float32([1])}]
    with pytest.raises(IntegrityError, match=r"'head\.b' is not expected"):
        aggregated(mean(), models, base=BASE, kind="DIFF")
