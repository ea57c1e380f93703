"""How many transfers there are at a time, and how slow one may be.

Who stands still, drips, or asks for everything at once must not keep others from a place.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncIterator

#: Uploads, and downloads, that go on at the same time; the others wait in line.
TRANSFERS = 4
#: Of which one site has so many at most.
OF_A_SITE = 2
#: So much must move within the limit; one chunk always counts.
LEAST_BYTES = 64 << 10


class Places:
    """Places for transfers of one direction."""

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(TRANSFERS)
        self._sites: weakref.WeakValueDictionary[str, asyncio.Semaphore] = weakref.WeakValueDictionary()

    @contextlib.asynccontextmanager
    async def one(self, site: str) -> AsyncIterator[None]:
        """Wait for a place and keep it; a site stands in line with as many as it can have."""
        own = self._sites.setdefault(site, asyncio.Semaphore(OF_A_SITE))
        async with own, self._all:
            yield


class Pace:
    """Until when a transfer must have moved on.

    Attributes:
        until: On the clock of the event loop.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._count = 0
        self.until = asyncio.get_running_loop().time() + limit

    def moved(self, count: int) -> bool:
        """So many bytes have moved; true if that was enough to have the full time again."""
        self._count += count
        if self._count < LEAST_BYTES:
            return False
        self._count = 0
        self.until = asyncio.get_running_loop().time() + self._limit
        return True
