"""``flpoc poc``: the life of a proof of concept on this machine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from flpoc.cli import suggest
from flpoc.cli.call import Call
from flpoc.cli.command import Group
from flpoc.cli.options import Number, option
from flpoc.cli.progress import Progress
from flpoc.configuration import WORKSPACE_VARIABLE, Configuration, folder_named, poc_workspace
from flpoc.errors import UsageError
from flpoc.formatting import Report

_MOST_SITES: Final = 1000
_SERVICE: Final[dict[str, Any]] = {"bare": None, "metavar": "NAME", "shell_complete": suggest.services}


_TABLE: Final = (
    ("add-site", "flpoc.cli.poc_add:add_site", "Make the kit of another site."),
    ("add-user", "flpoc.cli.poc_add:add_user", "Make the kit of another user."),
    ("prepare-jobs-dir", "flpoc.cli.poc_add:prepare_jobs_dir", "Remember a folder where jobs are looked for."),
)


@click.group(cls=Group, table=_TABLE, help="Prepare, start and stop a server and its sites on this machine.")
def poc() -> None:
    pass


@poc.command(
    "prepare",
    examples=("flpoc poc prepare -n 2 --force", "flpoc poc prepare -c hospital-a hospital-b --force"),
    mutating=True,
    idempotent=False,
)
@option(
    "-n", "--number-of-clients", "number", type=Number(int, low=1, high=_MOST_SITES), bare=2, default=2,
    show_default=True, help="How many sites: site-1, site-2, ...",
)  # fmt: skip
@option("-c", "--clients", words=True, metavar="NAME", help="Names of the sites, instead of -n.")
@click.option("-he", "--he", is_flag=True, help="Encrypt models on their way (homomorphic encryption).")
@option("-i", "--project-input", bare=None, metavar="FILE", help="A project.yml that says everything.")
@option("-d", "--docker-image", bare="", metavar="IMG", help="Run everything in containers, of this image.")
@click.option(
    "--launcher", metavar="NAME", shell_complete=suggest.launchers,
    help="Which installed launcher starts processes.  [default: local]",
)  # fmt: skip
@click.option("-debug", "--debug", is_flag=True, help="Show where an error comes from.")
@click.option("--force", is_flag=True, help="Replace what is prepared without asking; stop it first if it runs.")
@click.pass_obj
def prepare(
    call: Call,
    *,
    number: int,
    clients: tuple[str, ...],
    he: bool,
    project_input: str | None,
    docker_image: str | None,
    launcher: str | None,
    debug: bool,
    force: bool,
) -> Report:
    """Make a project and startup kits for a server, sites and users."""
    from flpoc import poc as life

    settings = Configuration.load()
    folder = poc_workspace(settings)
    name, with_settings = _launcher(launcher, docker_image)
    wanted = life.Wanted(
        sites=tuple(clients) or tuple(f"site-{place}" for place in range(1, number + 1)),
        project_file=Path(project_input).expanduser() if project_input else None,
        launcher=name,
        launcher_settings=with_settings,
        encrypted=he,
    )
    if project_input:
        if launcher:
            raise UsageError("--launcher and -i exclude each other", hint="write `launcher: NAME` into the file")
        options = {"number": "-n", "clients": "-c", "docker_image": "-d", "he": "-he"}
        _note_ignored(call, "-i", options, ": the project file says everything")
    if life.is_workspace(folder):
        if not force and life.is_running(folder, call.plugins):
            raise UsageError(
                f"the POC in {folder} runs", hint="stop it with `flpoc poc stop`, or give --force, which stops it"
            )
        if not call.confirm(f"{folder} is prepared already. Replace it, with all its jobs?", force=force):
            return Report(data={"workspace": str(folder), "status": "unchanged"}, text=("Nothing was changed.",))
        force = True
    with Progress("preparing") as progress:
        return life.prepare(
            folder,
            wanted,
            plugins=call.plugins,
            configuration=settings,
            force=force,
            say=lambda text: progress.update(title=text),
        )


def _note_ignored(call: Call, beside: str, options: dict[str, str], why: str = "") -> None:
    ctx = click.get_current_context()
    by_user = click.core.ParameterSource.COMMANDLINE
    given = [name for key, name in options.items() if ctx.get_parameter_source(key) is by_user]
    if given:
        have = "has" if len(given) == 1 else "have"
        call.note(f"{', '.join(given)} {have} no effect beside {beside}{why}.")


def _launcher(name: str | None, image: str | None) -> tuple[str, dict[str, Any]]:
    """``-d IMG`` is short for ``--launcher docker`` with that image."""
    if image is None:
        return name or "local", {}
    if name not in (None, "docker"):
        raise UsageError(f"-d and --launcher {name} exclude each other", hint="give one of them")
    return "docker", {"image": image} if image else {}


@poc.command(
    "start",
    examples=(
        "flpoc poc start",
        "flpoc poc start -p site-1 --no-wait",
        "flpoc poc start -ex site-2",
        "flpoc poc start -p admin@nvidia.com",
    ),
    mutating=True,
    idempotent=True,
)
@option("-p", "--service", **_SERVICE, help="Start only this participant; a user's console.")
@option("-ex", "--exclude", **_SERVICE, help="Start all but this participant.")
@option("-gpu", "--gpu", words=True, metavar="ID", help="Graphics processors for the sites, dealt in this order.")
@click.option("--study", metavar="NAME", default="", help="For consoles; server and sites serve all studies.")
@click.option("--no-wait", is_flag=True, help="Do not wait until all is ready.")
@option(
    "--timeout", type=Number(int, low=1, high=86400), default=30, show_default=True, metavar="SEC",
    help="How long to wait until all is ready.",
)  # fmt: skip
@option(
    "--port", type=Number(int, low=1, high=65535), metavar="PORT",
    help="Move the POC, which is stopped, to this port; it keeps it from then on.",
)  # fmt: skip
@click.option("-debug", "--debug", is_flag=True, help="Show where an error comes from.")
@click.pass_obj
def start(
    call: Call,
    *,
    service: str | None,
    exclude: str | None,
    gpu: tuple[str, ...],
    study: str,
    no_wait: bool,
    timeout: int,
    port: int | None,
    debug: bool,
) -> Report:
    """Start the server and its sites, and wait until they are ready.

    With -p and the name of a user, open that user's console instead.
    """
    from flpoc import poc as life

    folder = poc_workspace(Configuration.load())
    if service and (kit := life.user_kit(folder, service)) is not None:
        return _open_console(call, kit, study or "default")
    with _said_what_runs(call, folder), Progress("starting"):
        return life.start(
            folder,
            plugins=call.plugins,
            only=service or "",
            exclude=exclude or "",
            gpus=tuple(gpu) or None,
            study=study,
            wait=not no_wait,
            timeout=timeout,
            port=port or 0,
        )


@contextlib.contextmanager
def _said_what_runs(call: Call, folder: Path) -> Iterator[None]:
    """Tell whoever presses Ctrl-C whether something was started already."""
    from flpoc import poc as life

    try:
        yield
    except KeyboardInterrupt:
        with contextlib.suppress(Exception):  # whatever Ctrl-C has cut off is missing here
            if life.is_running(folder, call.plugins):
                call.part(
                    "What was started goes on. To wait until it is ready: flpoc poc start. To end it: flpoc poc stop."
                )
        raise


def _open_console(call: Call, kit: Path, study: str) -> Report:
    from flpoc.cli.console.opening import for_people, open_console
    from flpoc.errors import ConnectionFailed, ServiceError

    for_people(call)
    options = {"exclude": "-ex", "gpu": "-gpu", "no_wait": "--no-wait", "timeout": "--timeout", "port": "--port"}
    _note_ignored(call, "a console", options)
    try:
        return open_console(call, kit, study=study)
    except ConnectionFailed as error:
        hint = f"start the POC first: flpoc poc start; then: flpoc poc start -p {kit.name}"
        raise ServiceError(f"the server of the POC does not answer: {error.message}", hint=hint) from None


@poc.command("stop", examples=("flpoc poc stop", "flpoc poc stop -p site-1"), mutating=True, idempotent=True)
@option("-p", "--service", **_SERVICE, help="Stop only this participant.")
@option("-ex", "--exclude", **_SERVICE, help="Stop all but this participant.")
@click.option("--no-wait", is_flag=True, help="Return at once; the work goes on in the background.")
@click.option("-debug", "--debug", is_flag=True, help="Show where an error comes from.")
@click.pass_obj
def stop(call: Call, service: str | None, exclude: str | None, no_wait: bool, debug: bool) -> Report:
    """Stop the server and its sites; running jobs go on at the next start."""
    from flpoc import poc as life

    with Progress("stopping"):
        return life.stop(
            poc_workspace(Configuration.load()),
            plugins=call.plugins,
            only=service or "",
            exclude=exclude or "",
            wait=not no_wait,
        )


@poc.command("clean", examples=("flpoc poc clean --force",), mutating=True, idempotent=False)
@click.option("--force", is_flag=True, help="Stop it first if it runs.")
@click.option("-debug", "--debug", is_flag=True, help="Show where an error comes from.")
@click.pass_obj
def clean(call: Call, force: bool, debug: bool) -> Report:
    """Remove the workspace with all that is in it, and the registrations of its kits."""
    from flpoc import poc as life

    settings = Configuration.load()
    with Progress("removing"):
        return life.clean(poc_workspace(settings), plugins=call.plugins, configuration=settings, force=force)


@poc.command("config", examples=("flpoc poc config",), mutating=True, idempotent=True)
@option("-pw", "--pw", "--poc-workspace-dir", "workspace", bare=None, metavar="DIR", help="Where the POC is to live.")
@click.pass_obj
def config(call: Call, workspace: str | None) -> Report:
    """Show where the POC lives, or set it."""
    settings = Configuration.load()
    if workspace is not None:
        settings = settings.with_workspace(folder_named(workspace, "-pw"))
        settings.save()
    override = os.environ.get(WORKSPACE_VARIABLE, "").strip()
    found = str(poc_workspace(settings, {})) if workspace is not None else str(poc_workspace(settings))
    data: dict[str, Any] = {"config_file": str(settings.path or ""), "poc_workspace_dir": found}
    if workspace is None:
        data |= {"env_override": override or None, "jobs_dir": settings.jobs or None}
    warnings = [f"{WORKSPACE_VARIABLE} is set to {override} and comes first."] if override else []
    text = [f"Workspace:     {found}", f"Configuration: {settings.path or '-'}"]
    if settings.jobs:
        text.append(f"Jobs:          {settings.jobs}")
    return Report(data=data, text=text, warnings=warnings)
