"""What users sign besides jobs: orders to a server and its sites, and lists of revoked certificates.

A statement is canonical JSON, signed with the user's key. Whoever is to act
on it checks it, also where the server has passed it on.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import secrets
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import attrs

from flpoc.errors import AuthError, ConfigError, IntegrityError, KitError, ResourceError
from flpoc.settings import canonical_json, parse_json, structure

if TYPE_CHECKING:
    from flpoc.provision.identity import Identity

T = TypeVar("T")

MAX_CONTENT_BYTES = 256 << 10
#: How old an order may be when it is carried out, and how far clocks may differ.
ORDER_LIFETIME = datetime.timedelta(minutes=5)

Action = Literal[
    "resources", "env", "version", "log", "log_mode", "job_log_mode", "shutdown", "restart",
]  # fmt: skip

#: A serial number as lists write it: another spelling would lock nobody out.
SERIAL = re.compile(r"[1-9a-f][0-9a-f]{0,39}\Z")

#: The right that each action needs.
RIGHT_OF: dict[str, str] = {
    "resources": "report_resources",
    "env": "report_env",
    "version": "report_version",
    "log": "read_site_log",
    "log_mode": "configure_site_log",
    "job_log_mode": "configure_job_log",
    "shutdown": "shutdown",
    "restart": "restart",
}


@attrs.frozen
class SignedStatement:
    """A statement as signed, with what is needed to check it.

    Attributes:
        content: Canonical JSON.
        signature: ECDSA P-256 with SHA-256 over ``content``, DER.
        certificate: The signer's certificate, PEM.
    """

    content: bytes
    signature: bytes
    certificate: bytes


@attrs.frozen
class Order:
    """Something that a server or site is to do, or to say, at once.

    Attributes:
        action: What.
        project: The project it is for.
        targets: ``server`` and names of sites.
        created: ISO 8601 UTC.
        nonce: Makes it one of its kind: nobody carries it out twice.
        mode: For ``log_mode`` and ``job_log_mode``: one of :data:`flpoc.log_modes.MODES`.
        job: For ``job_log_mode``: the job's id.
        count: For ``log``: how many lines.
    """

    action: Action
    project: str
    targets: tuple[str, ...]
    created: str
    nonce: str
    mode: str = ""
    job: str = ""
    count: int = 0


@attrs.frozen
class Revoked:
    """A certificate that is not to be trusted any more.

    Attributes:
        name: Whose it was, for people.
        time: ISO 8601 UTC.
        reason: Why, for people.
    """

    name: str = ""
    time: str = ""
    reason: str = ""


@attrs.frozen
class RevocationList:
    """All certificates of a project that were revoked; each list has all of the one before.

    Attributes:
        project: The project.
        number: Counted from 1; a list never gives way to one with a smaller number.
        serials: Serial number, lower-case hex, to what is known of it.
        created: ISO 8601 UTC.
    """

    project: str
    number: int
    serials: dict[str, Revoked]
    created: str


def new_order(action: Action, project: str, targets: tuple[str, ...], **facts: Any) -> Order:
    """An order of now."""
    return Order(action, project, targets, _written(_now()), secrets.token_hex(16), **facts)


def new_list(old: RevocationList | None, project: str, serial: str, entry: Revoked) -> RevocationList:
    """The list that follows *old*, with one more certificate in it."""
    number, known = (old.number, old.serials) if old is not None else (0, {})
    return RevocationList(project, number + 1, {**known, serial: entry}, _written(_now()))


def written_now() -> str:
    """Now, as statements write times."""
    return _written(_now())


def sign_statement(statement: Any, *, key_pem: bytes, certificate_pem: bytes) -> SignedStatement:
    """Sign a statement with a user's key.

    Raises:
        KitError: The key cannot be used.
    """
    from flpoc.provision.identity import sign

    content = canonical_json(statement)
    if len(content) > MAX_CONTENT_BYTES:
        raise IntegrityError(f"a statement of {len(content)} bytes; {MAX_CONTENT_BYTES} are allowed")
    return SignedStatement(content, sign(key_pem, content), certificate_pem)


def verify_statement(
    signed: SignedStatement, cls: type[T], *, root_pem: bytes, project: str, lasting: bool = False
) -> tuple[T, Identity]:
    """Check a statement as somebody who trusts nothing but the project's authority.

    Whether the signer may say so is for the caller to decide. What is *lasting* stays true
    when the signer's certificate has ended: it must have been valid when it was signed.

    Raises:
        AuthError: The signer is not a user of this project, or it is for another project.
        IntegrityError: Signature or content are not sound.
    """
    from flpoc.provision.identity import verify_certificate, verify_signature

    if not 0 < len(signed.content) <= MAX_CONTENT_BYTES or not 0 < len(signed.signature) <= 256:
        raise IntegrityError("the statement's size is not that of one")
    found = _decoded(signed.content, cls)
    at = min(_read(found.created), _now()) if lasting else None  # type: ignore[attr-defined]  # all statements have one
    try:
        who = verify_certificate(signed.certificate, root_pem, at)
    except KitError as error:
        raise AuthError(f"the signer is not to be trusted: {error.message}", hint=error.hint) from None
    if who.kind != "user":
        raise AuthError(f"it is signed by {who.name!r}, a {who.kind}: only users may")
    verify_signature(signed.certificate, signed.content, signed.signature)
    if found.project != project or who.project != project:  # type: ignore[attr-defined]  # all statements have one
        raise AuthError(f"it is signed for another project, this is {project!r}")
    return found, who


def as_document(signed: SignedStatement) -> dict[str, str]:
    """A signed statement as JSON can hold it."""
    return {key: getattr(signed, key).decode("latin-1") for key in ("content", "signature", "certificate")}


def of_document(found: Mapping[str, str]) -> SignedStatement:
    """What :func:`as_document` was made of.

    Raises:
        IntegrityError: It was made of nothing of the kind.
    """
    try:
        return SignedStatement(**{str(key): value.encode("latin-1") for key, value in found.items()})
    except (TypeError, ValueError, AttributeError):
        raise IntegrityError("it is no signed statement") from None


def _decoded(content: bytes, cls: type[T]) -> T:
    try:
        found = structure(parse_json(content.decode(), "statement"), cls, where="statement")
        if canonical_json(found) != content:
            raise IntegrityError("the statement is not canonical")
    except (UnicodeDecodeError, ConfigError) as error:
        raise IntegrityError(f"the statement is not sound: {error}") from None
    return found


class Orders:
    """Orders that have come: each is carried out once, and only while it is fresh.

    Args:
        record: Where those that came are written down, so that a process that was told to begin anew is not told so
            again by the same order; None to forget them at the end.
    """

    def __init__(self, record: Path | None = None) -> None:
        self._record = record
        self._writing = threading.Lock()
        self._seen: dict[str, datetime.datetime] = {}
        #: Nothing older is carried out: what came before is not known any more.
        self._since = datetime.datetime.min.replace(tzinfo=datetime.UTC)
        if record is None or not record.exists():
            return
        try:
            found = json.loads(record.read_bytes())
            self._seen = {str(nonce): _read(str(time)) for nonce, time in found.items()}
        except (OSError, ValueError, AttributeError, IntegrityError):
            self._since = _now()

    def accept(self, signed: SignedStatement, *, root_pem: bytes, project: str) -> tuple[Order, Identity]:
        """Check an order and remember it.

        Raises:
            AuthError: It is not to be trusted, too old, or has come before.
            IntegrityError: It is not sound.
        """
        order, who = verify_statement(signed, Order, root_pem=root_pem, project=project)
        now, created = _now(), _read(order.created)
        if abs(now - created) > ORDER_LIFETIME:
            hint = f"it is {_written(now)} here: set the clocks right"
            raise AuthError(f"the order was signed at {order.created}", hint=hint)
        self._seen = {nonce: time for nonce, time in self._seen.items() if now - time <= 2 * ORDER_LIFETIME}
        if order.nonce in self._seen:
            raise AuthError("the order has been carried out before", hint="give it again")
        if created < self._since:
            raise AuthError(f"the order was signed at {order.created}, before this began", hint="give it again")
        self._seen[order.nonce] = created
        return order, who

    def keep(self) -> None:
        """Write down which orders came, before the last is carried out (blocking).

        Raises:
            ResourceError: It cannot be written.
        """
        if self._record is None:
            return
        part = self._record.with_suffix(".part")
        with self._writing:
            known = {nonce: _written(time) for nonce, time in dict(self._seen).items()}
            try:
                with part.open("w", encoding="utf-8") as file:
                    json.dump(known, file)
                    file.flush()
                    os.fsync(file.fileno())
                part.rename(self._record)
            except OSError as error:
                with contextlib.suppress(OSError):
                    part.unlink()
                message = f"orders cannot be written down: {error.strerror}"
                raise ResourceError(message, hint="is the disk full?") from None


def follows(new: RevocationList, old: RevocationList | None) -> str:
    """Say why a list cannot take the place of another; empty when it can."""
    known: Mapping[str, Revoked] = old.serials if old is not None else {}
    if new.number != (old.number if old is not None else 0) + 1:
        return f"it has number {new.number}, wanted is {(old.number if old is not None else 0) + 1}"
    if missing := sorted(set(known) - set(new.serials)):
        return f"it has forgotten {missing[0]}: what is revoked stays revoked"
    if odd := sorted(serial for serial in new.serials if not SERIAL.match(serial)):
        return f"{odd[0][:80]!r} is not the serial number of a certificate"
    return ""


def outdated(new: RevocationList, old: RevocationList | None) -> str:
    """Say why somebody who may have missed lists does not take one for another; empty when they do."""
    if old is None:
        return ""
    if new.number <= old.number:
        return f"it has number {new.number}, known is {old.number}"
    if missing := sorted(set(old.serials) - set(new.serials)):
        return f"it has forgotten {missing[0]}: what is revoked stays revoked"
    return ""


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def _written(time: datetime.datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"


def _read(text: str) -> datetime.datetime:
    try:
        return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.UTC)
    except ValueError:
        raise IntegrityError(f"{text[:40]!r} is no time") from None
