"""Who calls, and whether they may: identity from the TLS connection, decisions into the audit log, errors back."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any

import grpc

from flpoc.audit.log import AuditLog
from flpoc.audit.records import Decision, Principal
from flpoc.errors import AuthError, FlpocError, KitError
from flpoc.provision.identity import Identity, check_validity, identity_of
from flpoc.server.authorization import LOOKING, TRAFFIC, authorize

log = logging.getLogger("flpoc.server")

_STATUS = {
    "AUTH_FAILED": grpc.StatusCode.PERMISSION_DENIED,
    "INTEGRITY_FAILED": grpc.StatusCode.INVALID_ARGUMENT,
    "SERVICE_FAILED": grpc.StatusCode.UNAVAILABLE,  # it is stopping: try again
    "JOB_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "SUPERSEDED": grpc.StatusCode.ABORTED,
    "RESOURCE_EXHAUSTED": grpc.StatusCode.RESOURCE_EXHAUSTED,
}


class Door:
    """Decides who may do what, and writes each decision down before it takes effect."""

    def __init__(self, project: str, audit: AuditLog) -> None:
        self._project = project
        self._audit = audit

    def deciding(self, context: Any, call: str, about: Callable[[], str] = str) -> Case:
        """A remote procedure call that somebody wants to make; see :class:`Case`.

        *about* says what the call is about where the block has not said so itself.
        """
        return Case(self._project, self._audit, context, call, about)

    async def note(self, principal: Principal, verb: str, about: str, *, refused: str = "") -> None:
        """Write down what was decided in the course of an allowed call: *refused* and why, or allowed.

        Raises:
            FlpocError: What is allowed cannot be written down, and must not take effect.
        """
        decision = Decision(principal, verb, about, "deny" if refused else "allow", refused)
        await write_down(self._audit, decision, durable=not refused, needed=not refused)


class Case:
    """One call while it is decided about: ``async with door.deciding(context, "Abort") as case``.

    The block finds out what the call is about. If it ends, the call is
    allowed; an error in it is a refusal, and goes on to the caller. Either
    way there is one record afterwards, and nothing has happened yet.

    Attributes:
        who: The caller, from its certificate, allowed to make calls of this name.
        about: What the call is about, for the record.
        principal: The same as in the record.
        refused: Why not, where the block refuses without raising.
    """

    who: Identity

    def __init__(self, project: str, audit: AuditLog, context: Any, call: str, about: Callable[[], str]) -> None:
        self.about = ""
        self.refused = ""
        self._find_about = about
        self._project = project
        self._audit = audit
        self._context = context
        self._call = call
        self.principal = Principal(address=str(context.peer()))

    async def __aenter__(self) -> Case:
        try:
            self.who = self._identify()
            authorize(self.who, self._call)
        except FlpocError as error:
            await self._write("deny", error.message)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and not self.refused:
            await self._write("allow", "")
        elif isinstance(error, FlpocError):
            await self._write("deny", error.message)
        elif error is None or isinstance(error, Exception):
            await self._write("deny", self.refused or f"the request cannot be used ({type(error).__name__})")

    def _identify(self) -> Identity:
        address = self.principal.address
        found = self._context.auth_context().get("x509_pem_cert")
        if not found:
            raise AuthError("no certificate")
        try:
            who = identity_of(found[0])
            self.principal = Principal.of(who, address)
            check_validity(who)  # the handshake has checked who issued it, perhaps long ago
        except KitError as error:
            if not self.principal.name:
                self.principal = Principal(_subject_of(found[0]), address=address)
            raise AuthError(error.message, hint=error.hint) from None
        if who.project != self._project:
            raise AuthError(f"{who.name} belongs to project {who.project}")
        return who

    async def _write(self, outcome: Any, reason: str) -> None:
        if outcome == "allow" and self._call in TRAFFIC:
            return
        if not self.about:
            with contextlib.suppress(FlpocError):  # what cannot be read is about nothing
                self.about = self._find_about()
        decision = Decision(self.principal, self._call, self.about, outcome, reason)
        looks = outcome == "deny" or self._call in LOOKING
        await write_down(self._audit, decision, durable=not looks, needed=not looks)


async def write_down(audit: AuditLog, decision: Decision, *, durable: bool, needed: bool) -> None:
    """Write a decision down; what cannot be, stops what is *needed* to be written before it happens."""
    try:
        await audit.write(decision, durable=durable)
    except FlpocError as error:
        if needed:
            raise
        log.warning("not in the audit log: %s (%s)", decision, error.message)


def _subject_of(certificate: bytes) -> str:
    """The name in a certificate that is not one of ours, as far as there is one."""
    from cryptography import x509

    with contextlib.suppress(ValueError):
        return x509.load_pem_x509_certificate(certificate).subject.rfc4514_string()
    return ""


@contextlib.asynccontextmanager
async def within(context: Any) -> AsyncIterator[None]:
    """Turn an error of ours into a gRPC status for the site; users get replies instead."""
    try:
        yield
    except FlpocError as error:
        log.warning("refused %s: %s", context.peer(), error.message)
        await context.abort(_STATUS.get(error.code, grpc.StatusCode.FAILED_PRECONDITION), error.message)
    except (grpc.RpcError, grpc.aio.AbortError, grpc.aio.UsageError):
        raise
    except StopAsyncIteration:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the stream ended before its first message")
    except Exception:
        # gRPC would send the exception's text, which may name files of this machine
        log.exception("a call of %s failed", context.peer())
        await context.abort(grpc.StatusCode.INTERNAL, "the server failed to answer; its log says why")
