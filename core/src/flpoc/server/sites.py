"""Which sites are connected, and what goes to them."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from flpoc.wire.messages import Hello, JobWant
from flpoc.wire.vocabulary import Refused

#: With so many messages unread, a site is not listened to.
MOST_WAITING = 200


@attrs.define(eq=False)
class SiteSession:
    """One connection of a site.

    Attributes:
        name: The site, from its certificate.
        org: Its organisation, from its certificate.
        serial: Serial number of its certificate.
        hello: What it said first.
        since: When it connected, seconds since 1970.
        seen: When it last said something.
        knows: Whether it has been told all that is wanted of it; before, it may lack the very job.
    """

    name: str
    org: str
    serial: int
    hello: Hello
    since: float
    seen: float
    knows: bool = False
    _waiting: deque[Any] = attrs.field(factory=deque)
    _asked: dict[int, asyncio.Future[Any]] = attrs.field(factory=dict)
    _numbers: Iterator[int] = attrs.field(factory=itertools.count)
    _news: asyncio.Event = attrs.field(factory=asyncio.Event)
    _room: asyncio.Event = attrs.field(factory=asyncio.Event)

    def send(self, message: Any) -> None:
        """Queue a message; what is wanted for a job takes the place of what was wanted before and was not sent yet."""
        if not (isinstance(message, JobWant) and self._replaced(message)):
            self._waiting.append(message)
        self._news.set()

    def _replaced(self, want: JobWant) -> bool:
        for place, other in enumerate(self._waiting):
            if isinstance(other, JobWant) and (other.job, other.run) == (want.job, want.run):
                self._waiting[place] = attrs.evolve(want, signed=want.signed or other.signed)
                return True
        return False

    async def ask(self, message: Callable[[int], Any]) -> Any:
        """Send what *message* makes of a number, and wait for the answer that has it.

        Raises:
            ConnectionError: The connection ended first.
        """
        number = next(self._numbers)
        self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            self.send(message(number))
            return await self._asked[number]
        finally:
            self._asked.pop(number, None)

    def answered(self, number: int, message: Any) -> None:
        """An answer has come; one that nobody waits for any more is dropped."""
        if (future := self._asked.get(number)) is not None and not future.done():
            future.set_result(message)

    def gone(self) -> None:
        """The connection has ended: nothing that was asked will be answered."""
        for future in self._asked.values():
            if not future.done():
                future.set_exception(ConnectionError(f"{self.name} has gone away"))

    def close(self) -> None:
        """End the stream after what is queued."""
        self._waiting.append(None)
        self._news.set()

    async def outgoing(self) -> Any:
        """The next message; None at the end."""
        while not self._waiting:
            self._news.clear()
            await self._news.wait()
        message = self._waiting.popleft()
        if len(self._waiting) < MOST_WAITING:
            self._room.set()
        return message

    async def room(self) -> None:
        """Wait until the site has read most of what it was told."""
        while len(self._waiting) >= MOST_WAITING:
            self._room.clear()
            await self._room.wait()


class Sites:
    """The connected sites."""

    def __init__(self) -> None:
        self._sessions: dict[str, SiteSession] = {}
        self._listeners: list[Callable[[], None]] = []

    def listen(self, changed: Callable[[], None]) -> None:
        """Have *changed* called whenever a site comes or goes."""
        self._listeners.append(changed)

    def forget(self, changed: Callable[[], None]) -> None:
        """Take back a :meth:`listen`."""
        self._listeners.remove(changed)

    def attach(self, name: str, org: str, serial: int, hello: Hello) -> SiteSession:
        """A site is connected; an older connection of the same site is ended for good.

        If there are two agents with one kit, the newer one stays: the older
        one is told and gives up, so that they do not take turns.
        """
        now = time.time()
        session = SiteSession(name, org, serial, hello, now, now)
        older = self._sessions.get(name)
        self._sessions[name] = session
        if older is not None:
            older.send(Refused("FENCED", f"{name} has connected again, from elsewhere", "one agent for one kit"))
            older.close()
        self._changed()
        return session

    def detach(self, session: SiteSession) -> None:
        session.gone()
        if self._sessions.get(session.name) is session:
            del self._sessions[session.name]
            self._changed()

    def _changed(self) -> None:
        for listener in list(self._listeners):
            listener()

    def send(self, name: str, message: Any) -> None:
        """Send to a site if it is connected; otherwise, or if it is just coming, it hears all that is wanted then."""
        session = self._sessions.get(name)
        follows = session is not None and not session.knows and isinstance(message, JobWant) and message.phase == "run"
        if session is not None and not follows:
            session.send(message)

    @property
    def connected(self) -> dict[str, SiteSession]:
        return dict(self._sessions)
