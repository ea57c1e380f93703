"""Tests end what they have started: a process that is left fails the module that left it."""

from __future__ import annotations

import os
import select
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

_MARK = "FLPOC_TESTS_RUN"
#: How long processes that were told to end may take; the promise is that they do, not that they are quick.
_PATIENCE = 60.0


@pytest.fixture(scope="session")
def run_mark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """What the processes of this run are known by: a variable that they inherit, and a folder that they name."""
    mark = f"{_MARK}={uuid.uuid4().hex}"
    name, _, value = mark.partition("=")
    os.environ[name] = value
    yield mark, str(tmp_path_factory.getbasetemp())
    del os.environ[name]


@pytest.fixture(autouse=True, scope="module")
def no_process_is_left(run_mark: tuple[str, str]) -> Iterator[None]:
    """Fail a module that leaves processes behind, and end them; the tests of a module may share a federation."""
    before = _ours(*run_mark)
    yield
    left = {pid: text for pid, text in _ours(*run_mark).items() if pid not in before}
    still = _wait_for_end(left)
    for pid in still:
        _kill(pid)
    assert not still, f"left running: {'; '.join(still.values())}"


def _ours(mark: str, folder: str) -> dict[int, str]:
    """Processes of this run besides this one: process id, and command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            environment = (entry / "environ").read_bytes().split(b"\0")
            where = os.readlink(entry / "cwd")
        except OSError:  # it has ended meanwhile, or is somebody else's
            continue
        if command and (mark.encode() in environment or folder in command or f"{where}/".startswith(f"{folder}/")):
            found[int(entry.name)] = f"{entry.name} {command[:200]}"
    return found


def _wait_for_end(processes: dict[int, str]) -> dict[int, str]:
    """Give those that have not ended in time."""
    until = time.monotonic() + _PATIENCE
    still = {}
    for pid, text in processes.items():
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            ended = select.poll()
            ended.register(handle, select.POLLIN)
            if not ended.poll(max(0.0, until - time.monotonic()) * 1000):
                still[pid] = text
        finally:
            os.close(handle)
    return still


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
