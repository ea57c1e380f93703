"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from flpoc import Component, hookimpl

if TYPE_CHECKING:
    import click

    from flpoc.launching import Launcher
    from flpoc_builtin_docker.settings import DockerSettings

FLPOC_API = 1


@hookimpl
def flpoc_launchers() -> Iterable[Component[Launcher]]:
    from flpoc_builtin_docker.settings import DockerSettings

    summary = "Docker containers; those of jobs have no network and see only their own folder"
    yield Component("docker", summary, _launcher, DockerSettings, _on_this_machine)


@hookimpl
def flpoc_commands() -> Iterable[click.Command]:
    from flpoc_builtin_docker.commands import deploy, image

    yield image
    yield deploy


def _launcher(settings: DockerSettings) -> Launcher:
    from flpoc_builtin_docker.launcher import DockerLauncher

    return DockerLauncher(settings)


def _on_this_machine() -> str:
    from flpoc_builtin_docker.engine import said_of_engine
    from flpoc_builtin_docker.settings import DockerSettings

    return said_of_engine(DockerSettings())
