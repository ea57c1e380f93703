"""Decisions to write down, and logs to look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flpoc.audit.chain import Chain
from flpoc.audit.records import Decision, Principal


@pytest.fixture
def decision() -> Callable[..., Decision]:
    """Somebody lists the jobs of a study: the *number*th time."""

    def make(number: int = 1, outcome: str = "allow", reason: str = "") -> Decision:
        who = Principal("lead@nvidia.com", "user", "lead", "nvidia", "1f", "ipv4:127.0.0.1:4000")
        return Decision(who, "List", f"study {number}", outcome, reason)  # type: ignore[arg-type]

    return make


@pytest.fixture
def written(tmp_path: Path, decision: Callable[..., Decision]) -> Callable[..., Path]:
    """A log of some records, in files of a few records each; the last ones perhaps not on the disk yet."""

    def write(records: int = 5, unsynced: int = 0, name: str = "audit", file_bytes: int = 600) -> Path:
        chain = Chain(tmp_path / name, file_bytes=file_bytes)
        for number in range(records):
            chain.append([decision(number)])
        chain.sync()
        if unsynced:
            chain.append([decision(number) for number in range(records, records + unsynced)])
        chain.close()
        return tmp_path / name

    return write
