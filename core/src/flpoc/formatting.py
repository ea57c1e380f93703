"""What commands say, and how it is written down."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from flpoc.errors import FlpocError

#: Version of the envelope that programs read.
SCHEMA_VERSION: Final = "1"


@attrs.frozen
class Table:
    """Rows under headings, for people."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""


@attrs.frozen
class Report:
    """What a command has to say.

    Attributes:
        data: Plain JSON data, for programs.
        text: Lines and tables, for people; when empty, formatters make something readable of ``data``.
        exit_status: What the process ends with; a report may say something and still not be a success.
        warnings: Lines for standard error.
        code: A stable error code that goes with ``exit_status``, or empty.
        hint: What to do next, or empty.
    """

    data: Any
    text: Sequence[str | Table] = ()
    exit_status: int = 0
    warnings: Sequence[str] = ()
    code: str = ""
    hint: str = ""


class Formatter(ABC):
    """Writes reports and errors to text.

    Standard output carries exactly what these methods return. They raise for
    nothing that a command may say, and let no control character of foreign
    text through that could steer a terminal.
    """

    #: Whether a command may send several records (``job monitor``).
    streams: bool = False

    @abstractmethod
    def report(self, report: Report) -> str:
        """The document for standard output."""

    @abstractmethod
    def error(self, error: FlpocError) -> tuple[str, str]:
        """What goes to standard output and to standard error when a command failed."""

    def record(self, record: dict[str, Any]) -> str:
        """One record of a stream, when :attr:`streams` is true."""
        raise NotImplementedError


def envelope(said: Report | FlpocError) -> dict[str, Any]:
    """What programs read, the same for every command and every error: schema_version, status, exit_code, and more.

    A success has ``data``; an error, and a report that ends with a status and
    a code, has ``error_code``, ``message`` and ``hint``, and ``data`` where
    there is any. It is plain data that every format can write: NaN and
    infinity are None, what is no plain data is text.
    """
    if isinstance(said, FlpocError):
        return _failure(said.exit_status, said.code, said.message, said.hint, said.data)
    if said.exit_status and said.code:
        return _failure(said.exit_status, said.code, _headline(said), said.hint, said.data)
    found = {"schema_version": SCHEMA_VERSION, "status": "ok", "exit_code": said.exit_status}
    more = {key: text for key, text in (("code", said.code), ("hint", said.hint)) if text}
    return {**found, "data": plain_data(said.data), **more}


def plain_data(value: Any) -> Any:
    """The same data as JSON has it: NaN and infinity become None, names become text, and so does what is no data."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): plain_data(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_data(one) for one in value]
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def _headline(report: Report) -> str:
    """The first line of what a report says to people."""
    return next((one.splitlines()[0] for one in report.text if isinstance(one, str) and one), report.code)


def _failure(exit_status: int, code: str, message: str, hint: str, data: Any) -> dict[str, Any]:
    failure = {
        "schema_version": SCHEMA_VERSION,
        "status": "error",
        "exit_code": exit_status,
        "error_code": code,
        "message": message,
        "hint": hint,
    }
    return failure if data is None else {**failure, "data": plain_data(data)}
