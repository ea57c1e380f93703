"""Functions that take the received model and give the answer."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from flpoc.client import api
from flpoc.errors import UsageError
from flpoc.models.flmodel import FLModel

P = ParamSpec("P")
R = TypeVar("R")


def train(function: Callable[P, FLModel]) -> Callable[P, FLModel | None]:
    """Have a function train: its first parameter is the received model, the :class:`FLModel` it returns is sent.

    Whatever the caller gives for the first parameter is replaced. It is called only for training tasks: when
    :func:`evaluate` has answered the current task, or the job is over, the call does nothing and gives None. Metrics of
    an :func:`evaluate` function that was called before go with the answer.

    Raises:
        UsageError: It returned something else than an FLModel.
    """

    @functools.wraps(function)
    def trained(*args: P.args, **kwargs: P.kwargs) -> FLModel | None:
        api.begin()
        script = api.current()
        if script is None or script.rests or (received := api.receive()) is None:
            return None
        if not api.is_train():
            raise UsageError(f"the task is {api.get_task_name()}, and {function.__name__} trains", hint=_BRANCH)
        answer = _with_model(function, received, args, kwargs)
        if not isinstance(answer, FLModel):
            raise UsageError(f"{function.__name__}() must return an FLModel, not {type(answer).__name__}")
        answer.metrics = {**script.judged, **(answer.metrics or {})} or None
        api.send(answer)
        return answer

    return trained


def evaluate(function: Callable[P, R]) -> Callable[P, R | None]:
    """Have a function evaluate: its first parameter is the received model; it returns metrics.

    An :class:`FLModel` with metrics, numbers by name, or one number, which is called ``accuracy``. If the task is to
    evaluate they are the answer; if it is to train, they go with the result of a :func:`train` function. The script is
    taken to handle evaluation.

    Raises:
        UsageError: It returned something else.
    """

    @functools.wraps(function)
    def evaluated(*args: P.args, **kwargs: P.kwargs) -> R | None:
        api.begin()
        script = api.current()
        if script is None or (received := api.receive()) is None:
            return None
        found = _with_model(function, received, args, kwargs)
        metrics = _metrics(function.__name__, found)
        if api.is_evaluate():
            api.send(FLModel(metrics=metrics))
            script.rests = True
        else:
            script.judged = metrics
        return found

    return evaluated


_BRANCH = "ask flare.is_submit_model() before, and answer with flare.send()"


def _with_model(function: Callable[..., R], model: FLModel, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> R:
    """Call a function with the model as its first parameter, whatever was given for that."""
    signature = inspect.signature(function)
    if not signature.parameters:
        raise UsageError(
            f"{function.__name__}() takes no model", hint="give it a parameter, and the model is the first"
        )
    bound = signature.bind_partial(*args, **kwargs)
    bound.arguments[next(iter(signature.parameters))] = model
    return function(*bound.args, **bound.kwargs)


def _metrics(name: str, found: Any) -> dict[str, Any]:
    """What an evaluation gave, as numbers by name."""
    if isinstance(found, FLModel):
        found = found.metrics
    if isinstance(found, Mapping) and found:
        return dict(found)
    try:
        return {"accuracy": float(found)}
    except (TypeError, ValueError):
        raise UsageError(f"{name}() must return metrics: an FLModel, numbers by name, or a number") from None
