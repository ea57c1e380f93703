"""Every place where a plugin can extend flpoc, in the order a project meets them.

An implementation may take fewer arguments than the hook has. Offers are
pooled and one is chosen by name; contributions are pooled and all used;
a question is answered by the first plugin that knows; news expects no answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from pathlib import Path

    import click

    from flpoc.aggregating import Aggregator
    from flpoc.components import Component
    from flpoc.encrypting import Cipher
    from flpoc.filtering import Filter
    from flpoc.formatting import Formatter
    from flpoc.launching import Launcher
    from flpoc.provisioning import Authority, Check, KitFile, Project
    from flpoc.simulating import Simulator
    from flpoc.tracking import RunEvent, Tracker
    from flpoc.training import Framework
    from flpoc.workflows import Workflow

hookspec = pluggy.HookspecMarker("flpoc")


# -- offers: one is chosen by name


@hookspec
def flpoc_authorities() -> Iterable[Component[Authority]]:
    """Offer ways to issue certificates.

    Asked when a project is provisioned. A project picks one by name:
    ``authority = local-ca``.
    """
    return ()


@hookspec
def flpoc_launchers() -> Iterable[Component[Launcher]]:
    """Offer ways to start a server, a site or a job.

    Asked once, when a command first needs a launcher. A project or a site
    picks one by name: ``launcher = docker``.
    """
    return ()


@hookspec
def flpoc_frameworks() -> Iterable[Component[Framework]]:
    """Offer adapters between a framework's models and tensors.

    Asked in a job process, when a script hands over a model that is not
    made of NumPy arrays, and when a recipe names a framework.
    """
    return ()


@hookspec
def flpoc_filters() -> Iterable[Component[Filter]]:
    """Offer filters that updates pass before they leave a site.

    Asked in a site's gate. A job or a site's policy picks them by name.
    """
    return ()


@hookspec
def flpoc_ciphers() -> Iterable[Component[Cipher]]:
    """Offer encryption under which updates can be added.

    Asked in a site's gate and in the aggregation child of a controller.
    """
    return ()


@hookspec
def flpoc_aggregators() -> Iterable[Component[Aggregator]]:
    """Offer ways to make one model of a round's updates.

    Asked in the controller. A job picks one by name: ``aggregator = mean``.
    """
    return ()


@hookspec
def flpoc_workflows() -> Iterable[Component[Workflow]]:
    """Offer the course of a job: which tasks go to whom, and when it ends.

    Asked in the controller. A job picks one by name: ``workflow = fedavg``.
    """
    return ()


@hookspec
def flpoc_trackers() -> Iterable[Component[Tracker]]:
    """Offer places where metrics are shown.

    Asked when a job is submitted that names one: ``tracking = [mlflow]``, or
    with settings. Made in the courier, a process beside the server, for each
    job that tracks: it may be slow or fail without harm.
    """
    return ()


@hookspec
def flpoc_formatters() -> Iterable[Component[Formatter]]:
    """Offer output formats: ``--format NAME``.

    Asked once per command, with the name that the user gave.
    """
    return ()


@hookspec
def flpoc_simulators() -> Iterable[Component[Simulator]]:
    """Offer places where the tasks of simulated sites are performed.

    Asked in a simulation that names one: ``flpoc simulator JOB --backend NAME``,
    ``SimEnv(extra={"backend": NAME})``.
    """
    return ()


# -- contributions: all are used


@hookspec
def flpoc_commands() -> Iterable[click.Command]:
    """Add commands to ``flpoc``.

    Asked for ``flpoc --help`` and for a command that core does not have;
    keep it light: a ``flpoc.cli.command.Group`` with a ``table`` imports its
    commands when they are called. A name that core has is refused.
    """
    return ()


@hookspec
def flpoc_kit_files(project: Project) -> Iterable[KitFile]:
    """Add files to the kits of a project, before they are signed."""
    return ()


@hookspec
def flpoc_checks(project: Project) -> Iterable[Check]:
    """Add checks of a project: what would fail later, found now.

    Asked by ``flpoc poc prepare`` before anything is written. An ``error``
    refuses the project; a check that fails itself is a warning.
    """
    return ()


@hookspec
def flpoc_job_templates() -> Iterable[Path]:
    """Add job templates for ``flpoc job create -w NAME``.

    Each is a job folder inside the plugin's package; its name is the
    folder's. What `flpoc job list-templates` says about it is in its
    ``info.conf``: ``description``, ``controller_type`` and
    ``execution_api_type``. Asked when a command needs templates.
    """
    return ()


# -- questions: the first answer counts


@hookspec(firstresult=True)
def flpoc_framework_for(model: Any) -> str | None:
    """Say which framework's adapter handles *model*, or None.

    Asked in a trainer, with what a script gives as ``params`` when that is
    no dict of arrays: a model, or a dict of a framework's tensors. Decide by
    the type's module name; do not import the framework to find out.
    """


@hookspec(firstresult=True)
def flpoc_error_hint(error: BaseException) -> str | None:
    """Say what to do about *error*, or None.

    Asked when a command fails, and for the first cause of a failed job.
    """


# -- news


@hookspec
def flpoc_run_event(event: RunEvent) -> None:
    """Hear what happens in a job: states, rounds, failures.

    Called in the courier, a process beside the server, after the fact and in
    order. What it raises is logged, and that is all. Nothing is left out when
    the courier or the server is killed; what was just being told is told
    again. A plugin that is new hears what happens from then on.
    """
