"""What a run has made so far: the committed model, and what its controller needs with it to go on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from flpoc.cancelling import in_thread
from flpoc.server.files import JobFiles
from flpoc.server.models import Model, load_model, same_model, take_model, take_state
from flpoc.server.rounds import RoundRecords
from flpoc.wire.controller_messages import Commit, CommittedRound, SiteUpdate


class Lineage:
    """The models of a run, from the one it began with to the last.

    Attributes:
        model: The last that the controller has made; None as long as there is none.
        best: The file of the best so far; None if there is none.
        state_file: The file that the aggregator needs besides; None if there is none.
        kept: Updates of committed rounds that the workflow needs until the end.
        committed: The last round that is on the disk; -1 if there is none.
        counted: The newest committed round that an answer of a site was counted in, by site.
    """

    def __init__(self, files: JobFiles, records: RoundRecords) -> None:
        self.model: Model | None = None
        self.best: Path | None = None
        self.state_file: Path | None = None
        self.kept: tuple[SiteUpdate, ...] = ()
        self.committed = -1
        self.counted: dict[str, int] = {}
        self._state = b""
        self._files = files
        self._records = records

    async def restore(self) -> int:
        """Take up what a former server has committed; gives the round that comes next."""
        last = await self._records.last_commit()
        self.counted = await self._records.counted()
        if last is None:
            return 0
        path = self._files.model(last.round, last.checksum)
        if last.checksum:
            self.model = await asyncio.to_thread(load_model, last.round, path, last.size, last.checksum)
        self.committed, self._state = last.round, last.state
        self.best = path.with_name(last.best) if last.best else None
        self.state_file = path.with_name(last.state_file) if last.state_file else None
        self.kept = tuple(
            row.as_site_update(self._files.update(number, row.site, row.checksum))
            for number, row in await self._records.kept()
        )
        return last.round + 1

    def last_is_best(self) -> None:
        """The last model, if there is one, is better than all before."""
        if self.model is not None:
            self.best = self.model.path

    async def take(
        self, commit: Commit, folder: Path, received: Mapping[str, SiteUpdate], sites: Sequence[str]
    ) -> Commit:
        """Take what the controller has made of a round out of its *folder*; gives the commit with what it is called.

        Args:
            commit: What the controller said.
            folder: Where it has put its files.
            received: The updates of the round.
            sites: All sites of the job, in order.
        """
        if commit.best:
            self.last_is_best()
        self.model, commit = await self._model_of(commit, folder)
        if commit.state_file:
            into = self._files.state(commit.round, commit.state_checksum)
            self.state_file = await in_thread(take_state, commit, folder, into)
        self.counted.update(dict.fromkeys(received, commit.round))
        if commit.keep:
            self.kept += tuple(received[site] for site in sites if site in received)
        self._state = commit.state
        return commit

    async def _model_of(self, commit: Commit, folder: Path) -> tuple[Model | None, Commit]:
        """A new model, or the one that there is, if any."""
        if commit.file:
            path = self._files.model(commit.round, commit.checksum)
            return await in_thread(take_model, commit, folder, path), commit
        if self.model is None:
            return None, commit
        ref = self.model.ref
        path = self._files.model(commit.round, ref.checksum)
        model = await in_thread(same_model, self.model, commit.round, path)
        return model, attrs.evolve(commit, size=ref.size, checksum=ref.checksum)

    def before(self, round_number: int) -> CommittedRound | None:
        """What a controller that goes on with this round is told of the one before; None if there is nothing."""
        if self.model is None and round_number == 0:
            return None
        files = (self.model.path if self.model is not None else None, self.best, self.state_file)
        model, best, state_file = (str(path) if path is not None else "" for path in files)
        return CommittedRound(round_number - 1, model, self._state, best, state_file)
