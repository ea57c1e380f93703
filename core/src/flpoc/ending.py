"""The end of a program of flpoc's own."""

from __future__ import annotations

import atexit
import os
import sys


def end(status: int) -> None:
    """End this process without taking the interpreter apart, which takes longer than many a command.

    What is registered for the end is run, and output is flushed. Not for processes that run scripts of
    users: a file that one has left open would lose what is not written yet.

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
