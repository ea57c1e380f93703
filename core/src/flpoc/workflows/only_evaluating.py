"""The workflow ``cross_site_evaluation``: models are judged everywhere, and nothing is trained."""

from __future__ import annotations

import msgspec

from flpoc.errors import JobError
from flpoc.workflows import Federation, Workflow
from flpoc.workflows.cross_site import REPORT, CrossSiteEvaluation, Judged, Tasks
from flpoc.workflows.settings import CrossSiteSettings
from flpoc.workflows.starting import Start


class OnlyEvaluating(Workflow):
    """The server's model, and one of each site, are judged by all sites.

    Scripts are given ``evaluate`` tasks, and before that, unless
    ``site_models`` is false, one task ``submit_model``.
    """

    def __init__(self, settings: CrossSiteSettings) -> None:
        self._settings = settings

    def run(self, federation: Federation) -> None:
        settings, judged = self._settings, Judged()
        start = Start(federation, settings.initial_checkpoint, settings.persistor)
        if federation.state:
            judged = msgspec.msgpack.decode(federation.state, type=Judged)
        start.begin()
        if federation.model is None and not settings.site_models:
            raise JobError(
                "cross_site_evaluation: there is no model to judge",
                hint="give the job an initial_model, or leave site_models = true",
            )

        def commit(number: int, judged: Judged, keep: bool) -> None:
            federation.commit(number, None, msgspec.msgpack.encode(judged), {}, keep=keep)

        tasks = Tasks("submit_model" if settings.site_models else None, "evaluate", settings.task_meta)
        evaluation = CrossSiteEvaluation(federation, settings.cross_site, tasks, commit)
        judged = evaluation.run(federation.next_round, judged)
        if not judged.done:
            raise JobError(
                "cross_site_evaluation: there is no model to judge: no site has sent one",
                hint="have scripts send theirs if flare.is_submit_model(), or give the job an initial_model",
            )
        federation.finish({}, reports={REPORT: judged.results})
