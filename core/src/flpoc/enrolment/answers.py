"""What an approved request says, once it is sure who has signed it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from flpoc.enrolment.archives import read_archive
from flpoc.enrolment.documents import (
    SIGNATURE_SUFFIX,
    SIGNED,
    SITE,
    Signed,
    certificate_name,
    check_endpoint,
    parse_signed,
    sha256,
)
from flpoc.enrolment.founding import fingerprint_of
from flpoc.errors import ConfigError, IntegrityError, KitError
from flpoc.provision.identity import (
    Identity,
    check_validity,
    identity_of,
    read_roots,
    verify_certificate,
    verify_signature,
)
from flpoc.provision.kit_settings import ROOT

_SEND_AGAIN = "have it approved again with `flpoc cert approve`, and sent as it is"


@attrs.frozen
class Answer:
    """The answer to a request.

    Attributes:
        signed: What was approved.
        identity: Who was certified.
        certificate: The certificate, as PEM.
        root: That of the authority.
        fingerprint: Its SHA-256.
    """

    signed: Signed
    identity: Identity
    certificate: bytes
    root: bytes
    fingerprint: str


def read_answer(archive: Path, fingerprint: str = "") -> Answer:
    """Read the answer to a request, and check that the authority in it has signed all of it.

    Args:
        archive: The file that came back.
        fingerprint: What the authority's certificate must have; whatever it has will do, if empty.

    Raises:
        KitError: It is missing, damaged, of another authority, or does not fit itself; the code says which.
    """
    files = read_archive(archive, missing="SIGNED_ZIP_NOT_FOUND", unusable="INVALID_SIGNED_ZIP")
    root = _root(files, archive.name)
    found = fingerprint_of(root)
    if fingerprint and found != fingerprint:
        raise KitError(
            f"{archive.name} is signed by the authority {found}, expected was {fingerprint}",
            code="ROOTCA_FINGERPRINT_MISMATCH",
            hint="ask whoever approved it for the fingerprint; somebody may have replaced the file on its way",
        )
    signed = _signed(files, root, archive.name)
    if signed.rootca_fingerprint_sha256 != found:
        raise _refusal("SIGNED_ZIP_IDENTITY_CONFLICT", f"{archive.name}: {SIGNED} names another authority")
    name = certificate_name(signed.participant.name)
    if name not in files:
        raise _refusal("CERT_NOT_FOUND", f"{archive.name}: {name} is missing")
    wanted = {SIGNED, SIGNED + SIGNATURE_SUFFIX, SITE, ROOT, name}
    if odd := sorted(files.keys() ^ wanted):
        what = "does not belong in it" if odd[0] in files else "is missing"
        raise _refusal("INVALID_SIGNED_ZIP", f"{archive.name}: {odd[0]} {what}")
    identity = _identity(files[name], root, f"{archive.name}: {name}")
    _check_same(signed, identity, files, archive.name)
    return Answer(signed, identity, files[name], root, found)


def _root(files: Mapping[str, bytes], where: str) -> bytes:
    if ROOT not in files:
        raise _refusal("ROOTCA_NOT_FOUND", f"{where}: {ROOT} is missing")
    try:
        # one: a second would be believed, too, and nobody compares its fingerprint
        if len(read_roots(files[ROOT])) != 1:
            raise KitError("wanted is one certificate")
        return files[ROOT]
    except KitError as error:
        raise _refusal("ROOTCA_LOAD_FAILED", f"{where}: {ROOT}: {error.message}") from None


def _signed(files: Mapping[str, bytes], root: bytes, where: str) -> Signed:
    for name in (SIGNED, SIGNED + SIGNATURE_SUFFIX):
        if name not in files:
            raise _refusal("INVALID_SIGNED_ZIP", f"{where}: {name} is missing")
    try:
        verify_signature(root, files[SIGNED], files[SIGNED + SIGNATURE_SUFFIX])
        signed = parse_signed(files[SIGNED])
    except IntegrityError:
        why = f"{where}: {SIGNED} is not signed by the authority, or was changed"
        raise _refusal("INVALID_SIGNED_ZIP", why) from None
    except ConfigError as error:
        raise KitError(f"{where}: {error.message}", code="INVALID_SIGNED_ZIP", hint=error.hint or _SEND_AGAIN) from None
    try:
        check_endpoint(signed.server, SIGNED)
    except ConfigError as error:
        raise _refusal("INVALID_ENDPOINT", f"{where}: {error.message}") from None
    return signed


def _identity(certificate: bytes, root: bytes, where: str) -> Identity:
    """Whom the certificate is for, if it may be used now."""
    try:
        identity = identity_of(certificate)
    except KitError as error:
        raise _refusal("CERT_TYPE_UNKNOWN", f"{where}: {error.message}") from None
    try:
        check_validity(identity)
    except KitError as error:
        hint = f"have it approved again; or, if it is not: {error.hint}"
        raise KitError(f"{where}: {error.message}", code="CERT_EXPIRED", hint=hint) from None
    try:
        return verify_certificate(certificate, root)
    except KitError as error:
        raise KitError(f"{where}: {error.message}", code="CERT_CHAIN_INVALID", hint=_SEND_AGAIN) from None


def _check_same(signed: Signed, identity: Identity, files: Mapping[str, bytes], where: str) -> None:
    one = signed.participant
    says = (signed.project, one.name, one.kind, one.org, one.role)
    if says != (identity.project, identity.name, identity.kind, identity.org, identity.role):
        raise _refusal("SIGNED_ZIP_IDENTITY_CONFLICT", f"{where}: the certificate is not for whom {SIGNED} names")
    parts = {certificate_name(one.name): signed.certificate_sha256, SITE: signed.site_sha256}
    for name, expected in parts.items():
        if sha256(files[name]) != expected:
            raise _refusal("SIGNED_ZIP_IDENTITY_CONFLICT", f"{where}: {name} is not the one that {SIGNED} describes")


def _refusal(code: str, message: str) -> KitError:
    return KitError(message, code=code, hint=_SEND_AGAIN)
