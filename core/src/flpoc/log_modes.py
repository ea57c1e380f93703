"""How much a process logs, and in which form; can be changed while it runs."""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from flpoc.errors import FlpocError

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
#: Forms: ``concise`` leaves out who logs, ``msg_only`` all but the message, ``full`` adds the place in the source,
#: ``verbose`` is ``full`` from DEBUG on, ``reload`` is as when the process began.
FORMS: Final = ("concise", "msg_only", "full", "verbose", "reload")
MODES: Final = (*LEVELS, *FORMS)

_TIME: Final = "%(asctime)s.%(msecs)03dZ"
_NORMAL: Final = f"{_TIME} %(levelname)s %(name)s %(message)s"
_FORMATS: Final = {
    "concise": f"{_TIME} %(levelname)s %(message)s",
    "msg_only": "%(message)s",
    "full": f"{_TIME} %(levelname)s %(name)s %(filename)s:%(lineno)d %(threadName)s %(message)s",
}
_FORMATS_OF_MODES: Final = {**_FORMATS, "verbose": _FORMATS["full"], "reload": _NORMAL}
#: Lines that a service remembers, for whoever asks it from afar.
_REMEMBERED: Final = 2000


class Utc(logging.Formatter):
    """One line an event, with its time in UTC; what a peer sent cannot steer a terminal or forge a line."""

    converter = staticmethod(time.gmtime)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        return _printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is logging's
        # indented, so that no line of an exception's text looks like one of the log
        return "\n".join(f"    {_printable(line)}" for line in super().formatException(ei).split("\n"))


class Remembered(logging.Handler):
    """Keeps the last lines of this process's log."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[str] = deque(maxlen=_REMEMBERED)

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))

    def last(self, count: int) -> list[str]:
        """The last *count* lines, oldest first."""
        return list(self._lines)[-count:] if count else []


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\t" else f"\\x{ord(c):02x}" for c in text)


def formatter(mode: str = "reload") -> logging.Formatter:
    """The formatter of a mode."""
    return Utc(_FORMATS_OF_MODES.get(mode, _NORMAL), "%Y-%m-%dT%H:%M:%S")


def check_mode(mode: str) -> str:
    """Give the mode that *mode* means, whatever its case.

    Raises:
        FlpocError: There is none; code LOG_CONFIG_INVALID.
    """
    found = mode.upper() if mode.upper() in LEVELS else mode.lower()
    if found not in MODES:
        raise FlpocError(
            f"{mode[:40]!r} is not a log level or mode" if mode else "no log level is given",
            code="LOG_CONFIG_INVALID",
            hint=f"one of {', '.join(MODES)}",
        )
    return found


def set_mode(mode: str, *, base: int = logging.INFO) -> None:
    """Log as *mode* says from now on.

    Args:
        mode: One of :data:`MODES`.
        base: The level that the process began with.
    """
    root = logging.getLogger()
    if mode in LEVELS:
        root.setLevel(mode)
    elif mode in ("verbose", "reload"):
        root.setLevel(logging.DEBUG if mode == "verbose" else base)
    if mode in _FORMATS_OF_MODES:
        for handler in root.handlers:
            handler.setFormatter(formatter(mode))
    _quiet(("asyncio", "grpc"), root.level)


def _quiet(names: Iterable[str], level: int) -> None:
    """Libraries whose chatter says nothing about flpoc stay at INFO."""
    for name in names:
        logging.getLogger(name).setLevel(max(level, logging.INFO))


def set_script_mode(mode: str) -> None:
    """The same in a job's process, whose script may have set up logging itself, or not at all."""
    root = logging.getLogger()
    if not root.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(formatter())
        root.addHandler(handler)
    set_mode(mode, base=logging.WARNING)
