"""How a learning rate of the server changes from round to round."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, Literal

import attrs


def _positive(_: Any, attribute: Any, value: float | None) -> None:
    if value is not None and not 0 < value < 1e9:
        raise ValueError(f"{attribute.name} must be greater than 0")


def _not_negative(_: Any, attribute: Any, value: float | None) -> None:
    if value is not None and not 0 <= value < 1e9:
        raise ValueError(f"{attribute.name} must be a number from 0 on")


def _rising(_: Any, attribute: Any, value: tuple[int, ...]) -> None:
    if any(one < 1 for one in value) or list(value) != sorted(set(value)):
        raise ValueError(f"{attribute.name}: {list(value)} are not numbers of steps, from 1 on, in rising order")


@attrs.frozen
class LrSchedule:
    """A schedule of the learning rate; a step is a round in which the server's optimiser has moved the model.

    Attributes:
        name: ``step``: times ``gamma`` every ``step_size`` steps. ``multistep``: times ``gamma`` at each of
            ``milestones``. ``exponential``: times ``gamma`` at every step. ``cosine``: down to ``eta_min`` within
            ``t_max`` steps, along a cosine, and up again. ``linear``: from ``start_factor`` to ``end_factor`` times
            the rate within ``total_iters`` steps.
        gamma: Of ``step`` and ``multistep``, 0.1 if not said, and of ``exponential``.
        step_size: Of ``step``.
        milestones: Of ``multistep``: numbers of steps.
        t_max: Of ``cosine``.
        eta_min: Of ``cosine``; 0 if not said.
        start_factor: Of ``linear``; a third if not said.
        end_factor: Of ``linear``; 1 if not said.
        total_iters: Of ``linear``; 5 if not said.
    """

    name: Literal["step", "multistep", "exponential", "cosine", "linear"]
    gamma: float | None = attrs.field(default=None, validator=_positive)
    step_size: int | None = attrs.field(default=None, validator=_positive)
    milestones: tuple[int, ...] = attrs.field(default=(), validator=_rising)
    t_max: int | None = attrs.field(default=None, validator=_positive)
    eta_min: float | None = attrs.field(default=None, validator=_not_negative)
    start_factor: float | None = attrs.field(default=None, validator=_positive)
    end_factor: float | None = attrs.field(default=None, validator=_not_negative)
    total_iters: int | None = attrs.field(default=None, validator=_positive)

    def __attrs_post_init__(self) -> None:
        needed, allowed = KEYS[self.name]
        given = {key for key, value in attrs.asdict(self).items() if value not in (None, ()) and key != "name"}
        if missing := sorted(set(needed) - given):
            raise ValueError(f"the schedule {self.name!r} needs {missing[0]}")
        if odd := sorted(given - {*needed, *allowed}):
            raise ValueError(f"the schedule {self.name!r} has no {odd[0]}")

    def at(self, lr: float, step: int) -> float:
        """The learning rate of a step, counted from 0, of a rate that begins with *lr*."""
        return _RULES[self.name](self, lr, step)


#: Which settings each schedule must have, and which it may have.
KEYS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "step": (("step_size",), ("gamma",)),
    "multistep": (("milestones",), ("gamma",)),
    "exponential": (("gamma",), ()),
    "cosine": (("t_max",), ("eta_min",)),
    "linear": ((), ("start_factor", "end_factor", "total_iters")),
}


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _step(one: LrSchedule, lr: float, step: int) -> float:
    return lr * _or(one.gamma, 0.1) ** (step // int(_or(one.step_size, 1)))


def _multistep(one: LrSchedule, lr: float, step: int) -> float:
    return lr * _or(one.gamma, 0.1) ** sum(milestone <= step for milestone in one.milestones)


def _exponential(one: LrSchedule, lr: float, step: int) -> float:
    return lr * _or(one.gamma, 1.0) ** step


def _cosine(one: LrSchedule, lr: float, step: int) -> float:
    least = _or(one.eta_min, 0.0)
    return least + (lr - least) * (1 + math.cos(math.pi * step / _or(one.t_max, 1))) / 2


def _linear(one: LrSchedule, lr: float, step: int) -> float:
    total = int(_or(one.total_iters, 5))
    start, end = _or(one.start_factor, 1 / 3), _or(one.end_factor, 1.0)
    return lr * (start + (end - start) * min(step, total) / total)


_RULES: Final[dict[str, Callable[[LrSchedule, float, int], float]]] = {
    "step": _step, "multistep": _multistep, "exponential": _exponential, "cosine": _cosine, "linear": _linear,
}  # fmt: skip
