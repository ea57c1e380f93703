"""Making a round survive power loss: the model's file first, then its row."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs

from flpoc.errors import FlpocError, ServiceError
from flpoc.models.handover import sync
from flpoc.server.files import JobFiles
from flpoc.server.models import Model
from flpoc.server.rounds import RoundRecords
from flpoc.wire.controller_messages import Commit

#: Seconds after which something that a full disk prevented is tried again.
AGAIN_AFTER = 5.0


@attrs.frozen
class Commitment:
    """A round on its way to the disk.

    Attributes:
        commit: What the controller said.
        model: Its model, taken already; None as long as there is none.
        trained: Sites whose updates are in it, with their weights.
        failures: Sites that take no further part, and why.
        expected: Sites that the job wants in every round.
        partial: Whether the round has fewer, and the job does not allow that.
        means: What trackers are to show of the round.
        best: The file of the best model so far; None if there is none.
        state_file: The file that the aggregator needs; None if there is none.
    """

    commit: Commit
    model: Model | None
    trained: dict[str, float]
    failures: dict[str, str]
    expected: tuple[str, ...]
    partial: bool
    means: dict[str, float]
    best: Path | None
    state_file: Path | None

    @property
    def files(self) -> list[Path]:
        """The files that are needed from now on."""
        model = self.model.path if self.model is not None else None
        return [path for path in (model, self.best, self.state_file) if path is not None]


async def until_done(
    act: Callable[[], Awaitable[None]], stopping: asyncio.Event, trouble: Callable[[Exception], object]
) -> bool:
    """Write something, again and again while the disk is full; false if *stopping* comes first."""
    while True:
        try:
            await act()
            return True
        except ServiceError:
            return False
        except (FlpocError, OSError, sqlite3.Error) as error:
            trouble(error)
        with contextlib.suppress(TimeoutError):  # nothing announces that there is room again
            await asyncio.wait_for(stopping.wait(), AGAIN_AFTER)
        if stopping.is_set():
            return False


async def write(
    what: Commitment,
    records: RoundRecords,
    files: JobFiles,
    *,
    keep_rounds: bool,
    stopping: asyncio.Event,
    trouble: Callable[[Exception], object],
) -> bool:
    """Write a commitment; false if the run stops first, then the controller asks the next server again."""

    async def act() -> None:
        for path in what.files:
            await asyncio.to_thread(sync, path)
        if what.means:  # before the commit: a round that is committed is not committed again
            await records.means(what.commit.round, what.means)
        best, state_file = (one.name if one is not None else "" for one in (what.best, what.state_file))
        await records.commit(
            what.commit, what.trained, what.failures, what.expected,
            partial=what.partial, best=best, state_file=state_file,
        )  # fmt: skip

    if not await until_done(act, stopping, trouble):
        return False
    await asyncio.to_thread(_sweep, what, files, keep_rounds)
    return True


def _sweep(what: Commitment, files: JobFiles, keep_rounds: bool) -> None:
    """Delete what the committed round has made superfluous."""
    if not what.commit.keep:
        files.drop_updates(what.commit.round)
    files.drop_models({*what.files}, what.commit.round, earlier=not keep_rounds)
