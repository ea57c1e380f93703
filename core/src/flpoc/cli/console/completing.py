"""What TAB offers: commands, options, jobs, sites, studies, levels, files."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from flpoc.cli.console.command import ConsoleCommand, find
from flpoc.cli.console.names import ALIASES, ENTRIES, GROUPS, known

if TYPE_CHECKING:
    from flpoc.session import Session

#: What is offered for arguments and options of these names; a command may say otherwise.
KINDS: Final[Mapping[str, str]] = {
    "job_id": "job",
    "id_prefix": "job",
    "job_folder": "file",
    "output_dir": "file",
    "level": "level",
    "names": "site",
    "site": "target",
    "sites": "site",
    "target": "role",
}
_TARGETS: Final = ("server", "client", "all")


def candidates(before: str, text: str, offers: Callable[[str], Sequence[str]]) -> list[str]:
    """What *text*, the word that is being written behind *before*, may become.

    Args:
        before: The line up to that word.
        text: The beginning of the word.
        offers: Gives what there is of a kind: ``job``, ``site``, ``study`` ...
    """
    words = _split(before)
    if words and words[0].startswith("?") and len(words[0]) > 1:
        words = ["?", words[0][1:], *words[1:]]
    if not words:
        if text.startswith("?") and len(text) > 1:
            return [f"?{name} " for name in ENTRIES if name.startswith(text[1:])]
        return [f"{name} " for name in (*ENTRIES, *ALIASES) if name.startswith(text) and (text or name in ENTRIES)]
    name = known(words[0])
    if name not in ENTRIES:
        return []
    command = find(name)
    if text.startswith("-"):
        return [f"{one} " for one in _options(command) if one.startswith(text)]
    kind = kind_of(command, words[1:])
    if kind == "file":
        return list(files(text))
    return [f"{word} " for word in dict.fromkeys(offers(kind) if kind else ()) if word.startswith(text)]


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _options(command: click.Command) -> list[str]:
    return sorted(
        {name for one in command.params if isinstance(one, click.Option) for name in one.opts if name[:2] == "--"}
    )


def kind_of(command: ConsoleCommand, words: Sequence[str]) -> str:
    """The kind of the word that would follow *words*; empty for nothing in particular."""
    options = {name: one for one in command.params if isinstance(one, click.Option) for name in one.opts}
    last = options.get(words[-1]) if words else None
    if last is not None and not last.is_flag:
        return _kind(command, last)
    plain: list[str] = []
    skip = False
    for word in words:
        found = options.get(word)
        if not skip and found is None and not word.startswith("-"):
            plain.append(word)
        skip = found is not None and not found.is_flag
    arguments = [one for one in command.params if isinstance(one, click.Argument)]
    for place, one in enumerate(arguments):
        if one.nargs != 1:
            given = plain[place:]
            kind = _kind(command, one)
            follows = [_kind(command, later) for later in arguments[place + 1 :]]
            if kind == "target" and given[:1] == ["client"] and len(given) == 1:
                return "site"
            return kind if not given or kind == "site" else (follows or [""])[0]
        if place == len(plain):
            return _kind(command, one)
    return ""


def _kind(command: ConsoleCommand, one: click.Parameter) -> str:
    name = one.name or ""
    return command.kinds.get(name) or KINDS.get(name, "")


def files(text: str) -> Iterator[str]:
    """Files and folders that begin like this; hidden ones only when asked for."""
    folder, _, beginning = text.rpartition("/")
    place = Path(f"{folder}/" if "/" in text else ".").expanduser()
    try:
        found = sorted(place.iterdir())
    except OSError:
        return
    for one in found:
        if one.name.startswith(beginning) and (beginning or not one.name.startswith(".")):
            path = f"{folder}/{one.name}" if "/" in text else one.name
            yield f"{path if path.startswith('~') else shlex.quote(path)}{'/' if one.is_dir() else ' '}"


def offered(kind: str, session: Callable[[], Session]) -> list[str]:
    """What there is of a kind; the server is asked for what only it knows.

    Raises:
        FlpocError: It cannot be asked.
    """
    if kind == "command":
        return [*ENTRIES, *GROUPS]
    if kind == "level":
        from flpoc.log_modes import MODES

        return list(MODES)
    if kind == "role":
        return list(_TARGETS)
    if kind == "study":
        return [str(name) for name in session().list_studies()["studies"]]
    if kind.endswith("job"):
        return jobs(session().list_jobs(), kind)
    sites = [str(one["client_name"]) for one in session().get_connected_client_list()]
    return {"site": sites, "service": ["server", *sites], "target": [*_TARGETS, *sites]}.get(kind, [])


def jobs(rows: Sequence[Mapping[str, Any]], kind: str) -> list[str]:
    """The ids of all jobs, of those that have ended, or of those that have not."""
    wanted = {"ended job": (True,), "open job": (False,)}.get(kind, (True, False))
    return [str(row["job_id"]) for row in rows if str(row["status"]).startswith("FINISHED:") in wanted]
