"""What comes after training: the final model is judged, then all models, then the job is over."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from flpoc.workflows import Federation
from flpoc.workflows.cross_site import REPORT, CrossSiteEvaluation, Judged, Tasks
from flpoc.workflows.judging import Means, mean_metrics
from flpoc.workflows.settings import CrossSite


@attrs.frozen
class Ending:
    """How far the end of a job is.

    Attributes:
        evaluated: Whether the final model has been judged.
        metrics: What was found.
        is_best: Whether it is the best model.
        judged: How far the cross-site evaluation is.
    """

    evaluated: bool = False
    metrics: dict[str, float] = attrs.field(factory=dict)
    is_best: bool = False
    judged: Judged = attrs.field(factory=Judged)


class Finish:
    """The end of a job, from the first round after training on.

    Args:
        federation: The sites.
        tasks: How scripts are asked.
        cross_site: Who judges whose models; None for nobody.
        is_best: Whether metrics of the final model make it the best.
        encode: The workflow's state with this ending.
    """

    def __init__(
        self,
        federation: Federation,
        tasks: Tasks,
        cross_site: CrossSite | None,
        *,
        is_best: Callable[[Means], bool],
        encode: Callable[[Ending], bytes],
    ) -> None:
        self._federation = federation
        self._tasks = tasks
        self._settings = cross_site
        self._is_best = is_best
        self._encode = encode

    def run(self, number: int, ending: Ending, *, evaluate: bool) -> None:
        """Go on from *ending*, beginning with round *number*; *evaluate*: have the final model judged."""
        federation = self._federation
        if evaluate and not ending.evaluated:
            result = federation.collect(number, "evaluate", meta=dict(self._tasks.meta))
            metrics = mean_metrics(result.updates, federation.aggregator.weigh)
            ending = Ending(True, metrics, self._is_best(metrics))
            if self._settings is not None:
                federation.commit(number, None, self._encode(ending), metrics, best=ending.is_best)
                number += 1
        reports = {}
        if self._settings is not None:
            ending = self._judged(number, ending, self._settings)
            reports = {REPORT: ending.judged.results}
        federation.finish(ending.metrics, best=ending.is_best, reports=reports)

    def _judged(self, number: int, ending: Ending, settings: CrossSite) -> Ending:
        def commit(number: int, judged: Judged, keep: bool) -> None:
            state = self._encode(attrs.evolve(ending, judged=judged))
            self._federation.commit(number, None, state, ending.metrics, keep=keep)

        evaluation = CrossSiteEvaluation(self._federation, settings, self._tasks, commit)
        return attrs.evolve(ending, judged=evaluation.run(number, ending.judged, final_is_best=ending.is_best))
