"""Trackers of a simulated job: they get what a courier would give them, as rounds end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from flpoc.jobs.spec import JobSpec
from flpoc.plugins import Plugins
from flpoc.runner.making import made
from flpoc.tracking import Metric, TrackedJob, Tracker
from flpoc.wire.vocabulary import MetricRow

#: Whose metrics the means over the sites are.
_MEANS = "server"

log = logging.getLogger("flpoc.simulate")


class Shown:
    """What trackers have still to be given; one that fails is given it again later, and never fails the job.

    Args:
        plugins: What is installed.
        job: The job.
        sites: Who takes part.

    Raises:
        FlpocError: A tracker cannot be made.
    """

    def __init__(self, plugins: Plugins, job: JobSpec, sites: tuple[str, ...]) -> None:
        self._job = job
        self._waiting: list[tuple[Tracker, list[Metric]]] = [
            (made(plugins, "trackers", one.name, one.settings, Tracker), []) for one in job.tracking
        ]
        about = TrackedJob(job.name, job.name, job.study, 1, job.rounds, sites, "")
        for tracker, _ in self._waiting:
            self._guarded(tracker, tracker.open, about)

    def heard(self, site: str, rows: Sequence[MetricRow]) -> None:
        """A site has logged numbers."""
        self._add([Metric(self._job.name, site, one.key, one.value, one.step, one.round, one.time) for one in rows])

    def means(self, round_number: int, metrics: Mapping[str, float]) -> None:
        """What the sites sent with a round, in the mean; a good moment to write."""
        now = time.time()
        self._add([Metric(self._job.name, _MEANS, key, metrics[key], None, round_number, now) for key in metrics])
        self._write()

    def close(self) -> None:
        """The job has ended."""
        self._write()
        for tracker, _ in self._waiting:
            self._guarded(tracker, tracker.close)

    def _add(self, metrics: list[Metric]) -> None:
        for _, waiting in self._waiting:
            waiting.extend(metrics)

    def _write(self) -> None:
        for tracker, waiting in self._waiting:
            if waiting and self._guarded(tracker, tracker.write, tuple(waiting)):
                waiting.clear()

    def _guarded(self, tracker: Tracker, act: Callable[..., None], *given: object) -> bool:
        try:
            act(*given)
        except Exception:
            log.exception("tracker %s", type(tracker).__name__)
            return False
        return True
