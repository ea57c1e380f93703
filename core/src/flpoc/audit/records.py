"""One record of an audit log, and its one spelling.

A record is a line of canonical JSON. Its hash is the SHA-256 of that line
without the hash itself; the next record repeats it. So a line that reads as
this record and is not exactly this line is no sound record.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from typing import TYPE_CHECKING, Any, Literal

import attrs

from flpoc.errors import KitError
from flpoc.settings import canonical_json

if TYPE_CHECKING:
    from flpoc.provision.identity import Identity

#: What the first record of a log has as the hash of the one before it.
NO_HASH = "0" * 64
#: A longer text is cut: whoever is refused must not choose how long a record is.
_LONGEST = {"name": 128, "object": 256, "reason": 512}
_LONGEST_OTHER = 80
_KEYS = {"decision", "hash", "object", "previous", "principal", "reason", "seq", "time", "verb"}

Outcome = Literal["allow", "deny", "note"]


@attrs.frozen
class Principal:
    """Who it is that something is decided about.

    Attributes:
        name: From the certificate.
        kind: ``user``, ``site`` or ``server``; ``unknown`` where the certificate is not one of ours.
        role: Of a user.
        org: The organisation.
        serial: Serial number of the certificate, hex.
        address: Where the connection comes from, if there is one.
    """

    name: str = ""
    kind: str = "unknown"
    role: str = ""
    org: str = ""
    serial: str = ""
    address: str = ""

    @classmethod
    def of(cls, who: Identity, address: str = "") -> Principal:
        """The owner of a certificate."""
        return cls(who.name, who.kind, who.role, who.org, f"{who.serial:x}", address)

    @classmethod
    def claimed(cls, certificate: bytes) -> Principal:
        """Whose certificate came with something signed, before anybody has checked it: only good for a refusal."""
        from flpoc.provision.identity import identity_of

        try:
            return cls.of(identity_of(certificate))
        except KitError:
            return cls()


@attrs.frozen
class Decision:
    """What was decided: *principal* may, or may not, do *verb* to *object*.

    Attributes:
        outcome: ``note`` is what the log says about itself.
        reason: Why not.
    """

    principal: Principal
    verb: str
    object: str
    outcome: Outcome
    reason: str = ""


@attrs.frozen
class Record:
    """A decision in its place in the chain."""

    seq: int
    time: str
    decision: Decision
    previous: str
    hash: str


def write_record(seq: int, previous: str, decision: Decision, now: datetime.datetime) -> tuple[bytes, str]:
    """The line of a record, and its hash."""
    moment = now.astimezone(datetime.UTC)
    content: dict[str, Any] = {
        "seq": seq,
        "time": f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z",
        "principal": {name: _clean(name, value) for name, value in attrs.asdict(decision.principal).items()},
        "verb": _clean("verb", decision.verb),
        "object": _clean("object", decision.object),
        "decision": decision.outcome,
        "reason": _clean("reason", decision.reason),
        "previous": previous,
    }
    own = _hash(content)
    return canonical_json({**content, "hash": own}) + b"\n", own


def read_record(line: bytes) -> Record:
    """Read a line that :func:`write_record` gave; whether it stands in the right place is not asked.

    Raises:
        ValueError: It is not exactly such a line.
    """
    if not line.endswith(b"\n"):
        raise ValueError("the line is not whole")
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("the line was changed: it is not JSON any more") from None
    if not isinstance(found, dict) or found.keys() != _KEYS:
        raise ValueError("the line was changed: it is no record")
    own = found.pop("hash")
    try:
        if own != _hash(found) or canonical_json({**found, "hash": own}) + b"\n" != line:
            raise ValueError("the record was changed: its hash is another")
        principal = Principal(**found["principal"])
        decision = Decision(principal, found["verb"], found["object"], found["decision"], found["reason"])
        return Record(int(found["seq"]), str(found["time"]), decision, str(found["previous"]), str(own))
    except (TypeError, UnicodeError, RecursionError):
        raise ValueError("the line was changed: it is no record") from None


def _hash(content: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(content)).hexdigest()


def _clean(key: str, text: str) -> str:
    """One line that cannot steer a terminal, and is not too long."""
    longest = _LONGEST.get(key, _LONGEST_OTHER)
    shown = printable(text[: longest + 1])
    return shown if len(shown) <= longest else f"{shown[: longest - 3]}..."


def printable(text: str) -> str:
    """The text with every control character, and every mark that reorders text, made visible."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in text)
