"""Sites that an operator keeps out, until they are let in again."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import attrs

from flpoc.server.store import Store


@attrs.frozen
class Block:
    """A site that is kept out: by whom, since when, and why."""

    site: str
    by: str
    time: float
    reason: str


class Blocked:
    """Who is kept out; outlives the server."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._blocks: dict[str, Block] = {}
        self._opened: dict[str, asyncio.Event] = {}

    async def restore(self) -> None:
        rows = await self._store.read(lambda db: db.execute("SELECT * FROM disabled").fetchall())
        self._blocks = {row["site"]: Block(**dict(row)) for row in rows}

    def get(self, site: str) -> Block | None:
        return self._blocks.get(site)

    @property
    def names(self) -> list[str]:
        return sorted(self._blocks)

    async def block(self, site: str, by: str, reason: str) -> bool:
        """Keep a site out; false if it is kept out already."""
        if site in self._blocks:
            return False
        one = Block(site, by, time.time(), reason)

        def act(db: Any) -> None:
            db.execute("INSERT INTO disabled (site, by, time, reason) VALUES (?, ?, ?, ?)", attrs.astuple(one))

        await self._store.write(act)
        self._blocks[site] = one
        return True

    async def unblock(self, site: str) -> bool:
        """Let a site in again; false if it is not kept out."""
        if site not in self._blocks:
            return False
        await self._store.write(lambda db: db.execute("DELETE FROM disabled WHERE site=?", (site,)))
        del self._blocks[site]
        if (event := self._opened.pop(site, None)) is not None:
            event.set()
        return True

    async def until_open(self, site: str) -> None:
        """Wait while a site is kept out."""
        while site in self._blocks:
            await self._opened.setdefault(site, asyncio.Event()).wait()
