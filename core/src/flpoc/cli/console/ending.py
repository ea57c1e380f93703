"""How a console ends: by the user, by a signal, or because nobody was there for long."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

#: A signal that came while it could not end anything is given again after so many seconds.
_AGAIN: Final = 0.05


class Ended(BaseException):
    """The console ends now.

    Attributes:
        message: Why; empty when the user knows.
        exit_status: What its process ends with; None for what its commands make of it.
    """

    def __init__(self, message: str = "", exit_status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.exit_status = exit_status


class PutAside(BaseException):
    """The user pressed Ctrl-Z at the prompt: the terminal must be put right before the process stops."""


class Endings:
    """The signals that end a console, and the clock that does when it has run down.

    Args:
        idle_timeout: Seconds at the prompt after which a console ends; 0 for never.
    """

    def __init__(self, idle_timeout: float) -> None:
        self._idle_timeout = idle_timeout
        self._pending: BaseException | None = None
        self._at_prompt = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Let signals end what runs meanwhile in good order: the terminal is put right, the channel is closed."""
        numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGTSTP)
        # what is ignored from the start, as with nohup, stays so
        taken = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
        before = [(number, signal.signal(number, self._come)) for number in taken]
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before:
                signal.signal(number, handler)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Let the clock run while a line is waited for.

        Raises:
            PutAside: The process is to stop, and the line to be asked for again when it goes on.
        """
        # it strikes again, in case the first stroke came at a moment when nothing could be ended
        signal.setitimer(signal.ITIMER_REAL, self._idle_timeout, 1.0)
        self._at_prompt = True
        try:
            yield
        finally:
            self._at_prompt = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    def later(self, interruption: BaseException) -> None:
        """Interrupt the prompt soon: *interruption* came where it would be swallowed."""
        self._pending = interruption
        signal.setitimer(signal.ITIMER_REAL, _AGAIN, 1.0)

    def _come(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGTSTP:
            if self._at_prompt:
                raise PutAside
            signal.raise_signal(signal.SIGSTOP)
            return
        pending, self._pending = self._pending, None
        if number == signal.SIGALRM and pending is None:
            pending = Ended(f"No command for {self._idle_timeout:g} s: the console ends.", 0)
        elif number != signal.SIGALRM:
            name = signal.Signals(number).name
            pending = Ended(f"Told to end by {name}, as `flpoc poc stop` does.", 128 + number)
        assert pending is not None
        raise pending
