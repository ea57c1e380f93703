"""Reading what users ask, and answering it: plain data, or an error with its code."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from flpoc.errors import FlpocError, InternalError
from flpoc.wire.asks import Reply
from flpoc.wire.requests import ASKS, STATEMENTS, SUBMISSION, SubmitJob
from flpoc.wire.statements import GiveOrder, Revoke

log = logging.getLogger("flpoc.server")

_FAMILIES = {SubmitJob: SUBMISSION, GiveOrder: STATEMENTS, Revoke: STATEMENTS}


def expect(request: bytes, kind: type) -> Any:
    """Read a request that must be of this *kind*.

    Raises:
        FlpocError: It is another one.
        IntegrityError: It is none.
    """
    message = _FAMILIES.get(kind, ASKS).decode(request)
    if not isinstance(message, kind):
        raise FlpocError(f"a {type(message).__name__} where a {kind.__name__} belongs", code="INVALID_ARGS")
    return message


async def reply(work: Callable[[], Awaitable[Any]]) -> Reply:
    """Do what was asked; whatever goes wrong becomes an answer."""
    began = time.monotonic()
    try:
        return Reply(await work())
    except FlpocError as error:
        log.info("answered %s after %.3f s: %s", error.code, time.monotonic() - began, error.message)
        return Reply(error.data, error.code, error.message, error.hint)
    except StopAsyncIteration:
        return Reply(None, "INVALID_ARGS", "the stream ended before its first message")
    except Exception:
        log.exception("a call failed")
        ours = InternalError("the server failed to answer", hint="see the server's log")
        return Reply(None, ours.code, ours.message, ours.hint)
