"""Cyclic training: one model goes from site to site.

Chang et al.: Distributed deep learning networks among institutions for
medical imaging. JAMIA 25(8), 2018 (there: cyclical weight transfer).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path

import msgspec

from flpoc.aggregating import Update
from flpoc.errors import IntegrityError
from flpoc.models.tensors import TensorFile
from flpoc.workflows import Federation, Workflow
from flpoc.workflows.fedavg import FedAvgState, mean_metrics
from flpoc.workflows.settings import CyclicSettings


class Cyclic(Workflow):
    """Every round: each site once, one after the other, trains on from what the one before it has made.

    What a site sends becomes the model by the job's aggregator, given this
    one update: so changes (``DIFF``) are added to the model that the site
    received. A site that fails is passed over, if the job's quorum allows it.
    """

    def __init__(self, settings: CyclicSettings) -> None:
        self._settings = settings

    def run(self, federation: Federation) -> None:
        state = FedAvgState(b"", False)
        if federation.state:
            state = msgspec.msgpack.decode(federation.state, type=FedAvgState)
            federation.aggregator.restore(state.aggregator)
        if federation.next_round == 0 and federation.job.initial_model and federation.model is None:
            federation.start_from(federation.code / federation.job.initial_model)
        for number in range(federation.next_round, federation.job.rounds):
            model, updates, evaluates = self._round(federation, number)
            state = FedAvgState(federation.aggregator.state(), evaluates)
            federation.commit(number, model, msgspec.msgpack.encode(state), mean_metrics(updates))
        metrics: dict[str, float] = {}
        if self._settings.evaluate_final and state.evaluates:
            metrics = mean_metrics(federation.collect(federation.job.rounds, "evaluate").updates)
        federation.finish(metrics)

    def _round(self, federation: Federation, number: int) -> tuple[Path, list[Update], bool]:
        """Pass the model around once; gives the last one, all updates, and whether all scripts handle evaluation."""
        sites = order_of(federation.sites, self._settings.order, federation.job.seed, number)
        updates: list[Update] = []
        evaluates = True
        path: Path | None = None
        base = federation.model
        for place, site in enumerate(sites):
            result = federation.visit(number, site, path, sites[place + 1 :])
            if not result.updates:
                continue
            # a file that was handed over belongs to the server: each visit makes its own
            made = federation.folder / f"model.{number}.{place}.safetensors"
            made.unlink(missing_ok=True)
            federation.aggregator.aggregate(result.updates, base, made)
            path, base = made, TensorFile.open(made)
            updates += result.updates
            evaluates = evaluates and result.evaluates
        if path is None:
            raise IntegrityError(f"round {number + 1}: no site has sent anything")
        return path, updates, evaluates


def order_of(sites: Sequence[str], order: str, seed: int, round_number: int) -> list[str]:
    """In which order the sites of a round are asked; the same for the same job, seed and round, wherever it is run."""
    if order == "fixed":
        return list(sites)
    key = str(seed).encode()
    return sorted(sites, key=lambda site: hmac.digest(key, f"{round_number}|{site}|order".encode(), hashlib.sha256))
