"""``flpoc provision``: startup kits for all participants of a project, made in one place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from flpoc.cli.call import Call
from flpoc.cli.command import Command
from flpoc.cli.options import option
from flpoc.cli.progress import Progress
from flpoc.errors import UsageError
from flpoc.formatting import Report
from flpoc.provisioning import Kind, Project

DEFAULT_FILE: Final = "project.yml"
#: Options of a comparable system: why each has no effect.
_IGNORED: Final = {
    "custom_folder": "-c has no effect: what is to be added to kits comes from installed plugins (flpoc_kit_files)",
    "edge": "-e has no effect: there are no edge devices; -g writes a sample project",
    "scripts": "-s has no effect: kits have the scripts that they need",
}
_KEYS: Final = (
    "These kits hold private keys that were made here: bring each to its owner on a way that nobody else can read, and "
    "keep no copy. With `flpoc cert request` keys are made where they are used and never travel"
)


@click.command(
    "provision",
    cls=Command,
    examples=(
        "flpoc provision -g",
        "flpoc provision -p project.yml",
        "flpoc provision -p project.yml --add-client site-3.yml",
        "flpoc provision -p project.yml --add-user alice.yml -w workspace",
    ),
    mutating=True,
    idempotent=False,
)
@option("-p", "--project-file", metavar="FILE", help="The project.  [default: project.yml, if it is there]")
@option("-g", "--generate", is_flag=True, help="Write a sample project.yml, and nothing else.")
@option("-w", "--workspace", default="workspace", show_default=True, metavar="DIR", help="Where kits are made.")
@option("--add-user", metavar="FILE", help="Make the kit of one more user: name, org, role.")
@option("--add-client", metavar="FILE", help="Make the kit of one more site: name, org.")
@option("-c", "--custom-folder", metavar="DIR", help="Has no effect: plugins add what kits need.")
@option("-e", "--edge", is_flag=True, help="Has no effect.")
@option("-s", "--scripts", is_flag=True, help="Has no effect.")
@option("--force", is_flag=True, help="Go on without asking where something is there already.")
@click.pass_obj
def provision(
    call: Call,
    *,
    project_file: str | None,
    generate: bool,
    workspace: str,
    add_user: str | None,
    add_client: str | None,
    custom_folder: str | None,
    edge: bool,
    scripts: bool,
    force: bool,
) -> Report:
    """Make startup kits for a server, sites and users, with a certificate authority for the project.

    The CA is made the first time, in WORKSPACE/PROJECT/ca, and used from then on. Its key is
    encrypted if FLPOC_CA_PASSPHRASE is set. A second call makes a new generation of kits,
    prod_01, beside prod_00; --add-user and --add-client put one more kit into the newest.
    """
    given = {"custom_folder": custom_folder, "edge": edge, "scripts": scripts}
    warnings = [why for name, why in _IGNORED.items() if given[name]]
    if generate:
        if project_file or add_user or add_client:
            raise UsageError("-g only writes a sample: it excludes -p, --add-user and --add-client")
        return _sample(call, warnings, force=force)
    path = _file(project_file)
    if add_user or add_client:
        return _add(call, path, Path(workspace), (("user", add_user), ("site", add_client)), warnings, force=force)
    return _all(call, path, Path(workspace), warnings, force=force)


def _file(given: str | None) -> Path:
    if given is not None:
        return Path(given)
    if not Path(DEFAULT_FILE).exists():
        raise UsageError(
            f"there is no {DEFAULT_FILE} here, and -p names no other",
            hint="give a project with -p FILE; `flpoc provision -g` writes a sample",
        )
    return Path(DEFAULT_FILE)


def _sample(call: Call, warnings: Sequence[str], *, force: bool) -> Report:
    from flpoc.provision.project_file import write_whole
    from flpoc.provision.sample import SAMPLE

    path = Path(DEFAULT_FILE).absolute()
    command = f"flpoc provision -p {DEFAULT_FILE}"
    if (path.exists() or path.is_symlink()) and not call.confirm(
        f"{DEFAULT_FILE} is there already. Replace it?", force=force
    ):
        return Report(data={"project_yml": str(path), "message": "nothing was changed"}, text=("Nothing was changed.",))
    write_whole(path, SAMPLE)
    step = "change names, organisations and the server's address in it"
    data = {
        "project_yml": str(path),
        "message": "a sample project was written",
        "next_step": step,
        "suggested_command": command,
    }
    text = (f"Sample: {path}", f"Next:   {step}; then: {command}")
    return Report(data=data, text=text, warnings=warnings)


def _all(call: Call, path: Path, workspace: Path, warnings: Sequence[str], *, force: bool) -> Report:
    from flpoc.poc.checks import check_project, not_there
    from flpoc.provision.building import latest_prod, provision
    from flpoc.provision.project_file import read_project

    project, odd = read_project(path)
    found = check_project(project, call.plugins)
    newest = latest_prod(workspace / project.name)
    if newest is not None and not call.confirm(
        f"{workspace / project.name} has kits of this project already. Make a new generation beside {newest.name}?",
        force=force,
    ):
        data = {"workspace": str(workspace.absolute()), "packages": []}
        return Report(data=data, text=("Nothing was changed.",))
    with Progress("making kits"):
        prod = provision(project, workspace, plugins=call.plugins)
    kits = [prod / one.name for one in project.participants]
    said = [*warnings, *odd, *found.warnings, *not_there(call.plugins, project.plugins), _KEYS]
    return _report(project, workspace, prod, kits, said)


def _add(
    call: Call,
    path: Path,
    workspace: Path,
    files: Sequence[tuple[Kind, str | None]],
    warnings: Sequence[str],
    *,
    force: bool,
) -> Report:
    from flpoc.provision.building import add_kits
    from flpoc.provision.project_file import read_participant, read_project, with_participant

    project, odd = read_project(path)
    said = [*warnings, *odd]
    names = []
    for kind, file in files:
        if file is not None:
            one, more = read_participant(Path(file), kind)
            project = with_participant(project, one)
            names.append(one.name)
            said += more
    with Progress("making kits"):
        made = add_kits(project, workspace, names, plugins=call.plugins, replace=force)
    said.append(f"{path} is as it was: write {', '.join(names)} into it if all kits are to be made anew one day")
    return _report(project, workspace, next(iter(made.values())).parent, list(made.values()), [*said, _KEYS])


def _report(project: Project, workspace: Path, prod: Path, kits: Sequence[Path], warnings: Sequence[str]) -> Report:
    data = {
        "workspace": str(workspace.absolute()),
        "project": project.name,
        "prod_dir": str(prod.absolute()),
        "ca_dir": str((prod.parent / "ca").absolute()),
        "packages": [str(one.absolute()) for one in kits],
    }
    text = (
        f"Kits: {prod}",
        *(f"      {one.name}" for one in kits),
        f"CA:   {prod.parent / 'ca'} (keep it: more kits can only be made with it)",
        "Next: bring each kit to its owner; there, `flpoc preflight-check -p KIT`, then KIT/startup/start.sh",
    )
    return Report(data=data, text=text, warnings=warnings)
