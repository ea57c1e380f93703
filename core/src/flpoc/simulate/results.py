"""Where a simulation works, and the folder of results that it leaves."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from flpoc.server.result_files import LOGGED_NAME, Results

if TYPE_CHECKING:
    from flpoc.simulate.federation import SimulatedFederation

_LOCK = "lock"


class Workspace:
    """The working folder of one simulation; what it leaves takes the place of what the last one has left.

    Args:
        root: The folder in which results are.
        name: Name of the job.
    """

    def __init__(self, root: Path, name: str) -> None:
        self._root, self._name = root, name

    def __enter__(self) -> Workspace:
        for left in self._root.glob(f".{self._name}.*.part"):
            _delete_if_left(left)
        self.folder = Path(tempfile.mkdtemp(prefix=f".{self._name}.", suffix=".part", dir=self._root))
        self._lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)

    def made(self, name: str) -> Path:
        """A new folder in it."""
        path = self.folder / name
        path.mkdir(mode=0o700)
        return path

    def keep(self, federation: SimulatedFederation, *, complete: bool) -> Path:
        """Write the results and put them in their place; gives the folder.

        Those of a job that is not complete stand beside those of the last complete one.
        """
        results = self.made("results")
        more = {}
        if federation.logged.exists():
            federation.logged.rename(results / LOGGED_NAME)
            more = {"site_metrics": LOGGED_NAME}
        Results(
            federation.final, federation.best, tuple(federation.rounds), federation.ledger.rows(), federation.metrics,
            federation.reports, more,
        ).write(results)  # fmt: skip
        if federation.job.keep_rounds:
            for path in federation.committed_models():
                os.link(path, results / f"round_{path.name}")
        logs = self.folder / "logs"
        for log in logs.iterdir():
            if not log.stat().st_size and log.name != "server.log":
                log.unlink()
        logs.rename(results / "logs")
        return self._put(results, self._root / (self._name if complete else f"{self._name}.failed"))

    def _put(self, results: Path, target: Path) -> Path:
        while True:
            old = self.folder / "old"
            with contextlib.suppress(FileNotFoundError):
                target.rename(old)
            try:
                results.rename(target)
                return target
            except OSError:  # another simulation of the same name was faster
                if not target.exists():
                    raise
            shutil.rmtree(old, ignore_errors=True)


def _delete_if_left(folder: Path) -> None:
    """Delete what a simulation has left that was killed."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return
    else:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)
