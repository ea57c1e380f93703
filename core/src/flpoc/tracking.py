"""Showing metrics and events where people look at them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import attrs


@attrs.frozen
class Metric:
    """One number that a script logged.

    Attributes:
        job: The job's id.
        site: Who logged it.
        key: Its name.
        value: A finite number.
        step: Where on the script's own axis, None if it did not say.
        round: 0-based round.
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
class RunEvent:
    """Something that happened in a job: a state, a round, a failure."""

    job: str
    kind: str
    site: str = ""
    round: int | None = None
    detail: dict[str, Any] = attrs.field(factory=dict)


class Tracker(ABC):
    """A place where metrics are shown; runs in the courier, so it may be slow or fail without harm."""

    @abstractmethod
    def write(self, metrics: Sequence[Metric]) -> None:
        """Take metrics, in the order they came; called again with the same ones after a failure."""

    def close(self) -> None:
        """The job has ended; nothing more comes."""
