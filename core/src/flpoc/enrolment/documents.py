"""What is written down on the way from a request to a kit: file names, and the two documents that travel."""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
import json
import re
from typing import Any, TypeVar

import attrs

from flpoc.errors import ConfigError
from flpoc.provision.names import check_host, check_port, name_problem
from flpoc.provision.project_file import KINDS
from flpoc.provisioning import ROLES, Kind, Participant

FORMAT = 1
REQUEST = "request.json"
SITE = "site.yaml"
SIGNED = "signed.json"
#: A document and its signature have one name.
SIGNATURE_SUFFIX = ".sig"

_ID = re.compile(r"[0-9a-f]{32}")
_VERSION = re.compile(r"[0-9]{2}")

T = TypeVar("T")


def request_archive(name: str) -> str:
    """File name of the request of a participant."""
    return f"{name}.request.zip"


def answer_archive(name: str) -> str:
    """File name of the answer to it."""
    return f"{name}.signed.zip"


def key_name(name: str) -> str:
    return f"{name}.key"


def csr_name(name: str) -> str:
    return f"{name}.csr"


def certificate_name(name: str) -> str:
    return f"{name}.crt"


@attrs.frozen
class Person:
    """Somebody as a document names them; see :class:`flpoc.provisioning.Participant`."""

    name: str
    type: str
    org: str
    role: str = ""

    @property
    def kind(self) -> Kind:
        return KINDS[self.type]

    def participant(self, **more: Any) -> Participant:
        """The same as a participant of a project, with what *more* is known of it."""
        return Participant(self.name, self.kind, self.org, role=self.role, **more)


@attrs.frozen
class Request:
    """What somebody asks for: ``request.json``.

    Attributes:
        format: Version of this document.
        flpoc: The version of flpoc that wrote it.
        request_id: Chosen at random; the answer has it, too.
        project: The project to take part in.
        participant: Who wants to, and as what.
        csr_sha256: Of the certificate signing request.
        site_sha256: Of ``site.yaml``.
        key_sha256: Of the public key (its SubjectPublicKeyInfo, DER).
        created: When.
    """

    format: int
    flpoc: str
    request_id: str
    project: str
    participant: Person
    csr_sha256: str
    site_sha256: str
    key_sha256: str
    created: str


@attrs.frozen
class Endpoint:
    """The server, as everybody dials it."""

    name: str
    host: str
    port: int


@attrs.frozen
class Signed:
    """What was approved: ``signed.json``.

    Attributes:
        format: Version of this document.
        flpoc: The version of flpoc that wrote it.
        request_id: Of the request that it answers.
        project: The project.
        deploy_version: The kit belongs into ``prod_<this>``.
        participant: Who may take part, and as what.
        server: Where the server is.
        launcher: Which launcher starts jobs.
        plugins: Names of the plugins that the kit lists.
        certificate_sha256: Of the certificate's file.
        rootca_fingerprint_sha256: Of the authority's certificate.
        site_sha256: Of ``site.yaml``, as it was in the request.
        approved: When.
        manifest: The manifest of the kit that is to be made.
        manifest_signature: The authority's signature of it, in base64.
    """

    format: int
    flpoc: str
    request_id: str
    project: str
    deploy_version: str
    participant: Person
    server: Endpoint
    launcher: str
    plugins: tuple[str, ...]
    certificate_sha256: str
    rootca_fingerprint_sha256: str
    site_sha256: str
    approved: str
    manifest: str
    manifest_signature: str

    @property
    def seal(self) -> tuple[bytes, bytes]:
        """The kit's manifest and its signature."""
        return self.manifest.encode(), base64.b64decode(self.manifest_signature, validate=True)


def parse_request(content: bytes) -> Request:
    """Read ``request.json``.

    Raises:
        ConfigError: It is no such document, or names somebody who cannot be named so.
    """
    found = _parse(content, REQUEST, Request)
    _check_common(found.request_id, found.project, found.participant, REQUEST)
    return found


def parse_signed(content: bytes) -> Signed:
    """Read ``signed.json``; who signed it is not looked at here.

    Raises:
        ConfigError: It is no such document, or names what cannot be named so.
    """
    found = _parse(content, SIGNED, Signed)
    _check_common(found.request_id, found.project, found.participant, SIGNED)
    if not is_version(found.deploy_version):
        raise ConfigError(f"{SIGNED}: deploy_version: {found.deploy_version[:20]!r} is not two digits")
    for name in (found.launcher, *found.plugins):
        if problem := name_problem("component", name):
            raise ConfigError(f"{SIGNED}: {problem}")
    try:
        _ = found.seal
    except (ValueError, binascii.Error):
        raise ConfigError(f"{SIGNED}: manifest_signature: is not base64") from None
    return found


def check_endpoint(server: Endpoint, where: str) -> Endpoint:
    """Give a server's address if it can be dialled.

    Raises:
        ConfigError: It cannot.
    """
    if problem := name_problem("server", server.name):
        raise ConfigError(f"{where}: server.name: {problem}")
    host = check_host(server.host, f"{where}: server.host")
    return Endpoint(server.name, host, check_port(server.port, f"{where}: server.port"))


def is_version(text: str) -> bool:
    """Whether *text* can stand behind ``prod_``: two digits."""
    return _VERSION.fullmatch(text) is not None


def as_document(value: Any) -> bytes:
    """A document as it is written: JSON for people to read."""
    from flpoc.settings import plain

    return json.dumps(plain(value), indent=2, ensure_ascii=False).encode() + b"\n"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def as_fingerprint(digest: str | bytes) -> str:
    """A SHA-256 as people compare it: pairs of hex digits in capitals, as openssl prints them."""
    text = digest.hex() if isinstance(digest, bytes) else digest
    return ":".join(text[place : place + 2].upper() for place in range(0, len(text), 2))


def parse_fingerprint(text: str) -> str | None:
    """The SHA-256 that somebody has written down, as :func:`as_fingerprint` gives it; None if it is none."""
    bare = re.sub(r"^sha-?256( fingerprint)?[:=]", "", text.strip(), flags=re.IGNORECASE)
    digits = re.sub(r"[:\s]", "", bare).lower()
    return as_fingerprint(digits) if re.fullmatch(r"[0-9a-f]{64}", digits) else None


def now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _parse(content: bytes, name: str, cls: type[T]) -> T:
    from flpoc.settings import parse_json, structure

    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{name}: is not text") from None
    data = parse_json(text, name)
    version = data.get("format") if isinstance(data, dict) else None
    if version != FORMAT or isinstance(version, bool):
        raise ConfigError(f"{name}: format {version!r}, wanted is {FORMAT}", hint="use the same version of flpoc")
    return structure(data, cls, where=name)


def _check_common(request_id: str, project: str, one: Person, name: str) -> None:
    if not _ID.fullmatch(request_id):
        raise ConfigError(f"{name}: request_id: {request_id[:40]!r} is not 32 hex digits")
    if one.type not in KINDS:
        raise ConfigError(f"{name}: participant.type: {one.type[:40]!r} is no type of participant")
    problem = name_problem("project", project) or name_problem(one.kind, one.name) or name_problem("org", one.org)
    if problem:
        raise ConfigError(f"{name}: {problem}")
    if one.role not in (ROLES if one.kind == "user" else ("",)):
        raise ConfigError(f"{name}: participant.role: {one.role[:40]!r} is no role of a {one.kind}")
