"""HOCON as plain data, without what reaches out of the file and without a second value for a key."""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from flpoc.errors import ConfigError

_TOKEN = re.compile(
    r'"""(?P<long>(?:.|\n)*?)"""(?!")|"(?P<text>(?:\\.|[^"\\\n])*)"|(?P<comment>(?:#|//)[^\n]*)'
    r'|(?P<mark>\n|\+=|[{}\[\],=:])|(?P<word>(?:(?!//|\+=)[^\s{}\[\],=:"#])+)'
)
#: A quoted part of a dotted key, in a text whose strings are blanked out.
_MIXED = re.compile(r'""\s*\.|\.\s*""')
Place = tuple[str | int, ...]


class Value(NamedTuple):
    """Where in a text the value of a key stands, and whether a mark (``=`` or ``:``) is between them."""

    start: int
    end: int
    has_mark: bool


class _Word(NamedTuple):
    kind: str
    text: str
    line: int
    start: int
    end: int


def parse_hocon(text: str, path: Path, not_json: ConfigError) -> Any:
    """Parse HOCON; includes, substitutions and keys that are given twice are refused.

    Args:
        text: What the file holds.
        path: The file, for messages.
        not_json: Why it is not JSON; said when it is not HOCON either.

    Raises:
        ConfigError: It cannot be taken; the message names the file and, where known, the line.
    """
    from pyhocon import ConfigFactory
    from pyhocon.exceptions import ConfigException
    from pyparsing import ParseBaseException

    bare = _outside_strings(text)
    if re.search(r'(?<![\w.-])include\s*("|(file|url|package|classpath|required)\s*\()', bare, re.IGNORECASE):
        raise ConfigError(f"{path}: include is not allowed here", hint="write all settings into this one file")
    if "${" in bare:
        raise ConfigError(f"{path}: substitutions (${{...}}) are not allowed here", hint="write the value itself")
    try:
        data = ConfigFactory.parse_string(_nested(text) if _MIXED.search(bare) else text).as_plain_ordered_dict()
    except ParseBaseException as error:
        if not_json.message.endswith(": Extra data"):
            said = not_json.message.replace("Extra data", "something follows the closing brace")
            raise ConfigError(said, hint="write it before that brace") from None
        said = f"{path}: line {error.lineno}: cannot be read as HOCON"
        raise ConfigError(said, hint="look at that line and the one above") from None
    except (ConfigException, RecursionError, ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"{path}: cannot be read as HOCON: {error}") from None
    if twice := _Keys(text).twice:
        raise ConfigError(f"{path}: line {twice[0]}: key {twice[1]!r} is given twice", hint="keep one of the two")
    return _durations(data)


def _durations(data: Any) -> Any:
    """Durations as ``timedelta``, also where dateutil is installed, whose class pyhocon then uses; months stay so."""
    if isinstance(data, dict):
        return {key: _durations(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_durations(value) for value in data]
    if type(data).__name__ != "relativedelta" or data.years or data.months:
        return data
    units = ("days", "hours", "minutes", "seconds", "microseconds")
    return datetime.timedelta(**{unit: getattr(data, unit) for unit in units})


def values_of(text: str) -> dict[Place, Value]:
    """Where the values stand in a text that :func:`parse_hocon` takes, by their keys; those in lists are left out."""
    return {place: value for place, value in _Keys(text).values.items() if all(isinstance(one, str) for one in place)}


def _nested(text: str) -> str:
    """The same with ``a."b.c" = 1`` written as ``a { "b.c" = 1 }``: pyhocon takes no quotes in a dotted key."""
    edits: list[tuple[int, int, str]] = []
    for (start, end), key, value_end in _Keys(text).mixed:
        opened = " { ".join(json.dumps(part, ensure_ascii=False) for part in key)
        edits += [(start, end, f"{opened} "), (value_end, value_end, " }" * (len(key) - 1))]
    for start, end, instead in sorted(edits, reverse=True):
        text = text[:start] + instead + text[end:]
    return text


def _outside_strings(text: str) -> str:
    """The text with strings and comments blanked out, lines kept."""
    pattern = re.compile(r'"""(?:.|\n)*?"""|"(?:\\.|[^"\\\n])*"|#[^\n]*|//[^\n]*')
    return pattern.sub(_blank, text)


def _blank(found: re.Match[str]) -> str:
    marks = '""' if found.group().startswith('"') else ""
    return marks + "\n" * found.group().count("\n")


class _Keys:
    """Finds keys whose value another one replaces, which HOCON allows; sets of one key may add to each other.

    It reads only what the parser has accepted.

    Attributes:
        twice: Line and name of the first such key, or None.
        mixed: Dotted keys with quoted parts: where each stands, its parts, where its value ends.
        values: Where the value of each key stands; of a set that is added to, its first part. Braces around all are
            those of the key without parts.
    """

    def __init__(self, text: str) -> None:
        self.twice: tuple[int, str] | None = None
        self.mixed: list[tuple[tuple[int, int], Place, int]] = []
        self.values: dict[Place, Value] = {}
        self._is_set: dict[Place, bool] = {}
        self._words: list[_Word] = []
        self._end = 0
        self._quoted = False
        line = 1
        for found in _TOKEN.finditer(text):
            kind = found.lastgroup or ""
            if kind != "comment":
                self._words.append(_Word(kind, found[kind], line, *found.span()))
            line += found.group().count("\n")
        self._words.reverse()
        while self._words:
            self._entries(())

    def _mark(self) -> str:
        """The next mark; empty if text is next, or nothing."""
        return self._words[-1].text if self._words and self._words[-1].kind == "mark" else ""

    def _take(self) -> _Word:
        word = self._words.pop()
        self._end = word.end
        return word

    def _entries(self, place: Place) -> None:
        while self._words:
            mark, first = self._mark(), self._words[-1]
            if mark in ("", "{") and (key := self._key()):
                span = (first.start, self._end)
                is_mixed = len(key) > 1 and self._quoted
                self._entry((*place, *key), first.line)
                if is_mixed:
                    self.mixed.append((span, key, self._end))
                continue
            start = self._take().start
            if mark == "{":
                self._entries(place)
                self.values.setdefault(place, Value(start, self._end, False))
            elif mark == "}":
                return

    def _key(self) -> Place:
        parts = [""]
        self._quoted = False
        while self._words and not self._mark():
            word = self._take()
            self._quoted |= word.kind != "word"
            first, *more = word.text.split(".") if word.kind == "word" else [word.text]
            parts[-1] += first
            parts += more
        return tuple(parts) if parts != [""] else ()

    def _entry(self, place: Place, line: int) -> None:
        has_mark = self._mark() in ("=", ":", "+=")
        if has_mark:
            self._take()
        end = self._end
        while self._mark() == "\n":
            self._take()
        is_set = self._mark() == "{"
        within = max((at + 1 for at, part in enumerate(place) if isinstance(part, int)), default=0)
        above = [place[:count] for count in range(within + 1, len(place))]
        replaces = place in self._is_set and not (is_set and self._is_set[place])
        if self.twice is None and (replaces or any(not self._is_set.get(one, True) for one in above)):
            self.twice = line, ".".join(part for part in place if isinstance(part, str))
        self._is_set |= {**dict.fromkeys(above, True), place: is_set}
        start = self._words[-1].start if self._words else end
        self._end = start
        self._value(place)
        self.values.setdefault(place, Value(start, self._end, has_mark))

    def _value(self, place: Place) -> None:
        while self._words and self._mark() not in ("\n", ",", "}", "]"):
            mark = self._take()
            if mark.kind == "mark" and mark.text == "{":
                self._entries(place)
            elif mark.kind == "mark" and mark.text == "[":
                self._elements(place)

    def _elements(self, place: Place) -> None:
        number = 0
        while self._words:
            mark = self._mark()
            self._take()
            if mark == "]":
                return
            number += 1
            if mark == "{":
                self._entries((*place, number))
            elif mark == "[":
                self._elements((*place, number))
