"""The certificate authority in a folder: the built-in way to issue certificates."""

from __future__ import annotations

import datetime
import os
import secrets
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from flpoc.errors import ConfigError, KitError
from flpoc.provision import names
from flpoc.provision.files import read_guarded, read_secret, remove_tree, write_new
from flpoc.provision.identity import identity_uri, name_of, read_certificate
from flpoc.provisioning import ROLES, Authority, CertificateRequest

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

ROOT = "rootCA.pem"
KEY = "rootCA.key"
PASSPHRASE = "FLPOC_CA_PASSPHRASE"  # noqa: S105 - the name of a variable, not its value

VALID_FOR = datetime.timedelta(days=3650)
#: Clocks of sites may lag behind that of the host which provisions.
BACKDATED = datetime.timedelta(minutes=5)


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

        _check_request(request)
        root = read_certificate(self.root(folder))
        builder = _leaf(root, request, _public_key(request.public_key))
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
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    words = [(NameOID.COMMON_NAME, project), *([(NameOID.ORGANIZATION_NAME, org)] if org else [])]
    name = x509.Name([x509.NameAttribute(*one) for one in words])
    now = _now()
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(_serial())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + valid_for)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        # the authority signs the manifests of kits, too
        .add_extension(_usage(issues=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return key, builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


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
