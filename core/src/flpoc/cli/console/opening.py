"""``flpoc console``: opens a console for people, or runs lines that were written before."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from flpoc.cli import colours
from flpoc.cli.call import Call
from flpoc.cli.command import Command
from flpoc.cli.connect import Connection, connects
from flpoc.cli.options import Number, option
from flpoc.cli.output import one_line, send
from flpoc.errors import AuthError, FlpocError, UsageError
from flpoc.formatting import Report

if TYPE_CHECKING:
    from flpoc.cli.console.command import ConsoleCall
    from flpoc.cli.console.kept import Keeper

IDLE_TIMEOUT: Final = 900.0
_NO_SUCH_STUDY: Final = ("AUTH_UNKNOWN_STUDY", "AUTH_STUDY_USER_NOT_MAPPED")


class ForPeople(Command):
    """A command whose output is not a document."""

    @property
    def output_modes(self) -> tuple[str, ...]:
        return ("txt",)


@click.command(
    "console",
    cls=ForPeople,
    examples=("flpoc console", 'flpoc console -c list_jobs -c "check_status server"'),
    mutating=True,
    idempotent=False,
)
@option("-c", "--command", "commands", metavar="LINE", multiple=True, help="Run this line and end; may be given again.")
@option("--keep-going", is_flag=True, help="Go on after a line that failed; for -c and for lines from a file.")
@option(
    "--idle-timeout", type=Number(float, low=0, high=1e6), default=IDLE_TIMEOUT, show_default=True, metavar="SEC",
    help="End after so long without a command; 0: never.",
)  # fmt: skip
@connects
def console(connection: Connection, commands: tuple[str, ...], keep_going: bool, idle_timeout: float) -> Report:
    """Open a console: short commands over one connection, with completion and history.

    Lines may also come from -c, or from a file: `flpoc console < FILE`. Then
    it ends at the first that fails, with its exit status, and asks nothing.
    In the folder of a user's kit, or in its startup folder, it uses that kit.
    """
    for_people(connection.call)
    return open_console(
        connection.call,
        kit_here(connection) or connection.kit_folder(),
        study=connection.study,
        commands=commands,
        keep_going=keep_going,
        idle_timeout=idle_timeout,
    )


def for_people(call: Call) -> None:
    """Refuse formats for programs.

    Raises:
        UsageError: Another format than text was chosen.
    """
    if not call.for_people:
        raise UsageError(
            f"--format {call.format}: a console is for people",
            hint="for programs there are commands, for example `flpoc job list --format json`",
        )


def kit_here(connection: Connection) -> Path | None:
    """The user's kit that the working directory is, or is the startup folder of; unless another was asked for."""
    from flpoc.provision.kit_settings import find_kit

    if connection.kit_source()[0] != "active":
        return None
    with contextlib.suppress(FlpocError, OSError):
        folder, kind = find_kit(Path.cwd())
        return folder if kind == "user" else None
    return None


def open_console(
    call: Call,
    kit: Path,
    *,
    study: str = "default",
    commands: Sequence[str] = (),
    keep_going: bool = False,
    idle_timeout: float = IDLE_TIMEOUT,
) -> Report:
    """Open a console; returns when it has ended.

    Args:
        call: The call of the command line.
        kit: Folder of the user's kit.
        study: The study to work in.
        commands: Lines to run instead of those that are typed or read.
        keep_going: Go on after a line that failed.
        idle_timeout: After so many seconds without a command it ends; 0 for never.

    Raises:
        ConnectionFailed: The server cannot be reached.
        FlpocError: There is no such study; code STUDY_NOT_FOUND.
    """
    from flpoc.cli.console.command import ConsoleCall
    from flpoc.cli.console.ending import Ended, Endings
    from flpoc.cli.console.kept import Keeper, KeptConnection
    from flpoc.cli.console.shell import Shell

    interactive = not commands and sys.stdin.isatty()
    keeper = Keeper(kit, study, call.connect_timeout)
    inner = ConsoleCall(
        connect_timeout=call.connect_timeout,
        debug=call.debug,
        interactive=interactive,
        idle_timeout=idle_timeout if interactive else 0.0,
    )
    inner.connection = KeptConnection(inner, study, None, str(kit), keeper)
    endings = Endings(inner.idle_timeout)
    shell = Shell(inner)
    try:
        with endings.watched():
            status = first_status(keeper)
            if not interactive:
                return Report(None, exit_status=shell.script(lines_of(commands), keep_going=keep_going))
            with _recorded(inner, kit):
                send(sys.stdout, greeting(keeper, status))
                return Report(None, exit_status=shell.converse(endings))
    except Ended as end:  # before there was a prompt
        call.note(end.message)
        return Report(None, exit_status=end.exit_status or 0)
    finally:
        keeper.drop()


def first_status(keeper: Keeper) -> dict[str, Any]:
    """What the server says first: that it is there, and whom it takes us for.

    Raises:
        ConnectionFailed: The server cannot be reached.
        FlpocError: There is no such study; code STUDY_NOT_FOUND.
    """
    try:
        return keeper.session().status()
    except AuthError as error:
        known = error.data.get("auth_code") if isinstance(error.data, dict) else None
        if known not in _NO_SUCH_STUDY:
            raise
        raise FlpocError(error.message, hint=error.hint, code="STUDY_NOT_FOUND", data=error.data) from None


def greeting(keeper: Keeper, status: Mapping[str, Any]) -> str:
    """Who is where: the user as the server knows them, by their certificate."""
    from flpoc import __version__

    kit = keeper.session().kit
    bold = (lambda text: colours.paint(text, colours.BOLD)) if colours.wanted(sys.stdout) else str
    sites = [str(one["name"]) for one in status["sites"]]
    here = f"{len(sites)} site{'' if len(sites) == 1 else 's'} connected"
    user = f"{status['user']} ({status['role']} @ {status['org']})"
    facts = {
        "Server": f"{bold(one_line(kit.server_address))}, {here}",
        "Project": f"{bold(one_line(kit.settings.project))}, study {bold(one_line(keeper.study))}",
        "User": bold(one_line(user)),
    }
    lines = [f"{name + ':':<9}{fact}" for name, fact in facts.items()]
    first = f"flpoc {__version__} console"
    return "\n".join([first, *lines, "? lists the commands, ? NAME explains one, TAB completes, Ctrl-D or bye ends."])


def lines_of(commands: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The lines to run, each with a word about where it stands: those that were given, or standard input's."""
    if commands:
        place = "-c" if len(commands) > 1 else ""
        yield from ((place, line) for command in commands for line in command.splitlines())
        return
    change: Any = getattr(sys.stdin, "reconfigure", None)
    if change is not None:
        change(errors="surrogateescape")  # a line that is no text is refused as a line
    for number, line in enumerate(sys.stdin, 1):
        yield f"line {number}", line.rstrip("\n")


@contextlib.contextmanager
def _recorded(call: ConsoleCall, kit: Path) -> Iterator[None]:
    """Let the commands of a proof of concept find this console, if its kit is of one."""
    from flpoc.poc.consoles import recorded
    from flpoc.poc.workspace import workspace_of

    folder = workspace_of(kit.resolve())
    if folder is None:
        yield
        return
    with recorded(folder, call.keeper.session().kit.settings.name, call.note):
        yield
