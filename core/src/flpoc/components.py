"""What a plugin offers: a name, and how to make the thing when it is wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import attrs

T_co = TypeVar("T_co", covariant=True)


@attrs.frozen
class NoSettings:
    """For components that have nothing to set."""


@attrs.frozen
class Component(Generic[T_co]):
    """One thing that a plugin offers, described without importing it.

    Attributes:
        name: How a project, a job or a command line asks for it.
        summary: One line for ``flpoc plugins list``.
        create: Makes it from its settings. Heavy imports belong in here.
        settings: An attrs class; what a user writes is checked against it.
        on_this_machine: Says in a sentence what it can do on this machine; asked by ``flpoc plugins show`` only.
    """

    name: str
    summary: str
    create: Callable[[Any], T_co]
    settings: type[Any] = NoSettings
    on_this_machine: Callable[[], str] | None = None
