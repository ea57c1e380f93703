"""The words that say whom a command of the console is about: ``server``, ``client NAME``, a site's name, ``all``."""

from __future__ import annotations

import click

from flpoc.errors import UsageError

SERVER = "server"
_ALL = "all"


def site_argument(*, default: str = _ALL) -> click.Argument:
    """The argument TARGET, which takes the place of the option ``--site``.

    ``server``, a site's name, ``client NAME`` or ``all``; nothing means *default*.
    """

    def read(_: click.Context, __: click.Parameter, words: tuple[str, ...]) -> str:
        return site_of(words, default)

    return click.Argument(["site"], nargs=-1, metavar="[TARGET]", callback=read)


def site_of(words: tuple[str, ...], default: str = _ALL) -> str:
    """What is meant by the words of a target: ``server``, ``all`` or one site.

    Raises:
        UsageError: They name several, or nobody that there could be.
    """
    from flpoc.session import check_site

    names = words[1:] if words[:1] == ("client",) else words
    if words[:1] == (SERVER,) and len(words) > 1:
        raise UsageError("the server has no other name", hint="for a site: client NAME, or NAME alone")
    if len(names) > 1:
        raise UsageError(f"one site at a time, or all: {' '.join(names)[:80]}", hint="server, a site's name, or all")
    if not names:
        return _ALL if words else default
    return names[0] if names[0] in (SERVER, _ALL) else check_site(names[0])
