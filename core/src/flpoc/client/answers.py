"""What a script answers, made fit to be sent: pure functions of its model."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

from flpoc.errors import UsageError
from flpoc.models.flmodel import FLModel, MetaKey
from flpoc.wire.checks import MOST_META_BYTES, MOST_METRICS, as_metric_name

#: What flpoc itself says of every model: an answer does not repeat it.
_SAID = {MetaKey.SITE_NAME, MetaKey.JOB_ID, MetaKey.NUM_STEPS_CURRENT_ROUND}


def weight_of(model: FLModel) -> float:
    """The weight of an update: the steps it is made of, 1 if it does not say."""
    value = model.meta.get(MetaKey.NUM_STEPS_CURRENT_ROUND, 1.0)
    try:
        weight = float(value)
    except (TypeError, ValueError):
        weight = math.nan
    if not 0 < weight < 1e15:
        raise UsageError(f"{MetaKey.NUM_STEPS_CURRENT_ROUND} is {value!r}; a number greater than 0 is needed")
    return weight


def plain_meta(model: FLModel) -> dict[str, Any]:
    """What its meta says besides, as plain JSON data."""
    import json

    meta = {str(key): value for key, value in model.meta.items() if key not in _SAID}
    try:
        text = json.dumps(meta, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"meta must be plain JSON data: {error}") from None
    if len(text) > MOST_META_BYTES:
        raise UsageError(f"meta is larger than {MOST_META_BYTES >> 10} KiB", hint="send arrays in params")
    return dict(json.loads(text))


def finite_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Metrics as plain finite numbers; others are left out, which is said on standard error."""
    found: dict[str, float] = {}
    if not isinstance(metrics, Mapping):
        raise UsageError(f"metrics must be numbers by name, not {type(metrics).__name__}")
    if len(metrics) > MOST_METRICS:
        raise UsageError(f"{len(metrics)} metrics at once; at most {MOST_METRICS}", hint="flare.log() takes any number")
    for key, value in metrics.items():
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise UsageError(f"metric {key!r} is {type(value).__name__}, not a number") from None
        if math.isfinite(number):
            found[as_metric_name(str(key))] = number
        else:
            print(f"flpoc: metric {key!r} is {number}; it is left out", file=sys.stderr)
    return found
