"""What users ask of the server about logs and results; apart, for commands that must be quick."""

from __future__ import annotations

import attrs

from flpoc.wire import checks


@attrs.frozen
class ReadLogs:
    """Which lines of which logs."""

    job: str
    study: str = "default"
    site: str = "server"
    tail: int | None = None
    since: str = ""
    max_bytes: int | None = None


@attrs.frozen
class ReadResult:
    """A file of a job's results from byte ``offset`` up to byte ``size``, as ``Results`` announced it.

    A site that was away may add lines to its log after a job has ended; what was announced is a
    beginning of the file for ever.
    """

    job: str
    path: str
    size: int = attrs.field(validator=checks.count)
    offset: int = attrs.field(default=0, validator=checks.count)
    study: str = "default"
