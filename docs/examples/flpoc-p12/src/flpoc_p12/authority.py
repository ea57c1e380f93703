"""Key and certificate of an authority in one encrypted file."""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flpoc.errors import ConfigError, KitError
from flpoc.provision.certificates import participant_builder, root_builder
from flpoc.provision.files import read_guarded, read_secret, write_new
from flpoc.provision.identity import name_of
from flpoc.provision.names import name_problem
from flpoc.provisioning import Authority, CertificateRequest

if TYPE_CHECKING:
    from cryptography import x509

STORE = "authority.p12"
#: The certificate alone: whoever checks others needs no passphrase.
ROOT = "rootCA.pem"
PASSPHRASE = "FLPOC_P12_PASSPHRASE"
VALID_FOR = datetime.timedelta(days=3650)


class Pkcs12Authority(Authority):
    """Issues with a key that is never on the disk in the clear."""

    def create(self, folder: Path, project: str) -> None:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, pkcs12

        if problem := name_problem("project", project):
            raise ConfigError(problem)
        if (folder / STORE).exists():
            owner = name_of(self._open(folder)[1].subject)
            if owner != project:
                raise KitError(f"{folder / STORE} is the authority of project {owner!r}, not of {project!r}")
            return
        key = ec.generate_private_key(ec.SECP256R1())
        root = root_builder(project, "", key.public_key(), VALID_FOR).sign(key, hashes.SHA256())
        locked = BestAvailableEncryption(_passphrase().encode())
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_new(folder / ROOT, root.public_bytes(Encoding.PEM), durable=True)
        store = pkcs12.serialize_key_and_certificates(project.encode(), key, root, None, locked)
        write_new(folder / STORE, store, secret=True, durable=True)

    def root(self, folder: Path) -> bytes:
        return read_guarded(folder / ROOT)

    def issue(self, folder: Path, request: CertificateRequest) -> bytes:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.serialization import Encoding

        key, root = self._open(folder)
        return participant_builder(root, request).sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def sign(self, folder: Path, content: bytes) -> bytes:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        return self._open(folder)[0].sign(content, ec.ECDSA(hashes.SHA256()))

    def _open(self, folder: Path) -> tuple[Any, x509.Certificate]:
        from cryptography.hazmat.primitives.serialization import pkcs12

        path = folder / STORE
        try:
            key, root, _ = pkcs12.load_key_and_certificates(read_secret(path), _passphrase().encode())
        except ValueError:
            raise KitError(
                f"{path} cannot be opened", hint=f"is the passphrase in {PASSPHRASE} right, and the file whole?"
            ) from None
        if key is None or root is None:
            raise KitError(f"{path} holds no key with its certificate", hint="restore it from a backup")
        return key, root


def _passphrase() -> str:
    found = os.environ.get(PASSPHRASE, "")
    if not found:
        raise KitError("the authority's passphrase is missing", hint=f"set {PASSPHRASE}")
    return found
