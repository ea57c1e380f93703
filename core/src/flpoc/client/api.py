"""The functions of :mod:`flpoc.client`."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final

import attrs

from flpoc.client.configured import configured
from flpoc.client.script import Script
from flpoc.errors import UsageError
from flpoc.models.flmodel import FLModel


@attrs.frozen
class _OtherRank:
    """A process of a script that is not the one that talks."""

    rank: str


#: The functions that ask for a kind of task.
_KINDS: Final = {"is_train": "train", "is_evaluate": "evaluate", "is_submit_model": "submit_model"}

# one process is one script of one job: the functions below are its methods
_script: Script | _OtherRank | None = None
# what init() begins, where scripts run in a process of somebody else's
_offered: Script | None = None


def _current(function: str) -> Script:
    if isinstance(_script, _OtherRank):
        hint = "ask at rank 0 only, and tell the others, for example by torch.distributed.broadcast_object_list"
        raise UsageError(f"flare.{function}() is for rank 0; this is rank {_script.rank}", hint=hint)
    if _script is None:
        raise UsageError("flare.init() has not been called", hint="call it once, before anything else")
    return _script


def _silent() -> bool:
    return isinstance(_script, _OtherRank)


def init(rank: str | int | None = None, config_file: str | None = None) -> None:
    """Connect this script to its job. A second call does nothing and warns.

    Of several processes of one script, as ``torchrun`` starts them, only rank 0 talks: at the others
    :func:`receive` gives None, :func:`send`, :func:`log`, :func:`clear` and :func:`shutdown` do nothing, and
    everything else is an error.

    Args:
        rank: Which process this is; None: as the variable ``RANK`` says, 0 without it.
        config_file: Accepted for scripts written for comparable systems; a job's settings come with the job.

    Raises:
        UsageError: The script was not started by flpoc.
    """
    del config_file
    if _script is not None:
        warnings.warn("flare.init() was called before: this call does nothing", stacklevel=2)
    begin(rank)


def begin(rank: str | int | None = None) -> None:
    """What :func:`init` does, for those who do not know whether the script has called it."""
    global _script  # noqa: PLW0603 - see above
    if _script is not None:
        return
    number = str(os.environ.get("RANK") or "0" if rank is None else rank)
    if number != "0":
        _script = _OtherRank(number)
        return
    if _offered is not None:
        _script = _offered
        return
    _script = Script()
    sys.excepthook = _Explains(_script)


@attrs.frozen
class _Explains:
    """Tells the owner which exception a script ends with, also where another program runs it."""

    script: Script

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        sys.__excepthook__(kind, error, trace)
        self.script.explain(error)


def use(script: Script | None, *, begun: bool = True) -> None:
    """Have *script* be the one that the functions here belong to; for whoever runs scripts in a process of its own.

    If it has not *begun*, it begins with :func:`init`.
    """
    global _script, _offered
    _script, _offered = (script, None) if begun else (None, script)


def current() -> Script | None:
    """The script's connection, if :func:`init` was called; for the process that runs it."""
    return None if isinstance(_script, _OtherRank) else _script


def is_running() -> bool:
    """Wait for the next task; false when the job needs nothing more from this site.

    With ``launch_once = false`` it is true once: every task has a start of the script to itself.
    """
    return _current("is_running").is_running()


def receive(timeout: float | None = None) -> FLModel | None:
    """Get the model of the current task; the same one until it is answered.

    In a first round without an initial model, ``params`` is empty: begin
    with parameters of your own. What the job says in ``task_meta`` is in ``meta``.

    Args:
        timeout: Seconds to wait at most; None waits.

    Returns:
        The model, its params as arrays by name, or as those of the job's ``framework``; None when the job is over
        or the time is up, and at ranks other than 0.
    """
    return None if _silent() else _current("receive").receive(timeout)


def send(model: FLModel, clear_cache: bool = True) -> None:
    """Send the answer to the task received last; returns when it is safe at the site.

    For a training task ``params`` must have the names, shapes and dtypes of
    the model received: arrays by name, or what a plugin of the project can
    make arrays of, such as a model of a framework. ``metrics`` are numbers about the *received* model.
    ``meta["NUM_STEPS_CURRENT_ROUND"]`` is the weight; 1 if it is not given. ``optimizer_params`` stay here: keep
    what an optimiser needs in :func:`state_dir`.

    If the job says ``transfer_type = "DIFF"``, a model is sent as its difference from the one received; one that is
    marked as DIFF itself goes as it is.

    Args:
        model: The answer.
        clear_cache: Let go of the received model. If not, :func:`receive` gives it again until :func:`clear` or
            :func:`is_running` goes on to the next task.

    Raises:
        UsageError: There is no task, or the model cannot be sent; says why.
    """
    if not _silent():
        _current("send").send(model, clear=clear_cache)


def clear() -> None:
    """Let go of the received model; a task that is not answered stays, and its model can be received again."""
    if not _silent():
        _current("clear").clear()


def shutdown() -> None:
    """Say that this script is done: there is no task any more; it may go on without flpoc."""
    if not _silent():
        _current("shutdown").close()


def is_train() -> bool:
    """Whether the current task is to train."""
    return _is_task("is_train", sys._getframe(1))


def is_evaluate() -> bool:
    """Whether the current task is to evaluate the received model and send metrics only.

    A script that asks is taken to handle evaluation: it also gets the final model. So is one that would have asked
    next, in the same function, if it had not been another task.
    """
    return _is_task("is_evaluate", sys._getframe(1))


def is_submit_model() -> bool:
    """Whether the current task is to send the site's own best model.

    A script that asks is taken to handle it, as with :func:`is_evaluate`: its models are compared across sites, if the
    job says so. One that goes on to the next task without an answer has no model of its own: nobody waits for it.
    """
    return _is_task("is_submit_model", sys._getframe(1))


def _is_task(asked: str, caller: FrameType) -> bool:
    """Whether it is that task; what else the asking function names, it handles, too.

    In ``if is_train(): ... elif is_evaluate(): ...`` nobody asks for evaluation before there is one.
    """
    script = _current(asked)
    for name in _KINDS.keys() & set(caller.f_code.co_names):
        script.handles(_KINDS[name])
    return script.is_task(_KINDS[asked])


def get_task_name() -> str:
    """What the current task is: ``train``, ``evaluate`` or ``submit_model``; empty when the job is over.

    Unlike :func:`is_evaluate`, it does not tell that the script handles more than training.
    """
    return _current("get_task_name").kind()


def log(
    key: str, value: float, data_type: Any = None, *, step: int | None = None, global_step: int | None = None, **_: Any
) -> None:
    """Log a number under a name.

    Args:
        key: Its name.
        value: A number; NaN and infinities are left out.
        data_type: Accepted for scripts written for comparable systems.
        step: Where on the script's own axis.
        global_step: Another name of *step*.
    """
    del data_type
    if not _silent():
        _current("log").log(key, value, global_step if step is None else step)


def get_job_id() -> str:
    """The job's id."""
    return _current("get_job_id").start.job


def get_site_name() -> str:
    """The name of this site."""
    return _current("get_site_name").start.site


def get_seed() -> int:
    """A seed (0 <= seed < 2**32) that depends on the job's seed, the round and the site, and on nothing else.

    A script that draws all its randomness from it gives the same update
    whenever it is run again.
    """
    return _current("get_seed").seed()


def get_dataset(name: str) -> Path:
    """Where data of this site is.

    Args:
        name: As the site's policy calls it: a name below ``datasets`` in its ``local/policy.json``; ``poc`` in a proof
            of concept.

    Raises:
        UsageError: The site grants none of this name; says which it does.
    """
    found = _current("get_dataset").start
    if name in found.datasets:
        return Path(found.datasets[name])
    there = ", ".join(sorted(found.datasets)) or "none"
    hint = f'its owner can grant it under "datasets" in local/policy.json; there is: {there}'
    raise UsageError(f"{found.site} grants jobs no data called {name!r}", hint=hint)


def state_dir() -> Path:
    """A folder for what the script wants to keep from round to round, such as control variates or residuals.

    It holds what it held when the last counted update of this site was sent, nothing at first. What it holds when a
    training task is answered is kept if that update is counted; after a crash the round begins again with what was
    there before. Every task has a folder of its own: ask again in each round. It is deleted with the job.

    Raises:
        UsageError: The job is over.
    """
    return _current("state_dir").state_dir()


def system_info() -> dict[str, Any]:
    """Job id, site name, and number of rounds."""
    start = _current("system_info").start
    return {"job_id": start.job, "site_name": start.site, "total_rounds": start.total_rounds}


def get_config() -> dict[str, Any]:
    """What the job says of this script: what its recipe has configured (``add_client_config``), :func:`system_info`,
    and how models are received and sent.
    """
    start = _current("get_config").start
    return {
        **configured(start.site),
        **system_info(),
        "framework": start.framework or "numpy",
        "transfer_type": start.transfer_type,
        "launch_once": start.once,
        "memory_gc_rounds": start.gc_rounds,
        "cuda_empty_cache": start.empty_cache,
        "datasets": dict(start.datasets),
    }
