"""The one session of a console: opened when first needed, and anew after it was lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from flpoc.cli.connect import Connection
from flpoc.session import Session


class KeptSession(Session):
    """A session that outlives the commands that use it."""

    #: A call failed in a way that leaves no trust in the connection.
    broken = False

    def __exit__(self, *_: object) -> None:
        """Stay open: the next command uses it, too."""

    @property
    def usable(self) -> bool:
        return not (self.broken or self._closed)

    def connect(self) -> None:
        """As every session, and remember if it failed."""
        try:
            super().connect()
        except Exception:
            self.broken = True
            raise

    def lost(self, error: Any) -> Exception:
        """Say why the server is away, which may have ended since the last command."""
        import grpc

        from flpoc.wire.reaching import diagnose

        self.broken = True
        gone = error.code() is grpc.StatusCode.UNAVAILABLE
        return (diagnose(self.kit, timeout=self._timeout) if gone else None) or super().lost(error)


class Keeper:
    """Keeps the session of a console.

    Args:
        kit: Folder of the user's kit.
        study: The study to work in.
        timeout: How long to try to reach the server, in seconds.
    """

    def __init__(self, kit: Path, study: str, timeout: float) -> None:
        self.kit = kit
        self.study = study
        self._timeout = timeout
        self._session: KeptSession | None = None

    @property
    def timeout(self) -> float:
        return self._timeout

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        self._timeout = seconds
        self.drop()

    def session(self) -> KeptSession:
        """The session; a new one if the last was lost.

        Raises:
            KitError: The kit cannot be used any more.
        """
        if self._session is None or not self._session.usable:
            self.drop()
            self._session = KeptSession(self.kit, study=self.study, timeout=self._timeout)
        return self._session

    def drop(self) -> None:
        """End the session with every call that still runs; the next command gets a new one."""
        session, self._session = self._session, None
        if session is not None:
            session.close()


@attrs.frozen
class KeptConnection(Connection):
    """The connection that every command of a console is given.

    Attributes:
        keeper: Keeps its session.
    """

    keeper: Keeper

    def open(self) -> Session:
        return self.keeper.session()

    def kit_folder(self) -> Path:
        return self.keeper.kit
