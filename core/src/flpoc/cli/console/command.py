"""The commands of a console: click commands, called by lines instead of argument lists."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs
import click

from flpoc.cli.call import Call
from flpoc.cli.command import Command, Group
from flpoc.cli.console.names import ENTRIES, NOT_HERE, in_console, instead_of, known
from flpoc.cli.formats import TextFormatter
from flpoc.errors import FlpocError, UsageError, did_you_mean
from flpoc.formatting import Report

if TYPE_CHECKING:
    from flpoc.cli.console.kept import Keeper

#: Options that say which connection is used: a console has one for all its commands.
_OF_CONNECTION: Final = frozenset({"study", "kit_id", "startup_kit"})
#: How every command of a console reads its line.
CONTEXT: Final[dict[str, Any]] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

_COMMANDS: Final = Group(
    "console",
    table=[(one.name.replace("_", "-"), f"flpoc.cli.console.{one.place}", one.summary) for one in ENTRIES.values()],
)


class ConsoleFormatter(TextFormatter):
    """Text for people in a console: advice names the commands of the console.

    Args:
        verbatim: What is shown is foreign text, a log for instance, and stays as it is.
    """

    def __init__(self, *, verbatim: bool = False) -> None:
        self._verbatim = verbatim

    def report(self, report: Report) -> str:
        if self._verbatim:
            return super().report(report)
        told = [in_console(part) if isinstance(part, str) else part for part in report.text]
        return super().report(attrs.evolve(report, text=told))

    def error(self, error: FlpocError) -> tuple[str, str]:
        return super().error(FlpocError(error.message, hint=in_console(error.hint), code=error.code, data=error.data))


@attrs.define
class ConsoleCall(Call):
    """What a command of a console is given.

    Attributes:
        interactive: Somebody sits at a terminal and can be asked.
        idle_timeout: After so many seconds without a command the console ends; 0 for never.
        verbatim: The command that runs shows foreign text.
    """

    interactive: bool = False
    idle_timeout: float = 0.0
    verbatim: bool = False

    @property
    def formatter(self) -> ConsoleFormatter:
        return ConsoleFormatter(verbatim=self.verbatim)

    @property
    def keeper(self) -> Keeper:
        """What keeps the session of the console."""
        from flpoc.cli.console.kept import KeptConnection

        assert isinstance(self.connection, KeptConnection)
        return self.connection.keeper

    def note(self, text: str) -> None:
        Call.note(self, in_console(text))

    def reminder(self, ctx: click.Context) -> str:
        return f"{ctx.get_usage()}\n"

    def needs_somebody_to_ask(self, question: str) -> None:
        if not self.interactive:
            raise UsageError(f"{question} Nobody is asked in a script", hint="give -f to go on without being asked")


class ConsoleCommand(Command):
    """A command of a console.

    Args:
        verbatim: It shows foreign text, in which nothing is to be changed.
        kinds: What TAB offers for its arguments, by their names, where it is not what others of that name get.
    """

    def __init__(
        self, *arguments: Any, verbatim: bool = False, kinds: Mapping[str, str] | None = None, **attributes: Any
    ) -> None:
        super().__init__(*arguments, **attributes)
        self.params = [one for one in self.params if one.name not in _OF_CONNECTION]
        self.verbatim = verbatim
        self.kinds = dict(kinds or {})

    def context(self, words: Sequence[str], call: Call | None = None) -> click.Context:
        """The context of a call with these words.

        Raises:
            click.UsageError: The words are wrong.
        """
        return self.make_context(self.name, list(words), obj=call, **CONTEXT)

    def invoke(self, ctx: click.Context) -> Any:
        ctx.ensure_object(ConsoleCall).verbatim = self.verbatim
        return super().invoke(ctx)


def find(name: str) -> ConsoleCommand:
    """The command *name* of the console; only it is imported."""
    found = _COMMANDS.get_command(click.Context(_COMMANDS), name)
    assert isinstance(found, ConsoleCommand)
    return found


def carry_out(call: ConsoleCall, words: Sequence[str]) -> Any:
    """Do what a line of the console says; gives its report.

    Raises:
        UsageError: There is no such command.
    """
    name = known(words[0])
    if name in ENTRIES:
        command = find(name)
        with command.context(words[1:], call) as ctx:
            return command.invoke(ctx)
    if name in NOT_HERE:
        call.note(f"{name}: not in this console. Instead: {NOT_HERE[name]}")
        return Report(None, exit_status=4)
    if here := instead_of(list(words)):
        raise UsageError(f"that is for a shell; here it is `{here}`", hint=f"? {here}")
    raise UsageError(f"no command {words[0][:80]!r}", hint=did_you_mean(name, ENTRIES, "? lists the commands"))


def taken(
    found: click.Command,
    name: str,
    *arguments: click.Argument,
    examples: Sequence[str],
    text: str = "",
    verbatim: bool = False,
    kinds: Mapping[str, str] | None = None,
) -> ConsoleCommand:
    """A command of the command line as one of the console.

    Args:
        found: The command.
        name: What it is called here.
        arguments: Plain words that take the place of its options of the same names.
        examples: Lines of the console.
        text: Its help, where that of the command line does not fit.
        verbatim: It shows foreign text.
        kinds: What TAB offers for its arguments.
    """
    assert isinstance(found, Command)
    replaced = {one.name for one in arguments}
    return ConsoleCommand(
        name,
        params=[*(_with_short_force(one) for one in found.params if one.name not in replaced), *arguments],
        callback=found.callback,
        help=text or in_console(found.help or ""),
        examples=examples,
        mutating=found.mutating,
        idempotent=found.idempotent,
        verbatim=verbatim,
        kinds=kinds,
    )


def _with_short_force(one: click.Parameter) -> click.Parameter:
    if one.name != "force":
        return one
    assert isinstance(one, click.Option)
    changed = copy.copy(one)
    changed.opts, changed.help = ["-f", *one.opts], (one.help or "").replace("DIR/", "DEST/")
    return changed


def console_command(name: str, *, examples: Sequence[str], **attributes: Any) -> Callable[[Any], ConsoleCommand]:
    """Make a function a command that only the console has; unless said otherwise it changes nothing."""
    facts = {"mutating": False, "idempotent": True, **attributes}
    made: Callable[[Any], ConsoleCommand] = click.command(name, cls=ConsoleCommand, examples=examples, **facts)
    return made
