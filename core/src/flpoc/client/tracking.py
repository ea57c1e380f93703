"""Writers with the calls of tracking libraries; numbers go where :func:`flpoc.client.log` puts them.

Where a job's metrics are shown is said by the job (``tracking``), not by the
script. Only numbers are shown there: parameters and tags that are text, and
texts, are written into the job's log at this site.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from flpoc.client.api import log

__all__ = ["MLflowWriter", "SummaryWriter", "WandBWriter"]


class SummaryWriter:
    """The calls of TensorBoard's writer."""

    def add_scalar(self, tag: str, scalar: float, global_step: int | None = None, **_: Any) -> None:
        """Log a number under a name."""
        log(tag, scalar, step=global_step)

    def add_scalars(self, tag: str, scalars: Mapping[str, float], global_step: int | None = None, **_: Any) -> None:
        """Log numbers under ``tag/NAME``."""
        for name, scalar in scalars.items():
            log(f"{tag}/{name}", scalar, step=global_step)

    def flush(self) -> None:
        """Nothing waits here."""

    def close(self) -> None:
        """Nothing is open here."""


class WandBWriter:
    """The call of Weights & Biases."""

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers by name."""
        for name, value in metrics.items():
            log(name, value, step=step)


class MLflowWriter:
    """The calls of MLflow."""

    def log_metric(self, key: str, value: float, step: int | None = None) -> None:
        """Log a number under a name."""
        log(key, value, step=step)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers by name."""
        for name, value in metrics.items():
            log(name, value, step=step)

    def log_param(self, key: str, value: Any) -> None:
        """Log a parameter: a number as ``param/KEY``, anything else in the job's log."""
        _keep("param", key, value)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters by name."""
        for name, value in params.items():
            self.log_param(name, value)

    def set_tag(self, key: str, tag: Any) -> None:
        """Log a tag: a number as ``tag/KEY``, anything else in the job's log."""
        _keep("tag", key, tag)

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Log tags by name."""
        for name, tag in tags.items():
            self.set_tag(name, tag)

    def log_text(self, text: str, artifact_file_path: str) -> None:
        """Write a text into the job's log, every line after *artifact_file_path*."""
        for line in str(text).splitlines():
            print(f"{artifact_file_path}: {line}", flush=True)


def _keep(kind: str, key: str, value: Any) -> None:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        log(f"{kind}/{key}", value)
    else:
        print(f"{kind} {key} = {value}", flush=True)
