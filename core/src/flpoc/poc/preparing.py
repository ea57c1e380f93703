"""Preparing a proof of concept: project, startup kits, port, registration."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from flpoc.errors import ConfigError, FlpocError, PluginError, UsageError
from flpoc.formatting import Report
from flpoc.launching import HERE, Launcher
from flpoc.poc import workspace as places
from flpoc.poc.checks import check_project, left_out, not_for_services, not_there
from flpoc.poc.consoles import end_consoles
from flpoc.poc.services import Services, some
from flpoc.poc.workspace import Marker, Workspace, foreign_entries, is_workspace, locked, make_workspace_folder
from flpoc.provisioning import Project

if TYPE_CHECKING:
    from flpoc.configuration import Configuration
    from flpoc.plugins import Plugins

DEFAULT_PORT: Final = 8002
_HE: Final = "he"


@attrs.frozen
class Wanted:
    """What a proof of concept is to be.

    Attributes:
        sites: Names of the sites.
        project_file: A project file that says everything; the other attributes are then not used.
        launcher: Which installed launcher starts services and jobs.
        launcher_settings: Its settings.
        encrypted: Whether models are encrypted on their way (homomorphic encryption).
    """

    sites: tuple[str, ...] = ("site-1", "site-2")
    project_file: Path | None = None
    launcher: str = "local"
    launcher_settings: Mapping[str, Any] = attrs.field(factory=dict)
    encrypted: bool = False


def prepare(
    folder: Path,
    wanted: Wanted,
    *,
    plugins: Plugins,
    configuration: Configuration,
    force: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Make a workspace with a project and the kits of its participants, and register its users' kits.

    Args:
        folder: The workspace.
        wanted: What to make.
        plugins: What is installed.
        configuration: Where kits are registered; it is saved.
        force: Replace a workspace that is there; what runs in it is stopped first.
        say: Hears what takes long.

    Returns:
        What was made, and with which port.

    Raises:
        UsageError: The folder cannot be used, or is in use.
        ConfigError: The project is wrong, or a check of a plugin refuses it.
        PluginError: A plugin that is wanted is not installed.
    """
    project, warnings = _project(folder, wanted, plugins)
    found = check_project(project, plugins)
    warnings = [*warnings, *found.warnings]
    launcher = plugins.create("launchers", project.launcher, wanted.launcher_settings)
    launcher_settings = {**wanted.launcher_settings, **launcher.make_ready(say)}
    if not is_workspace(folder):
        _refuse_strangers(folder)  # before anything is touched, be it only the folder's mode
    is_new = not os.path.exists(folder)  # noqa: PTH110 - unlike pathlib's, false where we may not look
    folder = make_workspace_folder(folder)
    try:
        with locked(folder):
            before = _marker_there(folder, force)
            stopped = _stop_what_runs(folder, plugins, force)
            if wanted.project_file is None:
                port, why = _choose_port(configuration, folder)
                project, warnings = attrs.evolve(project, port=port), [*warnings, *why]
            replaced = _make(folder, project, launcher_settings, before, plugins)
            workspace = places.open_workspace(folder)
            registered, more = _register(workspace, configuration)
            preflight = port_preflight(project.port)
            done = {"startup_kit": registered, "port_preflight": preflight, "stopped": stopped, "replaced": replaced}
            checks = [attrs.asdict(one) for one in found.checks]
            data = {**_description(workspace), **done, "checks": checks}
            if preflight["conflicts"]:
                more = [*more, preflight["message"]]
            return Report(data=data, text=_text(data), warnings=[*warnings, *more])
    except BaseException:
        if not is_workspace(folder):
            places.remove_set_aside(folder)
            (folder / places.LOCK).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # somebody put something there meanwhile
                if is_new:
                    folder.rmdir()
        raise


def _make(
    folder: Path, project: Project, launcher_settings: Mapping[str, Any], before: Marker | None, plugins: Plugins
) -> list[str]:
    """Build everything aside, then put it in place; names what was replaced."""
    after = Marker((places.PROJECT_FILE, places.DATA, places.STATE, project.name), launcher_settings)
    with _building(folder) as new:
        _build(new, project, plugins, folder / places.DATA, launcher_settings)
        return _publish(folder, new, before, after)


def _description(workspace: Workspace) -> dict[str, Any]:
    project = workspace.project
    return {
        "workspace": str(workspace.folder),
        "project": project.name,
        "prod_dir": str(workspace.prod),
        "server": project.server.name,
        "clients": [site.name for site in project.sites],
        "users": [user.name for user in project.users],
        "launcher": project.launcher,
        "port": project.port,
        "server_address": workspace.address,
    }


def _project(folder: Path, wanted: Wanted, plugins: Plugins) -> tuple[Project, list[str]]:
    """The project to make, its plugins found, before anything is touched."""
    from flpoc.provision.project_file import read_project, sample_project

    if wanted.project_file is not None:
        path = wanted.project_file.resolve()
        if path.is_relative_to(folder.resolve()):
            raise UsageError(f"{path} lies in the workspace, which is replaced", hint="keep it somewhere else")
        project, warnings = read_project(path)
        plugins.find("launchers", project.launcher)
        refuse_own_name([one.name for one in project.participants])
        return project, [*warnings, *not_there(plugins, project.plugins)]
    if not wanted.sites:
        raise UsageError("a proof of concept needs at least one site", hint="for example: flpoc poc prepare -n 2")
    refuse_own_name(wanted.sites)
    offer = plugins.find("launchers", wanted.launcher)
    if wanted.launcher_settings:
        from flpoc.settings import structure

        structure(dict(wanted.launcher_settings), offer.component.settings, where=f"launcher.{wanted.launcher}")
    named, warnings = _plugins_of(plugins, [offer.plugin.name, *_cipher_plugin(wanted, plugins)])
    project = sample_project(wanted.sites, port=DEFAULT_PORT, launcher=wanted.launcher)
    return attrs.evolve(project, plugins=named), warnings


def _plugins_of(plugins: Plugins, needed: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """What a project without a file names: all that is loaded and that its services could load; and what it is not."""
    loaded = [one for one in plugins.records if one.state.value == "loaded" and one.name != "core"]
    unfit = not_for_services([one.name for one in loaded if not one.distribution])
    if wrong := [name for name in needed if name in unfit]:
        raise PluginError(
            f"the POC needs plugin {wrong[0]}, which its server and sites could not load",
            hint="install it as a package: `flpoc plugins new` makes one",
        )
    names = dict.fromkeys([*(one.name for one in loaded if one.name not in unfit), *needed])
    return tuple(names), left_out(plugins, unfit)


def refuse_own_name(names: Sequence[str]) -> None:
    """Refuse a name that the workspace needs itself: one folder beside the participants' states is its own."""
    if any(name.casefold() == places.OWN_STATE for name in names):
        raise UsageError(f"{places.OWN_STATE!r} is a reserved name in a proof of concept", hint="choose another name")


def _cipher_plugin(wanted: Wanted, plugins: Plugins) -> list[str]:
    if not wanted.encrypted:
        return []
    try:
        return [plugins.find("ciphers", _HE).plugin.name]
    except PluginError as error:
        if error.code != "PLUGIN_NOT_FOUND":
            raise
        raise PluginError("homomorphic encryption is not installed", hint="install flpoc-he") from None


def _marker_there(folder: Path, force: bool) -> Marker | None:
    """What an earlier command made; refuses to touch what no earlier command made."""
    if not is_workspace(folder):
        _refuse_strangers(folder)
        return None
    if not force:
        raise UsageError(
            f"{folder} is prepared already", hint="--force replaces it; `flpoc poc start` starts what is there"
        )
    try:
        return places.read_marker(folder)
    except ConfigError:
        return Marker((places.PROJECT_FILE, places.DATA, places.STATE))


def _refuse_strangers(folder: Path) -> None:
    if folder.is_dir() and (strangers := foreign_entries(folder, None)):
        raise UsageError(
            f"{folder} is not empty and not a POC workspace: it holds {', '.join(strangers[:5])}",
            hint="choose an empty folder with `flpoc poc config -pw DIR`",
        )


def _stop_what_runs(folder: Path, plugins: Plugins, force: bool) -> list[str]:
    services = services_of(folder, plugins)
    running = sorted(services.running())
    jobs = services.running_jobs()
    if (running or jobs) and not force:
        hint = "stop it with `flpoc poc stop`, or give --force"
        raise UsageError(f"the POC runs: {', '.join(running or jobs)}", hint=hint)
    services.stop_all()
    end_consoles(folder)
    return running


def services_of(folder: Path, plugins: Plugins) -> Services:
    """The services of a workspace, also of one that is damaged."""
    try:
        return Services(folder, plugins, places.open_workspace(folder))
    except FlpocError:
        return Services(folder, plugins)


def is_running(folder: Path, plugins: Plugins) -> bool:
    """Whether anything of the workspace runs."""
    services = services_of(folder, plugins)
    return bool(services.running() or services.running_jobs())


def _choose_port(configuration: Configuration, folder: Path) -> tuple[int, list[str]]:
    from flpoc.ports import is_free, next_free, who_has
    from flpoc.provision.names import check_port

    given = os.environ.get("FLPOC_POC_PORT", "")
    wanted = check_port(int(given) if given.isdecimal() else given, "FLPOC_POC_PORT") if given else DEFAULT_PORT
    others = places.other_ports(configuration, folder)
    if wanted not in others and is_free(wanted):
        return wanted, []
    port = next_free(wanted + 1, others)
    owner = f"the POC in {others[wanted]}" if wanted in others else who_has(wanted)
    return port, [f"Port {wanted} belongs to {owner}; this POC has port {port}."]


def port_preflight(port: int) -> dict[str, Any]:
    """Say whether the server could listen on its port now, and who has it if not."""
    from flpoc.ports import is_free, owners, who_has

    available = is_free(port)
    found: dict[str, Any] = {"name": "fed_learn_port", "port": port, "available": available, "conflict": not available}
    report: dict[str, Any] = {"checked": True, "host": "0.0.0.0", "scope": "all addresses"}  # noqa: S104 - what is bound
    conflicts = []
    if not available:
        found["reason"] = f"used by {who_has(port)}"
        conflicts = [{"port": port, "owners": [attrs.asdict(one) for one in owners(port)]}]
        report["message"] = f"Port {port} is {found['reason']}; it must be free when the POC starts."
    return {**report, "ports": [found], "conflicts": conflicts, "note": "sites and users share one port"}


@contextlib.contextmanager
def _building(folder: Path) -> Iterator[Path]:
    """A folder in the workspace to build in; whatever is in it afterwards is deleted."""
    places.remove_set_aside(folder)
    new = folder / f"{places.NEW}{secrets.token_hex(4)}"
    new.mkdir(mode=0o700)
    try:
        yield new
    finally:
        places.remove_set_aside(folder)


def _build(new: Path, project: Project, plugins: Plugins, granted: Path, launcher_settings: Mapping[str, Any]) -> None:
    from flpoc.provision.building import provision
    from flpoc.provision.project_file import write_project

    prod = provision(project, new, plugins=plugins)
    launcher = plugins.create("launchers", project.launcher, launcher_settings)
    for one in (project.server, *project.sites):
        settle(prod / one.name, project, launcher, launcher_settings, granted)
    write_project(project, new / places.PROJECT_FILE)
    (new / places.STATE).mkdir(mode=0o700)


def settle(
    kit: Path, project: Project, launcher: Launcher, launcher_settings: Mapping[str, Any], granted: Path
) -> None:
    """Do in a kit what its owner would: how it launches jobs, where it finds the server, which data they may use."""
    from flpoc.provision.kit_settings import CONNECT, LOCAL, POLICY

    path = kit / LOCAL / POLICY
    policy = json.loads(path.read_bytes())
    policy["launcher_settings"] = dict(launcher_settings)
    if kit.name != project.server.name:
        policy["datasets"] = {**policy["datasets"], places.POC_DATA: {"source": str(granted), "mode": "rw"}}
        if (host := launcher.address(project.server.name)) != HERE:
            _write_json(kit / LOCAL / CONNECT, {"host": host})
    _write_json(path, policy)


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    part.replace(path)


def _publish(folder: Path, new: Path, before: Marker | None, after: Marker) -> list[str]:
    """Put what was built in the place of what was there; data stays. Names what was replaced.

    From here on a marker names all of both, so that a kill in between
    leaves a workspace that can be prepared again or cleaned.
    """
    replaced = []
    if before is not None:
        places.write_marker(folder, attrs.evolve(after, entries=tuple({*before.entries, *after.entries})))
        old = folder / f"{places.OLD}{secrets.token_hex(4)}"
        old.mkdir(mode=0o700)
        for name in before.entries:
            if name != places.DATA and (folder / name).exists():
                (folder / name).rename(old / name)
                replaced.append(name)
    for made in new.iterdir():
        if (folder / made.name).exists():
            raise UsageError(f"{folder / made.name} is in the way", hint="move it somewhere else")
        made.rename(folder / made.name)
    (folder / places.DATA).mkdir(mode=0o700, exist_ok=True)
    places.write_marker(folder, after)
    return sorted(replaced)


def _register(workspace: Workspace, configuration: Configuration) -> tuple[dict[str, Any], list[str]]:
    from flpoc.configuration import poc_workspace, register_poc_kits

    kits = {user.name: workspace.kit(user.name) for user in workspace.project.users}
    admin = workspace.admin_kit
    changed, report, warnings = register_poc_kits(
        configuration, workspace.folder, kits, activate=admin.name if admin else ""
    )
    if workspace.folder != poc_workspace(configuration, {}).resolve():
        # named by the environment: that counts for this command, not for all that come after
        changed = attrs.evolve(changed, workspace=configuration.workspace)
    try:
        changed.save()
    except ConfigError as error:
        warnings = [*warnings, f"The kits are not registered: {error.message}. Use --startup-kit {admin}."]
    return report, warnings


def _text(data: dict[str, Any]) -> list[str]:
    lines = []
    if data["stopped"]:
        lines.append(f"Stopped: {some(data['stopped'])}")
    if data["replaced"]:
        lines.append(f"Replaced: {', '.join(data['replaced'])} (kits made before are no longer valid)")
    return [
        *lines,
        f"Workspace: {data['workspace']}",
        f"Server:    {data['server']} on port {data['port']}",
        f"Sites:     {some(data['clients'])}",
        f"Kits:      {data['prod_dir']}",
        f"Active:    {data['startup_kit']['active'] or 'no user kit'}",
        "Next:      flpoc poc start",
    ]
