"""What the console does by itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from flpoc.cli import colours
from flpoc.cli.console.command import CONTEXT, ConsoleCall, console_command, find
from flpoc.cli.console.ending import Ended
from flpoc.cli.console.names import ENTRIES, GROUPS, NOT_HERE, known
from flpoc.cli.options import Number
from flpoc.cli.output import send
from flpoc.errors import FlpocError, UsageError, did_you_mean
from flpoc.formatting import Report, Table

_SECONDS = Number(float, low=0, above=True, high=86400)


@console_command("help", examples=("? list_jobs", "? studies", "help"), kinds={"name": "command"})
@click.argument("name", nargs=-1)
def help_(name: tuple[str, ...]) -> None:
    """List the commands, those of one group, or explain one."""
    word = known(" ".join(name)) if name else ""
    groups = [title for title in GROUPS if title.startswith(word.replace("_", " "))]
    if word in ENTRIES:
        command = find(word)
        also = f"\n\nIn a shell: flpoc {ENTRIES[word].also}" if ENTRIES[word].also else ""
        text = command.get_help(command.context_class(command, info_name=word, **CONTEXT)) + also
    elif word in NOT_HERE:
        text = f"{word}: not in this console. Instead: {NOT_HERE[word]}"
    elif groups:
        text = overview(groups, coloured=colours.wanted(sys.stdout))
    else:
        raise UsageError(f"no command {word[:80]!r}", hint=did_you_mean(word, ENTRIES, "? lists the commands"))
    send(sys.stdout, text)


def overview(groups: Sequence[str], *, coloured: bool) -> str:
    """The commands of these groups, a line each."""
    width = max(map(len, ENTRIES))
    lines: list[str] = []
    for title in groups:
        head = f"{title.capitalize()}:"
        lines.append(colours.paint(head, colours.BOLD) if coloured else head)
        lines += [f"  {one.name:<{width}}  {one.summary}" for one in GROUPS[title]]
        lines.append("")
    return "\n".join([*lines, "? NAME explains one, ? jobs lists a group, TAB completes."])


@console_command("info", examples=("info",))
@click.pass_obj
def info(call: ConsoleCall) -> Report:
    """Show who is connected where, and with which kit."""
    from flpoc import __version__

    session = call.keeper.session()
    settings, kit = session.kit.settings, session.kit
    data = {
        "server": kit.server_address,
        "project": settings.project,
        "user": settings.name,
        "role": settings.role,
        "organisation": settings.org,
        "study": session.study,
        "kit": str(kit.folder),
        "connect time-out": f"{call.keeper.timeout:g} s",
        "idle time-out": f"{call.idle_timeout:g} s" if call.idle_timeout else "never",
        "flpoc": __version__,
    }
    return Report(data, text=(Table(("WHAT", "VALUE"), tuple(data.items())),))


@console_command("timeout", examples=("timeout", "timeout 20"))
@click.argument("seconds", required=False, type=_SECONDS)
@click.pass_obj
def timeout(call: ConsoleCall, seconds: float | None) -> Report:
    """Show how long this console tries to reach the server, or set it to SECONDS."""
    if seconds is not None:
        call.keeper.timeout = call.connect_timeout = seconds
    return Report(call.keeper.timeout, text=(f"The server is tried for {call.keeper.timeout:g} s.",))


@console_command("lpwd", examples=("lpwd",))
def lpwd() -> Report:
    """Show the working directory on this machine."""
    return Report(str(Path.cwd()), text=(str(Path.cwd()),))


@console_command("lls", examples=("lls", "lls jobs"), kinds={"folder": "file"})
@click.argument("folder", required=False, default=".")
def lls(folder: str) -> Report:
    """List a folder of this machine, the working directory if none is given."""
    path = Path(folder).expanduser()
    try:
        with os.scandir(path) as entries:
            names = sorted(f"{one.name}/" if one.is_dir() else one.name for one in entries if one.name[0] != ".")
    except OSError as error:
        raise FlpocError(f"{path}: {error.strerror or error}", code="FILE_FAILED") from None
    return Report(names, text=("\n".join(names) or "(empty)",))


@console_command("bye", examples=("bye",))
def bye() -> None:
    """End the console."""
    raise Ended
