"""What a job's script keeps from round to round: a folder for each answer, until a newer one is counted.

Which of them holds is for the server to say: an answer that was not counted
must leave no trace. Nothing in them is read here; they belong to the job.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from flpoc.errors import IntegrityError
from flpoc.jobs.attempts import Attempt
from flpoc.wire.trainer_messages import STATE_FOLDER


class Keepsakes:
    """The folders of one job.

    Args:
        folder: Where they are: each is called ROUND.ATTEMPT.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, attempt: Attempt, round_number: int) -> None:
        """Take what an attempt wants kept with its answer to a round, before that is taken (blocking).

        Raises:
            IntegrityError: It is not there, or no folder.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        into = self._folder / f"{round_number}.{attempt.number}"
        if into.is_dir():
            return  # taken before, by an agent that did not come to say so
        for older in self._folder.glob(f"{round_number}.*"):
            shutil.rmtree(older)
        try:
            _move(Path(attempt.folder), str(round_number), into)
        except OSError as error:
            raise IntegrityError(
                f"what the script wants to keep cannot be taken: {error.strerror}",
                hint="leave flare.state_dir() in place",
            ) from None

    def current(self, counted: int) -> str:
        """The folder that holds for a task; empty if there is none.

        Args:
            counted: The newest round in which an answer of this site was counted.
        """
        found = max((one for one in self._rounds() if one <= counted), default=None)
        return "" if found is None else str(next(self._folder.glob(f"{found}.*")))

    def drop(self, counted: int, wanted: int | None) -> None:
        """Delete what can never hold any more (blocking); *wanted* is the round that is open, if that is known."""
        newest = max((one for one in self._rounds() if one <= counted), default=-1)
        for number in self._rounds():
            if number < newest or (wanted is not None and counted < number < wanted):
                for path in self._folder.glob(f"{number}.*"):
                    shutil.rmtree(path, ignore_errors=True)

    def _rounds(self) -> set[int]:
        return {int(path.name.partition(".")[0]) for path in self._folder.glob("*.*")}


def _move(attempt: Path, name: str, into: Path) -> None:
    """Move a folder out of an attempt's, whose process may put links in its place at any moment."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    outer = os.open(attempt, flags)
    try:
        inner = os.open(STATE_FOLDER, flags, dir_fd=outer)
    finally:
        os.close(outer)
    try:
        os.rename(name, into, src_dir_fd=inner)
    finally:
        os.close(inner)
    if not stat.S_ISDIR(into.lstat().st_mode):
        into.unlink()
        raise NotADirectoryError(20, "it is no folder")
