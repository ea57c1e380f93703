"""Signing a job by its submitter, and checking it at the server and again at every site."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flpoc.errors import AuthError, ConfigError, IntegrityError, KitError
from flpoc.jobs.paths import FileEntry
from flpoc.jobs.spec import JobSpec, Manifest, SignedJob
from flpoc.settings import canonical_json, parse_json, structure

if TYPE_CHECKING:
    from flpoc.provision.identity import Identity

#: How long after it was signed a job may be started.
LIFETIME = datetime.timedelta(days=30)

MAX_MANIFEST_BYTES = 3 << 20  # with the model of a small job, it must fit into one message
MAX_SIGNATURE_BYTES = 256
MAX_CERTIFICATE_BYTES = 64 << 10
#: How far the clocks of a submitter and of a server or site may differ.
CLOCK_SKEW = datetime.timedelta(minutes=5)


def sign_job(
    spec: JobSpec,
    folder: Path | str,
    entries: Sequence[FileEntry],
    *,
    project: str,
    submitter: str,
    key_pem: bytes,
    certificate_pem: bytes,
    now: datetime.datetime | None = None,
) -> SignedJob:
    """Sign a job and the list of its files.

    Args:
        spec: The job, complete.
        folder: The submitted folder; only its name is kept, for people.
        entries: Every file that is sent.
        project: The project it is for.
        submitter: Name in the certificate.
        key_pem: The submitter's private key.
        certificate_pem: The submitter's certificate.
        now: With time zone; the current time, if not given.

    Raises:
        KitError: The key cannot be used.
        IntegrityError: The manifest would be too large, or holds what JSON cannot.
    """
    from flpoc.provision.identity import sign

    now = now or datetime.datetime.now(datetime.UTC)
    manifest = Manifest(
        spec=spec,
        files=tuple(sorted(entries, key=lambda entry: entry.path)),
        folder=Path(folder).resolve().name,
        project=project,
        submitter=submitter,
        created=_written(now),
        expires=_written(now + LIFETIME),
    )
    content = _encoded(manifest)
    if len(content) > MAX_MANIFEST_BYTES:
        raise IntegrityError(f"the job's manifest has {len(content)} bytes; {MAX_MANIFEST_BYTES} are allowed")
    return SignedJob(content, sign(key_pem, content), certificate_pem)


def verify_job(
    signed: SignedJob, *, root_pem: bytes, project: str, now: datetime.datetime | None = None
) -> tuple[Manifest, Identity]:
    """Check a job as somebody who trusts nothing but the project's authority.

    Whether the submitter's role may do it is for the caller to decide.

    Returns:
        What was signed, and who signed it.

    Raises:
        AuthError: The signer is not a user of this project, or the time is not right.
        IntegrityError: The signature or the manifest is not sound.
    """
    from flpoc.provision.identity import verify_signature

    now = now or datetime.datetime.now(datetime.UTC)
    _check_sizes(signed)
    identity = _signer(signed.certificate, root_pem, now)
    verify_signature(signed.certificate, signed.manifest, signed.signature)
    manifest = _decoded(signed.manifest)
    if manifest.project != project or identity.project != project:
        raise AuthError(f"the job is signed for project {manifest.project!r}, this is project {project!r}")
    if manifest.submitter != identity.name:
        raise AuthError(f"the job is submitted by {manifest.submitter!r}, but signed by {identity.name!r}")
    _check_time(manifest, now)
    return manifest, identity


def _check_sizes(signed: SignedJob) -> None:
    caps = {"manifest": MAX_MANIFEST_BYTES, "signature": MAX_SIGNATURE_BYTES, "certificate": MAX_CERTIFICATE_BYTES}
    for what, cap in caps.items():
        size = len(getattr(signed, what))
        if not 0 < size <= cap:
            raise IntegrityError(f"the job's {what} has {size} bytes; 1 to {cap} are allowed")


def _signer(certificate: bytes, root_pem: bytes, now: datetime.datetime) -> Identity:
    from flpoc.provision.identity import verify_certificate

    try:
        identity = verify_certificate(certificate, root_pem, now)
    except KitError as error:
        raise AuthError(f"the job's signer is not to be trusted: {error.message}", hint=error.hint) from None
    if identity.kind != "user":
        raise AuthError(f"the job is signed by {identity.name!r}, a {identity.kind}: only users submit jobs")
    return identity


def _decoded(content: bytes) -> Manifest:
    try:
        manifest = structure(parse_json(content.decode("utf-8"), "manifest"), Manifest, where="manifest")
    except UnicodeDecodeError:
        raise IntegrityError("the job's manifest is not UTF-8") from None
    except ConfigError as error:
        raise IntegrityError(f"the job's manifest is not sound: {error.message}") from None
    # one spelling only: what somebody reads here is what everybody else reads, too
    if _encoded(manifest) != content:
        raise IntegrityError("the job's manifest is not canonical", hint="submit the job again")
    return manifest


def _encoded(manifest: Manifest) -> bytes:
    try:
        return canonical_json(manifest)
    except (ValueError, TypeError) as error:
        raise IntegrityError(f"the job cannot be written as JSON: {error}") from None


def _check_time(manifest: Manifest, now: datetime.datetime) -> None:
    created, expires = _read(manifest.created), _read(manifest.expires)
    if now > expires:
        raise AuthError(f"the job expired at {manifest.expires}", hint="submit it again")
    if created > now + CLOCK_SKEW:
        raise AuthError(
            f"the job was signed at {manifest.created}, here it is {_written(now)}", hint="set the clocks right"
        )
    if expires > created + LIFETIME:
        raise IntegrityError(f"the job says it lives until {manifest.expires}; {LIFETIME.days} days are allowed")


def _written(time: datetime.datetime) -> str:
    return f"{time.astimezone(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"


def _read(text: str) -> datetime.datetime:
    try:
        return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.UTC)
    except ValueError:
        raise IntegrityError(f"the job's manifest has the time {text[:40]!r}, which is none") from None
