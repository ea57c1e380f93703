"""What a site's filters make of a simulated update, in the worker that has it."""

from __future__ import annotations

import hashlib
import shutil
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from flpoc.jobs.states import Cause
from flpoc.plugins import Plugins
from flpoc.simulate.messages import Stage
from flpoc.wire.endings import Ending, cause_of_end
from flpoc.wire.trainer_messages import Failed, Give, Submit

#: What the site does when a filter fails.
PHASE = "filtering"


class WithheldError(BaseException):
    """A filter has refused: nothing leaves the site, and its script is over. Not for the script to catch."""


class Gates:
    """The gates of the sites that a worker is.

    Args:
        folder: Where filters keep what they keep, and work.
        say: Tells the engine.
    """

    def __init__(self, folder: Path, say: Callable[[Any], None]) -> None:
        self._folder = folder
        self._say = say
        self._plugins: Plugins | None = None

    def passed(self, stage: Stage, task: Give | None, path: Path, submit: Submit) -> tuple[Path, Submit]:
        """Let an update pass the filters of its site; gives what may leave.

        Raises:
            WithheldError: Nothing may.
        """
        from flpoc.simulate.gate import SimulatedGate
        from flpoc.site.gate_messages import Apply, Begin

        start = stage.start
        self._plugins = self._plugins or Plugins.of_kit(start.plugins)
        state = self._folder / start.site
        # it follows from the job alone, so that a simulation can be repeated: this protects nobody
        secret = hashlib.sha256(f"{start.seed}|{start.site}".encode()).digest()
        gate = SimulatedGate(Begin(start.site, start.plugins, str(state), secret), self._plugins)
        work = state / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(mode=0o700, parents=True)
        try:
            passed = gate.apply(
                Apply(
                    job=start.job, run=start.run, round=submit.round, kind=submit.kind,
                    params_type=submit.params_type, weight=submit.weight, filters=stage.filters, update=str(path),
                    size=submit.size, checksum=submit.checksum, received=task.path if task is not None else "",
                    work=str(work),
                )
            )  # fmt: skip
        except BaseException as error:
            traceback.print_exc()
            said = gate.stopped(error)
            message = f"filter {said.filter!r}: {said.message}" if said.filter else said.message
            self._say(Failed(said.exception, message, said.file, said.line, submit.round, PHASE, said.hint))
            raise WithheldError from error
        return work / passed.file, attrs.evolve(submit, size=passed.size, checksum=passed.checksum)


def cause_of(site: str, said: Failed | None, ending: Ending, round_number: int | None, tail: tuple[str, ...]) -> Cause:
    """Why a site has failed whose script has ended; one whose update was withheld did not fail by itself."""
    if said is not None and said.phase == PHASE:
        ending, tail = Ending(None), ()
    return cause_of_end(site, said, ending, round_number, tail)
