"""The certificate authority in a folder: the built-in way to issue certificates."""

from __future__ import annotations

import datetime
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from flpoc.errors import ConfigError, KitError
from flpoc.provision import names
from flpoc.provision.certificates import participant_builder, root_builder
from flpoc.provision.files import read_guarded, read_secret, remove_tree, write_new
from flpoc.provision.identity import name_of, read_certificate
from flpoc.provisioning import Authority, CertificateRequest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

ROOT = "rootCA.pem"
KEY = "rootCA.key"
PASSPHRASE = "FLPOC_CA_PASSPHRASE"  # noqa: S105 - the name of a variable, not its value

VALID_FOR = datetime.timedelta(days=3650)


class LocalAuthority(Authority):
    """A certificate authority whose key is a file.

    The folder holds ``rootCA.pem`` and ``rootCA.key``. The key is encrypted
    when the environment variable FLPOC_CA_PASSPHRASE is set while the
    authority is made; the same passphrase is then needed to use it.

    Args:
        valid_for: How long the authority lasts, for one that is made now.
        org: Its organisation, for one that is made now; may be empty.
    """

    def __init__(self, *, valid_for: datetime.timedelta = VALID_FOR, org: str = "") -> None:
        self._valid_for = valid_for
        self._org = org
        self._keys: dict[bytes, EllipticCurvePrivateKey] = {}

    def create(self, folder: Path, project: str) -> None:
        if problem := names.name_problem("project", project) or (self._org and names.name_problem("org", self._org)):
            raise ConfigError(problem)
        if self._exists(folder):
            owner = name_of(read_certificate(self.root(folder)).subject)
            if owner != project:
                raise KitError(f"{folder} holds the CA of project {owner!r}, not of {project!r}")
            return
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            key, pem = _new_root(project, self._org, self._valid_for)
            write_new(made / KEY, _key_pem(key, os.environ.get(PASSPHRASE, "")), secret=True, durable=True)
            write_new(made / ROOT, pem, durable=True)
            made.rename(folder)  # on top of an empty folder at most: an authority is never overwritten
        except OSError as error:
            if not self._exists(folder):
                raise KitError(f"{folder}: the CA cannot be stored: {error.strerror or error}") from error
        finally:
            remove_tree(made)

    def root(self, folder: Path) -> bytes:
        return read_guarded(folder / ROOT)

    def issue(self, folder: Path, request: CertificateRequest) -> bytes:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.serialization import Encoding

        builder = participant_builder(read_certificate(self.root(folder)), request)
        return builder.sign(self._key(folder), hashes.SHA256()).public_bytes(Encoding.PEM)

    def sign(self, folder: Path, content: bytes) -> bytes:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        return self._key(folder).sign(content, ec.ECDSA(hashes.SHA256()))

    def _exists(self, folder: Path) -> bool:
        there = [name for name in (ROOT, KEY) if (folder / name).is_file()]
        if len(there) == 1:
            missing = KEY if there == [ROOT] else ROOT
            raise KitError(
                f"{folder / missing} is missing beside {there[0]}",
                hint="restore it from a backup, or provision into another folder: all kits will be new",
            )
        return len(there) == 2

    def _key(self, folder: Path) -> EllipticCurvePrivateKey:
        pem = read_secret(folder / KEY)
        if pem not in self._keys:
            self._keys[pem] = _open_key(pem, os.environ.get(PASSPHRASE, ""), folder / KEY)
        return self._keys[pem]


def _open_key(pem: bytes, passphrase: str, path: Path) -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    encrypted = b"ENCRYPTED" in pem
    if encrypted and not passphrase:
        raise KitError(f"{path} is encrypted", hint=f"set {PASSPHRASE} to its passphrase")
    try:
        key = load_pem_private_key(pem, passphrase.encode() if encrypted else None)
    except (ValueError, TypeError):
        if encrypted:
            raise KitError(f"{path}: the passphrase in {PASSPHRASE} is wrong") from None
        raise KitError(f"{path} is no private key in PEM", hint="restore it from a backup") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KitError(f"{path} is not an EC P-256 key")
    return key


def _key_pem(key: EllipticCurvePrivateKey, passphrase: str) -> bytes:
    from cryptography.hazmat.primitives import serialization as form

    how = form.BestAvailableEncryption(passphrase.encode()) if passphrase else form.NoEncryption()
    return key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, how)


def new_key() -> tuple[bytes, bytes]:
    """Make an EC P-256 key pair for a participant: private and public, both PEM."""
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    return _key_pem(key, ""), _public_pem(key)


def _public_pem(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization as form

    return key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)


def _new_root(project: str, org: str, valid_for: datetime.timedelta) -> tuple[EllipticCurvePrivateKey, bytes]:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding

    key = ec.generate_private_key(ec.SECP256R1())
    builder = root_builder(project, org, key.public_key(), valid_for)
    return key, builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
