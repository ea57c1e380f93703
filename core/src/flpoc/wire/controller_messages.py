"""Every message between a controller and its owner, on the local socket."""

from __future__ import annotations

from typing import Any

import attrs

from flpoc.jobs.spec import JobSpec
from flpoc.wire import checks
from flpoc.wire.codec import Family
from flpoc.wire.trainer_messages import Beat, Failed, LocalHello, LogMode, Over
from flpoc.wire.vocabulary import Finished, Refused, TaskKind


@attrs.frozen
class CommittedRound:
    """The last committed round: files of its model, of the best one, and of the aggregator's state; the workflow's own.

    Names of files are empty where there is none.
    """

    round: int
    model: str
    state: bytes
    best: str = ""
    state_file: str = ""


@attrs.frozen
class ControllerStart:
    """What a controller needs to know: the job, its sites, where it stands, and the updates that were kept.

    ``checkpoints`` are folders whose files jobs may start from.
    """

    job: str
    run: int
    spec: JobSpec
    code: str
    sites: tuple[str, ...]
    committed: CommittedRound | None
    plugins: tuple[str, ...] = ()
    kept: tuple[SiteUpdate, ...] = ()
    checkpoints: tuple[str, ...] = ()


@attrs.frozen
class Assign:
    """The controller wants a round: a task to sites, with the model of the last committed round.

    Or a part of one: ``later`` are sites that are asked in the same round once
    these have answered, and ``file`` is a model in the controller's folder
    that takes the place of the committed one for this task. ``meta`` goes to the
    scripts with it. ``within``: after so many seconds it is closed with whoever
    has answered.
    """

    round: int = attrs.field(validator=checks.round_number)
    kind: TaskKind
    sites: tuple[str, ...] = attrs.field(validator=checks.site_names)
    use_model: bool
    later: tuple[str, ...] = attrs.field(default=(), validator=checks.site_names)
    file: str = ""
    size: int = attrs.field(default=0, validator=checks.count)
    checksum: str = attrs.field(default="", validator=checks.checksum_or_none)
    meta: dict[str, Any] = attrs.field(factory=dict, validator=checks.plain_json)
    within: float | None = attrs.field(default=None, validator=checks.duration_or_none)


@attrs.frozen
class SiteUpdate:
    """A received update, as the controller reads it."""

    site: str
    path: str
    weight: float
    params_type: str
    metrics: dict[str, float]
    meta: dict[str, Any]
    evaluates: bool
    submits: bool = False


@attrs.frozen
class Closed:
    """A round is closed: its updates in site order, and who is missing and why."""

    round: int
    updates: tuple[SiteUpdate, ...]
    missing: dict[str, str]


@attrs.frozen
class Commit:
    """The controller ends a round: a model's file in its folder, and what the next round needs to know.

    Without a file the model stays the one that it was: the round was one of evaluation. ``best``: the model committed
    before this one is the best so far. ``keep``: the updates of this round are needed until the job is over.
    ``state_file`` is a file of the controller's folder, too, with what the aggregator's next round needs.
    """

    round: int = attrs.field(validator=checks.round_number)
    file: str
    size: int = attrs.field(validator=checks.count)
    checksum: str = attrs.field(validator=checks.checksum_or_none)
    state: bytes
    metrics: dict[str, float] = attrs.field(validator=checks.metrics)
    best: bool = False
    keep: bool = False
    state_file: str = ""
    state_size: int = attrs.field(default=0, validator=checks.count)
    state_checksum: str = attrs.field(default="", validator=checks.checksum_or_none)


@attrs.frozen
class Committed:
    """The round survives power loss from now on."""

    round: int = attrs.field(validator=checks.round_number)


FROM_CONTROLLER = Family("controller", LocalHello, Assign, Commit, Finished, Failed, Beat)
#: A closed round says all that its sites have said.
TO_CONTROLLER = Family(
    "owner", ControllerStart, Refused, Closed, Committed, LogMode, Over, limit=64 << 20, plain_limit=64 << 20
)
