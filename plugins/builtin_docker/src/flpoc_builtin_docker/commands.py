"""``flpoc image`` and ``flpoc deploy``; imported for ``flpoc --help``, so nothing else is imported here."""

from __future__ import annotations

from pathlib import Path

import click

from flpoc.cli.call import Call
from flpoc.cli.command import Group
from flpoc.cli.options import option
from flpoc.cli.progress import Progress
from flpoc.formatting import Report
from flpoc_builtin_docker.settings import OWN_IMAGE, DockerSettings


@click.group("image", cls=Group, help="Make container images with flpoc.")
def image() -> None:
    pass


@image.command(
    "build",
    examples=("flpoc image build", "flpoc image build --base myimage:1 --plugin docker"),
    mutating=True,
    idempotent=True,
)
@option("--base", metavar="IMAGE", help="An image with Python of this version.  [default: the official one, slim]")
@option("--tag", default=OWN_IMAGE, show_default=True, metavar="NAME", help="Name of what is made.")
@option("--plugin", "plugins", words=True, metavar="NAME", help="Plugins that go in.  [default: all]")
@option("-r", "--requirements", metavar="FILE", help="Further packages, one a line; copied from here.")
@click.pass_obj
def build(call: Call, base: str | None, tag: str, plugins: tuple[str, ...], requirements: str | None) -> Report:
    """Make an image with flpoc, plugins and what they need.

    Packages are copied from where flpoc is installed here: the image runs what runs here. No
    network is used, unless the base image must be fetched. Its Python must be of the same version.
    """
    from flpoc_builtin_docker import building
    from flpoc_builtin_docker.engine import address_of, client
    from flpoc_builtin_docker.pulling import fetch

    names = ["flpoc", *_distributions(call, plugins)]
    names += building.names_in(Path(requirements)) if requirements else []
    engine = address_of(DockerSettings())
    base = base or building.official_image()
    with Progress("building") as progress:
        api, say = client(engine, None), lambda text: progress.update(title=text)
        fetch(api, base, engine, say, what="image build", otherwise="--base names an image that is here")
        data = building.build(api, engine, base=base, tag=tag, names=names, say=say)
    packages = data["packages"]
    return Report(
        data=data,
        text=(
            f"Made {tag} from {base}: {len(packages)} packages, {data['size'] / 1e6:.0f} MB",
            f"Next: flpoc poc prepare -d {'' if tag == OWN_IMAGE else tag}".rstrip(),
        ),
    )


def _distributions(call: Call, wanted: tuple[str, ...]) -> list[str]:
    """Distributions of the plugins that go into an image."""
    from flpoc.errors import PluginError, did_you_mean

    there = {one.name: one.distribution for one in call.plugins.records if one.distribution and one.name != "core"}
    for name in wanted:
        if name not in there:
            raise PluginError(f"no plugin {name!r} is installed", hint=did_you_mean(name, there))
    return [there[name] for name in wanted] if wanted else list(there.values())


@click.group("deploy", cls=Group, help="Prepare startup kits for where they will run.")
def deploy() -> None:
    pass


@deploy.command(
    "prepare",
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
