"""What every simulated site did in every round, and what it logged; kept in files, as it grows with both."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from flpoc.wire.vocabulary import MetricRow


class Ledger:
    """Who did what in which round.

    Args:
        path: Where rows of rounds that are over are kept.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._round = -1
        self._rows: dict[str, tuple[str, float | None, str]] = {}

    def note(self, round_number: int, site: str, status: str, *, weight: float | None = None, reason: str = "") -> None:
        """Write a row, or another in its place; rounds come one after the other."""
        if round_number != self._round:
            self._keep()
            self._round = round_number
        self._rows[site] = (status, weight, reason)

    def has(self, round_number: int, site: str) -> bool:
        """Whether there is a row."""
        return round_number == self._round and site in self._rows

    def rows(self) -> Iterator[dict[str, Any]]:
        """All rows by round and site."""
        self._keep()
        if self._path.exists():
            with self._path.open() as file:
                yield from map(json.loads, file)

    def _keep(self) -> None:
        with self._path.open("a") as file:
            for site in sorted(self._rows):
                status, weight, reason = self._rows[site]
                row = {"round": self._round, "site": site, "status": status, "weight": weight, "reason": reason}
                file.write(json.dumps(row) + "\n")
        self._rows.clear()


def write_metrics(path: Path, site: str, rows: Iterable[MetricRow]) -> None:
    """Append what a site has logged."""
    with path.open("a", encoding="utf-8") as file:
        for one in rows:
            row = {"site": site, "key": one.key, "value": one.value, "step": one.step}
            file.write(json.dumps({**row, "round": one.round, "time": one.time}) + "\n")
