"""A simulation in the calling process: one thread, one task after the other, so that breakpoints work."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from flpoc.jobs.processes import GPUS
from flpoc.simulate.passing import Gates, cause_of
from flpoc.simulate.pool import PoolPlan, log_tail
from flpoc.simulate.staging import Scripts, SimulatedOwner
from flpoc.simulate.tasks import Answer, Heard, Pool, SiteTask
from flpoc.wire.endings import Ending
from flpoc.wire.trainer_messages import Failed, Logged, Submit


class InlinePool(Pool):
    """Runs the script anew for every task, in the main thread of this process.

    Output stays where it is. A script that ends its process ends the
    simulation, and none is ended when it is late.
    """

    def __init__(self, settings: PoolPlan) -> None:
        self._settings = settings
        self._scripts = Scripts()
        self._folder = settings.folder / "0"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def perform(
        self, sites: Sequence[str], task_of: Callable[[str], SiteTask], deadline: float | None
    ) -> Generator[Answer | Heard, None, None]:
        until = None if deadline is None else time.monotonic() + deadline
        for site in sites:
            if until is not None and time.monotonic() >= until:
                yield Answer(site, "late")
            else:
                yield from self._do(task_of(site))

    def _do(self, task: SiteTask) -> Iterator[Answer | Heard]:
        before = os.environ.get(GPUS)
        if self._settings.gpus:
            os.environ[GPUS] = ",".join(self._settings.gpus[0])
        try:
            yield from perform_here(
                task, self._scripts, self._folder, self._settings.updates, self._settings.gates, tail=False
            )
        finally:
            if self._settings.gpus:
                os.environ.pop(GPUS)
                os.environ.update({GPUS: before} if before is not None else {})

    def close(self, *, grace: float) -> Iterator[Heard]:
        del grace
        for name, module in list(sys.modules.items()):  # another job may have modules of the same names
            if str(getattr(module, "__file__", None) or "").startswith(f"{self._settings.code}{os.sep}"):
                del sys.modules[name]
        yield from ()


def perform_here(
    task: SiteTask, scripts: Scripts, folder: Path, updates: Path, gates: Path, *, tail: bool = True
) -> Iterator[Answer | Heard]:
    """Perform a task in this process.

    Args:
        task: The task.
        scripts: Runs its script.
        folder: Where the script runs.
        updates: Where answers go.
        gates: Where filters work.
        tail: Whether the site's log has what it prints.
    """
    said: list[Any] = []
    owner = SimulatedOwner(said.append, folder, updates, task.stage, Gates(gates, said.append))
    code = scripts.run(task.stage, task.give, owner)
    yield from (Heard(task.site, one) for one in said if isinstance(one, Logged))
    submit = next((one for one in said if isinstance(one, Submit)), None)
    if submit is not None and code == 0:
        yield Answer(task.site, "answered", submit)
        return
    if submit is not None:
        (updates / submit.file).unlink(missing_ok=True)
    failed = next((one for one in said if isinstance(one, Failed)), None)
    lines = log_tail(Path(task.stage.log)) if tail else ()
    round_number = task.give.round if owner.calls else None
    yield Answer(task.site, "failed", cause=cause_of(task.site, failed, Ending(code), round_number, lines))
