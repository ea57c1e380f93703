"""``python -m flpoc.runner.controller``: runs the workflow of one job."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from flpoc.aggregating import Aggregator, Update
from flpoc.client.blame import blame
from flpoc.errors import FlpocError, IntegrityError
from flpoc.models.tensors import TensorFile, checksum_file, write_tensors
from flpoc.plugins import Plugins
from flpoc.runner.making import check_alike, made
from flpoc.wire.controller_messages import TO_CONTROLLER, Assign, Closed, Commit, Committed, ControllerStart, SiteUpdate
from flpoc.wire.owner import Owner
from flpoc.wire.trainer_messages import LocalHello, Over
from flpoc.wire.vocabulary import Finished, TaskKind
from flpoc.workflows import Federation, RoundResult, Workflow


class Controller(Federation):
    """The federation as seen from the controller's process."""

    plugins: tuple[str, ...]
    kept: tuple[Update, ...]
    #: The round committed last.
    _last: int

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._start: ControllerStart | None = None
        self._closed: Closed | None = None
        self._committed = -1
        self._over = False
        self._initial: Path | None = None
        self._round = 0
        self._asked: Assign | None = None
        self._handed = _Named()
        self._updates: tuple[Update, ...] = ()
        self.folder = Path(os.environ["FLPOC_TOKEN_FILE"]).parent
        self.model: TensorFile | None = None
        self._owner = Owner(TO_CONTROLLER, LocalHello, self._take)
        self._owner.start()
        with self._news:
            self._news.wait_for(lambda: self._start is not None)
        assert self._start is not None
        start = self._start
        self.job, self.sites, self.code, self.plugins = start.spec, start.sites, Path(start.code), start.plugins
        committed = start.committed
        self.next_round = committed.round + 1 if committed is not None else 0
        self.state = committed.state if committed is not None else b""
        self._committed = self._last = self.next_round - 1
        self.kept = tuple(map(_update, start.kept))
        self.checkpoints = tuple(map(Path, start.checkpoints))
        self.aggregator: Aggregator
        self._state_file: TensorFile | None = None
        if committed is not None:
            self.model = _opened(committed.model)
            self.best_model = _opened(committed.best)
            self._state_file = _opened(committed.state_file)

    def _take(self, message: Any) -> None:
        with self._news:
            match message:
                case ControllerStart():
                    self._start = self._start or message
                case Closed() if self._is_answer(message):
                    self._closed = message
                    self._owner.settle("assign")
                case Committed():
                    self._committed = max(self._committed, message.round)
                    self._owner.settle(f"commit {message.round}")
                case Over():
                    self._over = True
            self._news.notify_all()

    def _is_answer(self, closed: Closed) -> bool:
        """Whether it is about what was asked last: after a break, an answer may come twice."""
        asked, told = self._asked, {*closed.missing, *(one.site for one in closed.updates)}
        return asked is not None and closed.round == asked.round and told == set(asked.sites)

    @property
    def round_now(self) -> int:
        return self._round

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
        named = _Named() if model is None else self._named(model)
        given = self.model if named.tensors is None else named.tensors
        asked = tuple(self.sites if sites is None else [one for one in self.sites if one in set(sites)])
        handed = (named.file, named.size, named.checksum)
        result = self._ask(Assign(round_number, kind, asked, given is not None, (), *handed, dict(meta or {}), within))
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
        named = _Named() if model is None else self._named(model)
        given = self.model if named.tensors is None else named.tensors
        handed = (named.file, named.size, named.checksum)
        later = tuple(later)
        result = self._ask(Assign(round_number, "train", (site,), given is not None, later, *handed, dict(meta or {})))
        if given is not None and not self.job.partial:
            for update in result.updates:
                if difference := given.header.same_layout(update.model.header):
                    raise IntegrityError(f"{site} sent other tensors than it received: {difference}")
        return result

    def _ask(self, assign: Assign) -> RoundResult:
        self._round = assign.round
        with self._news:
            self._asked, self._closed = assign, None
        self._owner.request("assign", assign)
        with self._news:
            self._news.wait_for(lambda: self._over or self._closed is not None)
            closed = self._closed
        if closed is None:
            raise _JobOver
        self._updates = updates = tuple(map(_update, closed.updates))
        evaluates, submits = (
            bool(updates) and all(getattr(one, what) for one in closed.updates) for what in ("evaluates", "submits")
        )
        return RoundResult(updates, closed.missing, evaluates, submits)

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
        named = _Named() if model is None else self._named(model)
        moments = self._moments() if model is not None else _Named()
        message = Commit(
            round_number, named.file, named.size, named.checksum, state, metrics, best, keep,
            moments.file, moments.size, moments.checksum,
        )  # fmt: skip
        self._owner.request(f"commit {round_number}", message)
        self._last = round_number
        self.kept += self._updates if keep else ()
        self.best_model = self.model if best else self.best_model
        if model is not None:
            self.model = named.tensors

    def _moments(self) -> _Named:
        """What the aggregator has made beside the model."""
        path = self.aggregator.state_file()
        if path is None or not path.exists():
            return _Named()
        return _Named(path.name, path.stat().st_size, checksum_file(path))

    def prepare(self, aggregator: Aggregator) -> None:
        """Take the aggregator, with what its last committed round has kept in a file."""
        self.aggregator = aggregator
        if self._state_file is not None:
            aggregator.restore_file(self._state_file)

    def _named(self, model: Path) -> _Named:
        """A model as the server is told of it; one that was handed over is not in its place any more."""
        if self._handed.file != model.name or model.exists():
            tensors = TensorFile.open(model)
            self._handed = _Named(model.name, model.stat().st_size, checksum_file(model), tensors)
        return self._handed

    def finish(
        self, metrics: dict[str, float], *, best: bool = False, reports: Mapping[str, Any] | None = None
    ) -> None:
        with self._news:
            self._news.wait_for(lambda: self._over or self._committed >= self._last)
        self._owner.request("finish", Finished(metrics, best, dict(reports or {})))
        with self._news:
            self._news.wait_for(lambda: self._over)

    def failed(self, error: BaseException) -> None:
        self._owner.send(blame(error, round_number=self._round, phase="aggregating", plugins=self.plugins))

    def close(self) -> None:
        self._owner.close()


@attrs.frozen
class _Named:
    """A model file, as it was when it was handed over."""

    file: str = ""
    size: int = 0
    checksum: str = ""
    tensors: TensorFile | None = None


class _JobOver(BaseException):
    """The job has ended while the workflow was waiting: leave."""


def _opened(path: str) -> TensorFile | None:
    return TensorFile.open(Path(path)) if path else None


def _update(update: SiteUpdate) -> Update:
    model = TensorFile.open(Path(update.path))
    return Update(update.site, update.weight, model, update.params_type, update.metrics, update.meta)


def main() -> int:
    controller = Controller()
    try:
        plugins = Plugins.of_kit(controller.plugins)
        job = controller.job
        controller.prepare(made(plugins, "aggregators", job.aggregator, job.aggregator_settings, Aggregator))
        workflow = made(plugins, "workflows", job.workflow, job.workflow_settings, Workflow)
        workflow.run(controller)
    except _JobOver:
        return 0
    except Exception as error:  # noqa: BLE001 - whatever a workflow raises is the job's first cause
        if not isinstance(error, FlpocError):
            traceback.print_exc()
        else:
            print(error.message, file=sys.stderr)
        controller.failed(error)
        return 1
    finally:
        controller.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
