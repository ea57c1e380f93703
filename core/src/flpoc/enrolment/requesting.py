"""Asking to take part: a key that stays here, and a request that is sent."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

import attrs

from flpoc import __version__
from flpoc.enrolment.archives import write_archive
from flpoc.enrolment.definitions import Definition, as_yaml, read_definition
from flpoc.enrolment.documents import (
    FORMAT,
    REQUEST,
    SIGNATURE_SUFFIX,
    SITE,
    Person,
    Request,
    as_document,
    as_fingerprint,
    csr_name,
    key_name,
    now,
    request_archive,
    sha256,
)
from flpoc.errors import KitError
from flpoc.provision.files import remove_tree, write_new
from flpoc.provision.project_file import TYPES
from flpoc.provisioning import Participant


@attrs.frozen
class Requested:
    """What was made.

    Attributes:
        folder: Where it is; it stays here.
        archive: What is to be sent.
        request: What it says.
        key: The private key's file.
        warnings: What in the definition has no effect.
    """

    folder: Path
    archive: Path
    request: Request
    key: Path
    warnings: tuple[str, ...]

    @property
    def key_fingerprint(self) -> str:
        """By which whoever approves can tell that the request is this one."""
        return as_fingerprint(self.request.key_sha256)


def request(definition: Path, folder: Path | None = None, *, force: bool = False) -> Requested:
    """Make a key and a request for the participant that *definition* describes.

    Args:
        definition: The file that says who wants to take part in which project.
        folder: Where to put key and request; the participant's name, if not given.
        force: Replace a key and a request that are there.

    Raises:
        KitError: The definition cannot be used, there is a key already (code
            KEY_ALREADY_EXISTS), or the folder cannot be written to.
    """
    said = read_definition(definition)
    name = said.participant.name
    folder = folder or Path(name)
    if not force:
        _refuse_existing(folder, name)
    try:
        made = _make(said, folder)
    except OSError as error:
        raise KitError(
            f"{error.filename or folder}: {error.strerror or error}",
            code="OUTPUT_DIR_NOT_WRITABLE",
            hint="choose another folder with --out, or change its permissions",
        ) from None
    return Requested(folder, folder / request_archive(name), made, folder / key_name(name), said.warnings)


def _refuse_existing(folder: Path, name: str) -> None:
    for file in (key_name(name), csr_name(name), SITE, REQUEST, request_archive(name)):
        path = folder / file
        if path.exists() or path.is_symlink():
            code = "KEY_ALREADY_EXISTS" if file == key_name(name) else "OUTPUT_DIR_EXISTS"
            raise KitError(f"{path} exists", code=code, hint="choose another folder with --out; --force replaces it")


def _make(said: Definition, folder: Path) -> Request:
    """Build everything aside, then put it in its place."""
    one = said.participant
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name[:100]}.new-", dir=folder.parent))
    try:
        private, csr, key_sha256 = _new_key(one)
        site = as_yaml(said)
        person = Person(one.name, TYPES[one.kind], one.org, one.role)
        made = Request(
            FORMAT,
            __version__,
            secrets.token_hex(16),
            said.project,
            person,
            sha256(csr),
            sha256(site),
            key_sha256,
            now(),
        )
        document = as_document(made)
        files = {csr_name(one.name): csr, SITE: site, REQUEST: document}
        for file, content in files.items():
            write_new(new / file, content)
        write_new(new / key_name(one.name), private, secret=True, durable=True)
        signature = _sign(private, document)
        write_archive(new / request_archive(one.name), {**files, REQUEST + SIGNATURE_SUFFIX: signature})
        _put_in_place(new, folder)
    finally:
        remove_tree(new)
    return made


def _put_in_place(new: Path, folder: Path) -> None:
    if not folder.exists():
        new.rename(folder)
        return
    # somebody's own folder: what else is in it stays
    for path in sorted(new.iterdir(), key=lambda one: one.name == REQUEST):
        os.replace(path, folder / path.name)  # noqa: PTH105 - both are on one file system


def _new_key(one: Participant) -> tuple[bytes, bytes, str]:
    """A private key, a certificate signing request, and the SHA-256 of the public key."""
    import hashlib

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.x509.oid import NameOID

    from flpoc.provision.authority import new_key
    from flpoc.provision.identity import read_private_key

    private, _ = new_key()
    key = read_private_key(private)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, one.name[:64]),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, one.org),
        ]
    )
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    public = key.public_key().public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo)
    return private, csr.public_bytes(form.Encoding.PEM), hashlib.sha256(public).hexdigest()


def _sign(private: bytes, document: bytes) -> bytes:
    from flpoc.provision.identity import sign

    return sign(private, document)
