"""What a check says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import attrs

from flpoc.errors import FlpocError

Status = Literal["ok", "warning", "error", "skipped"]


@attrs.frozen
class Finding:
    """One check: how it ended.

    Attributes:
        component: What was checked.
        status: ``ok``, ``warning``, ``error``, or ``skipped`` because another check failed.
        details: What was found.
        hint: What to do about it; may be empty.
    """

    component: str
    status: Status
    details: str = ""
    hint: str = ""

    @classmethod
    def failed(cls, component: str, error: FlpocError) -> Finding:
        """The check failed with *error*."""
        return cls(component, "error", error.message, error.hint)


def overall(findings: Iterable[Finding]) -> Status:
    """The worst of all: one error is an error of the whole."""
    found = {one.status for one in findings}
    return "error" if "error" in found else "warning" if "warning" in found else "ok"
