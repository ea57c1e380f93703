"""Numbers go to the server in order and without gaps, whatever becomes of the connection and the agent."""

from __future__ import annotations

import pytest

from flpoc.site import metric_shipper
from flpoc.site.metric_shipper import MetricShipper
from flpoc.wire.vocabulary import MetricRow


def rows(*values: float) -> tuple[MetricRow, ...]:
    return tuple(MetricRow("k", value, None, None, 1.0) for value in values)


class Server:
    """Takes what is new by its number, as the real one does."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.seen = 0
        self.lost = 0

    def take(self, first: int, sent: tuple[MetricRow, ...]) -> None:
        self.lost += max(0, first - self.seen)
        self.values += [one.value for one in sent[max(0, self.seen - first) :]]
        self.seen = max(self.seen, first + len(sent))


def test_nothing_is_sent_before_the_server_has_said_what_it_has() -> None:
    server = Server()
    shipper = MetricShipper(server.take)
    shipper.add(rows(1, 2))
    assert server.values == []
    shipper.resume(0)
    shipper.add(rows(3))
    assert server.values == [1, 2, 3]


def test_what_was_lost_with_a_connection_is_sent_before_what_comes_after() -> None:
    server = Server()
    arrives = True
    shipper = MetricShipper(lambda first, sent: server.take(first, sent) if arrives else None)
    shipper.resume(0)
    shipper.add(rows(1))
    arrives = False
    shipper.add(rows(2, 3))
    shipper.pause()
    shipper.add(rows(4))
    arrives = True
    shipper.add(rows(5))
    assert server.values == [1]
    shipper.resume(server.seen)
    assert (server.values, server.lost) == ([1, 2, 3, 4, 5], 0)


def test_a_new_agent_counts_on_where_the_old_one_was() -> None:
    server = Server()
    server.take(0, rows(1, 2, 3))
    shipper = MetricShipper(server.take)
    shipper.add(rows(4))
    shipper.resume(server.seen)
    shipper.add(rows(5))
    shipper.resume(server.seen)
    assert (server.values, server.lost) == ([1, 2, 3, 4, 5], 0)


def test_a_repeated_answer_does_no_harm() -> None:
    server = Server()
    shipper = MetricShipper(server.take)
    shipper.resume(0)
    shipper.add(rows(*range(5)))
    shipper.resume(2)
    assert server.values == list(range(5))


def test_what_waits_too_long_is_dropped_from_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_shipper, "KEPT", 3)
    server = Server()
    shipper = MetricShipper(server.take)
    shipper.add(rows(*range(5)))
    shipper.resume(0)
    shipper.add(rows(*range(5, 10)))
    assert (server.values, server.seen, server.lost) == ([2, 3, 4, 7, 8, 9], 10, 4)


def test_large_amounts_go_in_pieces() -> None:
    pieces: list[int] = []
    shipper = MetricShipper(lambda _, sent: pieces.append(len(sent)))
    shipper.add(rows(*range(2500)))
    shipper.resume(0)
    assert sum(pieces) == 2500
    assert 1 < max(pieces) <= 1000
