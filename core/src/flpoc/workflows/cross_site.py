"""Cross-site evaluation: every model is judged where the data is.

What is judged are the server's final model, its best one, and one model of
each site. Each is sent to all sites as a task of its own, so that never more
than one is held anywhere; after each, what is known so far is committed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from flpoc.aggregating import Update
from flpoc.errors import JobError
from flpoc.models.flmodel import MetaKey
from flpoc.models.tensors import TensorFile, write_tensors
from flpoc.workflows import Federation, RoundResult
from flpoc.workflows.mean import WeightedMean
from flpoc.workflows.settings import CrossSite

if TYPE_CHECKING:
    from flpoc.wire.vocabulary import TaskKind

log = logging.getLogger("flpoc.workflow")

#: Where the results are found among the job's.
REPORT = "cross_site_val/cross_val_results.json"
#: What the results call the server's models.
FINAL, BEST = "server", "server_best"


@attrs.frozen
class Judged:
    """How far a cross-site evaluation has come.

    Attributes:
        submitted: Whether the sites have been asked for their models.
        done: Whose models have been judged.
        results: Metrics by site with the data, then by owner of the model.
    """

    submitted: bool = False
    done: tuple[str, ...] = ()
    results: dict[str, dict[str, dict[str, float]]] = attrs.field(factory=dict)


@attrs.frozen
class Tasks:
    """How scripts are asked.

    Attributes:
        submit: What a site is asked for its own model; None: it is not asked.
        evaluate: How a model is judged.
        meta: What scripts find in the ``meta`` of every model.
    """

    submit: TaskKind | None
    evaluate: TaskKind
    meta: Mapping[str, Any] = attrs.field(factory=dict)


def tasks_for(meta: Mapping[str, Any], *, evaluates: bool, submits: bool) -> Tasks:
    """Ask scripts for what they are known to handle.

    One that hands over no model is asked to train from the final model once more, and what it sends is the site's
    model. One that does not evaluate, either: what it measures on the model that it receives is taken, and the model
    that it makes is not.
    """
    return Tasks("submit_model" if submits else "train", "evaluate" if evaluates else "train", meta)


class CrossSiteEvaluation:
    """The rounds of a cross-site evaluation, of which each is committed.

    Args:
        federation: The sites.
        settings: Who takes part.
        tasks: How scripts are asked.
        commit: Ends a round: its number, how far things are, whether its updates are needed later.
    """

    def __init__(
        self,
        federation: Federation,
        settings: CrossSite,
        tasks: Tasks,
        commit: Callable[[int, Judged, bool], None],
    ) -> None:
        self._federation = federation
        self._settings = settings
        self._tasks = tasks
        self._commit = commit
        self._sites = taking_part(federation.sites, settings.sites)

    def run(self, number: int, judged: Judged, *, final_is_best: bool = False) -> Judged:
        """Go on from what is known, beginning with round *number*, to the end."""
        only_final = self._settings.only_final
        if self._tasks.submit is not None and not only_final and not judged.submitted:
            within = self._settings.submit_model_timeout
            meta = dict(self._tasks.meta)
            result = self._federation.collect(number, self._tasks.submit, sites=self._sites, meta=meta, within=within)
            _say(result, "sends no model of its own")
            for update in result.updates:
                if not update.model.header.tensors:
                    log.warning("cross-site evaluation: %s has no model of its own", update.site)
            judged = attrs.evolve(judged, submitted=True)
            self._commit(number, judged, True)
            number += 1
        for owner, write in self._models(final_is_best):
            if owner not in judged.done:
                judged = self._judge(number, judged, owner, write)
                self._commit(number, judged, False)
                number += 1
        if final_is_best and not only_final:
            results = {site: {**found, BEST: found[FINAL]} for site, found in judged.results.items() if FINAL in found}
            judged = attrs.evolve(judged, results={**judged.results, **results})
        return judged

    def _models(self, final_is_best: bool) -> Iterator[tuple[str, Callable[[Path], bool]]]:
        """Owners of models, and what writes each to a file, unless it is the committed one."""
        federation = self._federation
        if federation.model is not None:
            yield FINAL, lambda _: False
        if self._settings.only_final:
            return
        if federation.best_model is not None and not final_is_best:
            best = federation.best_model
            yield BEST, lambda into: _copied(best, into)
        for update in federation.kept:
            if not update.model.header.tensors:
                continue  # a site without a model of its own
            yield update.site, lambda into, update=update: self._of_site(update, into)  # type: ignore[misc]

    def _of_site(self, update: Update, into: Path) -> bool:
        """A site's own model; a change is one of the final model."""
        base = self._federation.model
        if update.params_type == "FULL" and (base is None or not base.header.same_layout(update.model.header)):
            return _copied(update.model, into)
        WeightedMean().aggregate([attrs.evolve(update, weight=1.0)], base, into)
        return True

    def _judge(self, number: int, judged: Judged, owner: str, write: Callable[[Path], bool]) -> Judged:
        file = self._federation.folder / f"judged.{number}.safetensors"
        file.unlink(missing_ok=True)
        meta = {**self._tasks.meta, MetaKey.MODEL_OWNER: owner}
        result = self._federation.collect(
            number, self._tasks.evaluate, sites=self._sites, model=file if write(file) else None, meta=meta,
            within=self._settings.validation_timeout,
        )  # fmt: skip
        _say(result, f"does not judge the model of {owner}")
        results = {site: dict(found) for site, found in judged.results.items()}
        for update in result.updates:
            if not update.metrics:
                raise JobError(
                    f"{update.site} sent no metrics for the model of {owner}: it cannot be judged there",
                    hint="have the script send metrics of the received model: with its update, or if "
                    "flare.is_evaluate()",
                )
            results.setdefault(update.site, {})[owner] = dict(update.metrics)
        return attrs.evolve(judged, done=(*judged.done, owner), results=results)


def taking_part(sites: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """The sites of a cross-site evaluation, in site order.

    Raises:
        JobError: None of those that are wanted takes part in the job.
    """
    found = [site for site in sites if not wanted or site in wanted]
    if absent := [site for site in wanted if site not in sites]:
        log.warning("cross-site evaluation: %s: no part in the job", ", ".join(absent))
    if not found:
        raise JobError("cross_site_evaluation.sites: none of them takes part in the job", hint="name other sites")
    return found


def _copied(model: TensorFile, into: Path) -> bool:
    write_tensors(into, model)
    return True


def _say(result: RoundResult, what: str) -> None:
    for site, why in result.missing.items():
        log.warning("cross-site evaluation: %s %s: %s", site, what, why)
