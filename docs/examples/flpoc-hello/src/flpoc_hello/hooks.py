"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from flpoc import Component, hookimpl

from flpoc_hello.settings import HelloSettings

if TYPE_CHECKING:
    from flpoc.launching import Launcher

FLPOC_API = 1


@hookimpl
def flpoc_launchers() -> Iterable[Component[Launcher]]:
    summary = "Processes of this machine, each with a supervisor that holds a lock"
    yield Component("hello", summary, _launcher, HelloSettings)


def _launcher(settings: HelloSettings) -> Launcher:
    from flpoc_hello.launcher import HelloLauncher

    return HelloLauncher(settings)
