"""Tasks of simulated sites, their answers, and what performs them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Literal

import attrs

from flpoc.jobs.states import Cause
from flpoc.simulate.messages import Stage
from flpoc.wire.trainer_messages import Give, Logged, Submit


@attrs.frozen
class SiteTask:
    """What one site has to do in one round."""

    stage: Stage
    give: Give

    @property
    def site(self) -> str:
        return self.stage.start.site


@attrs.frozen
class Answer:
    """What came of a task.

    Attributes:
        site: Whose it was.
        status: ``answered``; ``failed``: the site can do nothing more; ``lost``: it makes no progress; ``late``.
        submit: What it answered; ``file`` is a name in the folder of updates.
        cause: Why there is no answer.
    """

    site: str
    status: Literal["answered", "failed", "lost", "late"]
    submit: Submit | None = None
    cause: Cause | None = None


@attrs.frozen
class Heard:
    """Numbers that a site has logged."""

    site: str
    logged: Logged


class Pool(ABC):
    """What performs tasks."""

    @abstractmethod
    def perform(
        self, sites: Sequence[str], task_of: Callable[[str], SiteTask], deadline: float | None
    ) -> Generator[Answer | Heard, None, None]:
        """Have each site do its task; gives what came of each as it comes, in any order.

        Args:
            sites: Who has one.
            task_of: Its task; asked for when it begins.
            deadline: Seconds after which those that are not answered are late; None for no limit.
        """

    @abstractmethod
    def close(self, *, grace: float) -> Iterator[Heard]:
        """End everything: scripts that wait for tasks are told that there are none, and get *grace* seconds."""
