"""Federated averaging.

McMahan, Moore, Ramage, Hampson, Agüera y Arcas: Communication-Efficient
Learning of Deep Networks from Decentralized Data. AISTATS 2017.
"""

from __future__ import annotations

import logging

import attrs
import msgspec

from flpoc.client.memory import give_back
from flpoc.workflows import Federation, Workflow
from flpoc.workflows.cross_site import taking_part, tasks_for
from flpoc.workflows.ending import Ending, Finish
from flpoc.workflows.judging import Means, Standing, better, judge, mean_metrics
from flpoc.workflows.sampling import sampled
from flpoc.workflows.settings import FedAvgSettings
from flpoc.workflows.starting import Start

log = logging.getLogger("flpoc.workflow")

__all__ = ["FedAvg", "FedAvgState", "mean_metrics"]


@attrs.frozen
class FedAvgState:
    """What a controller needs to know besides the model.

    Attributes:
        aggregator: The aggregator's own state.
        evaluates: Whether the scripts handle evaluation.
        submits: Whether they hand over models of their own.
        standing: How far training has come by its numbers.
        lost: Sites that take no further part.
        trained: Whether training is over.
        ending: How far what comes after it is.
    """

    aggregator: bytes = b""
    evaluates: bool = False
    submits: bool = False
    standing: Standing = attrs.field(factory=Standing)
    lost: tuple[str, ...] = ()
    trained: bool = False
    ending: Ending = attrs.field(factory=Ending)


class FedAvg(Workflow):
    """Every round: sites train from the model, the aggregator makes the next one of their updates.

    Metrics that come with an update are about the model that the site
    received. So at the close of a round they judge the model that the round
    began with: whether it is the best so far, whether it satisfies
    ``stop_cond``, whether ``patience`` is at its end. When training ends by
    that, the model of the round is the final one. It is judged by an
    evaluation of its own, if scripts handle that.
    """

    def __init__(self, settings: FedAvgSettings) -> None:
        self._settings = settings

    def run(self, federation: Federation) -> None:
        settings, state = self._settings, FedAvgState()
        if settings.cross_site_evaluation is not None:
            taking_part(federation.sites, settings.cross_site_evaluation.sites)  # refused before anything is trained
        start = Start(federation, settings.initial_checkpoint, settings.persistor)
        if federation.state:
            state = msgspec.msgpack.decode(federation.state, type=FedAvgState)
            federation.aggregator.restore(state.aggregator)
        start.begin()
        number = federation.next_round
        while not state.trained and number < federation.job.rounds:
            state = self._round(federation, number, state)
            start.made(number)
            number += 1
            if settings.memory_gc_rounds and number % settings.memory_gc_rounds == 0:
                give_back(graphics=False)
        self._end(federation, number, state)

    def _round(self, federation: Federation, number: int, state: FedAvgState) -> FedAvgState:
        settings, received = self._settings, federation.model
        sites = [site for site in federation.sites if site not in state.lost]
        chosen = sampled(sites, settings.clients_per_round, federation.job.seed, number)
        result = federation.collect(number, "train", sites=chosen, meta=settings.task_meta)
        model = federation.folder / f"model.{number}.safetensors"
        federation.aggregator.aggregate(result.updates, received, model)
        metrics = mean_metrics(result.updates, federation.aggregator.weigh)
        # in a first round without a model, every site has measured one of its own
        verdict = judge(settings, state.standing, metrics if received is not None else {})
        if verdict.stop:
            log.warning("round %s: training ends: %s", number + 1, verdict.stop)
        gone = tuple(site for site, why in result.missing.items() if not why.startswith("late"))
        state = FedAvgState(
            aggregator=federation.aggregator.state(),
            evaluates=result.evaluates,
            submits=result.submits,
            standing=verdict.standing,
            lost=(*state.lost, *(site for site in gone if site not in state.lost)),
            trained=bool(verdict.stop) or number + 1 >= federation.job.rounds,
        )
        federation.commit(number, model, msgspec.msgpack.encode(state), metrics, best=verdict.is_best)
        return state

    def _end(self, federation: Federation, number: int, state: FedAvgState) -> None:
        settings = self._settings

        def is_best(metrics: Means) -> bool:
            value = metrics.get(settings.key_metric)
            return value is not None and better(value, state.standing.best, settings.key_metric_mode)

        def encode(ending: Ending) -> bytes:
            return msgspec.msgpack.encode(attrs.evolve(state, ending=ending))

        tasks = tasks_for(settings.task_meta, evaluates=state.evaluates, submits=state.submits)
        end = Finish(federation, tasks, settings.cross_site_evaluation, is_best=is_best, encode=encode)
        end.run(number, state.ending, evaluate=settings.evaluate_final and state.evaluates)
