"""What may come next on an unfinished command line.

The words are read as :func:`flpoc.cli.options.rewrite` reads them, but
nothing is refused: where they make no sense there are no suggestions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import attrs
import click

from flpoc.cli.command import CORE_FORMATS, Command, Group
from flpoc.cli.options import Option, canonical, is_option, spellings, split_option

if TYPE_CHECKING:
    from flpoc.cli.call import Call

#: What an option or argument wants that says no more about it than how it is called in the help.
_WANTED: Final = {"DIR": "dir", "FILE": "file", "PATH": "file"}
_FORMAT: Final = "--format"
#: Options of the root that are of use only before a command.
_ROOT_ONLY: Final = ("--version", "-V")


@attrs.frozen
class Suggestion:
    """One way to go on.

    Attributes:
        value: The whole word; empty where the shell knows better.
        about: What it means, in a line.
        kind: ``plain``; or ``file`` or ``dir``, of which the shell finds the names.
    """

    value: str
    about: str = ""
    kind: str = "plain"


@attrs.define
class _Place:
    """Where the line has come to.

    Attributes:
        ctx: The command that was found, with what its options were given.
        used: Options that were given.
        open: The option whose value comes next, or may.
        filled: That option has a value already, and may take more.
        arguments: How many arguments were given.
        literal: After ``--``, nothing is an option.
    """

    ctx: click.Context
    used: list[click.Option] = attrs.field(factory=list)
    open: click.Option | None = None
    filled: bool = False
    arguments: int = 0
    literal: bool = False

    @property
    def must_have_value(self) -> bool:
        """Whether nothing but a value of the open option can come next."""
        optional = isinstance(self.open, Option) and self.open.value_is_optional
        return self.open is not None and not self.filled and not optional


def suggestions(root: click.Group, call: Call, words: Sequence[str], unfinished: str) -> list[Suggestion]:
    """Say how the word *unfinished* may go on, after the whole *words* of a line without the program's name."""
    place = _walk(root, call, words)
    if place is None:
        return []
    head, equals, tail = unfinished.partition("=")
    if equals and head.startswith("--") and not place.literal and not place.must_have_value:
        found = _known(place).get(canonical(head)) or _known(place).get(head)
        options = [] if found is None or found.is_flag else _values(place, found, tail)
        return [attrs.evolve(one, value=f"{head}={one.value}") for one in options]
    return list(_next(place, unfinished))


def _next(place: _Place, unfinished: str) -> Iterator[Suggestion]:
    if place.open is not None:
        yield from _values(place, place.open, unfinished)
        if place.must_have_value:
            return
    if unfinished.startswith("-") and not place.literal:
        yield from _options(place, unfinished)
        return
    command = place.ctx.command
    if isinstance(command, click.Group):
        yield from _commands(command, place.ctx, unfinished)
        return
    wanted = [one for one in command.params if isinstance(one, click.Argument)]
    at = min(place.arguments, len(wanted) - 1)
    if wanted and (place.arguments == at or wanted[at].nargs == -1):
        yield from _values(place, wanted[at], unfinished)
    elif place.open is None and not unfinished and not place.literal:
        yield from _options(place, "")


def _walk(root: click.Group, call: Call, words: Sequence[str]) -> _Place | None:
    """Read the words before; None where they lead to no command."""
    place = _Place(_context(root, "flpoc", None, call))
    for word in words:
        if place.literal or not word.startswith("-") or place.must_have_value or not is_option(word):
            found = _take_word(place, word, call)
            if found is None:
                return None
            place = found
            continue
        place.open = None
        if word == "--":
            place.literal = True
            continue
        known = _known(place)
        spelling, attached = split_option(word, known)
        if spelling is None:
            continue
        option = known[spelling]
        place.used.append(option)
        takes_value = not (option.is_flag or option.count)
        if takes_value and attached is None:
            place.open, place.filled = option, False
        elif attached is not None:
            _give(place, option, attached)
    return place


def _take_word(place: _Place, word: str, call: Call) -> _Place | None:
    """Go on by a word that is no option: a value, a command, or an argument."""
    if place.open is not None:
        _give(place, place.open, word)
        place.filled = True
        if not (isinstance(place.open, Option) and place.open.words):
            place.open = None
        return place
    command = place.ctx.command
    if isinstance(command, click.Group):
        inner = command.get_command(place.ctx, word)
        if inner is None:
            return None
        return _Place(_context(inner, inner.name or word, place.ctx, call), literal=place.literal)
    wanted = [one for one in command.params if isinstance(one, click.Argument)]
    if place.arguments < len(wanted):
        place.ctx.params[wanted[place.arguments].name or ""] = word
    place.arguments += 1
    return place


def _context(command: click.Command, name: str, parent: click.Context | None, call: Call) -> click.Context:
    settings = {} if parent else command.context_settings
    return click.Context(command, parent, info_name=name, obj=call, resilient_parsing=True, **settings)


def _give(place: _Place, option: click.Option, word: str) -> None:
    """Note a value for those who suggest: job ids depend on the kit."""
    place.ctx.params[option.name or ""] = word


def _known(place: _Place) -> dict[str, click.Option]:
    root = place.ctx.find_root().command
    return spellings([*place.ctx.command.get_params(place.ctx), *root.params])


def _values(place: _Place, wanted: click.Parameter, unfinished: str) -> Iterator[Suggestion]:
    """What an option or an argument may be given."""
    if _FORMAT in wanted.opts and wanted in place.ctx.find_root().command.params:
        yield from _formats(place, unfinished)
        return
    found = wanted.shell_complete(place.ctx, unfinished)
    for one in found:
        if one.type != "plain":
            yield Suggestion("", kind=one.type)
        elif str(one.value).startswith(unfinished):
            yield Suggestion(str(one.value), one.help or "")
    if not found and (kind := _WANTED.get(str(wanted.metavar).strip("[]"))):
        yield Suggestion("", kind=kind)


def _formats(place: _Place, unfinished: str) -> Iterator[Suggestion]:
    """The formats that the command has; those of plugins every command has."""
    command = place.ctx.command
    modes = command.output_modes if isinstance(command, Command) else CORE_FORMATS
    for offer in place.ctx.obj.plugins.offers("formatters"):
        if offer.name.startswith(unfinished) and (offer.name in modes or offer.name not in CORE_FORMATS):
            yield Suggestion(offer.name, offer.component.summary)


def _options(place: _Place, unfinished: str) -> Iterator[Suggestion]:
    """Options that may still be given; spelt with ``_`` where the user began so."""
    underscores = "_" in unfinished
    root = place.ctx.find_root()
    own = list(place.ctx.command.get_params(place.ctx))
    for one in own if place.ctx is root else [*own, *root.command.params]:
        if not isinstance(one, click.Option) or one.hidden or (one in place.used and not (one.multiple or one.count)):
            continue
        if place.ctx is not root and _ROOT_ONLY[0] in one.opts and one in root.command.params:
            continue
        names = dict.fromkeys(canonical(name) for name in (*one.opts, *one.secondary_opts))
        for name in names:
            shown = f"--{name[2:].replace('-', '_')}" if underscores and name.startswith("--") else name
            if shown.startswith(unfinished):
                yield Suggestion(shown, _sentence(one.help or ""))


def _commands(group: click.Group, ctx: click.Context, unfinished: str) -> Iterator[Suggestion]:
    rows = group.summaries(ctx) if isinstance(group, Group) else _rows(group, ctx)
    for name, about in rows:
        shown = name.replace("-", "_") if "_" in unfinished else name
        if shown.startswith(unfinished):
            yield Suggestion(shown, about)


def _rows(group: click.Group, ctx: click.Context) -> Iterator[tuple[str, str]]:
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if command is not None and not command.hidden:
            yield name, command.get_short_help_str(100)


def _sentence(text: str) -> str:
    """The first sentence of a help text."""
    sentence = text.partition(". ")[0]
    return sentence if sentence.endswith("...") else sentence.removesuffix(".")
