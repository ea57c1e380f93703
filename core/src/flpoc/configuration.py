"""The user's configuration: which kits there are, which one is active, where the proof of concept lives.

It is one file, ``~/.flpoc/config.conf``, or the one that FLPOC_CONFIG names.
It is written as JSON, which is valid HOCON, and read as either.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from flpoc.errors import ConfigError, FlpocError, KitError, UsageError, did_you_mean

VERSION = 2
CONFIG_VARIABLE = "FLPOC_CONFIG"
WORKSPACE_VARIABLE = "FLPOC_POC_WORKSPACE"
KIT_VARIABLE = "FLPOC_STARTUP_KIT_DIR"
HOME_VARIABLE = "FLPOC_HOME"
DEFAULT_WORKSPACE = Path("/tmp/flpoc/poc")  # noqa: S108 - documented; whoever makes it checks its owner

_WAYS = (
    "give a kit in one of three ways: --kit-id ID or --startup-kit PATH; "
    f"the variable {KIT_VARIABLE}; or `flpoc config use ID` (`flpoc config list` shows the ids)"
)


@attrs.frozen
class Configuration:
    """What is configured for this user. Methods give changed copies; only :meth:`save` writes.

    Attributes:
        path: The file; None when there is no place for one, because HOME is not set.
        active: Id of the active kit, or empty.
        kits: Folders of the registered kits by id.
        workspace: The configured workspace of the proof of concept, or empty.
        jobs: The folder where jobs are looked for, too, or empty.
        job_templates: The configured folder of job templates, or empty.
        plugins_load: Modules of private plugins.
        plugins_disable: Names of plugins that are not to be loaded.
        rest: What else the file says; kept as it is.
        origin: What was read: :meth:`save` writes what has changed since.
    """

    path: Path | None = None
    active: str = ""
    kits: Mapping[str, str] = attrs.field(factory=dict)
    workspace: str = ""
    jobs: str = ""
    job_templates: str = ""
    plugins_load: tuple[str, ...] = ()
    plugins_disable: tuple[str, ...] = ()
    rest: Mapping[str, Any] = attrs.field(factory=dict)
    origin: Configuration | None = attrs.field(default=None, eq=False, repr=False)

    @classmethod
    def load(cls, path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Configuration:
        """Read the configuration; a file that does not exist is an empty configuration.

        Raises:
            ConfigError: The file cannot be read; the message names the line or key.
        """
        from flpoc.settings import read_file

        path = path or configuration_file(environ)
        if path is None or not _exists(path):
            return cls(path=path, origin=cls(path=path))
        data = read_file(path)
        if not isinstance(data, Mapping):
            raise ConfigError(f"{path}: wanted are keys and values, not {type(data).__name__}")
        try:
            found = _parse(data, path)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error.message}", hint=error.hint) from None
        return attrs.evolve(found, origin=found)

    def with_kit(self, kit_id: str, path: Path | str) -> Configuration:
        """Register a kit; one of the same id is replaced."""
        odd = not kit_id.isprintable() or kit_id != kit_id.strip() or kit_id.startswith("-")
        if not kit_id or odd or len(kit_id) > 255:
            raise UsageError(f"{kit_id[:80]!r} cannot be the id of a kit", hint="use the user's e-mail address")
        return attrs.evolve(self, kits={**self.kits, kit_id: str(path)})

    def without_kit(self, kit_id: str) -> Configuration:
        """Forget a kit; if it was the active one, none is active."""
        self._known(kit_id)
        kits = {key: value for key, value in self.kits.items() if key != kit_id}
        return attrs.evolve(self, kits=kits, active="" if self.active == kit_id else self.active)

    def activate(self, kit_id: str) -> Configuration:
        """Make a registered kit the one that commands use."""
        self._known(kit_id)
        return attrs.evolve(self, active=kit_id)

    def with_workspace(self, path: Path | str) -> Configuration:
        """Set the workspace of the proof of concept."""
        return attrs.evolve(self, workspace=str(path))

    def with_jobs(self, path: Path | str) -> Configuration:
        """Set the folder where jobs are looked for, too."""
        return attrs.evolve(self, jobs=str(path))

    def with_job_templates(self, path: Path | str) -> Configuration:
        """Set the folder of job templates."""
        return attrs.evolve(self, job_templates=str(path))

    def save(self) -> None:
        """Write the file, all of it or nothing; what others have changed since it was read stays.

        Raises:
            ConfigError: There is no place for it, or it cannot be written.
        """
        if self.path is None:
            raise ConfigError(
                "HOME is not set: there is no place for the configuration ($HOME/.flpoc/config.conf)",
                hint=f"set HOME, or {CONFIG_VARIABLE} to a file",
            )
        try:
            self._save(self.path.resolve())
        except OSError as error:
            raise ConfigError(
                f"{self.path}: the configuration cannot be written: {error.strerror or error}",
                hint=f"make the folder writable, or set {CONFIG_VARIABLE} to another file",
            ) from None

    def _save(self, path: Path) -> None:
        from flpoc.changing import alone, merged, replace

        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with alone(path.parent):
            document = _document(self)
            if self.origin is not None:
                document = merged(_document(self.origin), document, _document(self.load(path)))
            replace(path, document)

    def _known(self, kit_id: str) -> None:
        if kit_id not in self.kits:
            raise UsageError(
                f"no kit {kit_id!r} is registered",
                hint=did_you_mean(kit_id, self.kits, "`flpoc config add ID DIR` registers one"),
            )


def configuration_file(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Say where the configuration is kept; None when HOME is not set."""
    if named := environ.get(CONFIG_VARIABLE, "").strip():
        return Path(named).absolute()
    home = environ.get("HOME", "").strip()
    return Path(home).absolute() / ".flpoc" / "config.conf" if home else None


def poc_workspace(configuration: Configuration, environ: Mapping[str, str] = os.environ) -> Path:
    """Say where the proof of concept lives: environment, else configuration, else ``/tmp/flpoc/poc``."""
    named = environ.get(WORKSPACE_VARIABLE, "").strip() or configuration.workspace
    return Path(named).expanduser().absolute() if named else DEFAULT_WORKSPACE


def folder_named(text: str, option: str, *, is_there: bool = False) -> Path:
    """The absolute path of a folder that a user names; of one that may be made later, unless it must be *there*.

    Raises:
        UsageError: It is no path, is something else, or is not there.
    """
    folder = Path(text).expanduser().absolute()
    if not text.strip():
        raise UsageError(f"{option}: an empty path", hint="give a folder")
    if not str(folder).isprintable() or (_exists(folder) and not folder.is_dir()):
        raise UsageError(f"{option}: {text!r} is not a folder", hint="give the path of a folder")
    if is_there and not folder.is_dir():
        raise UsageError(f"{option}: {text}: no such folder", hint="check the path, or make it first")
    return folder


def resolve_kit(
    configuration: Configuration,
    kit_id: str | None = None,
    startup_kit: Path | str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Path:
    """Say which kit a command uses: by id, by path, by the environment, or the active one.

    Raises:
        UsageError: An id and a path are given.
        KitError: No kit is given, or none is there; code STARTUP_KIT_MISSING.
    """
    if kit_id and startup_kit:
        raise UsageError("--kit-id and --startup-kit exclude each other", hint="give one of them")
    if kit_id:
        if kit_id not in configuration.kits:
            guess = did_you_mean(kit_id, configuration.kits) or "none is registered yet"
            raise _missing(f"no kit {kit_id!r} is registered", guess)
        return _there(Path(configuration.kits[kit_id]), f"the kit {kit_id!r}")
    if startup_kit:
        return _there(Path(startup_kit), "--startup-kit")
    if named := environ.get(KIT_VARIABLE, "").strip():
        return _there(Path(named), KIT_VARIABLE)
    if not configuration.active:
        hint = "" if configuration.kits else "`flpoc poc prepare` makes a proof of concept with a kit"
        raise _missing("no startup kit is given and none is active", hint)
    if configuration.active not in configuration.kits:
        raise _missing(f"the active kit {configuration.active!r} is not registered any more")
    return _there(Path(configuration.kits[configuration.active]), f"the active kit {configuration.active!r}")


def register_poc_kits(
    configuration: Configuration, workspace: Path, kits: Mapping[str, Path], *, activate: str = ""
) -> tuple[Configuration, dict[str, Any], list[str]]:
    """Register the users' kits of a proof of concept that was just prepared.

    What was registered below *workspace* before is forgotten. A registration
    elsewhere is never touched while its folder exists; the new kit is then
    registered as ``<id>@<workspace's name>``.

    Args:
        configuration: What is configured.
        workspace: The workspace; it becomes the configured one.
        kits: Folders by id.
        activate: Id of the kit to activate; the first one, if not given.

    Returns:
        The changed configuration, the report of what became active
        (prior_active, active, changed, registered), and warnings.
    """
    kept = {key: value for key, value in configuration.kits.items() if not _below(Path(value), workspace)}
    changed = attrs.evolve(configuration, kits=kept).with_workspace(workspace)
    ids: dict[str, str] = {}
    warnings: list[str] = []
    for kit_id, path in kits.items():
        changed, ids[kit_id], more = register_poc_kit(changed, workspace, kit_id, path, reserved=frozenset(kits))
        warnings += more
    prior = configuration.active
    active = ids.get(activate or next(iter(kits), ""), "")
    if active:
        changed = changed.activate(active)
    elif changed.active not in changed.kits:
        changed = attrs.evolve(changed, active="")
    report = {
        "prior_active": prior or None,
        "active": changed.active or None,
        "changed": (prior, configuration.kits.get(prior)) != (changed.active, changed.kits.get(changed.active)),
        "registered": {name: changed.kits[name] for name in ids.values()},
    }
    return changed, report, warnings


def register_poc_kit(
    configuration: Configuration, workspace: Path, kit_id: str, path: Path, *, reserved: frozenset[str] = frozenset()
) -> tuple[Configuration, str, list[str]]:
    """Register one more kit of a proof of concept, under another id if a kit elsewhere has this one.

    Args:
        configuration: What is configured.
        workspace: The workspace that the kit is in.
        kit_id: The id it should have.
        path: Its folder.
        reserved: Ids that are not to be given in its stead.

    Returns:
        The changed configuration, the id that the kit got, and warnings.
    """
    elsewhere = {key: value for key, value in configuration.kits.items() if not _below(Path(value), workspace)}
    given, number = kit_id, 1
    while _is_taken(given, elsewhere) or (given != kit_id and given in reserved):
        given = f"{kit_id}@{workspace.name}" + (f"-{number}" if number > 1 else "")
        number += 1
    if given == kit_id:
        return configuration.with_kit(kit_id, path), kit_id, []
    warning = (
        f"{kit_id!r} is registered for {elsewhere[kit_id]}, outside this workspace, and was left as it is; "
        f"the new kit is {given!r}"
    )
    return configuration.with_kit(given, path), given, [warning]


def _is_taken(kit_id: str, kits: Mapping[str, str]) -> bool:
    return kit_id in kits and _exists(Path(kits[kit_id]))


def _there(path: Path, source: str) -> Path:
    from flpoc.provision.kit_settings import find_kit

    try:
        folder, kind = find_kit(path)
    except KitError as error:
        if error.code != "STARTUP_KIT_MISSING":
            raise
        raise _missing(f"{source}: {error.message}") from None
    if kind != "user":
        raise KitError(f"{source}: {folder} is the kit of a {kind}", hint="commands need the kit of a user")
    return folder


def _missing(message: str, hint: str = "") -> KitError:
    return KitError(message, code="STARTUP_KIT_MISSING", hint=f"{hint}; {_WAYS}" if hint else _WAYS)


def _parse(data: Mapping[str, Any], path: Path) -> Configuration:
    version = data.get("version", VERSION)
    if isinstance(version, bool) or not isinstance(version, int) or version > VERSION:
        raise ConfigError(f"version: {version!r} is not known here", hint=f"this flpoc reads version {VERSION}")
    kits = _section(data, "startup_kits.entries")
    for kit_id, folder in kits.items():
        if not isinstance(folder, str):
            raise ConfigError(f"startup_kits.entries.{kit_id}: wanted is a path", hint="put ids with dots in quotes")
    active = _text(data, "startup_kits.active")
    if legacy := _text(data, "startup_kit.path"):
        kits, active = _with_legacy(dict(kits), active, legacy)
    rest = {key: value for key, value in data.items() if key not in _KNOWN}
    poc_rest = {
        key: value
        for key, value in _section(data, "poc").items()
        if key not in ("workspace", "jobs_dir", "startup_kit")
    }
    if poc_rest:
        rest["poc"] = poc_rest
    return Configuration(
        path=path,
        active=active,
        kits=dict(kits),
        workspace=_text(data, "poc.workspace") or _text(data, "poc_workspace.path"),
        jobs=_text(data, "poc.jobs_dir"),
        job_templates=_text(data, "job_template.path"),
        plugins_load=_texts(data, "plugins.load"),
        plugins_disable=_texts(data, "plugins.disable"),
        rest=rest,
    )


_KNOWN = ("version", "startup_kits", "poc", "job_template", "plugins", "startup_kit", "poc_workspace", "prod")


def _with_legacy(kits: dict[str, Any], active: str, legacy: str) -> tuple[dict[str, Any], str]:
    """Take over the one kit that an old configuration names, under the name in the kit."""
    from flpoc.provision.kits import read_user_kit

    if legacy in kits.values():
        return kits, active
    try:
        kit_id = read_user_kit(Path(legacy)).settings.name
    except FlpocError:
        kit_id = Path(legacy).name or "default"  # reported, with this path, when the kit is used
    if kit_id not in kits:
        kits[kit_id] = legacy
    return kits, active or kit_id


def _document(configuration: Configuration) -> dict[str, Any]:
    kits: dict[str, Any] = {"entries": dict(sorted(configuration.kits.items()))}
    if configuration.active:
        kits = {"active": configuration.active, **kits}
    found: dict[str, Any] = {**configuration.rest, "version": VERSION, "startup_kits": kits}
    poc = {"workspace": configuration.workspace, "jobs_dir": configuration.jobs}
    if any(poc.values()):
        found["poc"] = {**configuration.rest.get("poc", {}), **{key: value for key, value in poc.items() if value}}
    if configuration.job_templates:
        found["job_template"] = {"path": configuration.job_templates}
    plugins = {"load": list(configuration.plugins_load), "disable": list(configuration.plugins_disable)}
    if any(plugins.values()):
        found["plugins"] = {key: value for key, value in plugins.items() if value}
    return found


def _value(data: Mapping[str, Any], key: str) -> Any:
    found: Any = data
    done: list[str] = []
    for part in key.split("."):
        if found is None:
            return None
        if not isinstance(found, Mapping):
            raise ConfigError(f"{'.'.join(done)}: wanted are keys and values, not {type(found).__name__}")
        done.append(part)
        found = found.get(part)
    return found


def _section(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = _value(data, key)
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise ConfigError(f"{key}: wanted are keys and values, not {type(found).__name__}")
    return found


def _text(data: Mapping[str, Any], key: str) -> str:
    found = _value(data, key)
    if found is not None and not isinstance(found, str):
        raise ConfigError(f"{key}: {found!r} is not text", hint="put it in quotes")
    return found or ""


def _texts(data: Mapping[str, Any], key: str) -> tuple[str, ...]:
    found = _value(data, key)
    if found is None:
        return ()
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise ConfigError(f"{key}: wanted is a list of texts")
    return tuple(found)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return True  # it may well be there: only what is surely gone counts as gone


def _below(path: Path, folder: Path) -> bool:
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):
        return False
