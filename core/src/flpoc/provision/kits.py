"""Startup kits as their owners load them; how they are made is in ``building``.

A kit is a folder: ``startup/`` is what was provisioned, signed and never
changed; ``local/`` belongs to its owner; ``transfer/`` is for jobs and results.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from flpoc.errors import ConfigError, IntegrityError, KitError
from flpoc.provision.files import files_below, read_guarded, read_secret
from flpoc.provision.kit_settings import (
    FORMAT,
    LOCAL,
    MANIFEST,
    POLICY,
    ROOT,
    SETTINGS_FILE,
    SIGNATURE,
    STARTUP,
    STEM,
    TRANSFER,
    KitSettings,
    default_policy,
    default_server_policy,
    find_kit,
    parse_settings,
    with_connect_override,
)
from flpoc.provision.names import join_address

if TYPE_CHECKING:
    from flpoc.provision.identity import Identity
    from flpoc.provisioning import Kind

__all__ = ["Kit", "KitSettings", "check_pair", "find_kit", "load_kit", "read_user_kit"]


@attrs.frozen
class Kit:
    """A loaded startup kit.

    Attributes:
        folder: The kit's folder, absolute.
        kind: Whose kit it is: ``server``, ``site`` or ``user``.
        settings: What it says about its owner and the server; with the address of ``local/connect.json``.
        root_pem: The certificate of the project's authority.
        certificate_pem: The owner's certificate.
        key_pem: The owner's private key.
    """

    folder: Path
    kind: Kind
    settings: KitSettings
    root_pem: bytes = attrs.field(repr=False)
    certificate_pem: bytes = attrs.field(repr=False)
    key_pem: bytes = attrs.field(repr=False)

    @property
    def identity(self) -> Identity:
        """Who the certificate says the owner is."""
        from flpoc.provision.identity import identity_of

        return identity_of(self.certificate_pem)

    @property
    def server_address(self) -> str:
        """Where the server is dialled, ``host:port``."""
        return join_address(self.settings.server_host, self.settings.server_port)

    @property
    def certificate_name(self) -> str:
        """The name that the server's certificate must carry, whatever address is dialled."""
        return self.settings.server_name

    @property
    def transfer(self) -> Path:
        """Where jobs are looked for and results are put."""
        return self.folder / TRANSFER

    @property
    def policy(self) -> dict[str, Any]:
        """The owner's policy as its file says now, defaults filled in; empty for a user.

        Raises:
            ConfigError: The file is there and cannot be used.
        """
        if self.kind == "user":
            return {}
        default = default_policy(self.settings.launcher) if self.kind == "site" else default_server_policy()
        return read_policy(self.folder, default)


def read_policy(folder: Path, default: dict[str, Any]) -> dict[str, Any]:
    """Read ``local/policy.json`` of a kit; what it does not say is as in *default*.

    Raises:
        ConfigError: The file is there and cannot be used.
    """
    from flpoc.errors import did_you_mean
    from flpoc.settings import parse_json

    path = folder / LOCAL / POLICY
    found = default
    if not path.exists() and not path.is_symlink():
        return found
    try:
        given = parse_json(read_guarded(path), str(path))
    except KitError as error:
        raise ConfigError(error.message, hint=error.hint) from None
    if not isinstance(given, dict):
        raise ConfigError(f"{path}: wanted is an object, not {type(given).__name__}")
    for key, value in given.items():
        if key not in found:
            raise ConfigError(f"{path}: {key}: no such setting", hint=did_you_mean(key, found))
        if type(value) is not type(found[key]):
            raise ConfigError(f"{path}: {key}: wanted is {type(found[key]).__name__}, not {value!r}")
    if given.get("format", FORMAT) != FORMAT:
        raise ConfigError(f"{path}: format {given['format']!r}, wanted is {FORMAT}")
    if given.get("max_jobs", 0) < 0:
        raise ConfigError(f"{path}: max_jobs: {given['max_jobs']} is less than 0")
    return {**found, **given}


def load_kit(path: Path, *, kind: str | None = None) -> Kit:
    """Load a kit after checking all of it: manifest, hashes, key, certificate.

    Args:
        path: The kit's folder or its ``startup`` folder.
        kind: ``server``, ``site`` or ``user``, if only that will do.

    Raises:
        KitError: There is no kit (code STARTUP_KIT_MISSING), it is not of that
            kind, or something in it is not as it was provisioned.
    """
    from flpoc.provision.identity import verify_certificate

    folder, found = _found(path, kind)
    files = _read_startup(folder, found)
    kit = _kit(folder, found, files)
    _check_manifest(kit, files)
    identity = verify_certificate(kit.certificate_pem, kit.root_pem)
    _check_owner(kit, identity)
    _check_key(kit)
    return attrs.evolve(kit, settings=_overridden(kit))


def read_user_kit(path: Path) -> Kit:
    """Read a user's kit without importing cryptography, for commands that must be quick; see :func:`read_kit`.

    Raises:
        KitError: There is no kit (code STARTUP_KIT_MISSING), it is not a
            user's, or a file is missing or readable by others.
    """
    return read_kit(path, kind="user")


def read_kit(path: Path, *, kind: str | None = None) -> Kit:
    """Read a kit without judging it.

    Only modes and settings are checked here: whatever is wrong with the
    certificate, TLS will refuse.

    Raises:
        KitError: There is no kit (code STARTUP_KIT_MISSING), it is not of that
            kind, or a file is missing or readable by others.
    """
    folder, found = _found(path, kind)
    startup = folder / STARTUP
    names = (SETTINGS_FILE[found], ROOT, f"{STEM[found]}.crt")
    files = {name: read_guarded(startup / name) for name in names}
    kit = _kit(folder, found, files)
    return attrs.evolve(kit, settings=_overridden(kit))


def check_kit(path: Path) -> None:
    """Check all of a kit as :func:`load_kit` does, but for the dates of its certificate and who has issued it.

    Raises:
        KitError: Something in it is not as it was provisioned; says what.
    """
    folder, found = _found(path, None)
    files = _read_startup(folder, found)
    kit = _kit(folder, found, files)
    _check_manifest(kit, files)
    _check_owner(kit, kit.identity)
    _check_key(kit)


def _found(path: Path, wanted: str | None) -> tuple[Path, Kind]:
    folder, kind = find_kit(path)
    if wanted is not None and kind != wanted:
        hint = "commands use the kit of a user; servers and sites start with their own"
        raise KitError(f"{folder} is the kit of a {kind}, wanted is that of a {wanted}", hint=hint)
    if (folder / STARTUP).is_symlink():
        raise KitError(f"{folder / STARTUP} is a symbolic link", hint="put the folder itself there")
    return folder, kind


def _read_startup(folder: Path, kind: Kind) -> dict[str, bytes]:
    startup = folder / STARTUP
    key = f"{STEM[kind]}.key"
    files = {name: read_guarded(startup / name) for name in files_below(startup) if name != key}
    for needed in (ROOT, f"{STEM[kind]}.crt", MANIFEST, SIGNATURE):
        if needed not in files:
            raise KitError(f"{startup / needed} is missing", hint="copy the whole kit again, or provision it anew")
    return files


def _kit(folder: Path, kind: Kind, files: dict[str, bytes]) -> Kit:
    startup = folder / STARTUP
    key = f"{STEM[kind]}.key"
    certificates = {name: files[name] for name in (ROOT, f"{STEM[kind]}.crt")}
    pems = {**certificates, key: read_secret(startup / key)}
    for name, pem in pems.items():
        if b"-----BEGIN " not in pem:  # gRPC would end the process for an empty one
            what = "is not in PEM form" if pem.strip() else "is empty"
            raise KitError(f"{startup / name} {what}", hint="copy the whole kit again, or provision it anew")
    return Kit(
        folder=folder,
        kind=kind,
        settings=parse_settings(files[SETTINGS_FILE[kind]], startup / SETTINGS_FILE[kind]),
        root_pem=pems[ROOT],
        certificate_pem=pems[f"{STEM[kind]}.crt"],
        key_pem=pems[key],
    )


def _overridden(kit: Kit) -> KitSettings:
    return kit.settings if kit.kind == "server" else with_connect_override(kit.settings, kit.folder)


def _check_manifest(kit: Kit, files: dict[str, bytes]) -> None:
    import hashlib
    import hmac

    from flpoc.settings import parse_json

    startup = kit.folder / STARTUP
    _check_signature(kit, files[MANIFEST], files[SIGNATURE])
    manifest = parse_json(files[MANIFEST], str(startup / MANIFEST))
    if manifest.get("format") != FORMAT:
        raise KitError(f"{startup / MANIFEST}: format {manifest.get('format')!r}, wanted is {FORMAT}")
    if (manifest["project"], manifest["participant"]) != (kit.settings.project, kit.settings.name):
        raise KitError(f"{startup}: the manifest is that of {manifest['participant']!r}, not of {kit.settings.name!r}")
    # the key is none of its files: it is checked against the certificate
    others = {MANIFEST, SIGNATURE, f"{STEM[kit.kind]}.key"}
    for name in sorted((files.keys() | manifest["files"].keys()) - others):
        if name not in files:
            raise KitError(f"{startup / name} is missing", hint="copy the whole kit again, or provision it anew")
        if name not in manifest["files"]:
            raise KitError(f"{startup / name} is not part of this kit", hint="move it out of startup/")
        if not hmac.compare_digest(hashlib.sha256(files[name]).hexdigest(), str(manifest["files"][name])):
            raise KitError(
                f"{startup / name} was changed after the kit was made",
                hint="copy the whole kit again; to dial another address, write local/connect.json",
            )


def _check_signature(kit: Kit, content: bytes, signature: bytes) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    from flpoc.provision.identity import read_roots, verify_signature

    for root in read_roots(kit.root_pem):
        try:
            verify_signature(root.public_bytes(Encoding.PEM), content, signature)
        except IntegrityError:
            continue
        return
    raise KitError(
        f"{kit.folder / STARTUP / MANIFEST} is not signed by the CA of the kit",
        hint="the kit was changed, or mixed with another: copy the whole kit again, or provision it anew",
    )


def _check_owner(kit: Kit, identity: Identity) -> None:
    ours = (kit.kind, kit.settings.project, kit.settings.name, kit.settings.org, kit.settings.role)
    theirs = (identity.kind, identity.project, identity.name, identity.org, identity.role)
    for what, mine, other in zip(("kind", "project", "name", "org", "role"), ours, theirs, strict=True):
        if mine != other:
            raise KitError(f"{kit.folder}: the settings say {what} {mine!r}, the certificate says {other!r}")


def check_pair(kit: Kit) -> None:
    """Check that the certificates of a kit can be read, and that the key belongs to the owner's.

    Raises:
        KitError: They do not; names the file.
    """
    from flpoc.provision.identity import read_certificate, read_roots

    startup = kit.folder / STARTUP
    for name, pem, read in (
        (ROOT, kit.root_pem, read_roots),
        (f"{STEM[kit.kind]}.crt", kit.certificate_pem, read_certificate),
    ):
        try:
            read(pem)
        except KitError as error:
            hint = error.hint or "copy the whole kit again, or provision it anew"
            raise KitError(f"{startup / name}: {error.message}", hint=hint) from None
    _check_key(kit)


def _check_key(kit: Kit) -> None:
    from flpoc.provision.identity import p256_key, read_certificate, read_private_key

    path = kit.folder / STARTUP / f"{STEM[kit.kind]}.key"
    try:
        key = read_private_key(kit.key_pem)
    except KitError as error:
        raise KitError(f"{path}: {error.message}", hint=error.hint) from None
    if key.public_key() != p256_key(read_certificate(kit.certificate_pem)):
        raise KitError(f"{path} does not belong to the certificate beside it", hint="copy the whole kit again")
