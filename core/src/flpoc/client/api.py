"""The functions of :mod:`flpoc.client`."""

from __future__ import annotations

from typing import Any

from flpoc.client.script import Script
from flpoc.errors import UsageError
from flpoc.models.flmodel import FLModel

# one process is one script of one job: the functions below are its methods
_script: Script | None = None


def _current() -> Script:
    if _script is None:
        raise UsageError("flare.init() has not been called", hint="call it once, before anything else")
    return _script


def init(rank: str | None = None, config_file: str | None = None) -> None:
    """Connect this script to its job. A second call does nothing.

    Args:
        rank: Accepted for scripts written for comparable systems; only one process of a script may call init.
        config_file: Likewise; a job's settings come with the job.

    Raises:
        UsageError: The script was not started by flpoc.
    """
    global _script  # noqa: PLW0603 - see above
    del rank, config_file
    if _script is None:
        _script = Script()


def use(script: Script | None) -> None:
    """Have *script* be the one that the functions here belong to; for whoever runs scripts in a process of its own."""
    global _script  # noqa: PLW0603 - see above
    _script = script


def current() -> Script | None:
    """The script's connection, if :func:`init` was called; for the process that runs it."""
    return _script


def is_running() -> bool:
    """Wait for the next task; false when the job needs nothing more from this site."""
    return _current().is_running()


def receive(timeout: float | None = None) -> FLModel | None:
    """Get the model of the current task; the same one until it is answered.

    In a first round without an initial model, ``params`` is empty: begin
    with parameters of your own.

    Args:
        timeout: Seconds to wait at most; None waits.

    Returns:
        The model; None when the job is over or the time is up.
    """
    return _current().receive(timeout)


def send(model: FLModel) -> None:
    """Send the answer to the task received last; returns when it is safe at the site.

    For a training task ``params`` must have the names, shapes and dtypes of
    the model received: arrays by name, or what a plugin of the project can
    make arrays of, such as a model of a framework. ``metrics`` are numbers about the *received* model.
    ``meta["NUM_STEPS_CURRENT_ROUND"]`` is the weight; 1 if it is not given.

    Raises:
        UsageError: There is no task, or the model cannot be sent; says why.
    """
    _current().send(model)


def is_train() -> bool:
    """Whether the current task is to train."""
    return _current().is_task("train")


def is_evaluate() -> bool:
    """Whether the current task is to evaluate the received model and send metrics only.

    A script that asks is taken to handle evaluation: it also gets the final model.
    """
    return _current().is_task("evaluate")


def is_submit_model() -> bool:
    """Whether the current task is to send the site's own best model.

    A script that asks is taken to handle it: its models are compared across sites, if the job says so.
    """
    return _current().is_task("submit_model")


def log(key: str, value: float, data_type: Any = None, *, step: int | None = None, **_: Any) -> None:
    """Log a number under a name.

    Args:
        key: Its name.
        value: A number; NaN and infinities are left out.
        data_type: Accepted for scripts written for comparable systems.
        step: Where on the script's own axis.
    """
    del data_type
    _current().log(key, value, step)


def get_job_id() -> str:
    """The job's id."""
    return _current().start.job


def get_site_name() -> str:
    """The name of this site."""
    return _current().start.site


def get_seed() -> int:
    """A seed (0 <= seed < 2**32) that depends on the job's seed, the round and the site, and on nothing else.

    A script that draws all its randomness from it gives the same update
    whenever it is run again.
    """
    return _current().seed()


def system_info() -> dict[str, Any]:
    """Job id, site name, and number of rounds."""
    start = _current().start
    return {"job_id": start.job, "site_name": start.site, "total_rounds": start.total_rounds}
