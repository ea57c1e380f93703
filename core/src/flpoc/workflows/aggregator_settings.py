"""Settings of the built-in aggregators."""

from __future__ import annotations

import math
import re
from typing import Any, Literal

import attrs

from flpoc.settings import NAMES_SITES
from flpoc.workflows.schedules import LrSchedule


def _pattern(_: Any, attribute: Any, value: str) -> None:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{attribute.name}: {value[:80]!r} is not a regular expression: {error}") from None


def _factors(_: Any, attribute: Any, value: dict[str, float]) -> None:
    for site, factor in value.items():
        if not 0 <= factor < 1e50:
            raise ValueError(f"{attribute.name}.{site}: {factor} is not a number from 0 on")


def _share(_: Any, attribute: Any, value: float) -> None:
    if not 0 <= value < 0.5:
        raise ValueError(f"{attribute.name}: {value} is not between 0 and 0.5")


def _at_least(least: int) -> Any:
    def check(_: Any, attribute: Any, value: int) -> None:
        if not least <= value <= 1_000_000:
            raise ValueError(f"{attribute.name} must be between {least} and 1000000")

    return check


def _positive(_: Any, attribute: Any, value: float | None) -> None:
    if value is not None and not 0 < value < 1e9:
        raise ValueError(f"{attribute.name} must be greater than 0")


def _decay(_: Any, attribute: Any, value: float | tuple[float, ...]) -> None:
    for one in value if isinstance(value, tuple) else (value,):
        if not 0 <= one < 1 or math.isnan(one):
            raise ValueError(f"{attribute.name}: {one} is not between 0 and 1")


@attrs.frozen
class MeanSettings:
    """Settings of the aggregator ``mean``.

    Attributes:
        exclude: A regular expression; tensors in whose name it is found keep the value of the received model, in a
            first round without one the first site's.
        weights: By how much a site counts more or less than its weight says; 1 for those not named, 0 not at all.
    """

    exclude: str = attrs.field(default="", validator=_pattern)
    weights: dict[str, float] = attrs.field(factory=dict, validator=_factors, metadata={NAMES_SITES: True})


@attrs.frozen
class TrimmedMeanSettings:
    """Settings of the aggregator ``trimmed_mean``.

    Attributes:
        trim: Which part of the sites' numbers is left out at either end, of each number; below 0.5.
    """

    trim: float = attrs.field(default=0.1, validator=_share)


@attrs.frozen
class KrumSettings:
    """Settings of the aggregator ``krum``.

    Attributes:
        byzantine: How many sites may send anything; it takes at least twice as many and three.
        select: How many of the best updates are averaged: 1 is Krum, more is Multi-Krum.
    """

    byzantine: int = attrs.field(default=1, validator=_at_least(0))
    select: int = attrs.field(default=1, validator=_at_least(1))


@attrs.frozen
class FedOptSettings:
    """Settings of the aggregator ``fedopt``.

    Attributes:
        optimizer: What takes the step: ``adam``, ``yogi`` and ``adagrad`` (Reddi et al. 2021), or ``sgd``, with
            ``momentum`` (Hsu et al. 2019).
        lr: The server's learning rate; if not said, 1 for ``sgd`` and 0.01 for the others.
        lr_schedule: How the learning rate changes from round to round; null: it does not.
        betas: How much of the first and second moment is kept every round; ``adagrad`` uses the first only.
        tau: Degree of adaptivity, added to the root of the second moment.
        momentum: Of ``sgd``: how much of the last step is kept.
        average: A regular expression; tensors in whose name it is found are averaged, as ``mean`` does: statistics of
            batch normalisation are no parameters.
        exclude: As in ``mean``.
        weights: As in ``mean``.
    """

    optimizer: Literal["adam", "yogi", "adagrad", "sgd"] = "adam"
    lr: float | None = attrs.field(default=None, validator=_positive)
    lr_schedule: LrSchedule | None = None
    betas: tuple[float, float] = attrs.field(default=(0.9, 0.99), validator=_decay)
    tau: float = attrs.field(default=1e-3, validator=_positive)
    momentum: float = attrs.field(default=0.9, validator=_decay)
    average: str = attrs.field(default=r"(running|moving)_(mean|var(iance)?)$", validator=_pattern)
    exclude: str = attrs.field(default="", validator=_pattern)
    weights: dict[str, float] = attrs.field(factory=dict, validator=_factors, metadata={NAMES_SITES: True})
