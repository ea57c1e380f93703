"""Who a certificate says its owner is, and whether to believe it.

Name, kind and role are in one URI of the certificate,
``spiffe://<project>/<server|site|role>/<name>``. Nothing else of a certificate
decides who somebody is; the common name is only for people's eyes.
"""

from __future__ import annotations

import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import attrs

from flpoc.errors import IntegrityError, KitError
from flpoc.provision.names import name_problem
from flpoc.provisioning import ROLES, Kind

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

#: Larger than any certificate of ours, with all the host names a server can have.
MAX_CERTIFICATE_BYTES = 64 << 10

#: A certificate that ends within so many days should be renewed.
SOON_DAYS = 30

_HASHES = ("sha256", "sha384", "sha512")


@attrs.frozen
class Identity:
    """Who the owner of a certificate is.

    Attributes:
        name: Unique in the project.
        kind: ``server``, ``site`` or ``user``.
        role: For users: project_admin, org_admin, lead or member; empty otherwise.
        org: The organisation.
        project: The project whose authority issued the certificate.
        serial: The certificate's serial number.
        not_before: From when it is valid.
        not_after: Until when it is valid.
    """

    name: str
    kind: Kind
    role: str
    org: str
    project: str
    serial: int
    not_before: datetime.datetime
    not_after: datetime.datetime


def identity_uri(project: str, kind: Kind, role: str, name: str) -> str:
    """The URI that stands for a participant in its certificate."""
    return f"spiffe://{quote(project, safe='')}/{role if kind == 'user' else kind}/{quote(name, safe='')}"


@lru_cache(maxsize=1024)
def identity_of(certificate: bytes) -> Identity:
    """Read who a certificate (PEM) is for, without judging who issued it.

    Raises:
        KitError: It is not one of ours: another key type, an odd or missing name, an unfit purpose.
    """
    found = read_certificate(certificate)
    p256_key(found)
    kind, role, project, name = _parse_uri(_only_uri(found))
    if problem := name_problem("project", project) or name_problem(kind, name):
        raise KitError(f"the certificate's name cannot be used: {problem}")
    if _subject(found, "common_name") != name[:64]:
        raise KitError(f"the certificate for {name!r} has another name in its subject")
    org = _subject(found, "organization_name")
    if problem := name_problem("org", org):
        raise KitError(f"the certificate for {name!r} has no usable organisation: {problem}")
    _check_purpose(found, kind, name)
    return Identity(
        name=name,
        kind=kind,
        role=role,
        org=org,
        project=project,
        serial=found.serial_number,
        not_before=found.not_valid_before_utc,
        not_after=found.not_valid_after_utc,
    )


def verify_certificate(certificate: bytes, root: bytes, at: datetime.datetime | None = None) -> Identity:
    """Check that a certificate was issued by the authority *root* and is valid now, or *at* a time.

    Args:
        certificate: PEM.
        root: PEM of one authority, or of several while one takes over from another.
        at: With time zone; now, if not given.

    Raises:
        KitError: It is not to be trusted; the message says exactly why.
    """
    identity = identity_of(certificate)
    now = at or datetime.datetime.now(datetime.UTC)
    issuer = _issuer(read_certificate(certificate), read_roots(root), identity)
    check_validity(identity, now)
    authority = f"the CA of project {identity.project!r}"
    _check_times(issuer.not_valid_before_utc, issuer.not_valid_after_utc, now, authority)
    if name_of(issuer.subject) != identity.project:
        raise KitError(
            f"the certificate of {identity.name!r} is for project {identity.project!r}, "
            f"its CA is that of {name_of(issuer.subject)!r}"
        )
    return identity


def check_validity(identity: Identity, at: datetime.datetime | None = None) -> None:
    """Check that the certificate of an identity is valid now, or *at* a time.

    Raises:
        KitError: It has expired, or is not valid yet.
    """
    now = at or datetime.datetime.now(datetime.UTC)
    _check_times(identity.not_before, identity.not_after, now, f"the certificate of {identity.name!r}")


def sign(private_key_pem: bytes, content: bytes) -> bytes:
    """Sign *content* with a participant's key: ECDSA P-256 with SHA-256, DER."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    return read_private_key(private_key_pem).sign(content, ec.ECDSA(hashes.SHA256()))


def verify_signature(certificate: bytes, content: bytes, signature: bytes) -> None:
    """Check that the owner of *certificate* signed exactly *content*.

    Raises:
        IntegrityError: The signature is not theirs, or the content was changed.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    found = read_certificate(certificate)
    try:
        p256_key(found).verify(signature, content, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        who = name_of(found.subject)
        raise IntegrityError(f"the signature is not that of {who!r}, or what it covers was changed") from None


def read_certificate(pem: bytes) -> x509.Certificate:
    """Read one certificate from PEM.

    Raises:
        KitError: It cannot be read.
    """
    from cryptography import x509

    if len(pem) > MAX_CERTIFICATE_BYTES:
        raise KitError(f"a certificate of {len(pem)} bytes is too large")
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise KitError(f"the certificate cannot be read: {_one_line(error, pem)}") from None


def read_roots(pem: bytes) -> list[x509.Certificate]:
    """Read the certificates of one or more authorities from PEM."""
    from cryptography import x509

    try:
        roots = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise KitError(f"the CA's certificate cannot be read: {_one_line(error, pem)}") from None
    for root in roots:
        constraints = _extension(root, x509.BasicConstraints)
        if constraints is None or not constraints.ca:
            raise KitError(f"the certificate of {name_of(root.subject)!r} is not that of a CA")
    return roots


def read_private_key(pem: bytes) -> EllipticCurvePrivateKey:
    """Read a participant's key from PEM.

    Raises:
        KitError: It is encrypted, not an EC P-256 key, or cannot be read.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        raise KitError("the private key is encrypted", hint="servers and sites need a key without passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        # The library's text may quote its input, and the input is a secret.
        what = "it is empty" if not pem.strip() else "it is no private key in PEM"
        raise KitError(f"the private key cannot be read: {what}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KitError("the private key is not an EC P-256 key", hint="provision a new kit")
    return key


def p256_key(certificate: x509.Certificate) -> EllipticCurvePublicKey:
    """Give the public key of a certificate, if it is on the curve P-256."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise _not_p256() from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _not_p256()
    return key


def _not_p256() -> KitError:
    return KitError("the certificate's key is not an EC P-256 key", hint="provision a new kit")


def name_of(name: x509.Name) -> str:
    """The common name in a certificate's subject or issuer; empty if it has none."""
    from cryptography.x509.oid import NameOID

    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def _subject(certificate: x509.Certificate, what: str) -> str:
    from cryptography.x509.oid import NameOID

    found = certificate.subject.get_attributes_for_oid(getattr(NameOID, what.upper()))
    if len(found) != 1:
        raise KitError(f"the certificate has {len(found) or 'no'} {what.replace('_', ' ')}s in its subject")
    return str(found[0].value)


def _only_uri(certificate: x509.Certificate) -> str:
    from cryptography import x509

    names = _extension(certificate, x509.SubjectAlternativeName)
    uris = names.get_values_for_type(x509.UniformResourceIdentifier) if names else []
    if len(uris) != 1:
        raise KitError(f"the certificate has {len(uris) or 'no'} role URIs; wanted is one, spiffe://project/role/name")
    return str(uris[0])


def _extension(certificate: x509.Certificate, kind: Any) -> Any:
    """The value of one extension; None if the certificate has none such, or none that can be read."""
    from cryptography import x509

    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return None


def _parse_uri(uri: str) -> tuple[Kind, str, str, str]:
    scheme, _, rest = uri.partition("://")
    parts = [unquote(part, errors="replace") for part in rest.split("/")]
    if scheme == "spiffe" and len(parts) == 3:
        project, role, name = parts
        if role == "server":
            return "server", "", project, name
        if role == "site":
            return "site", "", project, name
        if role in ROLES:
            return "user", role, project, name
    raise KitError(f"the certificate's role URI {uri[:200]!r} is not spiffe://project/role/name")


def _check_purpose(certificate: x509.Certificate, kind: Kind, name: str) -> None:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    wanted = ExtendedKeyUsageOID.SERVER_AUTH if kind == "server" else ExtendedKeyUsageOID.CLIENT_AUTH
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is None or constraints.ca:
        raise KitError(f"the certificate of {name!r} is that of a CA, not of a participant")
    if list(_extension(certificate, x509.ExtendedKeyUsage) or ()) != [wanted]:
        raise KitError(f"the certificate of {name!r} may not be used as that of a {kind}")


def _issuer(leaf: x509.Certificate, roots: list[x509.Certificate], identity: Identity) -> x509.Certificate:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    if _signature_hash(leaf) not in _HASHES:
        raise KitError(f"the certificate of {identity.name!r} is not signed with SHA-256 or better")
    for root in roots:
        try:
            leaf.verify_directly_issued_by(root)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            continue
        return root
    issuer = name_of(leaf.issuer)
    projects = ", ".join(sorted({repr(name_of(root.subject)) for root in roots}))
    if any(root.subject == leaf.issuer for root in roots):
        raise KitError(
            f"the certificate of {identity.name!r} is issued by another CA of the name {issuer!r}: its key differs",
            hint="the project was provisioned anew: use kits of one and the same provisioning",
        )
    raise KitError(
        f"the certificate of {identity.name!r} is issued by {issuer!r}, not by the CA of project {projects}",
        hint="use a kit of this project; behind a proxy or service mesh, see that it does not replace certificates",
    )


def _signature_hash(certificate: x509.Certificate) -> str:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        found = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return ""
    return found.name if found else ""


def _check_times(start: datetime.datetime, end: datetime.datetime, now: datetime.datetime, whose: str) -> None:
    if now < start:
        raise KitError(
            f"{whose} is not valid before {start:%Y-%m-%dT%H:%M:%SZ}: is the clock of this host right?",
            hint=f"it is {now:%Y-%m-%dT%H:%M:%SZ} here, {_span(start - now)} too early",
        )
    if now > end:
        raise KitError(
            f"{whose} expired {_span(now - end)} ago, at {end:%Y-%m-%dT%H:%M:%SZ}",
            hint="provision the participant again and replace its kit",
        )


def _span(time: datetime.timedelta) -> str:
    seconds = int(time.total_seconds())
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = seconds // size
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{seconds} second{'' if seconds == 1 else 's'}"


def _one_line(error: Exception, pem: bytes) -> str:
    if not pem.strip():
        return "it is empty"
    if not pem.lstrip().startswith(b"-----BEGIN"):
        return "it does not start with -----BEGIN"
    return str(error).splitlines()[0].split(". See")[0] if str(error) else type(error).__name__
