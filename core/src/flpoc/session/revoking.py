"""How a session revokes a certificate: it signs the next list, and the server tells everybody."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from flpoc.errors import UsageError

if TYPE_CHECKING:
    from flpoc.session.operating import OperatorCalls

_HEX = re.compile(r"[0-9a-f]{1,40}\Z")


def serial_of(text: str) -> str:
    """A serial number as lists write it: lower-case hex without colons and zeros before it.

    Raises:
        UsageError: It is none.
    """
    found = text.strip().lower().replace(":", "").removeprefix("0x").lstrip("0")
    if not _HEX.match(found):
        raise UsageError(f"{text[:80]!r} is not a serial number in hex", hint="`flpoc cert list` shows them")
    return found


def revoke(session: OperatorCalls, serial: str, name: str, reason: str) -> dict[str, Any]:
    """Add a certificate to the list of those that are revoked."""
    from flpoc.jobs.statements import RevocationList, Revoked, new_list, sign_statement, written_now
    from flpoc.settings import structure
    from flpoc.wire.requests import Revoke

    number, kit = serial_of(serial), session.kit
    found = session.list_certificates()
    old = structure(found["list"], RevocationList) if found["list"] is not None else None
    known = {one["serial"]: one["name"] for one in found["certificates"]}
    if old is not None and number in old.serials:
        entry = old.serials[number]
        return {"serial": number, "name": entry.name, "time": entry.time, "number": old.number, "already_revoked": True}
    entry = Revoked(name or known.get(number, ""), written_now(), reason)
    signed = sign_statement(
        new_list(old, kit.settings.project, number, entry), key_pem=kit.key_pem, certificate_pem=kit.certificate_pem
    )
    answer = dict(session.ask("Revoke", Revoke(signed)))
    return {"serial": number, "name": entry.name, "time": entry.time, "number": answer["number"],
            "already_revoked": False, "calls_ended": answer["calls_ended"]}  # fmt: skip
