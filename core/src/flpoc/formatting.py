"""What commands say, and how it is written down."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import attrs

from flpoc.errors import FlpocError


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
