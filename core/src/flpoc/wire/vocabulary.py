"""Words that several channels have in common: the kinds of tasks, what scripts log, how a workflow ends."""

from __future__ import annotations

from typing import Any, Literal

import attrs

from flpoc.wire import checks

TaskKind = Literal["train", "evaluate", "submit_model"]
#: What the ledger says of a site that has done its task.
DONE: dict[str, str] = {"train": "trained", "evaluate": "evaluated", "submit_model": "submitted"}
#: What a site does that has such a task, for people.
PHASES: dict[TaskKind, str] = {
    "train": "training",
    "evaluate": "evaluating",
    "submit_model": "sending its own model",
}


@attrs.frozen
class MetricRow:
    """One number that a script logged; see :class:`flpoc.tracking.Metric`."""

    key: str = attrs.field(validator=checks.metric_name)
    value: float = attrs.field(validator=checks.finite)
    step: int | None = attrs.field(validator=checks.integer)
    round: int | None = attrs.field(validator=checks.round_number)
    time: float = attrs.field(validator=checks.finite)


@attrs.frozen
class Refused:
    """The server, or a job process's owner, does not accept; the caller gives up."""

    code: str
    message: str
    hint: str = ""


@attrs.frozen
class Finished:
    """The workflow has come to its end; ``metrics`` are about the last model.

    ``best``: the last model is the best. ``reports``: JSON documents by file name below the job's results.
    """

    metrics: dict[str, float] = attrs.field(validator=checks.metrics)
    best: bool = False
    reports: dict[str, Any] = attrs.field(factory=dict, validator=checks.reports)
