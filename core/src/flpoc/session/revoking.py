"""How a session revokes a certificate: it signs the next list, and the server tells everybody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flpoc.errors import FlpocError, UsageError

if TYPE_CHECKING:
    from flpoc.jobs.statements import RevocationList
    from flpoc.session.connection import Connection
    from flpoc.session.operating import OperatorCalls

#: What is said of why may have so many characters: the list with all of them goes to every site.
MOST_REASON = 200
#: How often a list is made anew because somebody else revoked a certificate at the same time.
_TRIES = 5


def serial_of(text: str) -> str:
    """A serial number as lists write it: lower-case hex without colons and zeros before it.

    Raises:
        UsageError: It is none.
    """
    from flpoc.jobs.statements import SERIAL

    found = text.strip().lower().replace(":", "").removeprefix("0x").lstrip("0")
    if not SERIAL.match(found):
        raise UsageError(f"{text[:80]!r} is not a serial number in hex", hint="`flpoc cert list` shows them")
    return found


def known_list(session: Connection, document: Mapping[str, str] | None) -> RevocationList | None:
    """The list that the server has, if a project_admin has signed it: what a user adds to, they sign with the rest.

    Raises:
        AuthError: Somebody else has signed it.
        IntegrityError: It was changed.
    """
    from flpoc.jobs.revocations import believed
    from flpoc.jobs.statements import of_document

    if document is None:
        return None
    kit = session.kit
    return believed(of_document(document), root_pem=kit.root_pem, project=kit.settings.project)[0]


def revoke(session: OperatorCalls, serial: str, name: str, reason: str) -> dict[str, Any]:
    """Add a certificate to the list of those that are revoked; again, if somebody else just did the same."""
    number = serial_of(serial)
    if len(reason) > MOST_REASON:
        raise UsageError(f"a reason of {len(reason)} characters; {MOST_REASON} are allowed", hint="say it shortly")
    for _ in range(_TRIES - 1):
        try:
            return _revoke(session, number, name, reason)
        except FlpocError as error:
            if error.code != "REVOCATION_CONFLICT":
                raise
    return _revoke(session, number, name, reason)


def _revoke(session: OperatorCalls, number: str, name: str, reason: str) -> dict[str, Any]:
    from flpoc.jobs.statements import Revoked, new_list, sign_statement, written_now
    from flpoc.wire.asks import Ask
    from flpoc.wire.statements import Revoke

    kit = session.kit
    found = session.ask("Revoked", Ask())
    old = known_list(session, found["signed"])
    if old is not None and number in old.serials:
        entry = old.serials[number]
        return {"serial": number, "name": entry.name, "time": entry.time, "number": old.number, "already_revoked": True}
    known = {one["serial"]: one["name"] for one in found["certificates"]}
    entry = Revoked(name or known.get(number, ""), written_now(), reason)
    signed = sign_statement(
        new_list(old, kit.settings.project, number, entry), key_pem=kit.key_pem, certificate_pem=kit.certificate_pem
    )
    answer = dict(session.ask("Revoke", Revoke(signed)))
    return {"serial": number, "name": entry.name, "time": entry.time, "number": answer["number"],
            "already_revoked": False, "calls_ended": answer["calls_ended"]}  # fmt: skip
