"""Jobs in words: durations, metrics, and why one failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def seconds_text(seconds: float) -> str:
    """``0.4 s``, ``12.5 s``, ``3 m 05 s``, ``2 h 05 m``, for people."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} m {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} m"


def metrics_text(metrics: Mapping[str, Any] | None) -> str:
    """``accuracy=0.912 loss=0.31``."""
    return " ".join(f"{key}={_number(value)}" for key, value in (metrics or {}).items())


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def cause_lines(meta: Mapping[str, Any]) -> list[str]:
    """Why a job failed, in at most ten lines."""
    from flpoc.jobs.states import cause_of

    found = cause_of(meta)
    return found.lines() if found is not None else []
