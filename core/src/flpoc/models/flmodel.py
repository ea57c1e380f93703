"""The model as scripts see it."""

from __future__ import annotations

import enum
from typing import Any

import attrs

from flpoc.errors import UsageError


class ParamsType(enum.StrEnum):
    """Whether parameters are a model or a change of one."""

    FULL = "FULL"
    DIFF = "DIFF"


class MetaKey:
    """Names in :attr:`FLModel.meta`.

    ``NUM_STEPS_CURRENT_ROUND`` is the weight of an update, ``SITE_NAME`` and ``JOB_ID`` are in every model that is
    received. The others are names for what scripts and workflows tell each other; flpoc sends them as they are.
    """

    NUM_STEPS_CURRENT_ROUND = "NUM_STEPS_CURRENT_ROUND"
    SITE_NAME = "SITE_NAME"
    JOB_ID = "JOB_ID"
    MODEL_OWNER = "MODEL_OWNER"
    INITIAL_METRICS = "INITIAL_METRICS"
    VALIDATE_TYPE = "VALIDATE_TYPE"
    SUBMIT_MODEL_NAME = "SUBMIT_MODEL_NAME"
    FILTER_HISTORY = "FILTER_HISTORY"
    PROCESSED_ALGORITHM = "PROCESSED_ALGORITHM"
    PROCESSED_KEYS = "PROCESSED_KEYS"


class NPConstants:
    """Names in models of NumPy.

    ``NUMPY_KEY`` is the one parameter of a model that is a single array.
    """

    NUMPY_KEY = "numpy_key"


@attrs.define
class FLModel:
    """A model with what belongs to it.

    Attributes:
        params_type: FULL or DIFF; FULL when params are given without it.
        params: Named arrays of any shape; dtypes are kept. None or empty when there are none.
        optimizer_params: Named arrays that belong to the optimiser; they are not sent.
        metrics: Numbers by name; those of an update are about the *received* model.
        start_round: First round of the job, 0-based.
        current_round: Round this model belongs to, 0-based; None outside a round.
        total_rounds: Number of rounds of the job.
        meta: Plain JSON data; ``NUM_STEPS_CURRENT_ROUND`` is the weight of an update.
    """

    params_type: ParamsType | str | None = None
    params: Any = None
    optimizer_params: Any = None
    metrics: dict[str, Any] | None = None
    start_round: int = 0
    current_round: int | None = None
    total_rounds: int | None = None
    meta: dict[str, Any] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        if self.params_type is None:
            self.params_type = ParamsType.FULL if self.params is not None else None
        else:
            self.params_type = ParamsType(self.params_type)
            if self.params is None:
                raise UsageError("FLModel: params_type is given without params")
        if self.start_round < 0 or (self.current_round is not None and self.current_round < 0):
            raise UsageError("FLModel: rounds count from 0")
        if self.total_rounds is not None and self.total_rounds < 0:
            raise UsageError("FLModel: total_rounds must not be negative")
        self.meta = dict(self.meta or {})
