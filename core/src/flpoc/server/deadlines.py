"""When somebody is too late: the three time-outs of a running job.

No time-out depends on how long something takes in all: ``stall`` and
``join_timeout`` are about progress, ``round_deadline`` is for those who want one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from flpoc.jobs.spec import TimeoutSpec


class Deadlines:
    """Wakes its owner when the next time-out may be over; one timer for a run, set anew as things move."""

    def __init__(self, limits: TimeoutSpec, late: Callable[[], None]) -> None:
        self.limits = limits
        self._late = late
        self._timer: asyncio.TimerHandle | None = None
        self._progress: dict[str, float] = {}
        self._opened = time.monotonic()
        self._within: float | None = None

    def open(self, sites: Iterable[str], within: float | None = None) -> None:
        """A round, or the joining, begins: everybody's clock starts anew; *within* stands for round_deadline."""
        self._opened = time.monotonic()
        self._within = within
        self._progress = dict.fromkeys(sites, self._opened)
        self.arm()

    def ask(self, sites: Iterable[str]) -> None:
        """More sites have something to do in the same round: the clocks of these start anew."""
        for site in sites:
            self.moved(site)
        self.arm()

    def moved(self, site: str) -> None:
        """There was progress at *site*."""
        self._progress[site] = time.monotonic()

    def quiet(self, site: str) -> float:
        """Seconds since the last progress at *site*."""
        return time.monotonic() - self._progress.get(site, self._opened)

    def stalled(self, site: str) -> bool:
        return self.quiet(site) >= self.limits.stall

    @property
    def join_is_over(self) -> bool:
        return time.monotonic() >= self._opened + self.limits.join_timeout

    @property
    def round_is_over(self) -> bool:
        limit = self._limit
        return limit is not None and time.monotonic() >= self._opened + limit

    @property
    def _limit(self) -> float | None:
        return self.limits.round_deadline if self._within is None else self._within

    def arm(self) -> None:
        """Set the timer to the earliest moment at which anybody can be late."""
        self.stop()
        moments = [self._opened + self.limits.join_timeout]
        moments += [moved + self.limits.stall for moved in self._progress.values()]
        if self._limit is not None:
            moments.append(self._opened + self._limit)
        now = time.monotonic()
        pause = min((moment - now for moment in moments if moment > now), default=self.limits.stall)
        self._timer = asyncio.get_running_loop().call_later(pause + 0.01, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._late()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
