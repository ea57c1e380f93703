"""One call of flpoc: its options, its plugins, and its way to the user."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import attrs

from flpoc.errors import FlpocError, UsageError

if TYPE_CHECKING:
    import click

    from flpoc.cli.connect import Connection
    from flpoc.formatting import Formatter, Report
    from flpoc.plugins import Plugins


@attrs.define
class Call:
    """What a command is given (``@click.pass_obj``) besides its own options.

    Attributes:
        format: Name of the output format.
        connect_timeout: How long to try to reach the server, in seconds.
        debug: The command was given ``--debug``.
        dispatched: A command was found and its words were right.
        unknown_format: The user asked for a format that nobody offers.
        connection: The connection of the console that the command is given in; None elsewhere.
        interrupted: Ctrl-C was pressed while it ran.
        parted: Who interrupted the command was told what goes on without it.
    """

    format: str = "txt"
    connect_timeout: float = 5.0
    debug: bool = False
    dispatched: bool = False
    unknown_format: bool = False
    connection: Connection | None = None
    interrupted: bool = False
    parted: bool = False
    _plugins: Plugins | None = attrs.field(default=None, init=False)
    _formatter: Formatter | None = attrs.field(default=None, init=False)

    @property
    def plugins(self) -> Plugins:
        """The installed plugins, loaded when first asked for.

        Raises:
            ConfigError: The user's configuration cannot be read.
        """
        if self._plugins is None:
            from flpoc.configuration import Configuration
            from flpoc.plugins import Plugins

            settings = Configuration.load()
            self._plugins = Plugins.load(private=settings.plugins_load, disabled=settings.plugins_disable)
        return self._plugins

    @property
    def formatter(self) -> Formatter:
        """What writes this call's results; plain text until another was chosen."""
        if self._formatter is None:
            from flpoc.cli.formats import TextFormatter

            self._formatter = TextFormatter()
        return self._formatter

    def choose_format(self, name: str) -> None:
        """Use the format *name* of any installed plugin.

        Raises:
            UsageError: No plugin offers it.
        """
        from flpoc.cli.formats import core_formatter

        # what goes wrong from here on, while plugins are loaded, is already told in this format
        self._formatter = core_formatter(name)
        self.format = name if self._formatter is not None else self.format
        try:
            self.plugins.find("formatters", name)
        except FlpocError as error:
            if error.code != "PLUGIN_NOT_FOUND":
                raise
            self.unknown_format = True
            raise UsageError(f"--format: {error.message}", hint=error.hint, data={"format": name}) from None
        self._formatter = self.plugins.create("formatters", name)
        self.format = name

    @property
    def for_people(self) -> bool:
        """Whether standard output is read by people."""
        return self.format == "txt"

    def run(self, command: click.Command, body: Callable[[], Any], *, debug: bool) -> Report:
        """Run a command of core and return its report; what it prints by itself goes to standard error."""
        from flpoc.formatting import Report

        self.debug = debug
        modes = getattr(command, "output_modes", ("txt", "json"))
        if self.format in ("json", "jsonl") and self.format not in modes:
            raise UsageError(
                f"--format {self.format}: this command {'does not stream' if 'json' in modes else 'is for people'}",
                hint=f"use --format {modes[-1]}",
                data={"output_modes": list(modes)},
            )
        self.dispatched = True
        aside = contextlib.nullcontext() if self.for_people else contextlib.redirect_stdout(sys.stderr)
        out = sys.stdout
        with aside:
            result = body()
            if isinstance(result, Generator):
                result = self._follow(result, out)
        return result if isinstance(result, Report) else Report(data=result)

    def _follow(self, steps: Generator[Any, None, Any], out: Any) -> Any:
        """Send the records of a streaming command as they come; returns its report."""
        from flpoc.cli import colours
        from flpoc.cli.output import safe, send
        from flpoc.cli.redaction import redact

        painted = colours.paint_lines if colours.wanted(out) and self.for_people else str
        with contextlib.closing(steps):
            while True:
                try:
                    record = next(steps)
                    if self.formatter.streams:
                        send(out, self.formatter.record(redact(dict(record.data))))
                    elif record.text:
                        # while a bar is drawn on the same terminal, sys.stdout writes above it
                        shown = sys.stdout if out.isatty() else out
                        send(shown if self.for_people else sys.stderr, painted(safe(record.text)))
                except StopIteration as end:
                    return end.value
                except KeyboardInterrupt as interruption:
                    steps.throw(interruption)  # wherever it came: the command says what goes on without it

    def note(self, text: str) -> None:
        """Say something beside the result: a warning, what is being done."""
        from flpoc.cli import colours
        from flpoc.cli.output import safe, send

        send(sys.stderr, colours.paint_lines(safe(text)) if colours.wanted(sys.stderr) else safe(text))

    def reminder(self, ctx: click.Context) -> str:
        """What people are told of a command before the error, when they called it wrongly."""
        return f"{ctx.get_help()}\n\n"

    def note_if_watched(self, text: str) -> None:
        """Like :meth:`note`, where somebody looks at a terminal and reads text."""
        if self.for_people and sys.stderr.isatty():
            self.note(text)

    def part(self, text: str) -> None:
        """Tell whoever has just pressed Ctrl-C what goes on, below the ``^C`` that the terminal shows."""
        self.note_if_watched(f"\n{text}")
        self.parted = True

    def confirm(self, question: str, *, force: bool) -> bool:
        """Ask before something that cannot be undone; only ``y`` is yes.

        Raises:
            UsageError: Nobody can be asked, and *force* is not given.
        """
        if force:
            return True
        self.needs_somebody_to_ask(question)
        from flpoc.cli.output import safe, send

        where = sys.stdout if self.for_people and sys.stdout.isatty() else sys.stderr
        send(where, f"{safe(question)} [y/N] ", end="")
        return sys.stdin.readline().strip() in ("y", "Y")

    def needs_somebody_to_ask(self, question: str) -> None:
        """Refuse to go on where *question* could not be asked.

        Raises:
            UsageError: Standard input is no terminal.
        """
        if not sys.stdin or not sys.stdin.isatty():
            raise UsageError(
                f"{question} There is no terminal to ask at",
                hint="give --force to go on without being asked",
            )
