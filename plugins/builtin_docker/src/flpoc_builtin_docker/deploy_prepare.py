"""``flpoc deploy prepare``."""

from __future__ import annotations

from pathlib import Path

import click

from flpoc.cli.command import Command
from flpoc.cli.options import option
from flpoc.formatting import Report
from flpoc_builtin_docker.settings import OWN_IMAGE


@click.command(
    "prepare",
    cls=Command,
    examples=("flpoc deploy prepare workspace/example_project/prod_00/site-1 --runtime docker",),
    mutating=True,
    idempotent=False,
)
@click.argument("kit", metavar="[KIT]", required=False)
@option("--kit", "named", metavar="DIR", help="The startup kit, where it is not an argument.")
@option("--runtime", type=click.Choice(["docker"]), help="Where it will run; there is one choice yet.")
@option("-d", "--docker-image", "image_name", metavar="IMAGE", help=f"Its image.  [default: {OWN_IMAGE}]")
@option("--config", metavar="FILE", help="Settings: runtime, parent.docker_image.  [default: KIT/config.yaml if any]")
@option("--output", metavar="DIR", help="Where the prepared kit is put.  [default: KIT/prepared/docker]")
@option("--force", is_flag=True, help="Replace an earlier copy; the state in it stays.")
def prepare(
    *,
    kit: str | None,
    named: str | None,
    runtime: str | None,
    image_name: str | None,
    config: str | None,
    output: str | None,
    force: bool,
) -> Report:
    """Make a copy of a startup kit that starts in containers with one command.

    The copy holds that participant's files only. Its start script and its compose file need nothing on the
    machine but Docker and the image.
    """
    from flpoc.errors import UsageError
    from flpoc.settings import structure
    from flpoc_builtin_docker.deploying import DeployConfig, Parent, config_for
    from flpoc_builtin_docker.deploying import prepare as make

    if bool(kit) == bool(named):
        raise UsageError("give one startup kit", hint="flpoc deploy prepare KIT")
    folder = Path(kit or named or "")
    wanted = config_for(folder, Path(config) if config else None)
    if image_name:
        wanted = DeployConfig(wanted.runtime, structure({"docker_image": image_name}, Parent, where="--docker-image"))
    data = make(folder, wanted, output=Path(output) if output else None, force=force)
    text = (
        f"Prepared: {data['output']} ({data['role']} {data['name']})",
        f"Start it there: {data['start_command']}",
        f"or there with Docker Compose, as {data['compose_file']} says",
    )
    return Report(data=data, text=text)
