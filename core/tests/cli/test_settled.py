"""What becomes of a command that Ctrl-C cuts off."""

from __future__ import annotations

import contextlib
import signal

import pytest

from flpoc.cli.call import Call
from flpoc.cli.run import INTERRUPTED, settled
from flpoc.errors import LaunchError


def cut_off(error: Exception) -> None:
    """As compiled modules do: the interrupt is gone, an error of their own comes out."""
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    raise error


def test_what_breaks_by_an_interrupt_is_no_defect_and_the_next_line_of_a_console_may_be_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = signal.getsignal(signal.SIGINT)
    call = Call()
    assert settled(call, lambda: cut_off(ImportError("half a package"))) == INTERRUPTED
    assert capsys.readouterr() == ("", "")
    assert signal.getsignal(signal.SIGINT) is before

    def fail() -> None:
        raise ImportError("half a package")

    assert settled(call, fail) == 5
    assert "half a package" in capsys.readouterr().err


def test_what_could_not_be_stopped_is_said_also_after_an_interrupt(capsys: pytest.CaptureFixture[str]) -> None:
    assert settled(Call(), lambda: cut_off(LaunchError("process 7 does not end"))) == LaunchError("").exit_status
    assert "process 7 does not end" in capsys.readouterr().err


def test_a_handler_of_whoever_runs_it_is_called_too() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        assert settled(Call(), lambda: signal.raise_signal(signal.SIGINT)) == 0
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [signal.SIGINT]
