"""Showing metrics and events where people look at them.

Trackers and listeners run in the *courier*, a process beside the server: they
may be slow, fail or hang, and training goes on. What they have not taken yet
waits in the server's database, also while the server is down.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import attrs

#: What a :class:`RunEvent` tells.
EventKind = Literal[
    "submitted",
    "dispatched",
    "running",
    "round-committed",
    "site-joined",
    "site-failed",
    "site-lost",
    "site-rejected",
    "finished",
]


@attrs.frozen
class TrackerSpec:
    """A tracker that a job wants, by its name.

    Attributes:
        name: Name of an installed tracker.
        settings: Its settings; what they mean is up to the tracker.
    """

    name: str
    settings: dict[str, Any] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        if not self.name or len(self.name) > 128:
            raise ValueError(f"name: {self.name[:80]!r} is not the name of a tracker")


@attrs.frozen
class Metric:
    """One number that a script logged, or the mean of a round.

    Attributes:
        job: The job's id.
        site: Who logged it; ``server`` for the mean over the sites of what they sent with their updates.
        key: Its name: at most 200 printable characters.
        value: A finite number.
        step: Where on the script's own axis, None if it did not say.
        round: 0-based round; None outside a round.
        time: Seconds since 1970, the site's clock.
    """

    job: str
    site: str
    key: str
    value: float
    step: int | None
    round: int | None
    time: float


@attrs.frozen
class TrackedJob:
    """The job whose metrics a tracker gets.

    Attributes:
        id: The job's id; the same whenever a tracker is made for this job again.
        name: Its name, for people.
        study: The study it belongs to.
        run: Counts the runs of this job, from 1.
        rounds: How many rounds it has.
        sites: Which sites take part.
        submitter: Name of the user who submitted it.
    """

    id: str
    name: str
    study: str
    run: int
    rounds: int
    sites: tuple[str, ...]
    submitter: str


@attrs.frozen
class RunEvent:
    """Something that happened in a job; after ``finished`` comes nothing more of it, unless it is run again.

    Attributes:
        job: The job's id.
        kind: What happened.
        time: When, seconds since 1970, the server's clock.
        site: Which site, for the kinds that begin with ``site-``.
        round: 0-based round, where there is one.
        detail: ``submitted``: ``name`` and ``by``. ``dispatched``: ``sites``. ``round-committed``: ``metrics`` and
            ``sites``, whose updates are in it. ``site-failed``, ``site-lost``, ``site-rejected``: ``reason``.
            ``finished``: ``status``, and ``cause`` if it failed.
    """

    job: str
    kind: EventKind
    time: float
    site: str = ""
    round: int | None = None
    detail: dict[str, Any] = attrs.field(factory=dict)


class Tracker(ABC):
    """A place where metrics are shown.

    One is made for each job that names it, with the settings that the job
    says. They come from whoever may submit jobs: what only the server's
    operator may decide, such as paths and passwords, belongs into the
    environment of the server.

    Everything is called from one thread. After a failure of the courier or
    the server another tracker is made for the same job, and goes on where the
    last :meth:`write` returned.
    """

    def open(self, job: TrackedJob) -> None:
        """Hear whose metrics will come; called first, and again by whoever goes on later."""

    @abstractmethod
    def write(self, metrics: Sequence[Metric]) -> None:
        """Take metrics, those of a site in the order in which it logged them.

        Return once they are safe: they are not given again then. Whatever is
        raised is logged, and the same metrics are given again after a pause
        that grows to a minute; so they are if the process dies meanwhile. A
        write that takes more than ten minutes counts as hung: the process is
        killed and started again.
        """

    def close(self) -> None:
        """The job has ended, and all it logged is written.

        What is raised is logged and that is all. Numbers that come late
        nevertheless, from a site that was cut off, are given to a new tracker.
        """
