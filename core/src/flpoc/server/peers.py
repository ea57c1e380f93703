"""Who calls, and whether they may: identity from the TLS connection, decisions into the audit log, errors back."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any

import grpc

from flpoc.audit.log import AuditLog
from flpoc.audit.records import Decision, Principal
from flpoc.errors import AuthError, FlpocError, KitError
from flpoc.jobs.revocations import Revocations
from flpoc.provision.identity import Identity, check_validity, identity_of
from flpoc.provision.rights import About, Permissions
from flpoc.server.authorization import LOOKING, TRAFFIC, authorize

log = logging.getLogger("flpoc.server")

_STATUS = {
    "AUTH_FAILED": grpc.StatusCode.PERMISSION_DENIED,
    "NOT_AUTHORIZED": grpc.StatusCode.PERMISSION_DENIED,
    "INTEGRITY_FAILED": grpc.StatusCode.INVALID_ARGUMENT,
    "SERVICE_FAILED": grpc.StatusCode.UNAVAILABLE,  # it is stopping: try again
    "JOB_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "SUPERSEDED": grpc.StatusCode.ABORTED,
    "RESOURCE_EXHAUSTED": grpc.StatusCode.RESOURCE_EXHAUSTED,
}


class Door:
    """Decides who may do what, and writes each decision down before it takes effect.

    Args:
        project: The project whose participants are let in.
        audit: Where decisions are written.
        permissions: What roles may do here.
        revocations: Certificates that are not trusted any more.
        met: Told of each certificate that is let in for the first time.
    """

    def __init__(
        self,
        project: str,
        audit: AuditLog,
        permissions: Permissions | None = None,
        revocations: Revocations | None = None,
        met: Callable[[Identity], None] = lambda _: None,
    ) -> None:
        self.project = project
        self.permissions = permissions or Permissions()
        self.revocations = revocations
        self.audit = audit
        self._met = met
        self._known: set[int] = set()
        self._open: dict[Identity, set[asyncio.Task[Any]]] = {}

    def deciding(self, context: Any, call: str, about: Callable[[], str] = str) -> Case:
        """A remote procedure call that somebody wants to make; see :class:`Case`.

        *about* says what the call is about where the block has not said so itself.
        """
        return Case(self, context, call, about)

    def identify(self, certificate: bytes) -> Identity:
        """Who the owner of a certificate is, if it is still to be trusted.

        Raises:
            AuthError: It has ended, is revoked, or is of another project.
            KitError: It is not one of ours.
        """
        who = identity_of(certificate)
        check_validity(who)  # the handshake has checked who issued it, perhaps long ago
        if self.revocations is not None:
            self.revocations.refuse(who.serial, who.name)
        if who.project != self.project:
            raise AuthError(f"{who.name} belongs to project {who.project}")
        return who

    def entered(self, who: Identity) -> None:
        """Somebody's call begins: it can be ended by :meth:`cut_off`."""
        if who.serial not in self._known:
            self._known.add(who.serial)
            self._met(who)
        task = asyncio.current_task()
        if task is not None:
            self._open.setdefault(who, set()).add(task)
            task.add_done_callback(lambda done: self._left(who, done))

    def _left(self, who: Identity, task: asyncio.Task[Any]) -> None:
        if (tasks := self._open.get(who)) is not None:
            tasks.discard(task)
            if not tasks:
                del self._open[who]

    async def cut_off(self) -> int:
        """End every open call of a certificate that is revoked; says how many there were. See :func:`telling`."""
        ended: list[tuple[Identity, int, str]] = []
        for who in list(self._open):
            try:
                if self.revocations is not None:
                    self.revocations.refuse(who.serial, who.name)
            except AuthError as error:
                calls = [task for task in self._open.get(who, ()) if task.cancel(error)]
                ended.append((who, len(calls), error.message))
        for who, count, why in ended:
            await self.note(Principal.of(who), "cut off", f"open calls: {count}", refused=why)
        return sum(count for _, count, _ in ended)

    async def note(self, principal: Principal, verb: str, about: str, *, refused: str = "") -> None:
        """Write down what was decided in the course of an allowed call: *refused* and why, or allowed.

        Raises:
            FlpocError: What is allowed cannot be written down, and must not take effect.
        """
        decision = Decision(principal, verb, about, "deny" if refused else "allow", refused)
        await write_down(self.audit, decision, durable=not refused, needed=not refused)


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

    def __init__(self, door: Door, context: Any, call: str, about: Callable[[], str]) -> None:
        self.about = ""
        self.refused = ""
        self._find_about = about
        self._door = door
        self._context = context
        self._call = call
        self.principal = Principal(address=str(context.peer()))

    async def __aenter__(self) -> Case:
        try:
            self.who = self._identify()
            authorize(self.who, self._call, self._door.permissions)
        except FlpocError as error:
            await self._write("deny", error.message)
            raise
        self._door.entered(self.who)
        return self

    def check(self, about: About, call: str = "") -> None:
        """Check that the caller may do this to what it is about; *call*, where it is about another one.

        Raises:
            AuthError: They may not.
        """
        authorize(self.who, call or self._call, self._door.permissions, about)

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
            self.principal = Principal.of(identity_of(found[0]), address)
            return self._door.identify(found[0])
        except KitError as error:
            if not self.principal.name:
                self.principal = Principal(_subject_of(found[0]), address=address)
            raise AuthError(error.message, hint=error.hint) from None

    async def _write(self, outcome: Any, reason: str) -> None:
        if outcome == "allow" and self._call in TRAFFIC:
            return
        if not self.about:
            with contextlib.suppress(FlpocError):  # what cannot be read is about nothing
                self.about = self._find_about()
        decision = Decision(self.principal, self._call, self.about, outcome, reason)
        looks = outcome == "deny" or self._call in LOOKING
        await write_down(self._door.audit, decision, durable=not looks, needed=not looks)


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


def telling(behaviour: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A remote procedure whose caller is told why when it is cut off: gRPC alone would let them wait for ever."""
    if inspect.isasyncgenfunction(behaviour):

        async def stream(request: Any, context: Any) -> None:
            async with _told(context), contextlib.aclosing(behaviour(request, context)) as messages:
                async for message in messages:
                    await context.write(message)

        return stream

    async def answer(request: Any, context: Any) -> Any:
        async with _told(context):
            return await behaviour(request, context)

    return answer


@contextlib.asynccontextmanager
async def _told(context: Any) -> AsyncIterator[None]:
    try:
        yield
    except asyncio.CancelledError as end:
        why = end.args[0] if end.args else None
        if not isinstance(why, AuthError):
            raise
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, why.message)


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
