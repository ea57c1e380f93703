"""Processes that do their worst are ended all the same, and harm nobody."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from flpoc.launching import Needs, State

PATIENCE = 30.0
pytestmark = [pytest.mark.row("J5"), pytest.mark.parametrize("network", ["open", "agent"])]


@pytest.fixture
def ask(ask, network, tmp_path):
    """Each of them unconfined and confined."""
    return lambda *code, **more: ask(*code, network=network, **more)


def test_one_that_closes_its_output_is_waited_for(launcher, start, life) -> None:
    code = "say('here'); os.closerange(0, 3); signal.pause()"
    handle = start(code, str(life.path))
    assert life.hear(PATIENCE) == "here"
    assert launcher.wait(handle, 0.2).state is State.RUNNING
    launcher.stop(handle, grace=PATIENCE)
    assert launcher.poll(handle).code == -signal.SIGTERM


def test_one_that_leaves_without_a_word_keeps_its_code(launcher, start) -> None:
    assert launcher.wait(start("import os; print('lost in its buffer', end=''); os._exit(0)"), PATIENCE).code == 0
    assert launcher.wait(start("import os; os._exit(3)", name="other"), PATIENCE).code == 3


def test_one_that_crashes_leaves_no_core_file(launcher, start, tmp_path) -> None:
    handle = start("import ctypes, resource; print(resource.getrlimit(resource.RLIMIT_CORE)); ctypes.string_at(0)")
    status = launcher.wait(handle, PATIENCE)
    assert (status.code, status.reason) == (-signal.SIGSEGV, "ended by SIGSEGV")
    assert list(tmp_path.glob("core*")) == []


def test_a_swarm_that_ignores_signals_and_scatters_is_ended(launcher, start, life) -> None:
    code = (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "for depth in range(5):\n"
        "    if not os.fork(): os.setsid()\n"
        "say('here')\n"
        "while True: time.sleep(600)"
    )
    handle = start(code, str(life.path))
    assert [life.hear(PATIENCE) for _ in range(32)] == ["here"] * 32
    launcher.stop(handle, grace=0.1)
    assert life.ended(0)


def test_one_that_runs_away_from_process_to_process_is_ended(launcher, start, life) -> None:
    code = "say('here')\nif os.fork(): time.sleep(600)\nwhile True:\n    if os.fork(): os._exit(0)\n    os.setsid()\n"
    handle = start(code, str(life.path))
    assert life.hear(PATIENCE) == "here"
    launcher.stop(handle, grace=0.1)
    assert life.ended(PATIENCE)


def test_one_that_allocates_without_end_meets_its_limit(launcher, start) -> None:
    handle = start("bytearray(100 << 30)", needs=Needs(memory_gib=0.25))
    assert launcher.wait(handle, PATIENCE).code == 1
    assert "MemoryError" in launcher.logs(handle)


def test_one_that_prints_without_end_fills_no_disk(launcher, start, life, tmp_path) -> None:
    code = "say('here')\nwhile True: os.write(1, b'x' * 65535 + b'\\n')"
    handle = start(code, str(life.path), log_limit=1 << 20)
    assert life.hear(PATIENCE) == "here"
    assert launcher.wait(handle, 0.5).state is State.RUNNING
    launcher.stop(handle, grace=0)
    assert sum(path.stat().st_size for path in Path(tmp_path).glob("log*")) <= 2 << 20
