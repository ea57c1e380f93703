"""``flpoc poc add-user | add-site | prepare-jobs-dir``: what comes to a proof of concept later."""

from __future__ import annotations

import os
from pathlib import Path

import click

from flpoc.cli.call import Call
from flpoc.cli.command import Command
from flpoc.cli.options import option
from flpoc.cli.progress import Progress
from flpoc.configuration import HOME_VARIABLE, Configuration, folder_named, poc_workspace
from flpoc.errors import UsageError
from flpoc.formatting import Report

_ORG = "The organisation.  [default: nvidia; with --force the one that is there]"


@click.command(
    "add-user",
    cls=Command,
    examples=("flpoc poc add-user lead ada@example.org", "flpoc poc add-user member bob@example.org --org hospital"),
    mutating=True,
    idempotent=False,
)
@click.argument("role", metavar="ROLE")
@click.argument("email")
@option("--org", metavar="ORG", default="", help=_ORG)
@click.option("--force", is_flag=True, help="Make a new kit for a user who is there.")
@click.option("-debug", "--debug", is_flag=True, help="Show where an error comes from.")
@click.pass_obj
def add_user(call: Call, *, role: str, email: str, org: str, force: bool, debug: bool) -> Report:
    """Make the kit of another user, and register it.

    ROLE is org_admin, lead or member. Nobody else's kit is touched, and the
    server may run.
    """
    from flpoc import poc as life

    settings = Configuration.load()
    with Progress("adding"):
        return life.add_user(
            poc_workspace(settings), role, email, plugins=call.plugins, configuration=settings, org=org, force=force
        )


@click.command(
    "add-site",
    cls=Command,
    examples=("flpoc poc add-site site-3", "flpoc poc add-site clinic --org hospital"),
    mutating=True,
    idempotent=False,
)
@click.argument("name")
@option("--org", metavar="ORG", default="", help=_ORG)
@click.option("--force", is_flag=True, help="Make a new kit for a site that is there.")
@click.option("-debug", "--debug", is_flag=True, help="Show where an error comes from.")
@click.pass_obj
def add_site(call: Call, name: str, org: str, force: bool, debug: bool) -> Report:
    """Make the kit of another site; `flpoc poc start -p NAME` starts it.

    Nobody else's kit is touched, and the server may run.
    """
    from flpoc import poc as life

    with Progress("adding"):
        return life.add_site(poc_workspace(Configuration.load()), name, plugins=call.plugins, org=org, force=force)


@click.command(
    "prepare-jobs-dir",
    cls=Command,
    examples=("flpoc poc prepare-jobs-dir -j jobs",),
    mutating=True,
    idempotent=True,
)
@option("-j", "--jobs-dir", "--jobs_dir", "folder", bare=None, metavar="DIR",
        help="The folder with jobs.  [default: $FLPOC_HOME/examples]")  # fmt: skip
@click.option("-debug", "--debug", is_flag=True, help="Show where an error comes from.")
def prepare_jobs_dir(folder: str | None, debug: bool) -> Report:
    """Remember a folder with jobs: `flpoc job submit -j NAME` looks for them there, too."""
    home = os.environ.get(HOME_VARIABLE, "").strip()
    if folder is None and not home:
        raise UsageError("-j is missing", hint=f"give the folder with your jobs, or set {HOME_VARIABLE}")
    path = folder_named(folder or str(Path(home) / "examples"), "-j", is_there=True)
    settings = Configuration.load().with_jobs(path)
    settings.save()
    data = {"jobs_dir": settings.jobs, "config_file": str(settings.path or "")}
    return Report(data=data, text=(f"Jobs are looked for in {settings.jobs}, too.",))
