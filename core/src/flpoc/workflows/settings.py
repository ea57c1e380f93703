"""Settings of the built-in workflows."""

from __future__ import annotations

import math
from typing import Any, Literal

import attrs

from flpoc.jobs.code import CodeRef
from flpoc.settings import NAMES_SITES

Comparison = Literal["<=", "=", ">=", "<", ">"]
_COMPARISONS = ("<=", "=", ">=", "<", ">")


@attrs.frozen
class StopCondition:
    """When a job has reached what it was for: ``accuracy >= 0.9``.

    Attributes:
        metric: Name of a metric.
        comparison: How it is compared.
        value: With what.
    """

    metric: str
    comparison: Comparison
    value: float

    @classmethod
    def parse(cls, text: str) -> StopCondition:
        """Read ``METRIC COMPARISON VALUE``, separated by single spaces.

        Raises:
            ValueError: It is something else; says what is wrong.
        """
        words = text.split(" ")
        if len(words) != 3 or not words[0]:
            raise ValueError(f"{text[:80]!r} is not 'METRIC COMPARISON VALUE', such as 'accuracy >= 0.9'")
        metric, comparison, number = words
        found = next((one for one in _COMPARISONS if one == comparison), None)
        if found is None:
            raise ValueError(f"{comparison[:20]!r} is none of {' '.join(_COMPARISONS)}")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f"{number[:40]!r} is not a number")
        return cls(metric, found, value)  # type: ignore[arg-type]

    @property
    def mode(self) -> Literal["max", "min"] | None:
        """Whether larger or smaller numbers come nearer to it; None where only one number will do."""
        return {">": "max", "<": "min"}.get(self.comparison[0])  # type: ignore[return-value]


def _condition(_: Any, attribute: Any, value: str) -> None:
    if value:
        try:
            StopCondition.parse(value)
        except ValueError as error:
            raise ValueError(f"{attribute.name}: {error}") from None


def _at_least(least: int) -> Any:
    def check(_: Any, attribute: Any, value: int | None) -> None:
        if value is not None and not least <= value <= 1_000_000:
            raise ValueError(f"{attribute.name} must be between {least} and 1000000")

    return check


def _seconds(_: Any, attribute: Any, value: float) -> None:
    if not 0 < value < 1e9:
        raise ValueError(f"{attribute.name} must be greater than 0")


def _absolute(_: Any, attribute: Any, value: str) -> None:
    if value and (not value.startswith("/") or "\0" in value):
        raise ValueError(f"{attribute.name}: {value[:80]!r} is not an absolute path at the server")


@attrs.frozen
class CrossSite:
    """Who judges whose models.

    Attributes:
        sites: The sites whose models are judged, and that judge; empty: all that take part in the job.
        submit_model_timeout: Seconds that sites have to hand over their own model.
        validation_timeout: Seconds that sites have to judge one model.
        only_final: Have the final model judged, and no other.
    """

    sites: tuple[str, ...] = attrs.field(default=(), metadata={NAMES_SITES: True})
    submit_model_timeout: float = attrs.field(default=600.0, validator=_seconds)
    validation_timeout: float = attrs.field(default=6000.0, validator=_seconds)
    only_final: bool = False


@attrs.frozen
class FedAvgSettings:
    """Settings of federated averaging.

    Attributes:
        key_metric: The metric by which models are compared; what sites send with an update is about the model that
            they received.
        key_metric_mode: Whether its largest or its smallest value is the best.
        stop_cond: Training ends after a round in which the received model satisfies this: ``accuracy >= 0.9``.
        patience: Training ends after so many measured rounds in a row without a better value: of the metric of
            ``stop_cond``, in its direction, else of ``key_metric``.
        clients_per_round: How many sites are asked in a round; which ones, follows from the job's seed and the round.
        evaluate_final: Have the final model evaluated at the sites, if their scripts handle evaluation.
        memory_gc_rounds: Every so many rounds the controller collects garbage and gives memory back; 0 for never.
        initial_checkpoint: A file at the server to start from, below a folder of ``checkpoints`` in its policy.
        persistor: A ``ModelPersistor`` of the job's code.
        task_meta: What scripts find in the ``meta`` of every model; plain JSON data.
        cross_site_evaluation: Have the models of all sites, the final and the best one judged by all sites at the end.
    """

    key_metric: str = "accuracy"
    key_metric_mode: Literal["max", "min"] = "max"
    stop_cond: str = attrs.field(default="", validator=_condition)
    patience: int | None = attrs.field(default=None, validator=_at_least(1))
    clients_per_round: int | None = attrs.field(default=None, validator=_at_least(1))
    evaluate_final: bool = True
    memory_gc_rounds: int = attrs.field(default=0, validator=_at_least(0))
    initial_checkpoint: str = attrs.field(default="", validator=_absolute)
    persistor: CodeRef | None = None
    task_meta: dict[str, Any] = attrs.field(factory=dict)
    cross_site_evaluation: CrossSite | None = None

    def __attrs_post_init__(self) -> None:
        stop = self.stop
        if stop is not None and stop.metric == self.key_metric and stop.mode not in (None, self.key_metric_mode):
            raise ValueError(f"stop_cond {self.stop_cond!r} contradicts key_metric_mode {self.key_metric_mode!r}")

    @property
    def stop(self) -> StopCondition | None:
        """What ``stop_cond`` says."""
        return StopCondition.parse(self.stop_cond) if self.stop_cond else None


@attrs.frozen
class CyclicSettings:
    """Settings of cyclic training.

    Attributes:
        order: ``fixed``: the sites in the order of their names in every round. ``random``: another order every round,
            which follows from the job's seed.
        evaluate_final: Have the final model evaluated at the sites, if their scripts handle evaluation.
        memory_gc_rounds: As in ``fedavg``.
        initial_checkpoint: As in ``fedavg``.
        persistor: As in ``fedavg``.
        task_meta: As in ``fedavg``.
        cross_site_evaluation: As in ``fedavg``.
    """

    order: Literal["fixed", "random"] = "fixed"
    evaluate_final: bool = True
    memory_gc_rounds: int = attrs.field(default=0, validator=_at_least(0))
    initial_checkpoint: str = attrs.field(default="", validator=_absolute)
    persistor: CodeRef | None = None
    task_meta: dict[str, Any] = attrs.field(factory=dict)
    cross_site_evaluation: CrossSite | None = None


@attrs.frozen
class CrossSiteSettings:
    """Settings of cross-site evaluation without training.

    Attributes:
        site_models: Whether sites are asked for models of their own, too (``flare.is_submit_model()``).
        sites: As in ``cross_site_evaluation`` of ``fedavg``.
        submit_model_timeout: Likewise.
        validation_timeout: Likewise.
        initial_checkpoint: As in ``fedavg``: the server's model.
        persistor: As in ``fedavg``.
        task_meta: As in ``fedavg``.
    """

    site_models: bool = True
    sites: tuple[str, ...] = attrs.field(default=(), metadata={NAMES_SITES: True})
    submit_model_timeout: float = attrs.field(default=600.0, validator=_seconds)
    validation_timeout: float = attrs.field(default=6000.0, validator=_seconds)
    initial_checkpoint: str = attrs.field(default="", validator=_absolute)
    persistor: CodeRef | None = None
    task_meta: dict[str, Any] = attrs.field(factory=dict)

    @property
    def cross_site(self) -> CrossSite:
        """Who judges whose models."""
        return CrossSite(self.sites, self.submit_model_timeout, self.validation_timeout)
