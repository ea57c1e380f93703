"""The project file, ``project.yml``: read strictly, and written so that it reads the same again."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import attrs

from flpoc.errors import ConfigError, did_you_mean
from flpoc.provision.names import check_host, check_port, join_address, split_address
from flpoc.provision.project_rules import check_project, sample_project
from flpoc.provision.project_studies import parse_studies, studies_document
from flpoc.provisioning import Kind, Participant, Project

__all__ = [
    "check_project", "parse_project", "read_participant", "read_project", "sample_project", "with_participant",
    "write_project",
]  # fmt: skip

MAX_PROJECT_NAME = 63
#: The first version of the file that has studies.
_WITH_STUDIES = 4

#: What a project file calls the kinds of participants.
KINDS: dict[str, Kind] = {"server": "server", "client": "site", "site": "site", "admin": "user", "user": "user"}
TYPES: dict[Kind, str] = {"server": "server", "site": "client", "user": "admin"}

_OURS = ("api_version", "name", "description", "participants", "launcher", "authority", "plugins", "studies")
#: Keys of the same file of another system: why each has no effect here.
_FOREIGN = {
    "builders": "kits are built by flpoc itself; plugins can add files to them",
    "packager": "kits are folders",
    "connection_security": "connections are always encrypted, with certificates on both sides",
}
_REFUSED = {
    "include": "write the whole project into one file",
    "edge": "sites dial the server directly",
}

_PERSON = ("name", "type", "org")
_OWN_KEYS: dict[Kind, tuple[str, ...]] = {
    "server": (*_PERSON, "fed_learn_port", "host_names", "default_host", "connect_to"),
    "site": (*_PERSON, "connect_to"),
    "user": (*_PERSON, "role", "connect_to"),
}
_FOREIGN_OF_PARTICIPANTS: dict[str, str] = {
    "admin_port": "sites and users share one port",
    "connection_security": _FOREIGN["connection_security"],
    "scheme": "there is one transport",
    "use_aio": "there is one transport",
    "auth_identity": "who somebody is, is in the certificate",
    "custom_ca_cert": "the project's own CA is used",
    "listening_host": "sites dial out only",
    "capacity": "a site's resources are in its policy",
    "allow_log_streaming": "this is share_logs in the site's local/policy.json",
    "components": "components are chosen in the job",
}


def read_project(path: Path) -> tuple[Project, list[str]]:
    """Read a project file.

    Returns:
        The project, and warnings: what in the file has no effect here.

    Raises:
        ConfigError: The file or the project in it cannot be used; the message
            has the path of the key.
    """
    from flpoc.settings import read_file

    data = read_file(path)
    try:
        return parse_project(data)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", hint=error.hint) from None


def read_participant(path: Path, kind: Kind) -> tuple[Participant, list[str]]:
    """Read a file with one site or user: name, organisation, for users their role.

    Returns:
        The participant, and warnings: what in the file has no effect here.

    Raises:
        ConfigError: The file or what it says cannot be used.
    """
    from flpoc.settings import read_file

    data = read_file(path)
    if not isinstance(data, Mapping):
        raise ConfigError(f"{path}: wanted are name and org{', and role' if kind == 'user' else ''}")
    if KINDS.get(data.get("type", TYPES[kind])) != kind:
        raise ConfigError(f"{path}: type: {_shown(data['type'])} is not {TYPES[kind]!r}")
    warnings: list[str] = []
    found = parse_participant({**data, "type": TYPES[kind]}, f"{path}: participant", warnings)
    assert found is not None
    return found[0], warnings


def with_participant(project: Project, one: Participant) -> Project:
    """Give the project with one more participant, or with another in the place of one of the same name.

    Raises:
        ConfigError: The name belongs to a participant of another kind, or cannot be used.
    """
    same = [other for other in project.participants if other.name == one.name]
    if same and same[0].kind != one.kind:
        raise ConfigError(f"{one.name!r} is a {same[0].kind} of project {project.name!r}", hint="choose another name")
    rest = tuple(other for other in project.participants if other.name != one.name)
    changed = attrs.evolve(project, participants=(*rest, one))
    check_project(changed)
    return changed


def parse_project(data: Any) -> tuple[Project, list[str]]:
    """Turn the plain data of a project file into a project, and warnings."""
    if not isinstance(data, Mapping):
        what = "the file is empty" if data is None else f"wanted are keys and values, not {_shown(data)}"
        raise ConfigError(what, hint="`flpoc provision -g` writes a sample")
    warnings: list[str] = []
    _check_keys(data, _OURS, _FOREIGN, "", warnings)
    version = data.get("api_version")
    if version not in (3, 4) or isinstance(version, bool):
        raise ConfigError(f"api_version: wanted is 3 or 4, not {_shown(version)}")
    if "studies" in data and version != _WITH_STUDIES:
        raise ConfigError(f"studies: there are none with api_version {version}", hint="write api_version: 4")
    people = data.get("participants")
    if not isinstance(people, list) or not people:
        raise ConfigError("participants: wanted is a list with one server, sites and users")
    found = [parse_participant(one, f"participants[{place}]", warnings) for place, one in enumerate(people)]
    ports = [port for each in found if each is not None and (port := each[1])]
    defaults = Project(name="defaults", participants=())
    project = Project(
        name=_project_name(data, warnings),
        participants=tuple(each[0] for each in found if each is not None),
        port=ports[0] if ports else defaults.port,
        description=_text(data, "description", ""),
        authority=_text(data, "authority", "", defaults.authority),
        launcher=_text(data, "launcher", "", defaults.launcher),
        plugins=_texts(data, "plugins", "", defaults.plugins),
        studies=parse_studies(data.get("studies") or {}),
    )
    check_project(project)
    return project, warnings


def write_project(project: Project, path: Path) -> None:
    """Write a project file that :func:`read_project` reads as the same project; all of it or nothing.

    Raises:
        ConfigError: The project is wrong, or the file cannot be written.
    """
    import yaml

    check_project(project)
    document = {
        "api_version": _WITH_STUDIES if project.studies else 3,
        "name": project.name,
        "description": project.description,
        "authority": project.authority,
        "launcher": project.launcher,
        "plugins": list(project.plugins),
        "participants": [entry_of(one, project.port) for one in project.participants],
        **({"studies": studies_document(project.studies)} if project.studies else {}),
    }
    write_whole(path, yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100))


def write_whole(path: Path, text: str) -> None:
    """Write a project file, all of it or nothing.

    Raises:
        ConfigError: It cannot be written.
    """
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        partial = Path(name)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        partial.replace(path)
    except OSError as error:
        if partial is not None:
            partial.unlink(missing_ok=True)
        hint = "look at the folder and its permissions"
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}", hint=hint) from None


def entry_of(one: Participant, port: int) -> dict[str, Any]:
    """A participant as project files have it; *port* is the server's."""
    found: dict[str, Any] = {"name": one.name, "type": TYPES[one.kind], "org": one.org}
    if one.role:
        found["role"] = one.role
    if one.kind == "server":
        found["fed_learn_port"] = port
        if one.host_names:
            found["host_names"] = list(one.host_names)
    if one.connect_to:
        host, dialled = split_address(one.connect_to, port, "connect_to")
        if one.kind == "server" and dialled == port:
            found["default_host"] = host
        else:
            found["connect_to"] = one.connect_to
    return found


def _project_name(data: Mapping[str, Any], warnings: list[str]) -> str:
    name = _text(data, "name", "", None)
    if len(name) > MAX_PROJECT_NAME:
        warnings.append(f"name: {name!r} is longer than {MAX_PROJECT_NAME} characters and was cut")
    return name[:MAX_PROJECT_NAME]


def parse_participant(data: Any, where: str, warnings: list[str]) -> tuple[Participant, int] | None:
    """One participant and, for a server, its port (else 0); None for what is left out with a warning.

    Raises:
        ConfigError: It cannot be used; the message has the path of the key, below *where*.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: wanted are keys and values, not {_shown(data)}")
    type_ = _text(data, "type", where, None)
    if type_ == "overseer":
        warnings.append(f"{where}: an overseer has no effect here")
        return None
    if type_ == "relay":
        raise ConfigError(f"{where}: there are no relays", hint="leave it out: sites dial the server directly")
    if type_ not in KINDS:
        hint = did_you_mean(type_, TYPES.values())
        raise ConfigError(f"{where}.type: {type_!r} is no type of participant", hint=hint)
    kind = KINDS[type_]
    _check_keys(data, _OWN_KEYS[kind], _FOREIGN_OF_PARTICIPANTS, where, warnings)
    port = check_port(data.get("fed_learn_port", 8002), f"{where}.fed_learn_port") if kind == "server" else 0
    name = _text(data, "name", where, None)
    org = _text(data, "org", where, None)
    if kind == "server":
        hosts = tuple(check_host(host, f"{where}.host_names") for host in _texts(data, "host_names", where, ()))
        hosts, dialled = _server_address(data, where, port, hosts)
        return Participant(name, kind, org, host_names=hosts, connect_to=dialled), port
    role = _text(data, "role", where, None) if kind == "user" else ""
    return Participant(name, kind, org, role=role, connect_to=_connect_to(data, where, warnings)), port


def _server_address(
    data: Mapping[str, Any], where: str, port: int, hosts: tuple[str, ...]
) -> tuple[tuple[str, ...], str]:
    """All names of a server, and the address to dial: ``connect_to`` before ``default_host`` before its name."""
    default = _text(data, "default_host", where)
    if default:
        default = check_host(default, f"{where}.default_host")
    dialled = _text(data, "connect_to", where)
    if not dialled:
        return hosts, join_address(default, port).removesuffix(f":{port}") if default else ""
    split_address(dialled, port, f"{where}.connect_to")
    return tuple(dict.fromkeys([*hosts, *([default] if default else [])])), dialled


def _connect_to(data: Mapping[str, Any], where: str, warnings: list[str]) -> str:
    value = data.get("connect_to")
    if not isinstance(value, Mapping):
        text = _text(data, "connect_to", where)
        if text:
            split_address(text, 8002, f"{where}.connect_to")
        return text
    where = f"{where}.connect_to"
    _check_keys(value, ("host", "port"), {"name": "there is one server", **_FOREIGN_OF_PARTICIPANTS}, where, warnings)
    host = check_host(_text(value, "host", where, None), f"{where}.host")
    if "port" not in value:
        return join_address(host, 0).removesuffix(":0")
    return join_address(host, check_port(value["port"], f"{where}.port"))


def _check_keys(
    data: Mapping[str, Any], ours: Collection[str], foreign: Mapping[str, str], where: str, warnings: list[str]
) -> None:
    for key in data:
        path = f"{where}.{key}" if where else str(key)
        if not where and key in _REFUSED:
            raise ConfigError(f"{path}: not possible here", hint=_REFUSED[key])
        if key in foreign:
            warnings.append(f"{path}: has no effect: {foreign[key]}")
        elif key not in ours:
            raise ConfigError(f"{path}: no such setting", hint=did_you_mean(str(key), ours))


def _text(data: Mapping[str, Any], key: str, where: str, default: str | None = "") -> str:
    """A text of the file; without a default it must be there and not be blank."""
    path = f"{where}.{key}" if where else key
    value = data.get(key, default)
    if value is None:
        if default is not None:
            return default
        raise ConfigError(f"{path}: is missing")
    if not isinstance(value, str):
        raise ConfigError(f"{path}: {_shown(value)} is not text", hint="put it in quotes")
    if default is None and not value.strip():
        raise ConfigError(f"{path}: is blank")
    return value


def _texts(data: Mapping[str, Any], key: str, where: str, default: tuple[str, ...]) -> tuple[str, ...]:
    path = f"{where}.{key}" if where else key
    value = data.get(key)
    if value is None:
        return default
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ConfigError(f"{path}: wanted is a list of texts, not {_shown(value)}", hint="put each in quotes")
    return tuple(value)


def _shown(value: Any) -> str:
    return repr(value) if len(repr(value)) <= 60 else f"{type(value).__name__} of {len(repr(value))} characters"
