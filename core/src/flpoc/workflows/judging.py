"""What the sites' numbers say: which model is the best so far, and whether training has reached its end."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import attrs

from flpoc.aggregating import Update
from flpoc.workflows.settings import FedAvgSettings, StopCondition

Means: TypeAlias = dict[str, float]

_HOLDS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    "=": operator.eq,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


def mean_metrics(updates: Sequence[Update], weigh: Callable[[Update], float] | None = None) -> Means:
    """Weighted means of the metrics that every site sent.

    Args:
        updates: What came.
        weigh: How much an update counts (:meth:`Aggregator.weigh`); its own weight if not said. One that counts
            nothing has no say.
    """
    weighed = [(one, one.weight if weigh is None else weigh(one)) for one in updates]
    weighed = [(one, weight) for one, weight in weighed if weight > 0]
    if not weighed:
        return {}
    names = set[str].intersection(*({*one.metrics} for one, _ in weighed))
    means = {name: _mean([(one.metrics[name], weight) for one, weight in weighed]) for name in sorted(names)}
    return {name: mean for name, mean in means.items() if math.isfinite(mean)}


def _mean(values: Sequence[tuple[float, float]]) -> float:
    """The weighted mean; of equal values it is that value, to the last bit."""
    first = values[0][0]
    if all(value == first for value, _ in values):
        return first
    return math.fsum(value * weight for value, weight in values) / math.fsum(weight for _, weight in values)


@attrs.frozen
class Standing:
    """How far training has come, by its numbers.

    Attributes:
        best: Value of the key metric of the best model so far; None before one was measured.
        watched: The best value so far of what ``patience`` looks at.
        waited: Measured rounds since then.
    """

    best: float | None = None
    watched: float | None = None
    waited: int = 0


@attrs.frozen
class Verdict:
    """What the numbers of one round say.

    Attributes:
        standing: How far training has come with them.
        is_best: Whether the model that they are about is the best so far.
        stop: Why training ends after this round; empty if it goes on.
    """

    standing: Standing
    is_best: bool
    stop: str


def better(value: float, than: float | None, mode: str) -> bool:
    """Whether *value* is better; an equal one is not."""
    return than is None or (value > than if mode == "max" else value < than)


def holds(condition: StopCondition, metrics: Mapping[str, float]) -> bool:
    """Whether the metrics satisfy the condition; not if its metric is not among them."""
    value = metrics.get(condition.metric)
    return value is not None and _HOLDS[condition.comparison](value, condition.value)


def judge(settings: FedAvgSettings, standing: Standing, metrics: Mapping[str, float]) -> Verdict:
    """Judge a model by its metrics; without the metric that is looked at nothing changes."""
    value = metrics.get(settings.key_metric)
    is_best = value is not None and better(value, standing.best, settings.key_metric_mode)
    standing = attrs.evolve(standing, best=value if is_best else standing.best)
    stop, metric, mode = settings.stop, settings.key_metric, settings.key_metric_mode
    if stop is not None and stop.mode is not None:
        metric, mode = stop.metric, stop.mode
    watched = metrics.get(metric)
    if watched is not None and better(watched, standing.watched, mode):
        standing = attrs.evolve(standing, watched=watched, waited=0)
    elif watched is not None:
        standing = attrs.evolve(standing, waited=standing.waited + 1)
    why = ""
    if stop is not None and holds(stop, metrics):
        why = f"{settings.stop_cond} holds ({metrics[stop.metric]:g})"
    elif settings.patience is not None and standing.waited >= settings.patience:
        why = f"{metric} has not become better for {standing.waited} rounds"
    return Verdict(standing, is_best, why)
