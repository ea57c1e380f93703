"""What the local launcher promises about logs beyond the suite."""

from __future__ import annotations

import os

import pytest

from flpoc_builtin_local import keeper

PATIENCE = 20.0


def test_the_log_goes_on_where_it_was(launcher, start, tmp_path) -> None:
    (tmp_path / "log").write_text("before\n")
    launcher.wait(start("print('after')"), PATIENCE)
    assert (tmp_path / "log").read_text() == "before\nafter\n"


@pytest.mark.row("J5")
def test_rotation_loses_nothing_and_splits_no_line(launcher, start, tmp_path) -> None:
    launcher.wait(start("for n in range(150): print('line', n)", log_limit=1000), PATIENCE)
    old, new = (tmp_path / "log.1").read_text(), (tmp_path / "log").read_text()
    assert max(len(old), len(new)) <= 1000
    assert old.endswith("\n")
    assert (old + new).splitlines() == [f"line {n}" for n in range(150)]


def test_lines_longer_than_the_limit_are_cut_not_refused(launcher, start, tmp_path) -> None:
    handle = start("print('x' * 2500)", log_limit=1000)
    assert launcher.wait(handle, PATIENCE).code == 0
    assert {path.stat().st_size <= 1000 for path in tmp_path.glob("log*")} == {True}
    assert launcher.logs(handle).endswith("x\n")


def test_logs_reach_across_the_rotation(launcher, start) -> None:
    handle = start("for n in range(150): print('line', n)", log_limit=1000)
    launcher.wait(handle, PATIENCE)
    assert launcher.logs(handle, tail=140).splitlines() == [f"line {n}" for n in range(10, 150)]


@pytest.mark.row("P5", "P12")
def test_a_full_disk_does_not_hold_the_process_up(launcher, start) -> None:
    handle = start("print('x' * 1000000)", log="/dev/full")
    assert launcher.wait(handle, PATIENCE).code == 0


def test_output_after_a_full_disk_begins_with_what_was_lost(tmp_path, monkeypatch) -> None:
    log = keeper.Log(os.fsencode(tmp_path / "log"), 1000)
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(keeper.os, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        log.write(b"lost\n")
    assert os.write is real
    log.write(b"kept\n")
    assert (tmp_path / "log").read_text() == "\n[flpoc: 5 bytes of output could not be written here]\nkept\n"
