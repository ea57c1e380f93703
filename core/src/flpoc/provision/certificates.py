"""What certificates say: for every authority, wherever it has its key."""

from __future__ import annotations

import datetime
import secrets
from typing import TYPE_CHECKING

from flpoc.errors import ConfigError, KitError
from flpoc.provision import names
from flpoc.provision.identity import identity_uri, name_of
from flpoc.provisioning import ROLES, CertificateRequest

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

#: Clocks of sites may lag behind that of the host which provisions.
BACKDATED = datetime.timedelta(minutes=5)


def root_builder(
    project: str, org: str, public_key: EllipticCurvePublicKey, valid_for: datetime.timedelta
) -> x509.CertificateBuilder:
    """The certificate of a project's authority, ready to be signed with its own key.

    Args:
        project: The project, which is the authority's name.
        org: Its organisation; may be empty.
        public_key: The authority's key.
        valid_for: How long it lasts.
    """
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    words = [(NameOID.COMMON_NAME, project), *([(NameOID.ORGANIZATION_NAME, org)] if org else [])]
    name = x509.Name([x509.NameAttribute(*one) for one in words])
    now = _now()
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public_key)
        .serial_number(_serial())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + valid_for)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        # the authority signs the manifests of kits, too
        .add_extension(_usage(issues=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def participant_builder(root: x509.Certificate, request: CertificateRequest) -> x509.CertificateBuilder:
    """The certificate of a participant as flpoc reads it, ready to be signed with the key of *root*.

    Raises:
        KitError: The key is not EC P-256, or *root* is of another project or has expired.
        ConfigError: The participant's name, role or organisation cannot be used.
    """
    _check_request(request)
    return _leaf(root, request, _public_key(request.public_key))


def _leaf(
    root: x509.Certificate, request: CertificateRequest, public_key: EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    one = request.participant
    if name_of(root.subject) != request.project:
        raise KitError(f"this is the CA of project {name_of(root.subject)!r}, not of {request.project!r}")
    start, end = _validity(root, request.valid_for)
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if one.kind == "server" else ExtendedKeyUsageOID.CLIENT_AUTH
    subject = [
        x509.NameAttribute(NameOID.COMMON_NAME, one.name[:64]),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, one.org),
    ]
    signer = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(root.subject)
        .public_key(public_key)
        .serial_number(_serial())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(issues=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_alternative_names(request)), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(signer), critical=False)
    )


def _validity(root: x509.Certificate, valid_for: datetime.timedelta) -> tuple[datetime.datetime, datetime.datetime]:
    now = _now()
    if now >= root.not_valid_after_utc:
        raise KitError(
            f"the CA of project {name_of(root.subject)!r} expired at {root.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
            hint="provision into another folder: a new CA is made, and all kits are new",
        )
    return max(now - BACKDATED, root.not_valid_before_utc), min(now + valid_for, root.not_valid_after_utc)


def _alternative_names(request: CertificateRequest) -> list[x509.GeneralName]:
    import ipaddress

    from cryptography import x509

    one = request.participant
    found: list[x509.GeneralName] = [
        x509.UniformResourceIdentifier(identity_uri(request.project, one.kind, one.role, one.name))
    ]
    if one.kind == "server":
        dialled = [names.split_address(one.connect_to, 0, "connect_to")[0]] if one.connect_to else []
        hosts = [names.check_host(host, "host_names") for host in one.host_names]
        for host in dict.fromkeys([one.name, *dialled, *hosts, "localhost", "127.0.0.1", "::1"]):
            found.append(x509.IPAddress(ipaddress.ip_address(host)) if names.is_address(host) else x509.DNSName(host))
    return found


def _usage(*, issues: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=issues,
        crl_sign=issues,
        encipher_only=False,
        decipher_only=False,
    )


def _check_request(request: CertificateRequest) -> None:
    one = request.participant
    if problem := names.name_problem(one.kind, one.name) or names.name_problem("org", one.org):
        raise ConfigError(problem)
    if one.kind == "user" and one.role not in ROLES:
        raise ConfigError(f"{one.name}: {one.role!r} is not a role", hint=f"roles: {', '.join(ROLES)}")
    if one.kind != "user" and one.role:
        raise ConfigError(f"{one.name}: a {one.kind} has no role")


def _public_key(pem: bytes) -> EllipticCurvePublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise KitError("the public key to certify cannot be read: wanted is PEM") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KitError("the key to certify is not an EC P-256 key", hint="make an EC P-256 key")
    return key


def _serial() -> int:
    # 127 random bits below a set one: 128 bits, positive, never short
    return secrets.randbits(127) | 1 << 127


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)
