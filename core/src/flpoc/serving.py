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
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from flpoc.errors import FlpocError

#: Files, among them connections, that a service may have open where the system lets it.
MOST_FILES = 16_384


class _Utc(logging.Formatter):
    converter = staticmethod(time.gmtime)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        # what a peer sent must not be able to move the cursor or forge a line
        return _printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is logging's
        # indented, so that no line of an exception's text looks like one of the log
        return "\n".join(f"    {_printable(line)}" for line in super().formatException(ei).split("\n"))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\t" else f"\\x{ord(c):02x}" for c in text)


def to_stderr() -> None:
    """Log to standard error, which the launcher keeps in a capped file."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Utc("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


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


def run(name: str, description: str, serve: Callable[[Path, Path], Coroutine[Any, Any, None]]) -> int:
    """Run a service from the command line: ``serve(kit, state)``; gives its exit status."""
    from flpoc.wire.memory import keep_chunk_memory

    parser = argparse.ArgumentParser(prog=name, description=description)
    parser.add_argument("kit", type=Path, help="the startup kit")
    parser.add_argument("--state", type=Path, help="where jobs and models are kept (default: KIT/state)")
    args = parser.parse_args()
    to_stderr()
    limit_process()
    keep_chunk_memory()
    try:
        asyncio.run(serve(args.kit, args.state or args.kit / "state"))
    except FlpocError as error:
        logging.getLogger(name).error("%s (%s) %s", error.message, error.code, error.hint)
        return error.exit_status
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
