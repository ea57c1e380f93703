"""``flpoc config``: this user's settings, and the startup kits that commands can use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from flpoc.cli import suggest
from flpoc.cli.command import Group
from flpoc.cli.config_kits import identity_of_kit, kit_row
from flpoc.cli.options import option
from flpoc.configuration import KIT_VARIABLE, Configuration, folder_named, poc_workspace
from flpoc.errors import KitError, UsageError
from flpoc.formatting import Report, Table


@click.group(cls=Group, invoke_without_command=True, mutating=True)
@option("-d", "--startup-kit-dir", "kit_dir", metavar="DIR",
        help="Register this kit under its user's name and use it. Deprecated: config add, config use.")  # fmt: skip
@option("-pw", "--poc-workspace-dir", "workspace", metavar="DIR",
        help="Keep the proof of concept in this folder. Deprecated: poc config -pw.")  # fmt: skip
@option("-jt", "--job-templates-dir", "templates", metavar="DIR",
        help="Look for job templates in this folder. Deprecated: job list-templates -d.")  # fmt: skip
@click.pass_context
def config(ctx: click.Context, kit_dir: str | None, workspace: str | None, templates: str | None) -> Report | None:
    """Show and change this user's settings and startup kits."""
    given = {"-d": kit_dir, "-pw": workspace, "-jt": templates}
    if ctx.invoked_subcommand is not None:
        if wrong := [name for name, value in given.items() if value]:
            raise click.UsageError(f"{wrong[0]} stands alone, not before {ctx.invoked_subcommand!r}.", ctx)
        return None
    found = Configuration.load()
    changed, warnings = _changed(found, given)
    if changed != found:
        changed.save()
    data = {
        "config_file": str(changed.path) if changed.path else None,
        "poc_workspace_dir": str(poc_workspace(changed)),
        "active_startup_kit": changed.active or None,
    }
    if changed.jobs:
        data["jobs_dir"] = changed.jobs
    if changed.job_templates:
        data["job_templates_dir"] = changed.job_templates
    return Report(data=data, warnings=[*warnings, *_override()])


_CHOOSE = "`flpoc config use ID` activates one"
#: What does now what these spellings did.
_INSTEAD = {
    "-d": "`flpoc config add ID DIR` and `flpoc config use ID`",
    "-pw": "`flpoc poc config -pw DIR`",
    "-jt": "`flpoc job list-templates -d DIR`",
}


def _changed(found: Configuration, given: Mapping[str, str | None]) -> tuple[Configuration, list[str]]:
    """The configuration with what the deprecated spellings set, and what is to be said about them."""
    warnings = [f"`flpoc config {name}` is deprecated: use {_INSTEAD[name]}." for name, value in given.items() if value]
    changed = found
    if kit_dir := given["-d"]:
        folder = _user_kit(kit_dir)
        name = identity_of_kit(folder)["name"]
        if (before := found.kits.get(name)) not in (None, str(folder)):
            warnings.append(f"{name} was registered for {before}; it is now {folder}.")
        changed = changed.with_kit(name, folder).activate(name)
    if workspace := given["-pw"]:
        changed = changed.with_workspace(folder_named(workspace, "-pw"))
    if templates := given["-jt"]:
        changed = changed.with_job_templates(folder_named(templates, "-jt", is_there=True))
    return changed, warnings


@config.command("add", examples=("flpoc config add me@example.org KIT_DIR",), mutating=True, idempotent=True)
@click.argument("kit_id", metavar="ID")
@click.argument("folder", metavar="DIR")
@option("--force", is_flag=True, help="Replace a kit that is registered under this id.")
def add(kit_id: str, folder: str, force: bool) -> Report:
    """Register a startup kit under an id; commands use it with --kit-id ID, or after `config use ID`."""
    from shlex import quote

    found = Configuration.load()
    path = _user_kit(folder)
    if kit_id in found.kits and found.kits[kit_id] != str(path) and not force:
        raise UsageError(f"{kit_id!r} is registered for {found.kits[kit_id]}", hint="give --force to replace it")
    found.with_kit(kit_id, path).save()
    step = f"flpoc config use {quote(kit_id)}"
    data = {"registered_startup_kit": kit_id, "path": str(path), "next_step": step}
    return Report(data=data, text=(f"Registered {kit_id}: {path}", f"To use it: {step}"))


@config.command("use", examples=("flpoc config use me@example.org",), mutating=True, idempotent=True)
@click.argument("kit_id", metavar="ID", shell_complete=suggest.kit_ids)
def use(kit_id: str) -> Report:
    """Make a registered startup kit the one that commands use."""
    changed = Configuration.load().activate(kit_id)
    path = _user_kit(changed.kits[kit_id])
    changed.save()
    row = kit_row(changed, kit_id)
    finding = {
        "code": "CONFIG_USE_MUTATES_GLOBAL_STATE",
        "severity": "warning",
        "message": "every command of this user now uses this kit; --kit-id chooses one for a single command",
    }
    data = {
        "startup_kit": {"source": "active", "id": kit_id, "path": str(path)},
        "identity": {"name": row["identity"], "org": row["org"], "role": row["role"]},
        "project": row["project"],
        "certificate": row["certificate"],
        "findings": [finding, *row["findings"]],
    }
    return Report(data=data, text=(_table([row]),), warnings=_override())


@config.command("list", examples=("flpoc config list",), mutating=False, idempotent=True)
def list_kits() -> Report:
    """List the registered startup kits."""
    found = Configuration.load()
    rows = [kit_row(found, kit_id) for kit_id in sorted(found.kits)]
    if not rows:
        return Report(
            data=rows, text=("No startup kits. `flpoc config add ID DIR` registers one.",), warnings=_override()
        )
    findings = [one["message"] for row in rows for one in row["findings"]]
    return Report(data=rows, text=(_table(rows), *findings), warnings=_override())


@config.command("inspect", examples=("flpoc config inspect",), mutating=False, idempotent=True)
def inspect() -> Report:
    """Show the active startup kit and whose it is."""
    found = Configuration.load()
    if found.active not in found.kits:
        finding = {
            "code": "NO_ACTIVE_STARTUP_KIT",
            "severity": "warning",
            "message": f"no startup kit is active; {_CHOOSE}",
        }
        unknown = dict.fromkeys(("path", "status", "identity", "cert_role", "role", "org", "project", "certificate"))
        data: dict[str, Any] = {"active": None, "config_file": str(found.path or ""), **unknown, "findings": [finding]}
        return Report(data=data, text=("No startup kit is active.",), warnings=_override(), hint=_CHOOSE)
    row = kit_row(found, found.active)
    return Report(
        data={**row, "active": found.active, "config_file": str(found.path or "")},
        text=(_table([row]), *(one["message"] for one in row["findings"])),
        warnings=_override(),
    )


@config.command("remove", examples=("flpoc config remove me@example.org",), mutating=True, idempotent=False)
@click.argument("kit_id", metavar="ID", shell_complete=suggest.kit_ids)
def remove(kit_id: str) -> Report:
    """Forget a registered startup kit; its folder stays."""
    found = Configuration.load()
    changed = found.without_kit(kit_id)
    changed.save()
    data: dict[str, Any] = {"removed_startup_kit": kit_id}
    warnings: list[str] = []
    if found.active == kit_id:
        warnings.append(f"{kit_id} was the active kit; none is active now")
        data |= {"warning": warnings[0], "next_step": "flpoc config use ID"}
    return Report(data=data, text=(f"Removed {kit_id}.",), warnings=warnings)


def _user_kit(folder: str) -> Path:
    """The folder of a user's kit; anything else cannot be registered."""
    from flpoc.provision.kit_settings import find_kit

    try:
        found, kind = find_kit(Path(folder).expanduser().absolute())
    except KitError as error:
        raise UsageError(error.message, hint=error.hint) from None
    if kind != "user":
        raise UsageError(f"{found} is the kit of a {kind}", hint="commands use the kit of a user")
    return found


def _override() -> list[str]:
    named = os.environ.get(KIT_VARIABLE, "").strip()
    return [f"{KIT_VARIABLE} is set to {named}: commands use that kit, not the active one"] if named else []


def _table(rows: list[dict[str, Any]]) -> Table:
    heads = ("active", "id", "status", "identity", "cert_role", "path")
    return Table(heads, tuple(tuple(str(row[head] or "") for head in heads) for row in rows))
