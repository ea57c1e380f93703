"""Federated averaging.

McMahan, Moore, Ramage, Hampson, Agüera y Arcas: Communication-Efficient
Learning of Deep Networks from Decentralized Data. AISTATS 2017.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import msgspec

from flpoc.aggregating import Update
from flpoc.workflows import Federation, Workflow
from flpoc.workflows.settings import FedAvgSettings


@attrs.frozen
class FedAvgState:
    """What a controller needs to know besides the model.

    Attributes:
        aggregator: The aggregator's own state.
        evaluates: Whether the scripts handle evaluation.
    """

    aggregator: bytes
    evaluates: bool


class FedAvg(Workflow):
    """Every round: all sites train from the model, the aggregator makes the next one of their updates."""

    def __init__(self, settings: FedAvgSettings) -> None:
        self._settings = settings

    def run(self, federation: Federation) -> None:
        state = FedAvgState(b"", False)
        if federation.state:
            state = msgspec.msgpack.decode(federation.state, type=FedAvgState)
            federation.aggregator.restore(state.aggregator)
        if federation.next_round == 0 and federation.job.initial_model and federation.model is None:
            federation.start_from(federation.code / federation.job.initial_model)
        for number in range(federation.next_round, federation.job.rounds):
            result = federation.collect(number, "train")
            model = federation.folder / f"model.{number}.safetensors"
            federation.aggregator.aggregate(result.updates, federation.model, model)
            state = FedAvgState(federation.aggregator.state(), result.evaluates)
            federation.commit(number, model, msgspec.msgpack.encode(state), mean_metrics(result.updates))
        metrics: dict[str, float] = {}
        if self._settings.evaluate_final and state.evaluates:
            metrics = mean_metrics(federation.collect(federation.job.rounds, "evaluate").updates)
        federation.finish(metrics)


def mean_metrics(updates: Sequence[Update]) -> dict[str, float]:
    """Weighted means of the metrics that every site sent."""
    if not updates:
        return {}
    names = set(updates[0].metrics).intersection(*(update.metrics for update in updates[1:]))
    total = sum(update.weight for update in updates)
    means = {name: sum(u.metrics[name] * u.weight for u in updates) / total for name in sorted(names)}
    return {name: mean for name, mean in means.items() if math.isfinite(mean)}
