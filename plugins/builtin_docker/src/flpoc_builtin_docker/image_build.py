"""``flpoc image build``."""

from __future__ import annotations

from pathlib import Path

import click

from flpoc.cli.call import Call
from flpoc.cli.command import Command
from flpoc.cli.options import option
from flpoc.cli.progress import Progress
from flpoc.formatting import Report
from flpoc_builtin_docker.settings import OWN_IMAGE, DockerSettings


@click.command(
    "build",
    cls=Command,
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
