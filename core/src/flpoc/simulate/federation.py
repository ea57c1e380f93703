"""The simulated sites as a workflow sees them, with what a server knows of a job."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from flpoc.aggregating import Aggregator, Update
from flpoc.errors import IntegrityError
from flpoc.jobs.spec import JobSpec
from flpoc.jobs.states import Cause
from flpoc.models.tensors import TensorFile, write_tensors
from flpoc.runner.making import check_alike
from flpoc.server.judging import check_kind, check_layout, has_model, nothing_came, rejected
from flpoc.simulate.ledger import Ledger, write_metrics
from flpoc.simulate.messages import Stage
from flpoc.simulate.repeating import keep
from flpoc.simulate.showing import Shown
from flpoc.simulate.tasks import Answer, Heard, Pool, SiteTask
from flpoc.simulate.updates import RoundFiles
from flpoc.wire.trainer_messages import Give
from flpoc.wire.vocabulary import DONE, Finished, TaskKind
from flpoc.workflows import Federation, RoundResult


class JobFailedError(Exception):
    """The job has failed, and this is why."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause.message)
        self.cause = cause


@attrs.define
class _Round:
    """The round that is open."""

    number: int
    files: RoundFiles
    asked: set[str] = attrs.field(factory=set)
    received: dict[str, Update] = attrs.field(factory=dict)
    evaluates: set[str] = attrs.field(factory=set)
    submits: set[str] = attrs.field(factory=set)


class SimulatedFederation(Federation):
    """The sites of a simulated job.

    Args:
        job: The job.
        sites: Its sites, in site order.
        code: The folder of its code.
        folder: Where everything is kept while it runs.
        pool: What performs tasks.
        stage_of: How a site's script is started.
        plugins: Plugins that may be loaded, by name.
        shown: The job's trackers.
        committed: Told of every round.
        tried: The folder that gets a copy of every update; None: they are not wanted.
    """

    kept: tuple[Update, ...]

    def __init__(
        self, job: JobSpec, sites: tuple[str, ...], *, code: Path, folder: Path, pool: Pool,
        stage_of: Callable[[str], Stage], plugins: tuple[str, ...], shown: Shown,
        committed: Callable[[int, dict[str, float]], None], tried: Path | None = None,
    ) -> None:  # fmt: skip
        self.job, self.sites, self.code, self.plugins = job, sites, code, plugins
        self.next_round, self.state, self.model, self.kept = 0, b"", None, ()
        self.aggregator: Aggregator
        #: The job's trackers.
        self.shown = shown
        self.folder = folder / "controller"
        self._models, self._updates = folder / "models", folder / "updates"
        #: The round from which there is something that a site's script has kept.
        self._kept_of: dict[str, int] = {}
        self._kept = folder / "kept"
        for one in (self.folder, self._models, self._updates):
            one.mkdir(mode=0o700)
        self._pool, self._stage_of, self._told, self._tried = pool, stage_of, committed, tried
        self.ledger = Ledger(folder / "ledger.jsonl")
        self.logged = folder / "site_metrics.jsonl"
        self._failures: dict[str, str] = {}
        self._first_cause: Cause | None = None
        self._round = self._open(0)
        self._path: Path | None = None
        self._handed: TensorFile | None = None
        #: What is known at the end.
        self.best: Path | None = None
        self.rounds: list[dict[str, Any]] = []
        self.metrics: dict[str, float] = {}
        self.reports: dict[str, Any] = {}
        self.partial = self.finished = False

    @property
    def round_now(self) -> int:
        """The round that is open."""
        return self._round.number

    @property
    def final(self) -> Path | None:
        """The file of the committed model."""
        return self._path

    def committed_models(self) -> list[Path]:
        """The files of the models of all rounds that are kept, named by round."""
        return [path for path in self._models.glob("*.safetensors") if path.stem.isdigit()]

    def _open(self, number: int) -> _Round:
        return _Round(number, RoundFiles(self._updates))

    # -- what a workflow asks for

    def start_from(self, path: Path) -> None:
        # written anew: canonical, and without what else the file may carry
        model = self.folder / "initial.safetensors"
        model.unlink(missing_ok=True)
        with TensorFile.open(path) as tensors:
            write_tensors(model, tensors)
        self.commit(-1, model, b"", {})

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
        wanted = None if sites is None else set(sites)
        asked = [one for one in self.sites if wanted is None or one in wanted]
        result = self._ask(round_number, kind, asked, model=model, meta=dict(meta or {}), within=within)
        given = self.model if model is None else self._handed
        if kind != "evaluate" and not (self.job.partial and given is not None):
            check_alike(result.updates, kind)
        return result

    def visit(
        self,
        round_number: int,
        site: str,
        model: Path | None,
        later: Sequence[str],
        *,
        meta: Mapping[str, Any] | None = None,
    ) -> RoundResult:
        return self._ask(round_number, "train", [site], model=model, meta=dict(meta or {}), later=later)

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
        if round_number not in (self._round.number, -1 if self._path is None else self._round.number):
            raise IntegrityError(f"commit of round {round_number}; {self._round.number} is open")
        if best and self._path is not None:
            self.best, self.best_model = self._path, self.model
        if model is not None:
            self._replace_model(round_number, model)
            if (beside := self.aggregator.state_file()) is not None:
                beside.unlink(missing_ok=True)  # the aggregator has it open, and is not started again
        if model is not None and round_number >= 0:
            self._write_down(round_number, metrics)
        self._close_round(keep)
        self.state = state
        self._round = self._open(round_number + 1)

    def finish(
        self, metrics: dict[str, float], *, best: bool = False, reports: Mapping[str, Any] | None = None
    ) -> None:
        said = Finished(metrics, best, dict(reports or {}))
        if best and self._path is not None:
            self.best = self._path
        self.metrics = said.metrics or self.metrics
        if said.metrics:
            self.shown.means(self._round.number, said.metrics)
        self.reports = said.reports
        self.finished = True

    # -- a round

    def _ask(
        self, number: int, kind: TaskKind, asked: Sequence[str], *, model: Path | None,
        meta: dict[str, Any] | None = None, later: Sequence[str] = (), within: float | None = None,
    ) -> RoundResult:  # fmt: skip
        if number != self._round.number:
            raise IntegrityError(f"round {number} was asked for; {self._round.number} is next")
        now = self._round
        path = self._path if model is None else self._hand_over(number, model)
        given = self.model if model is None else self._handed
        now.asked |= {*asked, *later}
        now.files.expect(len(now.asked))
        text = "" if path is None or given is None else str(path)

        def task_of(site: str) -> SiteTask:
            kept = str(self._kept / f"{site}.{self._kept_of[site]}") if site in self._kept_of else ""
            return SiteTask(self._stage_of(site), Give(number, kind, text, meta or {}, kept))

        owing = [site for site in asked if site not in now.received and site not in self._failures]
        late = []
        deadline = self.job.timeouts.round_deadline if within is None else within
        for answer in self._performed(owing, task_of, deadline):
            if answer.status == "answered":
                self._received(answer, kind, given)
            elif answer.status == "late":
                late.append(answer.site)
            else:
                assert answer.cause is not None
                self._site_lost(answer.site, answer.status, answer.cause)
        if within is None:
            self._check_quorum(asked, later)
        for site in late:
            self.ledger.note(number, site, "late", reason="round_deadline")
        return self._result(asked)

    def _performed(
        self, sites: Sequence[str], task_of: Callable[[str], SiteTask], deadline: float | None
    ) -> Iterator[Answer]:
        with contextlib.closing(self._pool.perform(sites, task_of, deadline)) as came:
            for one in came:
                if isinstance(one, Heard):
                    self.heard(one)
                else:
                    yield one

    def heard(self, one: Heard) -> None:
        """Keep what a site has logged."""
        write_metrics(self.logged, one.site, one.logged.rows)
        self.shown.heard(one.site, one.logged.rows)

    def _hand_over(self, number: int, model: Path) -> Path:
        """Take the model of a task; the one before is needed by nobody any more."""
        path = self._models / f"handed.{number}.{model.name}"
        if model.exists():  # the same model is given again where several tasks are about it
            for older in self._models.glob("handed.*"):
                older.unlink()
            model.rename(path)
        self._handed = TensorFile.open(path)
        return path

    def _received(self, answer: Answer, kind: TaskKind, given: TensorFile | None) -> None:
        submit, now, site = answer.submit, self._round, answer.site
        assert submit is not None
        if self._tried is not None and kind == "train":
            keep(self._tried, now.number, site, self._updates / submit.file, submit)
        try:
            model = now.files.take(submit.file)
            check_kind(submit.kind, kind)
            if has_model(submit.kind, model.header):
                header = None if given is None else given.header
                check_layout(model.header, submit.params_type, header, known=True, partial=self.job.partial)
        except IntegrityError as error:
            self._site_lost(site, "rejected", rejected(site, now.number, error.message))
            return
        now.received[site] = Update(site, submit.weight, model, submit.params_type, submit.metrics, submit.meta)
        now.evaluates |= {site} if submit.evaluates else set()
        now.submits |= {site} if submit.submits else set()
        if submit.state:
            if site in self._kept_of:
                shutil.rmtree(self._kept / f"{site}.{self._kept_of[site]}", ignore_errors=True)
            self._kept_of[site] = now.number
        self.ledger.note(now.number, site, DONE[submit.kind], weight=submit.weight)

    def _site_lost(self, site: str, status: str, cause: Cause) -> None:
        cause = cause.cut()
        self._failures[site] = f"{status}: {cause.message}"
        self._first_cause = self._first_cause or cause
        self.ledger.note(self._round.number, site, status, reason=cause.message)
        if len(self.sites) - len(self._failures) < self._quorum:
            raise JobFailedError(self._first_cause)

    @property
    def _quorum(self) -> int:
        """How many updates close a round: all, if the job does not say."""
        return self.job.quorum if self.job.quorum is not None else len(self.sites)

    def _check_quorum(self, asked: Sequence[str], later: Sequence[str]) -> None:
        now = self._round
        here = {*now.received, *(site for site in later if site not in self._failures)}
        if len(here) < min(self._quorum, len({*here, *asked, *later})):
            raise JobFailedError(nothing_came(now.number, [site for site in asked if site not in now.received]))

    def _result(self, asked: Sequence[str]) -> RoundResult:
        now = self._round
        came = [site for site in asked if site in now.received]
        return RoundResult(
            updates=tuple(now.received[site] for site in came),
            missing={site: self._failures.get(site, "late") for site in asked if site not in now.received},
            evaluates=bool(came) and all(site in now.evaluates for site in came),
            submits=bool(came) and all(site in now.submits for site in came),
        )

    # -- its end

    def _replace_model(self, number: int, model: Path) -> None:
        path, before = self._models / f"{number}.safetensors", self._path
        model.rename(path)
        self.model, self._path = TensorFile.open(path), path
        needed = before == self.best or (self.job.keep_rounds and number > 0)
        if before is not None and not needed:
            before.unlink()
        # a model that was the best until now
        for other in self._models.glob("*.safetensors") if not self.job.keep_rounds else ():
            if other not in (path, self.best):
                other.unlink()

    def _write_down(self, number: int, metrics: dict[str, float]) -> None:
        now = self._round
        for site in now.asked - set(now.received):
            if not self.ledger.has(number, site):
                status, _, reason = self._failures.get(site, "late: round_deadline").partition(": ")
                self.ledger.note(number, site, status, reason=reason)
        short = bool(now.asked - set(now.received))
        self.partial = self.partial or (short and self.job.quorum is None)
        self.metrics = metrics
        self.rounds.append({"round": number, "metrics": metrics})
        self.shown.means(number, metrics)
        self._told(number, metrics)

    def _close_round(self, keep: bool) -> None:
        now = self._round
        if keep:
            self.kept += tuple(now.received[site] for site in self.sites if site in now.received)
        else:
            now.files.close()
        self._handed = None
