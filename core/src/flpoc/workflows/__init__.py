"""The course of a job: which tasks go to whom, what is made of the answers, when it ends.

A workflow runs in the job's controller. It sees the sites through a
:class:`Federation` and may be stopped at any instant: the next controller
begins with what was committed last.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from flpoc.aggregating import Aggregator, Update
    from flpoc.jobs.spec import JobSpec
    from flpoc.models.tensors import TensorFile
    from flpoc.wire.vocabulary import TaskKind


@attrs.frozen
class RoundResult:
    """A closed round.

    Attributes:
        updates: What came, in site order.
        missing: Sites that sent nothing, and why.
        evaluates: Whether every script that answered also handles evaluation.
        submits: Whether every script that answered also hands over models of its own.
    """

    updates: tuple[Update, ...]
    missing: dict[str, str]
    evaluates: bool
    submits: bool = False


class Federation(ABC):
    """The sites of one job, as a workflow sees them."""

    job: JobSpec
    #: Sites that take part, in site order.
    sites: Sequence[str]
    #: The round to begin with: 0, or the one after the last committed.
    next_round: int
    #: What the last commit kept for the workflow; empty at the beginning.
    state: bytes
    #: The committed model, mapped; None before there is one.
    model: TensorFile | None
    #: The best model so far, mapped, as commits have said; None before one was said to be.
    best_model: TensorFile | None = None
    #: Updates of the rounds that were committed with ``keep``, in order of rounds and sites; also after a restart.
    kept: Sequence[Update]
    aggregator: Aggregator
    #: Where the workflow may make files; emptied with the attempt.
    folder: Path
    #: The job's code.
    code: Path
    #: Plugins that may be loaded, by name.
    plugins: Sequence[str] = ()
    #: Folders with checkpoints that jobs may start from; None: anywhere, in a simulation of one's own.
    checkpoints: Sequence[Path] | None = None

    @abstractmethod
    def start_from(self, path: Path) -> None:
        """Give the sites this model in the first round instead of none; not after a commit."""

    @abstractmethod
    def collect(
        self,
        round_number: int,
        kind: TaskKind,
        *,
        sites: Sequence[str] | None = None,
        model: Path | None = None,
        meta: Mapping[str, Any] | None = None,
        within: float | None = None,
    ) -> RoundResult:
        """Give sites a task; wait until the round is closed.

        Args:
            round_number: The round; the one after the last that was committed.
            kind: ``train``, ``evaluate``, or ``submit_model`` for a model of the site's own.
            sites: Who is asked; None for all.
            model: What the task is about, a file in :attr:`folder` that is taken away; None for the committed model.
            meta: Plain JSON data that scripts find in the ``meta`` of the model.
            within: Seconds after which the round is closed with those who have answered, however few; None: as the
                job's time-outs and quorum say.

        Returns:
            What came. Updates that answer ``evaluate`` have no tensors; nor has that of a site that answers
            ``submit_model`` and has no model of its own.
        """

    def visit(
        self,
        round_number: int,
        site: str,
        model: Path | None,
        later: Sequence[str],
        *,
        meta: Mapping[str, Any] | None = None,
    ) -> RoundResult:
        """Have one site train, and wait for it: for rounds in which sites are asked one after the other.

        What a site has sent is safe as soon as this returns, but only a commit ends the round. A controller that is
        started again makes the same visits again; those that were answered are answered at once.

        Args:
            round_number: The round.
            site: Who is asked; once a round.
            model: What it trains from, a file that is taken away; None for the committed model.
            later: Who else is asked in this round.
            meta: Plain JSON data that the script finds in the ``meta`` of the model.

        Returns:
            Its update, or why there is none.
        """
        raise NotImplementedError

    @abstractmethod
    def commit(
        self,
        round_number: int,
        model: Path | None,
        state: bytes,
        metrics: dict[str, float],
        *,
        best: bool = False,
        keep: bool = False,
    ) -> None:
        """End a round; returns at once, the next round may begin.

        Args:
            round_number: The round.
            model: The model that came of it, a file in :attr:`folder` that is taken away, and with it what
                :meth:`Aggregator.state_file` gives; None if the model stays as it was, as in a round of evaluation,
                which then counts for nobody.
            state: What :attr:`state` is to be if the controller is started again.
            metrics: Numbers about the model that the round began with.
            best: That model is the best so far.
            keep: The updates of this round are needed later, as :attr:`kept`.
        """

    @abstractmethod
    def finish(
        self, metrics: dict[str, float], *, best: bool = False, reports: Mapping[str, Any] | None = None
    ) -> None:
        """The job has come to its end, at any round; returns when everything is committed.

        Args:
            metrics: Numbers about the last model.
            best: The last model is the best.
            reports: Plain JSON data by file name, to be found among the job's results.
        """


class Workflow(ABC):
    """The course of a job."""

    @abstractmethod
    def run(self, federation: Federation) -> None:
        """Take the job from :attr:`Federation.next_round` to its end."""
