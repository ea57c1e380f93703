"""Reads lines, does what they say, and says how long it took."""

from __future__ import annotations

import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from flpoc.cli import colours
from flpoc.cli.console.command import ConsoleCall, carry_out
from flpoc.cli.console.ending import Ended, Endings, PutAside
from flpoc.cli.console.history import History, history_file
from flpoc.cli.output import one_line, send
from flpoc.cli.run import INTERRUPTED, READER_GONE, settled
from flpoc.errors import FlpocError, UsageError

PROMPT: Final = "> "


class Shell:
    """Runs the lines of a console, one after the other.

    Args:
        call: What each command is given.
    """

    def __init__(self, call: ConsoleCall) -> None:
        self._call = call

    def run(self, line: str) -> int:
        """Do what a line says, and give its exit status.

        Raises:
            Ended: It ends the console.
        """
        began = time.monotonic()
        status = settled(self._call, lambda: carry_out(self._call, words_of(line)))
        if status == INTERRUPTED:
            self._call.keeper.drop()  # the call that was broken off ends with its channel
        if status != READER_GONE:
            word = {0: "Done", INTERRUPTED: "Cancelled"}.get(status, "Failed")
            said = f"{word} [{time.monotonic() - began:.3f} s]"
            send(sys.stdout, colours.paint(said, colours.DIM) if colours.wanted(sys.stdout) else said)
        return status

    def script(self, lines: Iterable[tuple[str, str]], *, keep_going: bool) -> int:
        """Run lines that nobody types; gives the exit status of the first that failed.

        Args:
            lines: Each with a word about where it stands, which is said if it fails; or with none.
            keep_going: Go on after one that failed.
        """
        failed = 0
        try:
            for place, line in lines:
                if not line.strip() or line.lstrip().startswith("#"):
                    continue
                status = self.run(line)
                failed = failed or status
                if status in (INTERRUPTED, READER_GONE):
                    return status
                if status and place:
                    self._call.note(f"{place} failed: {one_line(line.strip())}")
                if status and not keep_going:
                    break
        except Ended as end:
            if end.message:
                self._call.note(end.message)
            return failed if end.exit_status is None else end.exit_status
        return failed

    def converse(self, endings: Endings) -> int:
        """Read lines from a terminal until the user, a signal or the clock ends it; gives the exit status."""
        history = self._prepare(endings)
        prompt = PROMPT if self._call.keeper.study == "default" else f"{self._call.keeper.study}{PROMPT}"
        try:
            while True:
                try:
                    with endings.waiting():
                        line = input(prompt)
                    if line.strip():
                        self._keep(history, line)
                        if self.run(line) == READER_GONE:
                            return READER_GONE
                except EOFError:
                    send(sys.stdout, "\n", end="")
                    return 0
                except KeyboardInterrupt:
                    send(sys.stdout, "\n", end="")
                except PutAside:
                    send(sys.stdout, "\n", end="")
                    signal.raise_signal(signal.SIGSTOP)
        except Ended as end:
            if end.message:
                self._call.note(f"\n{end.message}")
            return end.exit_status or 0

    def _prepare(self, endings: Endings) -> History:
        """Get ready for typing: completion, and the lines of earlier consoles; without readline just for typing."""
        history = History(history_file())
        try:
            import readline
        except ImportError:
            return History(None)
        try:
            for line in history.lines():
                readline.add_history(line)
        except OSError as error:
            self._call.note(f"Earlier lines cannot be read: {error}")
        readline.set_completer_delims(" \t\n")
        readline.set_completer(_Completer(self._call, endings, readline))
        libedit = "libedit" in (readline.__doc__ or "")
        for binding in ("bind ^I rl_complete",) if libedit else ("tab: complete", "set show-all-if-ambiguous on"):
            readline.parse_and_bind(binding)
        return history

    def _keep(self, history: History, line: str) -> None:
        try:
            history.add(line)
        except OSError as error:
            if not self._told:
                self._call.note(f"Lines are not kept for the next console: {error}")
            self._told = True

    _told = False


def words_of(line: str) -> list[str]:
    """The words of a line, as a shell reads them; ``?x`` is ``? x``.

    Raises:
        UsageError: A quotation does not end, or there is what nobody can type.
    """
    if not line.replace("\t", " ").isprintable():
        raise UsageError("the line has control characters, or letters that are no UTF-8")
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(
            f"the line cannot be read: {str(error).lower()}", hint="quotations end as they begin"
        ) from None
    if not words:
        raise UsageError("the line has no words")
    return ["?", words[0][1:], *words[1:]] if words[0].startswith("?") and len(words[0]) > 1 else words


class _Completer:
    """Answers TAB; asks the server at most once for each line and kind."""

    def __init__(self, call: ConsoleCall, endings: Endings, readline: Any) -> None:
        self._call = call
        self._endings = endings
        self._readline = readline
        self._found: list[str] = []
        self._offers: dict[str, list[str]] = {}
        self._line = ""

    def __call__(self, text: str, state: int) -> str | None:
        try:
            if not state:
                self._found = self._look(text)
            return self._found[state] if state < len(self._found) else None
        except (Ended, PutAside, KeyboardInterrupt) as interruption:  # raised here it would be swallowed
            self._endings.later(interruption)
        except FlpocError:
            self._found = []
        return None

    def _look(self, text: str) -> list[str]:
        from flpoc.cli.console.completing import candidates

        line = self._readline.get_line_buffer()[: self._readline.get_begidx()]
        if not line.startswith(self._line) or not self._line:
            self._offers = {}
        self._line = line
        return candidates(line, text, self._offer)

    def _offer(self, kind: str) -> list[str]:
        from flpoc.cli.console.completing import offered

        if kind not in self._offers:
            session: Callable[[], Any] = self._call.keeper.session
            self._offers[kind] = offered(kind, session)
        return self._offers[kind]
