"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from flpoc import Component, hookimpl
from flpoc_builtin_local.settings import LocalSettings

if TYPE_CHECKING:
    from flpoc.launching import Launcher

FLPOC_API = 1


@hookimpl
def flpoc_launchers() -> Iterable[Component[Launcher]]:
    summary = "Processes of this machine; files and network are shared, not confined"
    yield Component("local", summary, _launcher, LocalSettings)


def _launcher(settings: LocalSettings) -> Launcher:
    from flpoc_builtin_local.launcher import LocalLauncher

    return LocalLauncher(settings)
