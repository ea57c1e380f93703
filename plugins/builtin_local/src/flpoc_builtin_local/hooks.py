"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from flpoc import Component, hookimpl

if TYPE_CHECKING:
    from flpoc.launching import Launcher
    from flpoc_builtin_local.settings import LocalSettings

FLPOC_API = 1


@hookimpl
def flpoc_launchers() -> Iterable[Component[Launcher]]:
    from flpoc_builtin_local.settings import LocalSettings

    summary = "Processes of this machine; those of jobs are confined where the kernel has Landlock"
    yield Component("local", summary, _launcher, LocalSettings, _on_this_machine)


@hookimpl
def flpoc_error_hint(error: BaseException) -> str | None:
    from flpoc_builtin_local.denials import hint_for

    return hint_for(error)


def _launcher(settings: LocalSettings) -> Launcher:
    from flpoc_builtin_local.launcher import LocalLauncher

    return LocalLauncher(settings)


def _on_this_machine() -> str:
    from flpoc_builtin_local.landlock import this_kernel

    return this_kernel().said
