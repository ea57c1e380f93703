"""What server and site agent have in common: their start, their logs, work in the background.

Logs have one line an event, with times in UTC.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import resource
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from flpoc.errors import FlpocError
from flpoc.log_modes import Remembered, set_mode

#: Files, among them connections, that a service may have open where the system lets it.
MOST_FILES = 16_384


def to_stderr() -> Remembered:
    """Log to standard error, which the launcher keeps in a capped file; gives what also remembers the last lines."""
    remembered = Remembered()
    logging.basicConfig(level=logging.INFO, handlers=[logging.StreamHandler(sys.stderr), remembered], force=True)
    set_mode("reload")
    return remembered


def last_lines(count: int) -> list[str]:
    """The last lines of this service's log, as far as it remembers them."""
    found = next((one for one in logging.getLogger().handlers if isinstance(one, Remembered)), None)
    return found.last(count) if found is not None else []


def limit_process() -> None:
    """No core file, which would hold keys; files for their owner only; enough of them for many connections."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < MOST_FILES and (hard == resource.RLIM_INFINITY or hard > soft):
        most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def connections_allowed() -> int:
    """How many connections leave files enough for everything else."""
    return max(8, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)


def run(name: str, description: str, serve: Callable[[Path, Path], Coroutine[Any, Any, bool]]) -> int:
    """Run a service from the command line: ``serve(kit, state)``; gives its exit status.

    If it says that it is to begin anew, this process becomes a new one of the same number, so that
    whoever launched it still knows it.
    """
    from flpoc.wire.memory import keep_chunk_memory

    parser = argparse.ArgumentParser(prog=name, description=description)
    parser.add_argument("kit", type=Path, help="the startup kit")
    parser.add_argument("--state", type=Path, help="where jobs and models are kept (default: KIT/state)")
    args = parser.parse_args()
    to_stderr()
    limit_process()
    keep_chunk_memory()
    try:
        again = asyncio.run(serve(args.kit, args.state or args.kit / "state"))
    except FlpocError as error:
        logging.getLogger(name).error("%s (%s) %s", error.message, error.code, error.hint)
        return error.exit_status
    if again:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - no shell; it is this program
    return 0


class Background:
    """Work that nobody waits for; what goes wrong in it is logged."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._tasks: set[asyncio.Task[Any]] = set()

    def later(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do *work* in the background."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("a background task failed: %s", error, exc_info=error)

    async def cancel(self) -> None:
        """End all of it."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
