"""The end of a program of flpoc's own."""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import os
import sys


def end(status: int) -> None:
    """End this process without taking the interpreter apart, which takes longer than many a command.

    What is registered for the end is run, and output is flushed. Not for processes that run training
    scripts: objects that write something when they are deleted would not.

    Returns where other threads still have something to do, or where output cannot be written: then the
    usual end tells of it.

    Args:
        status: The exit status.
    """
    threading = sys.modules.get("threading")
    if threading is not None and any(
        not one.daemon for one in threading.enumerate() if one is not threading.main_thread()
    ):
        return
    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError, KeyboardInterrupt):
        return
    os._exit(status)


def flush_files() -> None:
    """Write what files that somebody has left open still hold back, e.g. those of an aggregator of a job."""
    files = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)
    for one in gc.get_objects():
        if issubclass(type(one), files):
            with contextlib.suppress(OSError, ValueError):
                one.flush()
