"""Cyclic training: one model goes from site to site.

Chang et al.: Distributed deep learning networks among institutions for
medical imaging. JAMIA 25(8), 2018 (there: cyclical weight transfer).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs
import msgspec

from flpoc.aggregating import Update
from flpoc.client.memory import give_back
from flpoc.errors import IntegrityError
from flpoc.models.tensors import TensorFile
from flpoc.workflows import Federation, Workflow
from flpoc.workflows.cross_site import taking_part, tasks_for
from flpoc.workflows.ending import Ending, Finish
from flpoc.workflows.judging import mean_metrics
from flpoc.workflows.sampling import shuffled
from flpoc.workflows.settings import CyclicSettings
from flpoc.workflows.starting import Start


@attrs.frozen
class CyclicState:
    """What a controller needs to know besides the model.

    Attributes:
        aggregator: The aggregator's own state.
        evaluates: Whether the scripts handle evaluation.
        submits: Whether they hand over models of their own.
        ending: How far what comes after training is.
    """

    aggregator: bytes = b""
    evaluates: bool = False
    submits: bool = False
    ending: Ending = attrs.field(factory=Ending)


class Cyclic(Workflow):
    """Every round: each site once, one after the other, trains on from what the one before it has made.

    What a site sends becomes the model by the job's aggregator, given this
    one update: so changes (``DIFF``) are added to the model that the site
    received. A site that fails is passed over, if the job's quorum allows it.
    """

    def __init__(self, settings: CyclicSettings) -> None:
        self._settings = settings

    def run(self, federation: Federation) -> None:
        settings, state = self._settings, CyclicState()
        if settings.cross_site_evaluation is not None:
            taking_part(federation.sites, settings.cross_site_evaluation.sites)  # refused before anything is trained
        start = Start(federation, settings.initial_checkpoint, settings.persistor)
        if federation.state:
            state = msgspec.msgpack.decode(federation.state, type=CyclicState)
            federation.aggregator.restore(state.aggregator)
        start.begin()
        for number in range(federation.next_round, federation.job.rounds):
            state = self._round(federation, number)
            start.made(number)
            if settings.memory_gc_rounds and (number + 1) % settings.memory_gc_rounds == 0:
                give_back(graphics=False)
        self._end(federation, max(federation.next_round, federation.job.rounds), state)

    def _end(self, federation: Federation, number: int, state: CyclicState) -> None:
        def encode(ending: Ending) -> bytes:
            return msgspec.msgpack.encode(attrs.evolve(state, ending=ending))

        settings = self._settings
        tasks = tasks_for(settings.task_meta, evaluates=state.evaluates, submits=state.submits)
        end = Finish(federation, tasks, settings.cross_site_evaluation, is_best=lambda _: False, encode=encode)
        end.run(number, state.ending, evaluate=settings.evaluate_final and state.evaluates)

    def _round(self, federation: Federation, number: int) -> CyclicState:
        """Pass the model around once."""
        sites = order_of(federation.sites, self._settings.order, federation.job.seed, number)
        updates: list[Update] = []
        evaluates = submits = True
        path: Path | None = None
        base = federation.model
        for place, site in enumerate(sites):
            result = federation.visit(number, site, path, sites[place + 1 :], meta=self._settings.task_meta)
            if not result.updates:
                continue
            # a file that was handed over belongs to the server: each visit makes its own
            made = federation.folder / f"model.{number}.{place}.safetensors"
            made.unlink(missing_ok=True)
            federation.aggregator.aggregate(result.updates, base, made)
            path, base = made, TensorFile.open(made)
            updates += result.updates
            evaluates, submits = evaluates and result.evaluates, submits and result.submits
        if path is None:
            raise IntegrityError(f"round {number + 1}: no site has sent anything")
        state = CyclicState(federation.aggregator.state(), evaluates, submits)
        metrics = mean_metrics(updates, federation.aggregator.weigh)
        federation.commit(number, path, msgspec.msgpack.encode(state), metrics)
        return state


def order_of(sites: Sequence[str], order: str, seed: int, round_number: int) -> list[str]:
    """In which order the sites of a round are asked; the same for the same job, seed and round, wherever it is run."""
    return list(sites) if order == "fixed" else shuffled(sites, seed, round_number, "order")
