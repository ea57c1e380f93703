"""Waiting until a server or sites have ended, or are back, as they were told."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from flpoc.errors import DeadlineError

if TYPE_CHECKING:
    from flpoc.session.operating import OperatorCalls

SERVER = "server"


class Ending:
    """Waits for services that were told to end; nothing is asked again and again: the server tells when it is so."""

    def __init__(
        self, session: OperatorCalls, targets: tuple[str, ...], *, back: tuple[str, ...], timeout: float
    ) -> None:
        """Take what was told to end, and what is to be there again afterwards."""
        self._session = session
        self._sites = tuple(name for name in targets if name != SERVER)
        self._server = SERVER in targets
        self._back = back
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
        import grpc

        from flpoc.session.connection import answer_of
        from flpoc.wire.asks import Ask
        from flpoc.wire.codec import encode

        # a server that ends breaks off the call; one that stays answers when its sites are gone
        wait = Ask((), self._left, self._session.study, gone=self._sites, end=self._server)
        try:
            status = answer_of(self._session.unary("Ready", encode(wait), self._left + 5.0))
        except grpc.RpcError:
            pass  # the server has ended, and with it whoever could be asked about its sites
        else:
            here = [one["name"] for one in status["sites"] if one["name"] in self._sites]
            if self._server or here:
                raise self._too_late([*([SERVER] if self._server else []), *here], "still running")
        if self._back:
            self._come_back()

    def _come_back(self) -> None:
        import grpc

        try:
            if self._server:
                self._session.await_server(self._left)
            self._session.wait_ready(tuple(name for name in self._back if name != SERVER), self._left)
        except grpc.RpcError:
            raise self._too_late([SERVER], "not back") from None
        except DeadlineError as error:
            missing = (error.data or {}).get("missing") if isinstance(error.data, dict) else None
            raise self._too_late(missing or list(self._sites), "not back") from None

    def _too_late(self, names: list[str], what: str) -> DeadlineError:
        return DeadlineError(
            f"after {self._timeout:g} s {what}: {', '.join(names)}",
            hint="see their logs; `flpoc system status` shows who is connected",
            data={"pending": names, "timeout": self._timeout},
        )
