"""What a request says, once it is sure that its parts belong together and its key has signed it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from flpoc.enrolment.archives import read_archive
from flpoc.enrolment.definitions import Definition, parse_definition
from flpoc.enrolment.documents import REQUEST, SIGNATURE_SUFFIX, SITE, Request, csr_name, parse_request, sha256
from flpoc.errors import ConfigError, KitError

if TYPE_CHECKING:
    from cryptography import x509

ASK_AGAIN = "have a new request made with `flpoc cert request`, and sent as it is"
_KEYS = ("name", "type", "org", "role", "fed_learn_port", "connect_to", "default_host")


@attrs.frozen
class Incoming:
    """A request that somebody has sent.

    Attributes:
        request: What it asks for.
        said: The definition of who asks.
        site: The same as it stands in ``site.yaml``.
        csr: The certificate signing request.
    """

    request: Request
    said: Definition
    site: bytes
    csr: x509.CertificateSigningRequest

    @property
    def public_key(self) -> bytes:
        """The key to certify, as PEM: all that is used of the certificate signing request."""
        from cryptography.hazmat.primitives import serialization as form

        return self.csr.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)

    @property
    def dropped(self) -> tuple[str, ...]:
        """What the certificate signing request asks for besides: names and extensions without effect."""
        from flpoc.provision.identity import name_of

        found = []
        asked, name = name_of(self.csr.subject), self.request.participant.name
        if asked != name[:64]:
            found.append(f"The name {asked[:80]!r} in the certificate signing request has no effect.")
        try:
            extensions = [type(one.value).__name__ for one in self.csr.extensions]
        except ValueError:
            extensions = ["some that cannot be read"]
        if extensions:
            found.append(f"Extensions in the certificate signing request have no effect: {', '.join(extensions)}.")
        return tuple(found)


def read_incoming(archive: Path) -> Incoming:
    """Read a request.

    Raises:
        KitError: It is missing, damaged, or its parts do not belong together; the code says which.
    """
    files = read_archive(archive, missing="REQUEST_ZIP_NOT_FOUND", unusable="INVALID_REQUEST_ZIP")
    request = _request(files, archive)
    name = csr_name(request.participant.name)
    if name not in files:
        raise _refusal("CSR_NOT_FOUND", f"{archive.name}: {name} is missing")
    wanted = {REQUEST, REQUEST + SIGNATURE_SUFFIX, SITE, name}
    if odd := sorted(files.keys() ^ wanted):
        what = "does not belong in it" if odd[0] in files else "is missing"
        raise _refusal("INVALID_REQUEST_ZIP", f"{archive.name}: {odd[0]} {what}")
    for file, expected in ((name, request.csr_sha256), (SITE, request.site_sha256)):
        if sha256(files[file]) != expected:
            raise _refusal("REQUEST_METADATA_MISMATCH", f"{archive.name}: {file} is not the one in {REQUEST}")
    csr = _read_csr(files[name], f"{archive.name}: {name}")
    if hashlib.sha256(_der(csr)).hexdigest() != request.key_sha256:
        raise _refusal("REQUEST_METADATA_MISMATCH", f"{archive.name}: {name} has another key than {REQUEST} says")
    _check_signature(csr, files[REQUEST], files[REQUEST + SIGNATURE_SUFFIX], archive)
    return Incoming(request, _said(files[SITE], request, archive), files[SITE], csr)


def _request(files: Mapping[str, bytes], archive: Path) -> Request:
    if REQUEST not in files:
        raise _refusal("REQUEST_METADATA_NOT_FOUND", f"{archive.name}: {REQUEST} is missing")
    try:
        return parse_request(files[REQUEST])
    except ConfigError as error:
        raise _refusal("REQUEST_METADATA_INVALID", f"{archive.name}: {error.message}") from None


def _refusal(code: str, message: str) -> KitError:
    return KitError(message, code=code, hint=ASK_AGAIN)


def _said(content: bytes, request: Request, archive: Path) -> Definition:
    """``site.yaml`` of the request, which says the same as ``request.json``."""
    said = read_site(content, f"{archive.name}: {SITE}")
    one = request.participant
    theirs = (said.project, said.participant.name, said.participant.kind, said.participant.org, said.participant.role)
    if theirs != (request.project, one.name, one.kind, one.org, one.role):
        raise _refusal("REQUEST_METADATA_MISMATCH", f"{archive.name}: {SITE} and {REQUEST} do not say the same")
    return said


def read_site(content: bytes, where: str) -> Definition:
    """Read ``site.yaml``, which `flpoc cert request` has written.

    Raises:
        KitError: It cannot be used (code LOCAL_SITE_INVALID), or has keys that are not for this way of making kits
            (LOCAL_SITE_UNSUPPORTED_FEATURE).
    """
    from flpoc.strict_yaml import parse_yaml

    try:
        data = parse_yaml(content.decode(), Path(where))
    except (UnicodeDecodeError, ConfigError) as error:
        why = error.message if isinstance(error, ConfigError) else f"{where}: is not text"
        raise _refusal("LOCAL_SITE_INVALID", why) from None
    if strange := _strange_key(data):
        raise KitError(
            f"{where}: {strange}: cannot be used with requests",
            code="LOCAL_SITE_UNSUPPORTED_FEATURE",
            hint="take it out of the definition, and ask again",
        )
    try:
        return parse_definition(data, where)
    except KitError as error:
        raise _refusal("LOCAL_SITE_INVALID", error.message) from None
    except ConfigError as error:
        raise _refusal("LOCAL_SITE_INVALID", f"{where}: {error.message}") from None


def _strange_key(data: Any) -> str:
    """A key that ``site.yaml`` never has; empty if there is none."""
    if not isinstance(data, Mapping):
        return ""
    strange = [key for key in data if key not in ("name", "participants")]
    people = data.get("participants")
    for one in people if isinstance(people, list) else ():
        strange += [f"participants[0].{key}" for key in (one if isinstance(one, Mapping) else ()) if key not in _KEYS]
    return str(strange[0]) if strange else ""


def _read_csr(pem: bytes, where: str) -> x509.CertificateSigningRequest:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        csr = x509.load_pem_x509_csr(pem)
        key = csr.public_key()
        sound = csr.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _refusal("INVALID_CSR", f"{where}: is no certificate signing request in PEM") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _refusal("INVALID_CSR", f"{where}: its key is not an EC P-256 key")
    if not sound:
        raise _refusal(
            "INVALID_CSR", f"{where}: is not signed with its own key: whoever sent it may not have the private one"
        )
    return csr


def _der(csr: x509.CertificateSigningRequest) -> bytes:
    from cryptography.hazmat.primitives import serialization as form

    return csr.public_key().public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo)


def _check_signature(csr: x509.CertificateSigningRequest, content: bytes, signature: bytes, archive: Path) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key: Any = csr.public_key()
    try:
        key.verify(signature, content, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        why = f"{archive.name}: {REQUEST} is not signed with the key of the request, or was changed"
        raise _refusal("INVALID_REQUEST_ZIP", why) from None
