"""Every message between site agents and the server.

Site agents and server exchange what they *have* and what they *want*: every
message can be lost or repeated without harm, because the next connection
starts with the whole list.
"""

from __future__ import annotations

from typing import Any, Literal

import attrs

from flpoc.jobs.spec import SignedJob
from flpoc.jobs.statements import SignedStatement
from flpoc.jobs.states import Cause
from flpoc.wire import checks
from flpoc.wire.codec import PLAIN_BYTES, SHORT_BYTES, Family
from flpoc.wire.vocabulary import MetricRow, Refused, TaskKind

#: Version of everything in this module. Both sides must have the same.
PROTOCOL = 1

#: Tensors up to this size ride in the control message; larger ones are transfers.
INLINE_BYTES = 256 << 10

Verdict = Literal["ALL", "HAVE", "WAIT", "STALE", "SUPERSEDED", "ABORTED", "REJECTED"]


@attrs.frozen
class JobReport:
    """What a site has of a job: sent whenever it changes, and in every Hello."""

    job: str = attrs.field(validator=checks.job_id)
    run: int = attrs.field(validator=checks.count)
    phase: Literal["preparing", "joined", "failed"]
    cause: Cause | None = None
    round: int | None = attrs.field(default=None, validator=checks.round_number)


@attrs.frozen
class Capacity:
    """What a site has for jobs.

    Attributes:
        cpus: Processors; None for no limit.
        memory_gib: Main memory; None for no limit.
        gpus: Number of graphics processors.
        jobs: How many jobs may be there at the same time; None for no limit.
    """

    cpus: float | None = attrs.field(default=None, validator=attrs.validators.optional(checks.duration))
    memory_gib: float | None = attrs.field(default=None, validator=attrs.validators.optional(checks.duration))
    gpus: int = attrs.field(default=0, validator=checks.count)
    jobs: int | None = attrs.field(default=None, validator=attrs.validators.optional(checks.count))


@attrs.frozen
class Hello:
    """A site begins a connection: who speaks which version, and what it has.

    ``revocations`` is the number of the newest list of revoked certificates that it knows.
    """

    protocol: int
    version: str
    api: int
    plugins: dict[str, str]
    jobs: tuple[JobReport, ...] = ()
    capacity: Capacity = attrs.field(factory=Capacity)
    revocations: int = attrs.field(default=0, validator=checks.count)


@attrs.frozen
class Told:
    """A site's answer to :class:`Instruct`: plain data, or why not."""

    number: int = attrs.field(validator=checks.count)
    data: Any = attrs.field(default=None, validator=checks.plain_json)
    code: str = ""
    message: str = ""
    hint: str = ""


@attrs.frozen
class Announce:
    """A site has a finished update in its outbox.

    ``inline`` holds the tensors when they are small; otherwise the server
    answers with how much of the file it already has.
    """

    job: str = attrs.field(validator=checks.job_id)
    run: int = attrs.field(validator=checks.count)
    round: int = attrs.field(validator=checks.round_number)
    kind: TaskKind
    attempt: int = attrs.field(validator=checks.count)
    size: int = attrs.field(validator=checks.count)
    checksum: str = attrs.field(validator=checks.checksum)
    weight: float = attrs.field(validator=checks.weight)
    params_type: str = attrs.field(validator=checks.params_type)
    metrics: dict[str, float] = attrs.field(validator=checks.metrics)
    meta: dict[str, Any] = attrs.field(validator=checks.plain_json)
    evaluates: bool
    submits: bool = False
    inline: bytes | None = None


@attrs.frozen
class Progress:
    """Something moves at a site: bytes, client API calls or CPU time since the last message."""

    job: str = attrs.field(validator=checks.job_id)
    run: int = attrs.field(validator=checks.count)


@attrs.frozen
class LogLines:
    """A piece of a job's log at a site, beginning at byte ``offset``."""

    job: str = attrs.field(validator=checks.job_id)
    run: int = attrs.field(validator=checks.count)
    offset: int = attrs.field(validator=checks.count)
    data: bytes


@attrs.frozen
class Metrics:
    """Numbers that a site's script logged, numbered from ``first`` on, so that repeats are recognised."""

    job: str = attrs.field(validator=checks.job_id)
    run: int = attrs.field(validator=checks.count)
    first: int = attrs.field(validator=checks.count)
    rows: tuple[MetricRow, ...]


@attrs.frozen
class Welcome:
    """The server accepts the connection."""

    version: str
    project: str


@attrs.frozen
class Instruct:
    """Something that a user wants of this site, signed by them; the site decides whether they may."""

    number: int = attrs.field(validator=checks.count)
    order: SignedStatement


@attrs.frozen
class Revocation:
    """The newest list of revoked certificates, as a project_admin signed it."""

    signed: SignedStatement


@attrs.frozen
class ModelRef:
    """A model file: its size, its checksum, and itself when it is small."""

    size: int = attrs.field(validator=checks.count)
    checksum: str = attrs.field(validator=checks.checksum)
    inline: bytes | None = None


@attrs.frozen
class Task:
    """What a site is to do in a round; ``model`` is None in a first round without one, ``meta`` is for the script."""

    round: int = attrs.field(validator=checks.round_number)
    kind: TaskKind
    total_rounds: int = attrs.field(validator=checks.count)
    model: ModelRef | None
    meta: dict[str, Any] = attrs.field(factory=dict, validator=checks.plain_json)


@attrs.frozen
class JobWant:
    """All that the server wants of a site for one job; replaces what it wanted before.

    Attributes:
        phase: ``run``: take part. ``finish``: the job is over, let the script end. ``drop``: stop at once, delete.
        signed: The job as signed, when the site does not have it yet.
        archive: SHA-256 and size of the job's files.
        task: The open task, if this site has not answered it.
        committed: Last committed round, -1 for none: answers up to it may be forgotten.
        counted: Newest round in which an answer of this site was counted, -1 for none.
    """

    job: str = attrs.field(validator=checks.job_id)
    run: int = attrs.field(validator=checks.count)
    phase: Literal["run", "finish", "drop"]
    archive: str = attrs.field(default="", validator=checks.sha256_or_none)
    archive_size: int = attrs.field(default=0, validator=checks.count)
    signed: SignedJob | None = None
    task: Task | None = None
    committed: int = attrs.field(default=-1, validator=checks.round_number)
    counted: int = attrs.field(default=-1, validator=checks.round_number)


@attrs.frozen
class Answer:
    """What the server says to an announced update.

    ``HAVE``: send from byte ``have`` on. ``ALL``: it is here and stays.
    ``STALE``, ``SUPERSEDED``, ``ABORTED``: nobody wants it any more.
    ``REJECTED``: it is not usable, and why. ``WAIT``: not now, and why;
    announce it again later.
    """

    job: str = attrs.field(validator=checks.job_id)
    run: int = attrs.field(validator=checks.count)
    round: int = attrs.field(validator=checks.round_number)
    checksum: str = attrs.field(validator=checks.checksum)
    verdict: Verdict
    have: int = attrs.field(default=0, validator=checks.count)
    reason: str = ""


@attrs.frozen
class LogsHave:
    """How many bytes of a job's log the server has from this site."""

    job: str = attrs.field(validator=checks.job_id)
    run: int = attrs.field(validator=checks.count)
    offset: int = attrs.field(validator=checks.count)
    metrics: int = attrs.field(default=0, validator=checks.count)


@attrs.frozen
class Fetch:
    """A site asks for a file: the job's archive, or the model of a round, from ``offset`` on."""

    job: str = attrs.field(validator=checks.job_id)
    run: int = attrs.field(validator=checks.count)
    what: Literal["archive", "model"]
    round: int = attrs.field(validator=checks.round_number)
    checksum: str = attrs.field(validator=checks.checksum_or_none)
    offset: int = attrs.field(validator=checks.count)


@attrs.frozen
class Push:
    """The first message of an upload; raw chunks follow."""

    job: str = attrs.field(validator=checks.job_id)
    run: int = attrs.field(validator=checks.count)
    round: int = attrs.field(validator=checks.round_number)
    checksum: str = attrs.field(validator=checks.checksum)
    offset: int = attrs.field(validator=checks.count)


FROM_SITE = Family("site", Hello, JobReport, Announce, Progress, LogLines, Metrics, Told, plain_limit=PLAIN_BYTES)
TO_SITE = Family("server", Welcome, Refused, JobWant, Answer, LogsHave, Instruct, Revocation)
FETCH = Family("fetch", Fetch, limit=SHORT_BYTES)
PUSH = Family("push", Push, limit=SHORT_BYTES)
PUSHED = Family("pushed", Answer)
