"""Who calls: identity from the TLS connection, and errors on their way back."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc

from flpoc.errors import AuthError, FlpocError
from flpoc.provision.identity import Identity, identity_of
from flpoc.provision.kits import Kit
from flpoc.server.authorization import authorize

log = logging.getLogger("flpoc.server")

_STATUS = {
    "AUTH_FAILED": grpc.StatusCode.PERMISSION_DENIED,
    "INVALID_KIT": grpc.StatusCode.PERMISSION_DENIED,
    "INTEGRITY_FAILED": grpc.StatusCode.INVALID_ARGUMENT,
    "SERVICE_FAILED": grpc.StatusCode.UNAVAILABLE,  # it is stopping: try again
    "JOB_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "SUPERSEDED": grpc.StatusCode.ABORTED,
    "RESOURCE_EXHAUSTED": grpc.StatusCode.RESOURCE_EXHAUSTED,
}


def caller(context: Any, kit: Kit, call: str) -> Identity:
    """The identity in the peer's certificate, allowed to make this call.

    Raises:
        AuthError: It is not.
    """
    found = context.auth_context().get("x509_pem_cert")
    if not found:
        raise AuthError("no certificate")
    who = identity_of(found[0])
    if who.project != kit.settings.project:
        raise AuthError(f"{who.name} belongs to project {who.project}")
    authorize(who, call)
    return who


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
