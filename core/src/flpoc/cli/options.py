"""Options that take several words, or whose value may be left out, and numbers that mean what they say.

click parses one value an option. What a user may write beyond that is first
rewritten, by :func:`rewrite`, into the plain form that click knows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    ParamType = click.ParamType[Any]
else:  # older releases of click have no type to give
    ParamType = click.ParamType

F = TypeVar("F", bound=Callable[..., Any])

#: Stands between the words of one option while click has them; no argument of a process can contain it.
_BETWEEN: Final = "\0"
_REQUIRED: Final = object()
#: Taken out of the line before a command sees it, but they can be misspelt.
_OF_EVERY_COMMAND: Final = ("--format", "--connect-timeout", "--schema", "--version")
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,30}")
_DECIMAL: Final = re.compile(r"[+-]?([0-9]{1,30}(\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][+-]?[0-9]{1,3})?")


class Number(ParamType):
    """A number within a range; only ASCII digits, never ``nan`` or ``inf``.

    Args:
        kind: ``int`` or ``float``.
        low: The smallest that is allowed; with *above*, it must be larger.
        high: The largest that is allowed.
    """

    def __init__(
        self, kind: type[int] | type[float], *, low: float | None = None, high: float | None = None, above: bool = False
    ) -> None:
        self.kind = kind
        self.low = low
        self.high = high
        self.above = above
        self.name = "integer" if kind is int else "number"

    @property
    def wanted(self) -> str:
        """What is allowed, in words."""
        what = "a whole number" if self.kind is int else "a number"
        if self.low is not None and self.high is not None and not self.above:
            return f"{what} from {_plain(self.low)} to {_plain(self.high)}"
        parts = []
        if self.low is not None:
            parts.append(f"greater than {_plain(self.low)}" if self.above else f"of at least {_plain(self.low)}")
        if self.high is not None:
            parts.append(f"at most {_plain(self.high)}")
        return " ".join([what, " and ".join(parts)]) if parts else what

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | float:
        number = self._parse(value)
        if number is None:
            self.fail(f"{value!r} is not allowed: it must be {self.wanted}.", param, ctx)
        return number

    def read(self, value: str, name: str) -> int | float:
        """Convert outside a click command; errors name the option *name*."""
        try:
            return self.convert(value, None, None)
        except click.BadParameter as error:
            raise click.BadParameter(error.message, param_hint=f"'{name}'") from None

    def _parse(self, value: Any) -> int | float | None:
        text = str(value)
        pattern = _WHOLE if self.kind is int else _DECIMAL
        if not pattern.fullmatch(text):
            return None
        number = self.kind(text)
        if not math.isfinite(number) or (self.high is not None and number > self.high):
            return None
        if self.low is not None and (number < self.low or (self.above and number == self.low)):
            return None
        return number


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)


class _Words(ParamType):
    """Several words that were joined by :func:`rewrite`."""

    def __init__(self, each: ParamType) -> None:
        self.each = each
        self.name = each.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        words = value if isinstance(value, (tuple, list)) else str(value).split(_BETWEEN)
        return tuple(self.each(word, param, ctx) for word in words)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return self.each.shell_complete(ctx, param, incomplete)


class NoSuchOption(click.UsageError):
    """A command has no such option; *possibilities* are like what was written."""

    def __init__(self, word: str, possibilities: Sequence[str], ctx: click.Context | None) -> None:
        super().__init__(f"No such option {word.partition('=')[0]!r}.", ctx)
        self.possibilities = possibilities


class Option(click.Option):
    """An option that can take several words, or whose value can be left out.

    Args:
        words: It takes all words up to the next option; its value is a tuple.
            Given again, it adds to the first.
        grouped: With *words*: its value is a tuple of tuples, one each time it is given.
        bare: The value may be left out and is then this text; None means as if the option were not there.
    """

    def __init__(
        self,
        param_decls: Sequence[str] | None = None,
        *,
        words: bool = False,
        grouped: bool = False,
        bare: Any = _REQUIRED,
        **attributes: Any,
    ) -> None:
        self.words = words or grouped
        self.grouped = grouped
        self.bare = bare
        if self.words:
            attributes["type"] = _Words(click.types.convert_type(attributes.get("type")))
            attributes["multiple"] = True
        super().__init__(param_decls, **attributes)

    @property
    def value_is_optional(self) -> bool:
        return self.bare is not _REQUIRED

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        cast = super().type_cast_value(ctx, value)
        if self.words and not self.grouped and cast:
            return tuple(word for group in cast for word in group)
        return cast

    def make_metavar(self, ctx: click.Context) -> str:
        metavar = super().make_metavar(ctx)
        if self.words:
            return f"{metavar}..."
        return f"[{metavar}]" if self.value_is_optional and not self.is_flag else metavar


def option(*names: str, **attributes: Any) -> Callable[[F], F]:
    """Add an :class:`Option` to a command."""
    return click.option(*names, cls=Option, **attributes)


def canonical(name: str) -> str:
    """An option's name with ``_`` written as ``-``; anything else as it is."""
    return name.replace("_", "-") if name.startswith("-") else name


def rewrite(options: Iterable[click.Parameter], line: Sequence[str], ctx: click.Context | None = None) -> list[str]:
    """Write a command's words the way click reads them.

    ``--a_b=1`` becomes ``--a-b 1``, the words of an option become one, a
    value that is left out becomes the option's own.

    Raises:
        click.UsageError: An option is unknown, lacks its value, has an empty one, or is given twice.
    """
    known = spellings(options)
    out: list[str] = []
    seen: set[int] = set()
    words = list(line)
    while words:
        word = words.pop(0)
        if word == "--":
            return [*out, word, *words]
        spelling, attached = split_option(word, known)
        if spelling is None:
            if is_option(word):
                raise NoSuchOption(word, _like(word, known), ctx)
            out.append(word)
            continue
        found = known[spelling]
        name = _declared(found, spelling)
        if found.is_flag or found.count:
            out.append(name if attached is None else f"{name}={attached}")
            continue
        if id(found) in seen and not found.multiple:
            raise click.BadOptionUsage(name, f"Option {name!r} is given twice.", ctx)
        seen.add(id(found))
        if attached == "" or (attached is None and words[:1] == [""]):
            raise click.BadOptionUsage(name, f"Option {name!r} is given an empty value.", ctx)
        value = _value(found, attached, words, known)
        if value is None:
            raise click.BadOptionUsage(name, f"Option {name!r} requires a value.", ctx)
        out += [name, *value] if value else []
    return out


def _like(word: str, known: Iterable[str]) -> list[str]:
    """Options that may have been meant: what *word* abbreviates, else what is spelt like it."""
    from difflib import get_close_matches

    asked = canonical(word.partition("=")[0])
    names = sorted({canonical(name) for name in (*known, *_OF_EVERY_COMMAND)} - {asked})
    longer = [name for name in names if len(asked) > 3 and name.startswith(asked)]
    return longer or get_close_matches(asked, names, cutoff=0.6)


def spellings(options: Iterable[click.Parameter]) -> dict[str, click.Option]:
    """The options by every name that a user may write."""
    return {
        name: one
        for one in options
        if isinstance(one, click.Option)
        for spelling in (*one.opts, *one.secondary_opts)
        for name in (spelling, canonical(spelling))
    }


def _declared(option: click.Option, spelling: str) -> str:
    """The spelling that click was told, which may have ``_`` where the user wrote ``-``."""
    told = (*option.opts, *option.secondary_opts)
    return spelling if spelling in told else next(name for name in told if canonical(name) == spelling)


def split_option(word: str, known: Mapping[str, click.Option]) -> tuple[str | None, str | None]:
    """The known option that *word* is, and the value attached to it."""
    if not word.startswith("-"):
        return None, None
    head, equals, tail = word.partition("=")
    for name in (head, canonical(head)):
        if name in known:
            return name, tail if equals else None
    # `-n2`, but not `-clients`: a long word that begins like a short option is more often a mistake
    short = known.get(word[:2])
    if short is not None and not word.startswith("--") and not short.is_flag and not word[2].isalpha():
        return word[:2], word[2:]
    return None, None


def is_option(word: str) -> bool:
    """Whether *word* is meant as an option, known or not."""
    return len(word) > 1 and word.startswith("-") and not _DECIMAL.fullmatch(word)


def _value(
    found: click.Option, attached: str | None, words: list[str], known: Mapping[str, click.Option]
) -> list[str] | None:
    """Take an option's value from *words*, as one text; [] if it is as good as not given, None if it is missing."""

    def follows() -> bool:
        return bool(words) and words[0] != "--" and not is_option(words[0]) and split_option(words[0], known)[0] is None

    if isinstance(found, Option) and found.words:
        several = [] if attached is None else [attached]
        while follows():
            several.append(words.pop(0))
        return [_BETWEEN.join(several)] if several else None
    if attached is not None:
        return [attached]
    if follows():
        return [words.pop(0)]
    if isinstance(found, Option) and found.value_is_optional:
        return [] if found.bare is None else [str(found.bare)]
    return None
