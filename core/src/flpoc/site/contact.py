"""Why a site has no connection to its server: found out, and said once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from flpoc.audit.log import AuditLog
from flpoc.audit.records import Decision, Principal
from flpoc.errors import AuthError, FlpocError
from flpoc.provision.kits import Kit
from flpoc.wire.reaching import UntrustedError, diagnose

log = logging.getLogger("flpoc.site")

#: Seconds without a connection after which it is looked into; a server that only restarts is back by then.
_LOOK_AFTER = 2.0
_LOOK_AGAIN_AFTER = 30.0
#: How long one look may take, times four.
_PATIENCE = 8.0


class Contact:
    """What is known of the connection; a certificate that is refused, on either side, is in the audit log."""

    def __init__(self, kit: Kit, audit: AuditLog, later: Callable[[Coroutine[Any, Any, Any]], None]) -> None:
        self._kit = kit
        self._audit = audit
        self._later = later
        self._lost_at: float | None = time.monotonic()
        self._said = ""
        self._reason = ""
        self._look_at = 0.0

    @property
    def away(self) -> float:
        """Seconds without a connection."""
        return time.monotonic() - self._lost_at if self._lost_at is not None else 0.0

    def made(self) -> None:
        """There is a connection."""
        self._lost_at = None
        self._said = self._reason = ""

    def lost(self, why: str) -> None:
        """There is none, or it could not be made again."""
        if self._lost_at is None:
            self._lost_at = time.monotonic()
        if why != self._said:
            self._said = why
            log.info("no connection: %s", why)
        if self.away > _LOOK_AFTER and time.monotonic() > self._look_at:
            self._look_at = time.monotonic() + _LOOK_AGAIN_AFTER
            self._later(self._look())

    async def _look(self) -> None:
        found = await asyncio.to_thread(diagnose, self._kit, timeout=_PATIENCE)
        if found is None or found.message == self._reason:
            return
        self._reason = found.message
        if isinstance(found, (AuthError, UntrustedError)):
            await self.refused(found)
        log.warning("%s (%s)", found.message, found.hint)

    async def refused(self, error: FlpocError) -> None:
        """One side does not accept the other: write down why."""
        kit = self._kit
        server = Principal(kit.settings.server_name, "server", address=kit.server_address)
        decision = Decision(server, "Connect", f"project {kit.settings.project}", "deny", error.message)
        with contextlib.suppress(FlpocError):  # the audit log says itself that it could not
            await self._audit.write(decision)
