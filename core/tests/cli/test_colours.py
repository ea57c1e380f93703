"""Colours are for terminals, and only for those who want them."""

from __future__ import annotations

import io

import pytest

from flpoc.cli import colours
from flpoc.cli.formats import TextFormatter, draw
from flpoc.errors import UsageError
from flpoc.formatting import Report, Table


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")

    def look():  # called in the test itself: between fixture and test, pytest puts its own streams back
        found = Terminal()
        monkeypatch.setattr("sys.stdout", found)
        monkeypatch.setattr("sys.stderr", found)

    return look


TABLE = Table(("name", "state"), (("local", "loaded"), ("acme", "broken"), ("broken.log", "-")))


def test_a_terminal_gets_states_in_colour(terminal):
    terminal()
    said = TextFormatter().report(Report(None, text=(TABLE, "Job 1: FINISHED:COMPLETED after 2 s")))
    assert "\x1b[32mloaded\x1b[0m" in said
    assert "\x1b[31mbroken\x1b[0m" in said
    assert "\x1b[32mFINISHED:COMPLETED\x1b[0m" in said
    assert "broken.log" in said.replace("\x1b", "")


def test_columns_stay_aligned_under_the_colours(terminal):
    import re

    terminal()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", draw(TABLE, coloured=True))
    assert plain == draw(TABLE)


def test_an_error_stands_out(terminal):
    terminal()
    _, said = TextFormatter().error(UsageError("wrong", hint="do this"))
    assert said.startswith("\x1b[1;31mwrong\x1b[0m\n")
    assert "\x1b[36mHint:\x1b[0m do this" in said


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_who_wants_no_colours_gets_none(terminal, monkeypatch, name, value):
    terminal()
    monkeypatch.setenv(name, value)
    assert "\x1b" not in TextFormatter().report(Report(None, text=(TABLE,)))
    assert "\x1b" not in TextFormatter().error(UsageError("wrong"))[1]


def test_a_pipe_gets_no_colours(monkeypatch):
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert "\x1b" not in TextFormatter().report(Report(None, text=(TABLE,)))


def test_what_a_peer_wrote_cannot_paint(terminal):
    terminal()
    table = Table(("name",), (("\x1b[31mred\x1b[0m",),))
    assert "\\x1b[31mred" in draw(table, coloured=True)
    assert colours.paint_word("FINISHED:COMPLETED\\x1b") == "FINISHED:COMPLETED\\x1b"
