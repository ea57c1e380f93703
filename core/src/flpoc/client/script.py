"""The script's side of a job: tasks in, updates out."""

from __future__ import annotations

import hashlib
import hmac
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from flpoc.client.answers import finite_metrics, plain_meta, weight_of
from flpoc.client.blame import blame
from flpoc.client.foreign import Adapters
from flpoc.client.keepsakes import unpack_state
from flpoc.client.memory import give_back
from flpoc.client.outgoing import outgoing
from flpoc.errors import ResourceError, UsageError
from flpoc.models.flmodel import FLModel, MetaKey, ParamsType
from flpoc.wire.owner import Owner
from flpoc.wire.trainer_messages import TO_TRAINER, Give, LocalHello, Logged, Over, Submit, Taken, TrainerStart
from flpoc.wire.vocabulary import PHASES, MetricRow

#: Seconds after which an update is written again that a full disk has refused.
ROOM_AGAIN = 2.0
#: How a script answers a task of each kind.
_SERVED = {
    "train": "if flare.is_train(): ... flare.send(flare.FLModel(params=...))",
    "evaluate": "elif flare.is_evaluate(): flare.send(flare.FLModel(metrics={...}))",
    "submit_model": "elif flare.is_submit_model(): flare.send(flare.FLModel(params=...))",
}


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
        adapters: What knows the parameters of frameworks; None: as its owner says. One process that runs many scripts
            loads plugins once.

    Raises:
        UsageError: There is no owner: the script was not started by flpoc.
    """

    def __init__(
        self, owner: ScriptOwner | None = None, folder: Path | None = None, adapters: Adapters | None = None
    ) -> None:
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
        self._file = -1  # the model's file of the task at hand: whoever gave it may delete it
        self._model: FLModel | None = None
        self._state: Path | None = None
        self._received = self._sent = -1
        self._over = self._answered = self._said = False
        self._evaluates = self._submits = False
        self._asked: set[str] = set()  # which kinds of task the script has asked for while it has this one
        self._answers = 0
        #: What was measured of the received model, to go with the answer.
        self.judged: dict[str, Any] = {}
        #: Whether an evaluation has answered the task, and nobody has asked for the next.
        self.rests = False
        self._adapters = adapters
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
                case Give() if message.round > self._received and not self._over:
                    self._offered = message
                    # one that is started for a single task learns from another that its round is closed
                    if self._received < 0 or self.start.once:
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
        self.rests = False
        with self._news:
            while self._current is None:
                self._news.wait_for(lambda: self._offered is not None or self._over, timeout)
                given, self._offered = self._offered, None
                if given is None:
                    break
                if self._open(given):
                    self._current = given
            return self._current

    def _open(self, given: Give) -> bool:
        """Take hold of the model; false if its round was closed meanwhile, then a newer task is on its way."""
        try:
            self._file = os.open(given.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW) if given.path else -1
        except FileNotFoundError:
            return False
        return True

    def is_running(self) -> bool:
        """Wait for the next task; false when there will be none."""
        if self._answered:
            self._forget()
        self._check_served()
        return self._await_task() is not None

    def _check_served(self) -> None:
        """See to it that the task at hand is one that the script serves: else it would be given the same for ever.

        Raises:
            UsageError: The script has asked what the task is, and goes on without an answer.
        """
        given = self._current
        if given is None or not self._asked or (given.kind == "train" and "train" in self._asked):
            return  # scripts may look while they train whether the job goes on
        if given.kind == "submit_model" and (self._evaluates or self._submits):
            self._pass_by(given)
            return
        if given.kind in self._asked:
            said = f"the script knows the task {given.kind!r}, but sends no answer to it"
        else:
            said = f"the task is {given.kind!r}, and the script asks only for {_listed(self._asked)}"
        raise UsageError(f"round {given.round + 1}: {said}", hint=_SERVED[given.kind])

    def _pass_by(self, given: Give) -> None:
        """Answer that this site has no model of its own: without tensors."""
        print(f"flpoc: round {given.round + 1}: this site has no model of its own", file=sys.stderr)
        if self._offered is None:
            self._hand_over(given, FLModel(), {}, ParamsType.FULL)
        self._done(clear=True)

    def receive(self, timeout: float | None) -> FLModel | None:
        given = self._await_task(timeout)
        if given is None:
            return None
        if self._model is None:
            self._model = self._read(given)
        return self._model

    def _read(self, given: Give) -> FLModel:
        params: Any = {}
        if self._file >= 0:
            from flpoc.models.tensors import TensorFile

            with TensorFile.open(self._file) as tensors:
                params = tensors.arrays(writable=True)
            if self.start.framework:
                params = self.adapters.native(params)
        meta = {**given.meta, MetaKey.SITE_NAME: self.start.site, MetaKey.JOB_ID: self.start.job}
        return FLModel(
            params_type=ParamsType.FULL, params=params, current_round=given.round, total_rounds=self.start.total_rounds,
            meta=meta,
        )  # fmt: skip

    @property
    def adapters(self) -> Adapters:
        """What knows the parameters of frameworks."""
        if self._adapters is None:
            self._adapters = Adapters(self.start.plugins, self.start.framework)
        return self._adapters

    # -- answers

    def send(self, model: FLModel, *, clear: bool = True) -> None:
        """Hand an answer over; returns when it is safe with the agent."""
        self.owner.calls += 1
        given = self._current
        if given is None:
            raise UsageError("flare.send() without a task", hint="call flare.receive() first, and send once for each")
        if self._answered:
            raise UsageError(f"round {given.round + 1} is answered already", hint="flare.clear() goes on to the next")
        if not isinstance(model, FLModel):
            raise UsageError(f"flare.send() takes an FLModel, not {type(model).__name__}")
        if self._offered is not None:
            print(f"flpoc: round {given.round + 1} was closed without this site", file=sys.stderr)
        else:
            self._submit(model, given)
        self._done(clear)

    def _done(self, clear: bool) -> None:
        with self._news:
            self._answered = True
            if not self.start.once:
                self._over, self._offered = True, None
        if clear:
            self._forget()
        self._answers += 1
        if self.start.gc_rounds and not self._answers % self.start.gc_rounds:
            give_back(graphics=self.start.empty_cache)

    def clear(self) -> None:
        """Let go of the received model; of the task, too, if it is answered."""
        self._model = None
        if self._answered:
            self._forget()

    def _forget(self) -> None:
        with self._news:
            self._current = self._model = self._state = None
            self._answered = False
            self._asked = set()
            self.judged = {}
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def _submit(self, model: FLModel, given: Give) -> None:
        params, kind = outgoing(model, given, self.start, self.adapters, self._file)
        if model.optimizer_params and not self._said:
            self._said = True
            print("flpoc: optimizer_params are not sent; keep them in flare.state_dir()", file=sys.stderr)
        self._hand_over(given, model, params, kind)

    def _hand_over(self, given: Give, model: FLModel, params: Mapping[str, Any], kind: ParamsType) -> None:
        from flpoc.models.tensors import write_tensors

        name = f"update.{given.round}.safetensors"
        path = self._folder / name
        path.unlink(missing_ok=True)
        while True:
            try:
                written = write_tensors(path, params)
                break
            except ResourceError as error:
                if self._nobody_waits_after(ROOM_AGAIN, error.message):
                    return
        submit = Submit(
            given.round, given.kind, name, written.size, written.checksum, weight_of(model), kind.value,
            finite_metrics(model.metrics or {}), plain_meta(model), self._evaluates, self._submits,
            state=self._state is not None and given.kind == "train",
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

    # -- what else a script may ask and say

    def is_task(self, kind: str) -> bool:
        """Whether the task at hand is of this kind; asking tells that the script handles it."""
        self.handles(kind)
        given = self._await_task()
        self._asked.add(kind)
        return given is not None and given.kind == kind

    def handles(self, kind: str) -> None:
        """The script handles tasks of this kind."""
        self._evaluates = self._evaluates or kind == "evaluate"
        self._submits = self._submits or kind == "submit_model"

    def kind(self) -> str:
        """What the task at hand is, or the next one; empty when there is none."""
        given = self._await_task()
        return given.kind if given is not None else ""

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

    def state_dir(self) -> Path:
        """See :func:`flpoc.client.state_dir`."""
        given = self._await_task()
        if given is None:
            raise UsageError("flare.state_dir() after the last task", hint="ask for it while flare.is_running()")
        if self._state is None:
            self._state = unpack_state(given.state, self._folder, given.round)
        return self._state

    def explain(self, error: BaseException) -> None:
        """Tell the owner why the script ends, and end with it."""
        task = self.task
        phase, number = ("training", None) if task is None else (PHASES[task.kind], task.round)
        self.owner.send(blame(error, round_number=number, phase=phase, plugins=self.start.plugins))
        self.close()

    def close(self) -> None:
        """Nothing more is wanted: there is no further task, and the owner is told no more."""
        with self._news:
            self._over, self._offered = True, None
        self._forget()
        self.owner.close()


def _listed(kinds: set[str]) -> str:
    return ", ".join(map(repr, sorted(kinds)))
