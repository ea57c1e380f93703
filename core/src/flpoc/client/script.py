"""The script's side of a job: tasks in, updates out."""

from __future__ import annotations

import hashlib
import hmac
import math
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from flpoc.client.foreign import Adapters
from flpoc.errors import ResourceError, UsageError
from flpoc.models.flmodel import FLModel, MetaKey, ParamsType
from flpoc.wire.checks import MOST_META_BYTES, MOST_METRICS, as_metric_name
from flpoc.wire.job_messages import TO_TRAINER, Failed, Give, LocalHello, Logged, Over, Submit, Taken, TrainerStart
from flpoc.wire.messages import MetricRow
from flpoc.wire.owner import Owner

#: Seconds after which an update is written again that a full disk has refused.
ROOM_AGAIN = 2.0


class ScriptOwner(Protocol):
    """Whom a script answers: the site's agent behind its socket, or a simulator in the same process.

    It tells the script what there is by :meth:`Script.take`; it may do so
    from another thread, or before a request returns.
    """

    calls: int

    def request(self, key: str, message: Any) -> None:
        """Ask for something; it is asked for until :meth:`settle`."""

    def settle(self, key: str) -> None:
        """The request has been answered."""

    def send(self, message: Any) -> None:
        """Say something once; it may be lost."""

    def close(self) -> None:
        """Nothing more will be said."""


class Script:
    """One training script's part in a job.

    Args:
        owner: Whom it answers; None: the agent that started this process.
        folder: Where answers are written, absolute; None: the folder of this attempt.

    Raises:
        UsageError: There is no owner: the script was not started by flpoc.
    """

    def __init__(self, owner: ScriptOwner | None = None, folder: Path | None = None) -> None:
        if owner is None and not Owner.there():
            raise UsageError(
                "this script was not started by flpoc",
                hint="submit it as part of a job: `flpoc job submit -j FOLDER`",
            )
        self._folder = folder or Path(os.environ["FLPOC_TOKEN_FILE"]).parent
        self._news = threading.Condition()
        self._start: TrainerStart | None = None
        self._offered: Give | None = None
        self._current: Give | None = None
        self._model: FLModel | None = None
        self._received = self._sent = -1
        self._over = False
        self._evaluates = self._submits = False
        self._adapters: Adapters | None = None
        self.owner: ScriptOwner = self._agent() if owner is None else owner

    def _agent(self) -> ScriptOwner:
        """Connect, and wait until the agent has said what the job is."""
        agent = self.owner = Owner(TO_TRAINER, self._hello, self.take)
        agent.start()
        with self._news:
            self._news.wait_for(lambda: self._start is not None)
        return agent

    def _hello(self, token: bytes) -> LocalHello:
        return LocalHello(token, self._received, self._sent)

    def take(self, message: Any) -> None:
        """Take what the owner says: what the job is, a task, that an answer is safe, that there is no more."""
        with self._news:
            match message:
                case TrainerStart():
                    self._start = message
                case Give() if message.round > self._received:
                    self._offered = message
                    self._received = message.round
                case Taken():
                    self._sent = max(self._sent, message.round)
                    # by round: a second word about an earlier answer says nothing about the next
                    self.owner.settle(f"submit.{message.round}")
                case Over():
                    self._over = True
            self._news.notify_all()

    @property
    def start(self) -> TrainerStart:
        assert self._start is not None
        return self._start

    @property
    def task(self) -> Give | None:
        """The task at hand; None before the first and after the last."""
        return self._current

    def _await_task(self, timeout: float | None = None) -> Give | None:
        """The task at hand, or the next one; it stays at hand until it is answered, whatever comes meanwhile."""
        self.owner.calls += 1
        with self._news:
            if self._current is None:
                self._news.wait_for(lambda: self._offered is not None or self._over, timeout)
                self._current, self._offered = self._offered, None
            return self._current

    def is_running(self) -> bool:
        """Wait for the next task; false when there will be none."""
        return self._await_task() is not None

    def receive(self, timeout: float | None) -> FLModel | None:
        given = self._await_task(timeout)
        if given is None:
            return None
        if self._model is None:
            self._model = self._read(given)
        return self._model

    def _read(self, given: Give) -> FLModel:
        params: dict[str, Any] = {}
        if given.path:
            from flpoc.models.tensors import TensorFile

            with TensorFile.open(Path(given.path)) as tensors:
                params = tensors.arrays(writable=True)
        meta = {**given.meta, MetaKey.SITE_NAME: self.start.site, MetaKey.JOB_ID: self.start.job}
        return FLModel(
            params_type=ParamsType.FULL, params=params, current_round=given.round, total_rounds=self.start.total_rounds,
            meta=meta,
        )  # fmt: skip

    def send(self, model: FLModel) -> None:
        """Hand an update over; returns when it is safe with the agent."""
        self.owner.calls += 1
        given = self._current
        if given is None:
            raise UsageError("flare.send() without a task", hint="call flare.receive() first, and send once for each")
        if not isinstance(model, FLModel):
            raise UsageError(f"flare.send() takes an FLModel, not {type(model).__name__}")
        if self._offered is not None:
            print(f"flpoc: round {given.round + 1} was closed without this site", file=sys.stderr)
            self._done()
            return
        self._submit(model, given)
        self._done()

    def _done(self) -> None:
        with self._news:
            self._current = self._model = None

    def _submit(self, model: FLModel, given: Give) -> None:
        from flpoc.models.tensors import write_tensors

        name = f"update.{given.round}.safetensors"
        path = self._folder / name
        path.unlink(missing_ok=True)
        params = self._params(model, given)
        while True:
            try:
                written = write_tensors(path, params)
                break
            except ResourceError as error:
                if self._nobody_waits_after(ROOM_AGAIN, error.message):
                    return
        submit = Submit(
            given.round, given.kind, name, written.size, written.checksum, _weight(model), _params_type(model),
            finite_metrics(model.metrics or {}), _meta(model), self._evaluates, self._submits,
        )  # fmt: skip
        self.owner.request(f"submit.{given.round}", submit)
        with self._news:
            self._news.wait_for(lambda: self._sent >= given.round or self._over or self._offered is not None)
        self.owner.settle(f"submit.{given.round}")

    def _nobody_waits_after(self, seconds: float, why: str) -> bool:
        """Wait for room on the disk, which nobody announces; true if the round was closed meanwhile."""
        print(f"flpoc: {why}; tried again in {seconds:g} s", file=sys.stderr)
        with self._news:
            return self._news.wait_for(lambda: self._over or self._offered is not None, seconds)

    def _params(self, model: FLModel, given: Give) -> Mapping[str, Any]:
        if model.params is not None and not (isinstance(model.params, Mapping) and not model.params):
            if self._adapters is None:
                self._adapters = Adapters(self.start.plugins)
            return self._adapters.arrays(model.params)
        if given.kind != "evaluate":
            what = "a training result" if given.kind == "train" else "the site's own model"
            raise UsageError(f"round {given.round + 1}: flare.send() of {what} without params")
        if not model.metrics:
            raise UsageError(f"round {given.round + 1}: flare.send() of an evaluation without metrics")
        return {}

    def is_task(self, kind: str) -> bool:
        """Whether the task at hand is of this kind; asking tells that the script handles it."""
        self._evaluates = self._evaluates or kind == "evaluate"
        self._submits = self._submits or kind == "submit_model"
        given = self._await_task()
        return given is not None and given.kind == kind

    def log(self, key: str, value: float, step: int | None) -> None:
        self.owner.calls += 1
        number = finite_metrics({key: value})
        round_number = self._current.round if self._current is not None else None
        rows = tuple(MetricRow(name, one, step, round_number, time.time()) for name, one in number.items())
        if rows:
            self.owner.send(Logged(rows))

    def seed(self) -> int:
        """For this job, round and site; see :func:`flpoc.client.get_seed`."""
        start, given = self.start, self._current
        text = f"{given.round if given is not None else 0}|{start.site}"
        digest = hmac.digest(str(start.seed).encode(), text.encode(), hashlib.sha256)
        return int.from_bytes(digest[:4], "big")

    def failed(self, failure: Failed) -> None:
        self.owner.send(failure)

    def close(self) -> None:
        self.owner.close()


def _weight(model: FLModel) -> float:
    value = model.meta.get(MetaKey.NUM_STEPS_CURRENT_ROUND, 1.0)
    try:
        weight = float(value)
    except (TypeError, ValueError):
        weight = math.nan
    if not 0 < weight < 1e15:
        raise UsageError(f"{MetaKey.NUM_STEPS_CURRENT_ROUND} is {value!r}; a number greater than 0 is needed")
    return weight


def _params_type(model: FLModel) -> str:
    return ParamsType(model.params_type or ParamsType.FULL).value


def _meta(model: FLModel) -> dict[str, Any]:
    import json

    known = {MetaKey.SITE_NAME, MetaKey.JOB_ID, MetaKey.NUM_STEPS_CURRENT_ROUND}
    meta = {str(key): value for key, value in model.meta.items() if key not in known}
    try:
        text = json.dumps(meta, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"meta must be plain JSON data: {error}") from None
    if len(text) > MOST_META_BYTES:
        raise UsageError(f"meta is larger than {MOST_META_BYTES >> 10} KiB", hint="send arrays in params")
    return dict(json.loads(text))


def finite_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Metrics as plain finite numbers; others are left out, which is said once on standard error."""
    found: dict[str, float] = {}
    if len(metrics) > MOST_METRICS:
        raise UsageError(f"{len(metrics)} metrics at once; at most {MOST_METRICS}", hint="flare.log() takes any number")
    for key, value in metrics.items():
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise UsageError(f"metric {key!r} is {type(value).__name__}, not a number") from None
        if math.isfinite(number):
            found[as_metric_name(str(key))] = number
        else:
            print(f"flpoc: metric {key!r} is {number}; it is left out", file=sys.stderr)
    return found
