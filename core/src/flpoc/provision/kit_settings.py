"""What is written in a kit, and where: file names, settings, defaults of a site's policy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from flpoc.errors import ConfigError, KitError
from flpoc.provision import names
from flpoc.provision.files import read_guarded

if TYPE_CHECKING:
    from flpoc.provisioning import Kind, Participant, Project

FORMAT = 1
STARTUP = "startup"
LOCAL = "local"
TRANSFER = "transfer"
ROOT = "rootCA.pem"
MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
CONNECT = "connect.json"
POLICY = "policy.json"

#: The settings file of each kind of kit; its presence says which kind it is.
SETTINGS_FILE: dict[Kind, str] = {"server": "fed_server.json", "site": "fed_client.json", "user": "fed_admin.json"}
#: Certificate and key are ``<stem>.crt`` and ``<stem>.key``.
STEM: dict[Kind, str] = {"server": "server", "site": "client", "user": "client"}


@attrs.frozen
class KitSettings:
    """What a kit says about its owner and the server.

    Attributes:
        project: Name of the project.
        name: The owner's name.
        org: The owner's organisation.
        server_name: The server's name, which its certificate carries.
        server_host: Where the server is dialled.
        server_port: On which port.
        launcher: Which launcher starts jobs.
        plugins: Names of the plugins that server and sites may load.
        role: For users: their role.
    """

    project: str
    name: str
    org: str
    server_name: str
    server_host: str
    server_port: int
    launcher: str = "local"
    plugins: tuple[str, ...] = ()
    role: str = ""


@attrs.frozen
class _Server:
    name: str
    host: str
    port: int


@attrs.frozen
class _SettingsFile:
    format: int
    project: str
    name: str
    org: str
    server: _Server
    launcher: str = "local"
    plugins: tuple[str, ...] = ()
    role: str = ""


@attrs.frozen
class _Connect:
    host: str = ""
    port: int = 0


def settings_of(project: Project, one: Participant) -> KitSettings:
    """Give the settings of one participant's kit."""
    server = project.server
    host, port = server.name, project.port
    if server.connect_to:
        host, port = names.split_address(server.connect_to, port, f"{server.name}: connect_to")
    if one.kind != "server" and one.connect_to:
        host, port = names.split_address(one.connect_to, port, f"{one.name}: connect_to")
    return KitSettings(
        project=project.name,
        name=one.name,
        org=one.org,
        server_name=server.name,
        server_host=host,
        server_port=port,
        launcher=project.launcher,
        plugins=project.plugins,
        role=one.role,
    )


def settings_document(settings: KitSettings) -> dict[str, Any]:
    """Give the settings as they are written into a kit."""
    found: dict[str, Any] = {
        "format": FORMAT,
        "project": settings.project,
        "name": settings.name,
        "org": settings.org,
        "server": {"name": settings.server_name, "host": settings.server_host, "port": settings.server_port},
        "launcher": settings.launcher,
        "plugins": list(settings.plugins),
    }
    if settings.role:
        found["role"] = settings.role
    return found


def parse_settings(content: bytes, where: Path) -> KitSettings:
    """Read the settings of a kit.

    Raises:
        KitError: They cannot be read, or are those of another version of flpoc.
    """
    from flpoc.settings import parse_json, structure

    try:
        data = parse_json(content, str(where))
        version = data.get("format") if isinstance(data, dict) else None
        if version != FORMAT:
            raise KitError(f"{where}: format {version!r}, wanted is {FORMAT}", hint="provision the kit anew")
        found = structure(data, _SettingsFile, where=str(where))
        host = names.check_host(found.server.host, f"{where}: server.host")
        port = names.check_port(found.server.port, f"{where}: server.port")
    except ConfigError as error:
        raise KitError(error.message, hint=error.hint) from None
    return KitSettings(
        project=found.project,
        name=found.name,
        org=found.org,
        server_name=found.server.name,
        server_host=host,
        server_port=port,
        launcher=found.launcher,
        plugins=found.plugins,
        role=found.role,
    )


def with_connect_override(settings: KitSettings, folder: Path) -> KitSettings:
    """Apply ``local/connect.json``: dial another address, and still want the same server's certificate.

    The file is not signed on purpose: the owner of a kit knows its network
    better than whoever provisioned it, and the certificate decides anyway.
    """
    from flpoc.settings import parse_json, structure

    path = folder / LOCAL / CONNECT
    if not path.exists() and not path.is_symlink():
        return settings
    try:
        found = structure(parse_json(read_guarded(path), str(path)), _Connect, where=str(path))
        host = names.check_host(found.host, f"{path}: host") if found.host else settings.server_host
        port = names.check_port(found.port, f"{path}: port") if found.port else settings.server_port
    except ConfigError as error:
        raise KitError(error.message, hint=error.hint) from None
    return attrs.evolve(settings, server_host=host, server_port=port)


def default_policy(launcher: str = "local") -> dict[str, Any]:
    """A site's policy until its owner changes it."""
    return {
        "format": FORMAT,
        "launcher": launcher,
        "launcher_settings": {},
        "images": {},
        "environments": {},
        "allow_custom_code": True,
        "datasets": {},
        "filters": [],
        "python": "",
        "max_jobs": 4,
        "resources": {},
        "studies": [],
        "share_logs": True,
        "share_metrics": True,
    }


def default_server_policy() -> dict[str, Any]:
    """A server's policy until its owner changes it."""
    return {"format": FORMAT, "launcher_settings": {}, "checkpoints": []}


def find_kit(path: Path) -> tuple[Path, Kind]:
    """Find the kit at *path*, which may be its ``startup`` folder, and say which kind it is.

    Raises:
        KitError: There is nothing, no kit, or more than one; code STARTUP_KIT_MISSING.
    """
    try:
        given = path.expanduser().resolve()
        folder = given
        if not (given / STARTUP).is_dir() and given.name == STARTUP:
            folder = given.parent
        kinds = [kind for kind, name in SETTINGS_FILE.items() if (folder / STARTUP / name).exists()]
        there = given.exists()
    except (OSError, RuntimeError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise KitError(
            f"{str(path)[:300]}: {said}", code="STARTUP_KIT_MISSING", hint="give the folder of a startup kit"
        ) from None
    if len(kinds) == 1:
        return folder, kinds[0]
    if not there:
        raise KitError(f"{path}: no such folder", code="STARTUP_KIT_MISSING", hint="give the folder of a startup kit")
    if not given.is_dir():
        raise KitError(
            f"{path} is a file, not the folder of a startup kit",
            code="STARTUP_KIT_MISSING",
            hint="give the folder that has startup/ in it",
        )
    if kinds:
        both = " and ".join(SETTINGS_FILE[kind] for kind in kinds)
        raise KitError(f"{folder / STARTUP} holds {both}: the files of two kits are mixed")
    wanted = ", ".join(SETTINGS_FILE.values())
    raise KitError(
        f"{path} is not a startup kit: it has no startup/ with one of {wanted}",
        code="STARTUP_KIT_MISSING",
        hint="give the folder of one participant, below prod_NN",
    )
