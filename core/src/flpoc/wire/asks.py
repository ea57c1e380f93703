"""What users ask of the server in few words, and its answer; light, for commands that must be quick."""

from __future__ import annotations

from typing import Any

import attrs

from flpoc.wire import checks
from flpoc.wire.codec import Family


@attrs.frozen
class Ask:
    """Something about the whole server; ``Status`` and ``Ready``.

    Attributes:
        sites: For ``Ready``: answer once all of these are connected.
        timeout: For ``Ready``: answer after so many seconds in any case.
        study: Only its sites and jobs are told of.
        gone: For ``Ready``: answer once none of these is connected.
        end: For ``Ready``: do not answer for any other reason than the time: the caller waits for the server's end.
        since: For ``Ready``: connections that began earlier do not count; seconds since 1970 on the server's clock.
    """

    sites: tuple[str, ...] = ()
    timeout: float = attrs.field(default=30.0, validator=checks.duration)
    study: str = "default"
    gone: tuple[str, ...] = ()
    end: bool = False
    since: float = attrs.field(default=0.0, validator=checks.finite)


@attrs.frozen
class ListJobs:
    """Which jobs to list."""

    study: str = "default"
    name: str = ""
    id: str = ""
    reverse: bool = False
    limit: int = attrs.field(default=0, validator=checks.count)
    token: str = ""


@attrs.frozen
class AboutJob:
    """One job, by its id or a beginning of it that only one has."""

    job: str
    study: str = "default"


@attrs.frozen
class Reply:
    """An answer: plain data, or an error with its code."""

    data: Any = None
    code: str = ""
    message: str = ""
    hint: str = ""


#: Logs make long answers; gRPC's own limit (wire/options.py) is above this.
REPLIES = Family("server", Reply, limit=8 << 20)
