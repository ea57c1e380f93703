"""Showing that something takes its time: on a terminal only, and only when it does."""

from __future__ import annotations

import os
import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

#: What ends sooner than this shows no bar.
PATIENCE: Final = 2.0


class Progress:
    """A bar on standard error while the ``with`` block takes longer than two seconds.

    Where nobody looks (no terminal, ``TERM=dumb``) it writes nothing.

    Args:
        title: What is being done.
        total: How many steps there are; None when nobody knows.
        stream: Where to draw; standard error by default.
        patience: Seconds before the bar appears.
    """

    def __init__(
        self, title: str, total: float | None = None, *, stream: TextIO | None = None, patience: float = PATIENCE
    ) -> None:
        self._title = title
        self._total = total
        self._done = 0.0
        self._began = time.monotonic()
        self._stream = stream or sys.stderr
        self._lock = threading.Lock()
        self._ended = False
        self._bar: Bar | None = None
        self._timer = threading.Timer(patience, self._show)
        self._timer.daemon = True

    @property
    def shown(self) -> bool:
        """Whether the bar is on the screen."""
        return self._bar is not None

    def __enter__(self) -> Progress:
        if self._stream.isatty() and os.environ.get("TERM") != "dumb":
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        with self._lock:
            self._ended = True
            bar, self._bar = self._bar, None
        if bar is not None:
            bar.stop()

    def advance(self, steps: float = 1.0) -> None:
        """Count steps that are done."""
        with self._lock:
            self._done += steps
            self._draw()

    def update(self, *, title: str | None = None, done: float | None = None, total: float | None = None) -> None:
        """Say what is being done now, or how far it is."""
        with self._lock:
            self._title = self._title if title is None else title
            self._done = self._done if done is None else done
            self._total = self._total if total is None else total
            self._draw()

    def _draw(self) -> None:
        if self._bar is not None:
            task = self._bar.tasks[0].id
            self._bar.update(task, description=self._escaped(), completed=self._done, total=self._total)

    def _escaped(self) -> str:
        from rich.markup import escape

        from flpoc.cli.output import one_line

        return escape(one_line(self._title))

    def _show(self) -> None:
        try:
            from rich.console import Console
            from rich.progress import BarColumn, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar
        except ModuleNotFoundError:
            return  # the extra flpoc[terminal] is not installed: no bar

        with self._lock:
            if self._ended:
                return
            # no time that is left: rounds wait for each other, and a guess that jumps helps nobody
            columns = (
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=30),
                TaskProgressColumn(),
                TimeElapsedColumn(),
            )
            self._bar = Bar(*columns, console=Console(file=self._stream), transient=True)
            task = self._bar.add_task(self._escaped(), total=self._total)
            self._bar.tasks[task].start_time = self._began  # the time that is shown is what the user has waited
            self._draw()
            self._bar.start()
