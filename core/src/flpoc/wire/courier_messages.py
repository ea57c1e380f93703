"""Every message between the server and its courier, on a socket that the courier inherits.

A *lane* is one tracker of one job, or one plugin that hears events; lanes
know nothing of each other. The server gives a lane the next piece when the
one before is done, so nothing piles up outside the database.
"""

from __future__ import annotations

from typing import Any

import attrs

from flpoc.tracking import Metric, RunEvent, TrackedJob
from flpoc.wire import checks
from flpoc.wire.codec import Family


@attrs.frozen
class CourierStart:
    """The plugins that the server's kit lists."""

    plugins: tuple[str, ...]


@attrs.frozen
class Track:
    """Open a lane for a tracker of a job."""

    lane: int = attrs.field(validator=checks.count)
    tracker: str
    settings: dict[str, Any]
    job: TrackedJob


@attrs.frozen
class Listen:
    """Open a lane for a plugin that hears events."""

    lane: int = attrs.field(validator=checks.count)
    plugin: str


@attrs.frozen
class Write:
    """Metrics for a tracker, up to a place in the database."""

    lane: int = attrs.field(validator=checks.count)
    upto: int = attrs.field(validator=checks.count)
    metrics: tuple[Metric, ...]


@attrs.frozen
class Tell:
    """An event for a plugin, and its place in the database."""

    lane: int = attrs.field(validator=checks.count)
    upto: int = attrs.field(validator=checks.count)
    event: RunEvent


@attrs.frozen
class Close:
    """Nothing more comes on this lane; what could not be written so far is given up."""

    lane: int = attrs.field(validator=checks.count)


@attrs.frozen
class Done:
    """Everything up to this place is written, or told."""

    lane: int = attrs.field(validator=checks.count)
    upto: int = attrs.field(validator=checks.count)


@attrs.frozen
class Trouble:
    """A tracker or listener failed; a tracker is asked again after a pause."""

    lane: int = attrs.field(validator=checks.count)
    text: str


@attrs.frozen
class Closed:
    """The lane has come to its end."""

    lane: int = attrs.field(validator=checks.count)


TO_COURIER = Family("server", CourierStart, Track, Listen, Write, Tell, Close)
FROM_COURIER = Family("courier", Done, Trouble, Closed)
