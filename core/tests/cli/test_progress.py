"""A bar appears on a terminal, and only when something takes its time."""

from __future__ import annotations

import io
import os
import pty
import threading

import pytest

from flpoc.cli.progress import Progress


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    stream = os.fdopen(theirs, "w", encoding="utf-8")
    yield stream, ours
    stream.close()
    os.close(ours)


def test_nothing_is_written_where_nobody_looks():
    stream, before = io.StringIO(), set(threading.enumerate())
    with Progress("Waiting", 3, stream=stream, patience=0) as bar:
        bar.advance()
        assert set(threading.enumerate()) <= before
    assert stream.getvalue() == ""


def test_what_is_quick_shows_no_bar(terminal):
    stream, _ = terminal
    with Progress("Waiting", 3, stream=stream) as bar:
        bar.advance()
        assert not bar.shown


def test_what_takes_long_shows_a_bar(terminal):
    stream, screen = terminal
    with Progress("Sending [x]", 3, stream=stream, patience=0) as bar:
        bar.advance()
        said = b""
        while b"Sending [x]" not in said:
            said += os.read(screen, 4096)
        assert bar.shown
        bar.update(title="Receiving", done=2)
    assert not bar.shown


def test_the_time_shown_began_before_the_bar_did(terminal):
    stream, screen = terminal
    with Progress("Waiting", stream=stream, patience=1.1):
        said = b""
        while b"0:00:" not in said or not said.rpartition(b"0:00:")[2][1:]:
            said += os.read(screen, 4096)
    assert b"0:00:00" not in said


@pytest.mark.row("C12")
def test_a_dumb_terminal_gets_no_bar(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    stream, _ = terminal
    with Progress("Waiting", stream=stream, patience=0) as bar:
        assert not bar._timer.is_alive()
