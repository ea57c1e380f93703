"""Asking a launcher that another process made: nothing can be kept in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from typing import Any, Final

import attrs

from flpoc.launching import Launcher
from flpoc.settings import plain

_START = """
import importlib, json, sys
from flpoc.launching import Handle, LaunchRequest
from flpoc.settings import plain, structure
ask = json.load(sys.stdin)
try:
{maker}
except Exception as error:
    print(f"{{type(error).__name__}}: {{error}}", file=sys.stderr)
    sys.exit({not_made})
"""

#: Exit status of a process in which the launcher could not be made.
NOT_MADE: Final = 97


def later_process(launcher: Launcher, maker: str, code: str, data: dict[str, Any]) -> dict[str, Any]:
    """Give the arguments of ``subprocess.run`` for a process that runs *code* with a launcher like this one.

    Args:
        launcher: The one to make again. Its class must be importable.
        maker: Python that makes it, as ``launcher``; empty if its class is made
            from nothing, or from the one attrs object that it keeps as an attribute.
        code: What to run; it also has the dict ``ask``.
        data: What ``ask`` holds, as plain data.
    """
    settings = next((value for value in vars(launcher).values() if attrs.has(type(value))), None)
    making = textwrap.indent(maker or _maker(launcher, settings), "    ")
    return {
        "args": [sys.executable, "-c", _START.format(maker=making, not_made=NOT_MADE) + code],
        "input": json.dumps({**plain(data), "settings": plain(settings)}),
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "env": {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        "text": True,
    }


def _maker(launcher: Launcher, settings: object) -> str:
    made = _named(type(launcher))
    return (
        f"launcher = {made}()"
        if settings is None
        else (f"launcher = {made}(structure(ask['settings'], {_named(type(settings))}))")
    )


def _named(cls: type) -> str:
    return f"importlib.import_module({cls.__module__!r}).{cls.__qualname__}"
