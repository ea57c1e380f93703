"""A job without machines: sites that exist only in memory, and a server that can be killed at every call.

A workflow runs against :class:`Rehearsal` as it does in a controller. What a
real server refuses is refused here, too, with an ``AssertionError`` that says
what was wrong.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from flpoc.aggregating import Aggregator, Update
from flpoc.jobs.spec import JobSpec, ScriptSpec
from flpoc.models.checksums import checksum_file, sha256_file
from flpoc.models.tensors import TensorFile, write_tensors
from flpoc.workflows import Federation, RoundResult, Workflow
from flpoc.workflows.mean import WeightedMean

if TYPE_CHECKING:
    from flpoc.wire.vocabulary import TaskKind

#: A workflow's state goes into a message and a database, with every round.
MOST_STATE = 1 << 20


@attrs.frozen
class Task:
    """What a site of the rehearsal is asked.

    Attributes:
        site: Who is asked.
        round: In which round.
        kind: ``train``, ``evaluate`` or ``submit_model``.
        model: The arrays that come with it; None if there is no model yet.
        meta: What the workflow adds.
    """

    site: str
    round: int
    kind: TaskKind
    model: dict[str, Any] | None
    meta: dict[str, Any]


@attrs.frozen
class Reply:
    """What a site of the rehearsal sends.

    Attributes:
        params: Arrays by name; None for an evaluation.
        metrics: Numbers about the model that came with the task.
        weight: How much it counts.
        params_type: ``FULL`` or ``DIFF``.
        meta: What else it says.
    """

    params: Mapping[str, Any] | None = None
    metrics: dict[str, float] = attrs.field(factory=dict)
    weight: float = 1.0
    params_type: str = "FULL"
    meta: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class Commit:
    """A round that was committed.

    Attributes:
        round: Its number.
        made: Whether a new model came of it.
        sha256: Of the model that there is from then on; empty if there is none.
        metrics: Numbers about the model that the round began with.
        best: Whether that one is the best so far.
        keep: Whether its updates are needed later.
    """

    round: int
    made: bool
    sha256: str
    metrics: dict[str, float]
    best: bool
    keep: bool


@attrs.frozen
class End:
    """What the workflow said at its end."""

    metrics: dict[str, float]
    best: bool
    reports: dict[str, Any]


@attrs.frozen
class _Received:
    """An update as it came."""

    update: Update
    path: Path
    checksum: str
    words: str


#: What a site does; None: it sends nothing, and takes no further part.
Script = Callable[[Task], Reply | None]
#: Whether a controller is killed at a call: its number, and what is called.
Kill = Callable[[int, str], bool]


def adding(task: Task) -> Reply:
    """Add the number of the site to every element; accuracy grows with the model, and the weight with the site."""
    number = int(task.site.rpartition("-")[2])
    start = task.model["w"] if task.model is not None else np.zeros(3)
    metrics = {"accuracy": float(start.sum()) / 100, "loss": 1 / (1 + float(start.sum()))}
    if task.kind == "evaluate":
        return Reply(metrics=metrics)
    return Reply({"w": start + number}, metrics, weight=float(number))


def adding_changes(task: Task) -> Reply:
    """The same as changes of the received model, once there is one."""
    reply = adding(task)
    if task.model is None or reply.params is None:
        return reply
    return attrs.evolve(reply, params={"w": reply.params["w"] - task.model["w"]}, params_type="DIFF")


def never(number: int, call: str) -> bool:
    """Let a controller live."""
    del number, call
    return False


class KilledError(BaseException):
    """The controller is killed here; a workflow must not catch it."""


def job(**settings: Any) -> JobSpec:
    """A job of three rounds; *settings* are those of :class:`~flpoc.jobs.spec.JobSpec`."""
    return JobSpec(**{"name": "rehearsal", "scripts": {"@default": ScriptSpec("train.py")}, "rounds": 3, **settings})


class Rehearsal:
    """What a server and its sites know of a job; it outlives the controllers.

    Args:
        folder: Where everything is kept.
        spec: The job.
        script: What the sites do.
        sites: Who takes part, in site order.
        aggregator: Makes the aggregator, anew for every controller.
        code: The job's code.
        evaluates: Whether the scripts handle evaluation.
        submits: Whether they hand over models of their own.

    Attributes:
        tasks: All that sites were asked, in order; what was answered before is not asked again.
        commits: All rounds, in order.
        end: What the workflow said at its end; None before.
        calls: How many calls the last controller has made.
    """

    def __init__(
        self,
        folder: Path,
        spec: JobSpec | None = None,
        script: Script = adding,
        *,
        sites: Sequence[str] = ("site-1", "site-2", "site-3"),
        aggregator: Callable[[], Aggregator] = WeightedMean,
        code: Path | None = None,
        evaluates: bool = True,
        submits: bool = False,
    ) -> None:
        self.folder = folder
        self.spec = spec or job()
        self.script = script
        self.sites = tuple(sites)
        self.make_aggregator = aggregator
        self.code = code or folder
        self.evaluates, self.submits = evaluates, submits
        self.tasks: list[Task] = []
        self.commits: list[Commit] = []
        self.end: End | None = None
        self.calls = 0
        self.state = b""
        self.next_round = 0
        self.model: Path | None = None
        self.best: Path | None = None
        self.state_file: Path | None = None
        self.kept: list[Update] = []
        self.lost: dict[str, str] = {}
        self.answers: dict[str, tuple[Any, Update]] = {}
        self.attempts = 0
        self.received: list[_Received] = []

    def run(self, make: Callable[[], Workflow]) -> Rehearsal:
        """Let a controller run to the end."""
        self.attempt(make())
        assert self.end is not None, "the workflow has come back without calling finish"
        return self

    def attempt(self, workflow: Workflow, kill: Kill | None = None, *, after: bool = False) -> None:
        """Let one controller run, and kill it at the first call for which *kill* says so, before it is made or *after*.

        Args:
            workflow: What it runs.
            kill: Given the number of a call, from 0 on, and what is called; None: the controller lives.
            after: The call has been made, but the controller does not hear of it any more.
        """
        self.attempts += 1
        folder = self.folder / f"attempt-{self.attempts}"
        folder.mkdir(parents=True)
        try:
            workflow.run(self.federation(folder, kill or never, after=after))
        except KilledError:
            return

    def federation(self, folder: Path, kill: Kill, *, after: bool) -> Rehearsed:
        """What one controller sees."""
        return Rehearsed(self, folder, kill, after=after)

    def touched(self) -> str:
        """What has become of updates that should be as they came; empty if they are."""
        for one in self.received:
            if checksum_file(one.path) != one.checksum:
                return f"the file of {one.update.site} was changed"
            if _words(one.update) != one.words:
                return f"what {one.update.site} said was changed"
        return ""

    @property
    def outcome(self) -> tuple[Any, ...]:
        """All that must not depend on what was killed when."""
        files = (sha256_file(path) if path is not None else "" for path in (self.model, self.best))
        return (*self.commits, self.end, *files)

    @property
    def arrays(self) -> dict[str, Any]:
        """The committed model."""
        assert self.model is not None, "there is no model"
        return TensorFile.open(self.model).arrays()


class Rehearsed(Federation):
    """The rehearsal as one controller sees it."""

    def __init__(self, known: Rehearsal, folder: Path, kill: Kill, *, after: bool) -> None:
        self._known = known
        self._kill, self._after = kill, after
        self._handed: dict[Path, Path] = {}
        self.job, self.sites, self.next_round, self.state = known.spec, known.sites, known.next_round, known.state
        self.model = _opened(known.model)
        self.best_model = _opened(known.best)
        self.kept = tuple(known.kept)
        self.folder, self.code = folder, known.code
        self.aggregator = known.make_aggregator()
        if known.state_file is not None:
            self.aggregator.restore_file(TensorFile.open(known.state_file))
        known.calls = 0

    def _called(self, what: str, act: Callable[[], Any]) -> Any:
        assert self._known.end is None, "the workflow goes on after finish"
        number, self._known.calls = self._known.calls, self._known.calls + 1
        killed = self._kill(number, what)
        if killed and not self._after:
            raise KilledError
        result = act()
        if killed:
            raise KilledError
        return result

    def start_from(self, path: Path) -> None:
        def act() -> None:
            assert self._known.model is None, "start_from: there is a model already"
            assert self._known.next_round == 0, "start_from: not before the first round"
            copy = self.folder / "initial.safetensors"
            with TensorFile.open(path) as tensors:
                write_tensors(copy, tensors)
            self._take(copy, "initial")

        self._called("start_from", act)

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
        asked = list(self._known.sites if sites is None else sites)
        assert asked, f"round {round_number}: nobody is asked"
        assert set(asked) <= set(self._known.sites), f"round {round_number}: {sorted(asked)} are not all in the job"
        order = [site for site in self._known.sites if site in asked]

        def act() -> RoundResult:
            return self._asked(round_number, kind, order, model=model, meta=dict(meta or {}))

        found: RoundResult = self._called("collect", act)
        return found

    def visit(
        self,
        round_number: int,
        site: str,
        model: Path | None,
        later: Sequence[str],
        *,
        meta: Mapping[str, Any] | None = None,
    ) -> RoundResult:
        def act() -> RoundResult:
            return self._asked(round_number, "train", [site], model=model, meta=dict(meta or {}), later=later)

        found: RoundResult = self._called("visit", act)
        return found

    def _asked(
        self,
        number: int,
        kind: TaskKind,
        sites: list[str],
        *,
        model: Path | None,
        meta: dict[str, Any],
        later: Sequence[str] = (),
    ) -> RoundResult:
        known = self._known
        assert number == known.next_round, f"round {number} was asked for; {known.next_round} is open"
        assert json.loads(json.dumps(meta)) == meta, "meta is not plain JSON data"
        given = known.model
        if model is not None:
            given = self._taken(model, f"handed.{number}")
        key = (number, kind, sha256_file(given) if given is not None else "", json.dumps(meta, sort_keys=True))
        for site in sites:
            if site in known.answers:
                assert known.answers[site][0] == key, f"round {number}: {site} was asked something else before"
            elif site not in known.lost:
                self._ask(
                    Task(site, number, kind, None if given is None else TensorFile.open(given).arrays(), meta), key
                )
        here = [site for site in sites if site in known.answers]
        self._check_quorum(number, sites, later)
        missing = {site: known.lost.get(site, "late: round_deadline") for site in sites if site not in here}
        updates = tuple(known.answers[site][1] for site in here)
        return RoundResult(updates, missing, known.evaluates and bool(here), known.submits and bool(here))

    def _check_quorum(self, number: int, sites: Sequence[str], later: Sequence[str]) -> None:
        known = self._known
        quorum = known.spec.quorum if known.spec.quorum is not None else len(known.sites)
        here = {*known.answers, *(site for site in later if site not in known.lost)}
        enough = len(here) >= min(quorum, len({*here, *sites, *later}))
        assert enough, f"round {number}: too few answers; the job has failed"

    def _ask(self, task: Task, key: Any) -> None:
        known = self._known
        known.tasks.append(task)
        reply = known.script(task)
        if reply is None:
            known.lost[task.site] = "failed: it sends nothing"
            return
        path = known.folder / f"update.{task.round}.{task.site}.safetensors"
        write_tensors(path, reply.params or {})
        said = (reply.params_type, dict(reply.metrics), dict(reply.meta))
        update = Update(task.site, reply.weight, TensorFile.open(path), *said)
        known.received.append(_Received(update, path, checksum_file(path), _words(update)))
        known.answers[task.site] = (key, update)

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
        def act() -> None:
            known = self._known
            assert round_number == known.next_round, f"commit of round {round_number}; {known.next_round} is open"
            assert isinstance(state, bytes), f"the state is {type(state).__name__}, not bytes"
            assert len(state) <= MOST_STATE, f"the state has {len(state)} bytes; {MOST_STATE} are allowed"
            _check_metrics(metrics)
            assert not best or known.model is not None, f"round {round_number}: the best model is none at all"
            known.best = known.model if best else known.best
            if model is not None:
                self._take(model, f"model.{round_number}")
            known.state, known.next_round = state, round_number + 1
            known.kept += [update for _, update in known.answers.values()] if keep else []
            known.answers = {}
            digest = sha256_file(known.model) if known.model is not None else ""
            known.commits.append(Commit(round_number, model is not None, digest, dict(metrics), best, keep))
            self.model, self.best_model, self.kept = _opened(known.model), _opened(known.best), tuple(known.kept)

        self._called("commit", act)

    def _take(self, model: Path, name: str) -> None:
        known = self._known
        known.model = self._taken(model, name)
        self.model = TensorFile.open(known.model)
        file = self.aggregator.state_file()
        if file is not None and file.exists():
            known.state_file = self._taken(file, f"{name}.state")

    def _taken(self, file: Path, name: str) -> Path:
        """Take a file out of the workflow's folder; one that was taken in this round may be named again."""
        assert file.parent == self.folder, f"{file} is not in the folder of the workflow"
        before = self._handed.pop(file, None)
        taken = self._known.folder / name
        if file.exists():
            TensorFile.open(file).close()
            file.rename(taken)
        else:
            assert before is not None, f"{file} is not there"
            before.rename(taken)
        self._handed[file] = taken
        return taken

    def finish(
        self, metrics: dict[str, float], *, best: bool = False, reports: Mapping[str, Any] | None = None
    ) -> None:
        def act() -> None:
            known = self._known
            _check_metrics(metrics)
            found = dict(reports or {})
            assert json.loads(json.dumps(found, allow_nan=False)) == found, "the reports are not plain JSON data"
            known.best = known.model if best else known.best
            known.end = End(dict(metrics), best, found)

        self._called("finish", act)


def _check_metrics(metrics: dict[str, float]) -> None:
    for name, number in metrics.items():
        assert isinstance(number, (int, float)), f"metric {name!r} is {type(number).__name__}"
        assert math.isfinite(number), f"metric {name!r} is {number}"


def _words(update: Update) -> str:
    return repr((update.site, update.weight, update.params_type, sorted(update.metrics.items()), update.meta))


def _opened(path: Path | None) -> TensorFile | None:
    return TensorFile.open(path) if path is not None else None
