"""How a session follows a job, over restarts of the server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from flpoc.errors import ConnectionFailed, DeadlineError

if TYPE_CHECKING:
    from flpoc.session.connection import Connection

#: States of a job that has ended begin like this.
_ENDED = "FINISHED:"


def watch(session: Connection, job: str, timeout: float, away: Callable[[], None] | None) -> Iterator[dict[str, Any]]:
    """Give everything about a job, now and whenever it changes, until it has ended."""
    import grpc

    from flpoc.session.connection import answer_of
    from flpoc.wire.asks import AboutJob

    until = time.monotonic() + timeout if timeout else None
    meta: dict[str, Any] = {}
    rounds = _Rounds()
    session.connect()
    while True:
        stream = session.stream("Watch", AboutJob(job, session.study), seconds=_left(until))
        try:
            for reply in stream:
                meta = rounds.complete(dict(answer_of(reply)))
                yield meta
                if str(meta["status"]).startswith(_ENDED):
                    return
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED and not _went_away(error):
                raise session.lost(error) from error
        finally:
            stream.cancel()
        if until is None or _left(until):
            if away is not None:
                away()
            _await_server(session, until)
        if until is not None and not _left(until):
            raise _too_late(job, timeout, meta)


def _await_server(session: Connection, until: float | None) -> None:
    """Wait for a server that went away; returns also when *until* has come."""
    import grpc

    left = _left(until)
    try:
        session.await_server(session.grace if left is None else min(session.grace, left))
    except grpc.RpcError as error:
        if until is not None and not _left(until):
            return
        raise ConnectionFailed(
            f"the server at {session.kit.server_address} went away and did not come back within {session.grace:g} s",
            hint="the job goes on when the server is started again; then watch it again",
        ) from error


class _Rounds:
    """A watch sends each round once; here they are put together again."""

    def __init__(self) -> None:
        self._run: Any = None
        self._seen: dict[int, Any] = {}

    def complete(self, meta: dict[str, Any]) -> dict[str, Any]:
        if meta.get("run") != self._run:
            self._run, self._seen = meta.get("run"), {}
        self._seen.update({one["round"]: one for one in meta.get("rounds") or ()})
        return {**meta, "rounds": [self._seen[number] for number in sorted(self._seen)]}


def _left(until: float | None) -> float | None:
    """Seconds until then; 0 when it is past, None for no limit."""
    return None if until is None else max(0.0, until - time.monotonic())


def _went_away(error: Any) -> bool:
    import grpc

    return error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN)


def _too_late(job: str, timeout: float, meta: Mapping[str, Any]) -> DeadlineError:
    status = meta.get("status")
    waiting = f", {meta['waiting_for']}" if meta.get("waiting_for") else ""
    return DeadlineError(
        f"job {meta.get('job_id', job)} has not ended after {timeout:g} s: it is {status or 'not known'}{waiting}",
        hint="it goes on; wait again, with a larger --timeout",
        data={"job_id": meta.get("job_id", job), "status": status, "timeout_seconds": timeout},
    )
