"""Locking certificates out: the next list is checked, kept, and takes effect on all that is open."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from flpoc.errors import AuthError, FlpocError, UsageError
from flpoc.jobs.revocations import ROLE
from flpoc.jobs.statements import RevocationList, SignedStatement, as_document, follows
from flpoc.provision.identity import Identity, identity_of
from flpoc.server.peers import Case, Door
from flpoc.server.views import iso
from flpoc.settings import plain
from flpoc.wire.messages import Revocation

if TYPE_CHECKING:
    from flpoc.server.service import Server


class Revoking:
    """What a server does with lists of revoked certificates."""

    def __init__(self, server: Server, door: Door) -> None:
        self._server = server
        self._door = door
        self._revocations = server.revocations
        #: Two lists that follow the same one must not both be taken.
        self._taking = asyncio.Lock()

    async def known(self, who: Identity) -> dict[str, Any]:
        """The certificates that the server has met; for a project_admin those of all, and the list as it was signed."""
        everything = who.role == ROLE
        newest, signed = self._revocations.newest, self._revocations.signed
        entries = newest.serials if newest is not None else {}
        met = [
            {**one, "ends": iso(one["ends"]), "seen": iso(one["seen"]), "revoked": plain(entries.get(one["serial"]))}
            for one in await self._server.acquaintances.all()
            if everything or one["org"] == who.org
        ]
        return {"certificates": met, "signed": as_document(signed) if everything and signed is not None else None}

    def check(self, case: Case, signed: SignedStatement) -> RevocationList:
        """Check a new list before it is taken.

        Raises:
            FlpocError: It cannot take the place of the one that is known.
        """
        found, signer = self._revocations.check(signed)
        case.about = f"list {found.number}: {' '.join(self._new(found)) or 'nothing new'}"
        if signer.serial != case.who.serial:
            raise AuthError(f"the list is signed by {signer.name}, but {case.who.name} gives it")
        if f"{case.who.serial:x}" in found.serials:
            raise UsageError("the list has your own certificate in it", hint="let another project_admin revoke it")
        if f"{identity_of(self._server.kit.certificate_pem).serial:x}" in found.serials:
            hint = "sites and users cannot be told by it: provision the project anew"
            raise UsageError("the list has the server's own certificate in it", hint=hint)
        self._must_follow(found)
        return found

    def _must_follow(self, found: RevocationList) -> None:
        if why := follows(found, self._revocations.newest):
            raise FlpocError(f"the list of revoked certificates: {why}", code="REVOCATION_CONFLICT", hint="try again")

    def _new(self, found: RevocationList) -> list[str]:
        newest = self._revocations.newest
        return sorted(set(found.serials) - set(newest.serials if newest is not None else ()))

    async def revoke(self, found: RevocationList, signed: SignedStatement) -> dict[str, Any]:
        """Take the list, end what the certificates in it have open or had submitted, and tell the sites."""
        async with self._taking:
            self._must_follow(found)
            fresh = set(self._new(found))
            await asyncio.to_thread(self._revocations.keep, signed)
        ended = await self._door.cut_off()
        await self._end_parts(fresh)
        for session in self._server.sites.connected.values():
            session.send(Revocation(signed))
        self._server.queue.wake()
        return {"number": found.number, "revoked": len(found.serials), "calls_ended": ended}

    async def _end_parts(self, serials: set[str]) -> None:
        """End jobs whose submitter is locked out, and the part of sites in jobs of others."""
        for run in list(self._server.runs.values()):
            if why := self._server.locked_out(run.row):
                run.expel(why)
        connected = self._server.sites.connected
        for one in await self._server.acquaintances.all():
            name, session = one["name"], connected.get(one["name"])
            if one["kind"] != "site" or one["serial"] not in serials:
                continue
            if session is not None and f"{session.serial:x}" != one["serial"]:
                continue  # it has another certificate by now
            why = self._why(name, int(one["serial"], 16))
            for run in list(self._server.runs.values()):
                run.shut_out(name, "revoked", why)

    def _why(self, name: str, serial: int) -> str:
        try:
            self._revocations.refuse(serial, name)
        except AuthError as error:
            return error.message
        return ""
