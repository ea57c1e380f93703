"""Waiting until a server or sites have ended, or are back, as they were told."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flpoc.errors import DeadlineError

if TYPE_CHECKING:
    from flpoc.session.operating import OperatorCalls

SERVER = "server"


class Ending:
    """Waits for services that were told to end; nothing is asked again and again: the server tells when it is so.

    Args:
        session: The session to ask with.
        targets: Who was told.
        before: The server's state before: of connections of sites that are back, only newer ones count.
        again: Whether they are to be back.
        timeout: How long to wait, in seconds.
    """

    def __init__(
        self,
        session: OperatorCalls,
        targets: tuple[str, ...],
        before: Mapping[str, Any],
        *,
        again: bool,
        timeout: float,
    ) -> None:
        self._session = session
        self._sites = tuple(name for name in targets if name != SERVER)
        self._server = SERVER in targets
        self._since = max([float(one["since"]) for one in before["sites"] if one["name"] in self._sites], default=0.0)
        self._again = again
        #: A server that is restarted is back when the sites are that it had.
        others = [str(one["name"]) for one in before["sites"]] if self._server else []
        self._back = tuple(dict.fromkeys((*self._sites, *others)))
        self._timeout = timeout
        self._until = time.monotonic() + timeout

    @property
    def _left(self) -> float:
        return max(0.05, self._until - time.monotonic())

    def wait(self) -> None:
        """Return when all is as it should be.

        Raises:
            DeadlineError: It is not in time; says what is still so.
        """
        if self._server:
            self._await_end()
        elif not self._again:
            self._await_sites(gone=self._sites)
        if self._again:
            self._await_return()

    def _await_end(self) -> None:
        """A server that ends breaks off the call; one that stays answers when the time is up."""
        import grpc

        try:
            self._ready(end=True)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                return
        raise self._too_late([SERVER], "still running")

    def _await_sites(self, **wanted: Any) -> None:
        import grpc

        try:
            status = self._ready(**wanted)
        except grpc.RpcError as error:
            raise self._session.lost(error) from error
        found = {one["name"]: float(one["since"]) for one in status["sites"]}
        if late := [name for name in wanted.get("gone", ()) if name in found]:
            raise self._too_late(late, "still running")
        if late := [name for name in wanted.get("sites", ()) if found.get(name, 0.0) <= wanted["since"]]:
            raise self._too_late(late, "not back")

    def _ready(self, **wanted: Any) -> Mapping[str, Any]:
        from flpoc.session.connection import answer_of
        from flpoc.wire.asks import Ask
        from flpoc.wire.codec import encode

        ask = Ask(timeout=self._left, study=self._session.study, **wanted)
        return dict(answer_of(self._session.unary("Ready", encode(ask), self._left + 5.0)))

    def _await_return(self) -> None:
        import grpc

        if self._server:
            try:
                self._session.await_server(self._left)
            except grpc.RpcError:
                raise self._too_late([SERVER], "not back") from None
        if self._back:
            self._await_sites(sites=self._back, since=0.0 if self._server else self._since)

    def _too_late(self, names: list[str], what: str) -> DeadlineError:
        return DeadlineError(
            f"after {self._timeout:g} s {what}: {', '.join(names)}",
            hint="see their logs; `flpoc system status` shows who is connected",
            data={"pending": names, "timeout": self._timeout},
        )
