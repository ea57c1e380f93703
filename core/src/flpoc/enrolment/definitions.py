"""The two files that people write: the project's profile, and the definition of one participant."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from flpoc.enrolment.documents import Endpoint, check_endpoint
from flpoc.errors import ConfigError, KitError, did_you_mean
from flpoc.provision.names import check_host, join_address, name_problem
from flpoc.provision.project_file import KINDS, TYPES, entry_of, parse_participant
from flpoc.provisioning import ROLES, Participant, Project

_PROFILE_KEYS = ("name", "description", "server", "launcher", "plugins")
_SERVER_KEYS = ("host", "name", "fed_learn_port", "host_names")
_DEFINITION_KEYS = ("api_version", "name", "description", "participants")
#: What has no effect here, with the values that say what is done anyway, and why.
_FOREIGN = {
    "scheme": (("grpc", "grpcs"), "there is one transport"),
    "connection_security": (("mtls", "tls"), "connections are always encrypted, with certificates on both sides"),
}
_DEFAULT_PORT = 8002


@attrs.frozen
class Profile:
    """What whoever has the authority says about the project.

    Attributes:
        project: Its name.
        server: Where the server is.
        host_names: More names and addresses that its certificate is valid for.
        launcher: Which launcher starts jobs.
        plugins: Names of the plugins that kits list.
        warnings: What in the file has no effect.
    """

    project: str
    server: Endpoint
    host_names: tuple[str, ...] = ()
    launcher: str = "local"
    plugins: tuple[str, ...] = ("local",)
    warnings: tuple[str, ...] = ()


@attrs.frozen
class Definition:
    """Who wants to take part in which project, as they say it themselves.

    Attributes:
        project: The project's name.
        participant: Who.
        port: Of a server: its port; 0 otherwise.
        warnings: What in the file has no effect.
    """

    project: str
    participant: Participant
    port: int = 0
    warnings: tuple[str, ...] = ()


def read_profile(path: Path) -> Profile:
    """Read the profile of a project.

    Raises:
        KitError: It is missing (code PROJECT_FILE_NOT_FOUND) or cannot be used (INVALID_PROJECT_NAME,
            INVALID_ENDPOINT, INVALID_PROJECT_FILE).
    """
    data = _read(path)
    warnings: list[str] = []
    with _naming(path):
        _check_keys(data, _PROFILE_KEYS, "", warnings)
        project = _project(data, path)
        server = data.get("server")
        if not isinstance(server, Mapping):
            raise KitError(
                f"{path}: server: wanted are its host and fed_learn_port", code="INVALID_ENDPOINT", hint=_SERVER_HINT
            )
        endpoint, hosts = _server(server, path, warnings)
        launcher = _text(data, "launcher", "local")
        plugins = data.get("plugins", ["local"])
        if not isinstance(plugins, list):
            raise ConfigError("plugins: wanted is a list of names")
        names = tuple(dict.fromkeys((*plugins, launcher)))
        for name in names:
            if not isinstance(name, str) or (problem := name_problem("component", name)):
                raise ConfigError(f"plugins: {problem if isinstance(name, str) else f'{name!r} is not text'}")
    return Profile(project, endpoint, hosts, launcher, names, tuple(warnings))


def read_definition(path: Path) -> Definition:
    """Read the definition of one participant.

    Raises:
        KitError: It is missing (code PROJECT_FILE_NOT_FOUND) or cannot be used; the code says what of it.
    """
    data = _read(path)
    with _naming(path):
        return parse_definition(data, path)


def parse_definition(data: Any, where: Path | str) -> Definition:
    """Turn the plain data of a definition into one; raises as :func:`read_definition`, and ConfigError."""
    if not isinstance(data, Mapping):
        raise ConfigError("wanted are the project's name and participants", hint=_DEFINITION_HINT)
    warnings: list[str] = []
    _check_keys(data, _DEFINITION_KEYS, "", warnings)
    people = data.get("participants")
    if not isinstance(people, list):
        raise ConfigError("participants: wanted is a list with one participant", hint=_DEFINITION_HINT)
    if not people:
        raise KitError(f"{where}: participants: there is none", code="NO_PARTICIPANTS", hint=_DEFINITION_HINT)
    if len(people) > 1:
        raise ConfigError(f"participants: there are {len(people)}; wanted is one", hint="write one file for each")
    project = _project(data, where)
    _check_person(people[0], where)
    found = parse_participant(people[0], "participants[0]", warnings)
    assert found is not None  # only of types that _check_person has refused
    one, port = found
    if one.kind == "server" and (one.host_names or one.connect_to):
        warnings.append("participants[0]: has no effect: names and address of the server are those of the profile")
        one = attrs.evolve(one, host_names=(), connect_to="")
    return Definition(project, one, port, tuple(warnings))


def as_yaml(definition: Definition) -> bytes:
    """A definition as it travels: what it says and nothing else."""
    import yaml

    entry = entry_of(definition.participant, definition.port or _DEFAULT_PORT)
    document = {"name": definition.project, "participants": [entry]}
    return bytes(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100).encode())


def as_project(profile: Profile, one: Participant) -> Project:
    """A project of the server and one participant: all that one kit depends on."""
    address = join_address(profile.server.host, profile.server.port)
    server = Participant(profile.server.name, "server", one.org, host_names=profile.host_names, connect_to=address)
    return Project(
        name=profile.project,
        participants=(server,) if one.kind == "server" else (server, one),
        port=profile.server.port,
        launcher=profile.launcher,
        plugins=profile.plugins,
    )


_CORRECT = "correct it there, then try again"
_SERVER_HINT = "for example: server: {host: fl.hospital.org, fed_learn_port: 8002}"
_DEFINITION_HINT = "wanted is `name: PROJECT` and `participants:` with one entry: name, type, org, for users role"


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file's name before what is wrong in it, and give it the code of files that cannot be used."""
    try:
        yield
    except ConfigError as error:
        raise KitError(f"{path}: {error.message}", hint=error.hint or _CORRECT, code="INVALID_PROJECT_FILE") from None


def _read(path: Path) -> Any:
    from flpoc.settings import read_file

    if not path.exists():
        raise KitError(f"{path}: no such file", code="PROJECT_FILE_NOT_FOUND", hint="check the path")
    try:
        data = read_file(path)
    except ConfigError as error:
        raise KitError(error.message, hint=error.hint or _CORRECT, code="INVALID_PROJECT_FILE") from None
    if not isinstance(data, Mapping):
        what = "the file is empty" if data is None else "wanted are keys and values"
        raise KitError(f"{path}: {what}", code="INVALID_PROJECT_FILE", hint=_CORRECT)
    return data


def _project(data: Mapping[str, Any], where: Path | str) -> str:
    name = data.get("name")
    problem = name_problem("project", name) if isinstance(name, str) else f"{name!r} is not text"
    if problem:
        raise KitError(
            f"{where}: name: {problem}",
            code="INVALID_PROJECT_NAME",
            hint="it is the project's name, the same in all files",
        )
    return str(name)


def _server(data: Mapping[str, Any], path: Path, warnings: list[str]) -> tuple[Endpoint, tuple[str, ...]]:
    _check_keys(data, _SERVER_KEYS, "server", warnings)
    port = data.get("fed_learn_port", _DEFAULT_PORT)
    if data.get("admin_port", port) != port:
        warnings.append("server.admin_port: has no effect: sites and users share one port")
    try:
        host = _text(data, "host", None, "server.")
        name = _text(data, "name", host, "server.")
        names = data.get("host_names", [])
        if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
            raise ConfigError("server.host_names: wanted is a list of names")
        hosts = tuple(check_host(one, "server.host_names") for one in names)
        return check_endpoint(Endpoint(name, host, port), str(path)), hosts
    except ConfigError as error:
        message = error.message if error.message.startswith(str(path)) else f"{path}: {error.message}"
        raise KitError(message, code="INVALID_ENDPOINT", hint=error.hint or _SERVER_HINT) from None


def _check_person(data: Any, where: Path | str) -> None:
    """What is said with a code of its own: the type, the name, the role."""
    if not isinstance(data, Mapping):
        raise ConfigError("participants[0]: wanted are name, type and org", hint=_DEFINITION_HINT)
    type_, name, role = (data.get(key) for key in ("type", "name", "role"))
    if type_ == "relay":
        raise KitError(
            f"{where}: participants[0].type: there are no relays",
            code="UNSUPPORTED_TOPOLOGY",
            hint="sites dial the server directly",
        )
    if type_ not in KINDS:
        hint = did_you_mean(str(type_), TYPES.values())
        raise KitError(
            f"{where}: participants[0].type: {type_!r} is no type of participant", code="INVALID_CERT_TYPE", hint=hint
        )
    kind = KINDS[type_]
    for key, what, value in (("name", kind, name), ("org", "org", data.get("org"))):
        problem = name_problem(what, value) if isinstance(value, str) else f"{value!r} is not text"
        if problem:
            raise KitError(f"{where}: participants[0].{key}: {problem}", code="INVALID_NAME", hint=_CORRECT)
    if kind == "user" and role not in ROLES:
        hint = did_you_mean(str(role), ROLES)
        raise KitError(f"{where}: participants[0].role: {role!r} is not a role", code="INVALID_CERT_TYPE", hint=hint)


def _check_keys(data: Mapping[str, Any], ours: tuple[str, ...], where: str, warnings: list[str]) -> None:
    for key, value in data.items():
        path = f"{where}.{key}" if where else str(key)
        if key in _FOREIGN:
            done, why = _FOREIGN[key]
            if value not in done:
                warnings.append(f"{path}: has no effect: {why}")
        elif key not in ours and not (where and key == "admin_port"):
            raise ConfigError(f"{path}: no such setting", hint=did_you_mean(str(key), ours))


def _text(data: Mapping[str, Any], key: str, default: str | None, where: str = "") -> str:
    value = data.get(key, default)
    if not isinstance(value, str) or not value:
        what = "is missing" if value is None else f"{value!r} is not text"
        raise ConfigError(f"{where}{key}: {what}", hint="" if value is None else "put it in quotes")
    return value
