"""Adding a user or a site to a proof of concept that is there, also while it runs: nobody else's kit is touched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from flpoc.errors import ConfigError, FlpocError, KitError, UsageError, did_you_mean
from flpoc.formatting import Report
from flpoc.poc import workspace as places
from flpoc.poc.checks import check_project
from flpoc.poc.preparing import refuse_own_name, settle
from flpoc.poc.services import Services
from flpoc.poc.workspace import Workspace, locked, open_workspace
from flpoc.provision.project_rules import SAMPLE_ORG
from flpoc.provision.project_rules import check_project as check_rules
from flpoc.provisioning import Participant, Project

if TYPE_CHECKING:
    from flpoc.configuration import Configuration
    from flpoc.plugins import Plugins

#: Who can be added; the project_admin is made with the project.
ROLES: Final = ("org_admin", "lead", "member")


def add_user(
    folder: Path,
    role: str,
    email: str,
    *,
    plugins: Plugins,
    configuration: Configuration,
    org: str = "",
    force: bool = False,
) -> Report:
    """Make the kit of another user, and register it. The active kit stays the active one.

    Args:
        folder: The workspace.
        role: ``org_admin``, ``lead`` or ``member``.
        email: The user's name.
        plugins: What is installed.
        configuration: Where the kit is registered; it is saved.
        org: The user's organisation; empty for the one that a user has who is there, else ``nvidia``.
        force: Make the kit of a user who is there anew.

    Raises:
        UsageError: There is no such workspace, or the user cannot be added to it.
        ConfigError: A check of a plugin refuses the project.
    """
    role = role.replace("-", "_")
    if role == "project_admin":
        raise UsageError("a project_admin cannot be added", hint="the project has one since `flpoc poc prepare`")
    if role not in ROLES:
        raise UsageError(f"{role!r} is not a role", hint=did_you_mean(role, ROLES, f"roles: {', '.join(ROLES)}"))
    with locked(folder.resolve()):
        added = _add(folder, Participant(email, "user", org, role=role), plugins, force)
        data, warnings = _register(added, configuration)
    said = f"{added.what} {email} ({role}, org {data['org']})."
    use = f"Active: {data['active']}" if "active" in data else f"Next:   {data['next_step']}"
    return Report(data=data, text=(said, f"Kit:    {added.kit}", use), warnings=[*added.warnings, *warnings])


def add_site(folder: Path, name: str, *, plugins: Plugins, org: str = "", force: bool = False) -> Report:
    """Make the kit of another site; it can be started at once.

    Args:
        folder: The workspace.
        name: The site.
        plugins: What is installed.
        org: Its organisation; empty for the one that a site has which is there, else ``nvidia``.
        force: Make the kit of a site that is there anew.

    Raises:
        UsageError: There is no such workspace, or the site cannot be added to it.
        ConfigError: A check of a plugin refuses the project.
    """
    refuse_own_name([name])
    with locked(folder.resolve()):
        added = _add(folder, Participant(name, "site", org), plugins, force)
        data = _data(added)
        warnings = list(added.warnings)
        if added.is_update and name in Services(added.workspace.folder, plugins, added.workspace).running():
            warnings.append(f"{name} runs with its former kit until it is stopped and started again.")
    step = f"flpoc poc start -p {name}"
    said = f"{added.what} {name} (org {data['org']})."
    return Report(
        data={**data, "id": name, "next_step": step},
        text=(said, f"Kit:    {added.kit}", f"Next:   {step}"),
        warnings=warnings,
    )


@attrs.frozen
class _Added:
    """A participant with its new kit."""

    workspace: Workspace
    participant: Participant
    kit: Path
    is_update: bool
    warnings: tuple[str, ...]

    @property
    def what(self) -> str:
        """What was done, in a word."""
        return "Updated" if self.is_update else "Added"


def _add(folder: Path, new: Participant, plugins: Plugins, force: bool) -> _Added:
    """Make the kit, then write the project that has its owner.

    A command that was killed in between leaves a kit that no project names;
    the next one replaces it.
    """
    from flpoc.provision.building import add_kits
    from flpoc.provision.project_file import write_project

    workspace = open_workspace(folder)
    before = next((one for one in workspace.project.participants if one.name.casefold() == new.name.casefold()), None)
    new = attrs.evolve(new, org=new.org or (before.org if before is not None else SAMPLE_ORG))
    project = with_participant(workspace.project, new, before, force)
    found = check_project(project, plugins)
    serial = _serial(workspace.kit(new.name)) if before is not None else ""
    try:
        kit = add_kits(project, workspace.folder, [new.name], plugins=plugins, replace=True)[new.name]
    except KitError as error:
        raise UsageError(error.message, hint=error.hint) from None
    if new.kind == "site" and before is None:
        settings = workspace.marker.launcher_settings
        launcher = plugins.create("launchers", project.launcher, settings)
        settle(kit, project, launcher, settings, workspace.folder / places.DATA)
    write_project(project, workspace.folder / places.PROJECT_FILE)
    warnings = list(found.warnings)
    if serial:
        warnings.append(
            f"The certificate that {new.name} had before stays valid until it ends; "
            f"`flpoc cert revoke --serial {serial}` locks it out."
        )
    return _Added(attrs.evolve(workspace, project=project), new, kit, before is not None, tuple(warnings))


def _serial(kit: Path) -> str:
    """The serial number of a kit's certificate; empty if it has none that can be read."""
    from flpoc.provision.identity import identity_of
    from flpoc.provision.kit_settings import STARTUP, STEM

    certificate = kit / STARTUP / f"{STEM['user']}.crt"  # a site's has the same name
    try:
        return f"{identity_of(certificate.read_bytes()).serial:x}"
    except (OSError, FlpocError):
        return ""


def with_participant(project: Project, new: Participant, before: Participant | None, force: bool) -> Project:
    """The project with another participant, or one of its own changed; *before* is who has that name now.

    Raises:
        UsageError: The name cannot be used, or belongs to somebody else.
    """
    if before is not None:
        _refuse_change(new, before, force)
        new = attrs.evolve(new, connect_to=before.connect_to)
    others = [new if one == before else one for one in project.participants]
    changed = attrs.evolve(project, participants=tuple(others if before is not None else [*others, new]))
    try:
        check_rules(changed)
    except ConfigError as error:
        _, _, said = error.message.partition(": ")
        raise UsageError(said or error.message, hint=error.hint) from None
    return changed


def _refuse_change(new: Participant, before: Participant, force: bool) -> None:
    if before.kind != new.kind:
        raise UsageError(f"{before.name!r} is the name of the project's {before.kind}", hint="choose another name")
    if before.name != new.name:
        raise UsageError(f"{new.name!r} differs from {before.name!r} only in case", hint="choose another name")
    if before.role != new.role:
        raise UsageError(
            f"{new.name} is {before.role}: the role of a user cannot be changed", hint="add another user with that role"
        )
    if not force:
        raise UsageError(f"{new.name} is there already", hint="--force makes a new kit for it")


def _data(added: _Added, kit_id: str = "") -> dict[str, Any]:
    one = added.participant
    who = {"id": kit_id, "identity": one.name, "cert_role": one.role} if one.kind == "user" else {"name": one.name}
    return {
        "status": "updated" if added.is_update else "added",
        "type": one.kind,
        **who,
        "org": one.org,
        "startup_kit": str(added.kit),
        "prod_dir": str(added.workspace.prod),
    }


def _register(added: _Added, configuration: Configuration) -> tuple[dict[str, Any], list[str]]:
    """Register a user's kit, and activate it only if none is active."""
    from shlex import quote

    from flpoc.configuration import register_poc_kit

    name = added.participant.name
    changed, kit_id, warnings = register_poc_kit(configuration, added.workspace.folder, name, added.kit)
    is_first = configuration.active not in configuration.kits
    if is_first:
        changed = changed.activate(kit_id)
    data = _data(added, kit_id)
    try:
        changed.save()
    except FlpocError as error:
        step = f"--startup-kit {added.kit}"
        return {**data, "next_step": step}, [*warnings, f"The kit is not registered: {error.message}. Use {step}."]
    step = f"flpoc config use {quote(kit_id)}"
    return {**data, **({"active": kit_id} if is_first else {"next_step": step})}, warnings
