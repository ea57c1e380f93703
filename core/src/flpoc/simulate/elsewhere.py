"""Tasks that a plugin has performed elsewhere: one call of :func:`work` each."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

import attrs

from flpoc.jobs.states import Cause
from flpoc.settings import parse_json, plain, structure
from flpoc.simulate.inline import perform_here
from flpoc.simulate.order import log_as
from flpoc.simulate.pool import PoolPlan
from flpoc.simulate.staging import Scripts
from flpoc.simulate.tasks import Answer, Heard, Pool, SiteTask
from flpoc.simulate.worker import output_in
from flpoc.simulating import Simulator

# what a process that performs one task after the other keeps: its scripts, compiled
_scripts = Scripts()


@attrs.frozen
class _Sent:
    """A task on its way: what is to be done, and where files go."""

    task: SiteTask
    folder: str
    updates: str
    gates: str
    log_config: str


@attrs.frozen
class _Came:
    """What came of it."""

    answer: Answer
    heard: tuple[Heard, ...]


def work(text: str) -> str:
    """Perform a task in this process; gives what came of it."""
    sent = structure(parse_json(text.encode(), "task"), _Sent)
    with tempfile.TemporaryDirectory(dir=sent.folder) as folder, output_in(Path(sent.task.stage.log)):
        log_as(sent.log_config)
        heard: list[Heard] = []
        answer: Answer | None = None
        places = (Path(folder), Path(sent.updates), Path(sent.gates))
        for one in perform_here(sent.task, _scripts, *places):
            if isinstance(one, Heard):
                heard.append(one)
            else:
                answer = one
        assert answer is not None
    return json.dumps(plain(_Came(answer, tuple(heard))))


class ElsewherePool(Pool):
    """Has a plugin perform the tasks."""

    def __init__(self, simulator: Simulator, name: str, log_config: str, settings: PoolPlan) -> None:
        self._simulator = simulator
        self._name = name
        self._log_config = log_config
        self._settings = settings

    def perform(
        self, sites: Sequence[str], task_of: Callable[[str], SiteTask], deadline: float | None
    ) -> Generator[Answer | Heard, None, None]:
        until = None if deadline is None else time.monotonic() + deadline
        waiting = dict.fromkeys(sites)
        tasks = (self._sent(task_of(site)) for site in sites)
        for text in self._simulator.perform(work, tasks):
            came = structure(parse_json(text.encode(), self._name), _Came)
            if came.answer.site not in waiting:
                continue
            del waiting[came.answer.site]
            yield from came.heard
            if until is None or time.monotonic() < until:
                yield came.answer
            else:
                yield Answer(came.answer.site, "late")
        for site in waiting:
            message = f"the simulator {self._name!r} has given no answer"
            yield Answer(site, "lost", cause=Cause(site=site, phase="training", message=message))

    def _sent(self, task: SiteTask) -> str:
        settings = self._settings
        places = (str(settings.folder), str(settings.updates), str(settings.gates))
        return json.dumps(plain(_Sent(task, *places, self._log_config)))

    def close(self, *, grace: float) -> Iterator[Heard]:
        del grace
        self._simulator.close()
        yield from ()
