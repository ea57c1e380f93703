"""Every message between a script and its owner, on the local socket.

All are idempotent requests, or news that may be lost: after a break, a job
process asks again what was not answered.
"""

from __future__ import annotations

from typing import Any, Literal

import attrs

from flpoc.wire import checks
from flpoc.wire.codec import PLAIN_BYTES, Family
from flpoc.wire.vocabulary import MetricRow, Refused, TaskKind

#: Where a script keeps things, in the folder of its attempt: a folder for each round.
STATE_FOLDER = "state"


@attrs.frozen
class LocalHello:
    """A job process begins: its token, and the last rounds that it got and gave (-1: none)."""

    token: bytes
    received: int = attrs.field(default=-1, validator=checks.round_number)
    sent: int = attrs.field(default=-1, validator=checks.round_number)


@attrs.frozen
class TrainerStart:
    """What a trainer needs to know once.

    Attributes:
        job: The job's id.
        site: The name of this site.
        run: Counts the runs of the job.
        attempt: Counts the launches of the script.
        seed: The job's.
        total_rounds: How many rounds the job has.
        plugins: Names of the plugins that the site's kit allows.
        framework: Name of the adapter that makes params of arrays; empty for none.
        transfer_type: What is sent of a model.
        once: Whether this launch answers all tasks; if not, it answers one.
        gc_rounds: After how many answered tasks garbage is collected; 0 for never.
        empty_cache: Whether graphics memory is given back then, too.
        datasets: Where the data is that the site grants, by its name.
    """

    job: str
    site: str
    run: int
    attempt: int
    seed: int
    total_rounds: int
    plugins: tuple[str, ...] = ()
    framework: str = ""
    transfer_type: Literal["FULL", "DIFF"] = "FULL"
    once: bool = True
    gc_rounds: int = attrs.field(default=0, validator=checks.count)
    empty_cache: bool = False
    datasets: dict[str, str] = attrs.field(factory=dict)


@attrs.frozen
class Give:
    """A task for the script.

    Attributes:
        round: Of which round.
        kind: What is to be done.
        path: The model's file, empty when there is none.
        meta: Goes with the model.
        state: The folder of what the script has kept, to be copied; empty when it has kept nothing.
    """

    round: int = attrs.field(validator=checks.round_number)
    kind: TaskKind
    path: str
    meta: dict[str, Any] = attrs.field(factory=dict, validator=checks.plain_json)
    state: str = ""


@attrs.frozen
class Submit:
    """The script's answer: a file in the attempt's folder, named with size and checksum.

    With ``state``, the folder ``state/ROUND`` beside it is what the script wants to keep.
    """

    round: int = attrs.field(validator=checks.round_number)
    kind: TaskKind
    file: str
    size: int = attrs.field(validator=checks.count)
    checksum: str = attrs.field(validator=checks.checksum)
    weight: float = attrs.field(validator=checks.weight)
    params_type: str = attrs.field(validator=checks.params_type)
    metrics: dict[str, float] = attrs.field(validator=checks.metrics)
    meta: dict[str, Any] = attrs.field(validator=checks.plain_json)
    evaluates: bool
    submits: bool = False
    state: bool = False


@attrs.frozen
class Taken:
    """The owner has the answer of this round safe in its outbox."""

    round: int = attrs.field(validator=checks.round_number)


@attrs.frozen
class Over:
    """No further task will come; ``is_running()`` is false from now on."""

    reason: str = ""


@attrs.frozen
class Failed:
    """The job's code raised: the first cause as the process itself sees it."""

    exception: str
    message: str
    file: str = ""
    line: int = 0
    round: int | None = attrs.field(default=None, validator=checks.round_number)
    phase: str = ""
    hint: str = ""


@attrs.frozen
class Beat:
    """Sent every second: CPU seconds of the process tree so far, and client API calls so far."""

    cpu: float = attrs.field(validator=checks.finite)
    calls: int = attrs.field(validator=checks.count)


@attrs.frozen
class Logged:
    """Numbers that the script logged."""

    rows: tuple[MetricRow, ...]


@attrs.frozen
class LogMode:
    """Log as this mode says from now on; see :mod:`flpoc.log_modes`."""

    mode: str


FROM_TRAINER = Family("trainer", LocalHello, Submit, Failed, Beat, Logged, plain_limit=PLAIN_BYTES)
TO_TRAINER = Family("agent", TrainerStart, Refused, Give, Taken, LogMode, Over)
