"""Whose certificates the server has met: so that one can be found when it is to be revoked."""

from __future__ import annotations

import time
from typing import Any

from flpoc.provision.identity import Identity
from flpoc.server.store import Store


class Acquaintances:
    """Certificates that were let in at least once."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def note(self, who: Identity) -> None:
        """Remember a certificate."""
        row = (f"{who.serial:x}", who.name, who.kind, who.role, who.org, who.not_after.timestamp(), time.time())
        query = "INSERT OR IGNORE INTO certificates VALUES (?, ?, ?, ?, ?, ?, ?)"
        await self._store.write(lambda db: db.execute(query, row), durable=False)

    async def all(self) -> list[dict[str, Any]]:
        """All of them: serial, name, kind, role, org, when it ends and when it was first seen."""
        query = "SELECT * FROM certificates ORDER BY name, seen"
        return [dict(row) for row in await self._store.read(lambda db: db.execute(query).fetchall())]

    async def sites(self) -> set[tuple[str, str]]:
        """Names and organisations of all sites that ever connected."""
        query = "SELECT DISTINCT name, org FROM certificates WHERE kind='site'"
        return {(row["name"], row["org"]) for row in await self._store.read(lambda db: db.execute(query).fetchall())}

    async def org_of_site(self, site: str) -> str:
        """The organisation of a site as its newest certificate says; empty for one that never connected."""
        query = "SELECT org FROM certificates WHERE kind='site' AND name=? ORDER BY seen DESC LIMIT 1"
        row = await self._store.read(lambda db: db.execute(query, (site,)).fetchone())
        return str(row["org"]) if row is not None else ""
