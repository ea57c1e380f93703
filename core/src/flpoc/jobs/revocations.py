"""The certificates that a server or site does not trust any more, kept in its state folder.

What is kept is the list as a project_admin signed it. One that cannot be read
or believed stops the start: who was locked out must not come back because a
file was damaged.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flpoc.errors import AuthError, IntegrityError, ResourceError
from flpoc.jobs.statements import RevocationList, SignedStatement, as_document, of_document, verify_statement
from flpoc.models.handover import sync

if TYPE_CHECKING:
    from flpoc.provision.identity import Identity

FILE: Final = "revocations.json"
ROLE: Final = "project_admin"


class Revocations:
    """The newest list of revoked certificates that is known here."""

    def __init__(self, state: Path, *, root_pem: bytes, project: str) -> None:
        """Read what is kept in *state*.

        Raises:
            IntegrityError: It is damaged.
        """
        self._path = state / FILE
        self._root, self._project = root_pem, project
        self.signed: SignedStatement | None = None
        self.newest: RevocationList | None = None
        if self._path.exists() or self._path.is_symlink():
            try:
                self.take(of_document(json.loads(self._path.read_bytes())))
            except (OSError, ValueError, RecursionError, AuthError, IntegrityError) as error:
                hint = "restore it from a backup; deleting it would let everybody in again who was locked out"
                raise IntegrityError(f"{self._path} is damaged: {error}", hint=hint) from None

    def __contains__(self, serial: int) -> bool:
        return self.newest is not None and f"{serial:x}" in self.newest.serials

    @property
    def number(self) -> int:
        """Number of the list; 0 for none."""
        return self.newest.number if self.newest is not None else 0

    def refuse(self, serial: int, name: str) -> None:
        """Refuse a certificate that is revoked.

        Raises:
            AuthError: It is; says since when and why.
        """
        if serial in self and self.newest is not None:
            entry = self.newest.serials[f"{serial:x}"]
            why = f" ({entry.reason})" if entry.reason else ""
            raise AuthError(
                f"the certificate of {name} was revoked at {entry.time}{why}",
                hint="ask the project's admin for a new startup kit",
                data={"serial": f"{serial:x}", "revoked": entry.time},
            )

    def check(self, signed: SignedStatement) -> tuple[RevocationList, Identity]:
        """Check that a list is that of a project_admin who is not locked out; gives it, and them.

        Raises:
            AuthError: The signer may not do this.
            IntegrityError: It is not sound.
        """
        found, who = believed(signed, root_pem=self._root, project=self._project)
        self.refuse(who.serial, who.name)
        return found, who

    def keep(self, signed: SignedStatement) -> RevocationList:
        """Take a list that was checked, durably (blocking).

        Raises:
            ResourceError: It cannot be written, and is not taken.
        """
        part = self._path.with_suffix(".part")
        try:
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(as_document(signed), file)
                file.flush()
                os.fsync(handle)  # before it has its name: a list that is cut short would stop the next start
            part.rename(self._path)
            sync(self._path)
        except OSError as error:
            message = f"the list of revoked certificates cannot be written: {error.strerror}"
            raise ResourceError(message, code="DISK_FULL", hint="free some space there") from None
        return self.take(signed)

    def take(self, signed: SignedStatement) -> RevocationList:
        """Take a list until the end of this process.

        Raises:
            AuthError: It is not signed by a project_admin.
            IntegrityError: It is not sound.
        """
        found, _ = believed(signed, root_pem=self._root, project=self._project)
        self.signed, self.newest = signed, found
        return found


def believed(signed: SignedStatement, *, root_pem: bytes, project: str) -> tuple[RevocationList, Identity]:
    """A list, and the project_admin who has signed it, perhaps long ago.

    Raises:
        AuthError: The signer may not revoke certificates.
        IntegrityError: It is not sound.
    """
    found, who = verify_statement(signed, RevocationList, root_pem=root_pem, project=project, lasting=True)
    if who.role != ROLE:
        raise AuthError(f"{who.name} ({who.role}) may not revoke certificates", hint=f"roles that may: {ROLE}")
    return found, who
