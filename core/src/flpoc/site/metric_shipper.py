"""Numbers that a job's script logs, on their way to the server."""

from __future__ import annotations

from collections.abc import Callable

from flpoc.wire.vocabulary import MetricRow

#: Numbers that wait for a connection; older ones are dropped.
KEPT = 100_000
#: Numbers in one message.
_PIECE = 250


class MetricShipper:
    """Sends numbers in their order, each with its own number, so that the server recognises repeats.

    Nothing is sent before the server has said how many it has: it may have
    some from an agent before this one, or lack some of the last connection.
    """

    def __init__(self, send: Callable[[int, tuple[MetricRow, ...]], None]) -> None:
        self._send = send
        self._rows: list[MetricRow] = []
        self._dropped = 0
        self._base: int | None = None
        self._flows = False

    def add(self, rows: tuple[MetricRow, ...]) -> None:
        """The script has logged."""
        self._rows.extend(rows)
        if (excess := len(self._rows) - KEPT) > 0:
            del self._rows[:excess]
            self._dropped += excess
        if self._flows:
            self._ship(max(0, len(self._rows) - len(rows)))

    def pause(self) -> None:
        """The connection is gone."""
        self._flows = False

    def resume(self, has: int) -> None:
        """The server has said how many numbers it has of this site."""
        if self._base is None:
            self._base = has
        self._flows = True
        self._ship(max(0, has - self._base - self._dropped))

    def _ship(self, start: int) -> None:
        assert self._base is not None
        for place in range(start, len(self._rows), _PIECE):
            self._send(self._base + self._dropped + place, tuple(self._rows[place : place + _PIECE]))
