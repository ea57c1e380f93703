"""Values that a user gives on the command line for files of a job: ``-f job.conf rounds=10 timeouts.stall="5 m"``."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from flpoc.errors import ConfigError, UsageError
from flpoc.settings import parse_json, parse_text

Key = tuple[str, ...]

_PART = re.compile(r'"(?P<quoted>(?:\\.|[^"\\])*)"|(?P<plain>[^."]+)')
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
#: Where what HOCON makes of a text is wanted: lists, sets, and durations such as ``10 m``.
_HOCON = re.compile(r"[\[{].*|[0-9.]+\s*[A-Za-z]+", re.DOTALL)


@attrs.frozen
class Override:
    """One value that is to be changed.

    Attributes:
        key: The parts of its key.
        value: What it is to be.
        text: The same as HOCON writes it.
    """

    key: Key
    value: Any
    text: str


def parse_pair(word: str) -> Override:
    """Read ``key=value``; dots part the key, the value is typed as in HOCON.

    Raises:
        UsageError: It is no such pair.
    """
    key, equals, value = word.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"-f: {word!r} is not key=value", hint="for example: -f job.conf rounds=10 timeouts.stall=60")
    found = typed(value)
    text = value.strip() if isinstance(found, datetime.timedelta) else json.dumps(found, ensure_ascii=False)
    return Override(split_key(key.strip()), found, text)


def split_key(text: str) -> Key:
    """The parts of a dotted key; what has dots itself stands in quotes.

    Raises:
        UsageError: It is no key.
    """
    parts = [found["plain"] if found["plain"] else _unquoted(found["quoted"]) for found in _PART.finditer(text)]
    if not all(parts) or join_key(parts) not in (text, _requoted(text)):
        raise UsageError(f"-f: {text!r} is not a key", hint='keys are dotted: timeouts.stall, or scripts."site-1".args')
    return tuple(parts)


def join_key(parts: Sequence[str]) -> str:
    """A dotted key, in which what is no plain word stands in quotes."""
    return ".".join(part if _PLAIN.fullmatch(part) else json.dumps(part, ensure_ascii=False) for part in parts)


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"'))
    except ValueError:
        return ""


def _requoted(text: str) -> str:
    """The same key as :func:`join_key` would write it: quotes only where they are needed."""
    return _PART.sub(lambda found: join_key([found["plain"] or _unquoted(found["quoted"])]), text)


def typed(word: str) -> Any:
    """A value as HOCON types it: number, true, false, null, list, set, duration; anything else is text.

    Raises:
        UsageError: It begins like a list or a set, and is none.
    """
    text = word.strip()
    try:
        return parse_json(text, "value") if text else ""
    except ConfigError:
        if not _HOCON.fullmatch(text):
            return word
    try:
        data = parse_text(f"value = {text}", Path("value.conf"))
    except ConfigError as error:
        if text[0] not in "[{":
            return word
        raise UsageError(f"-f: {word!r} is no list and no set", hint=error.hint) from None
    found = data["value"] if isinstance(data, dict) and list(data) == ["value"] else word
    return word if isinstance(found, str) else _plain(found) if isinstance(found, (dict, list)) else found


def with_value(data: Any, key: Key, value: Any) -> Any:
    """*data* with another value at *key*; sets on the way there are made.

    Raises:
        UsageError: Something on the way is no set.
    """
    return _with_value(data, key, 0, value)


def _with_value(data: Any, key: Key, depth: int, value: Any) -> Any:
    if depth == len(key):
        return value
    if not isinstance(data, Mapping):
        at = join_key(key[:depth])
        raise UsageError(f"-f: {join_key(key)}: {at} is {data!r}, which has no settings", hint=f"change {at} itself")
    return {**data, key[depth]: _with_value(data.get(key[depth], {}), key, depth + 1, value)}


def rewritten(
    text: str, path: Path, changes: Sequence[Override], settle: Callable[[Mapping[str, Any], Key], Key]
) -> tuple[str, bool]:
    """The text of a settings file with other values in it, and whether its comments are still there.

    Only the values are replaced, where that can be done; otherwise the file
    is written anew from its data.

    Args:
        text: What the file holds.
        path: Its name says what it is written in.
        changes: The values, one after the other.
        settle: Says where in the data a key really is; raises for one that cannot be.

    Raises:
        ConfigError: The text cannot be read as what the name of the file says.
        UsageError: A key leads through something that is no set.
    """
    wanted = parse_text(text, path)
    if not isinstance(wanted, dict):
        raise ConfigError(f"{path}: is not a set of settings")
    settled = []
    for one in changes:
        settled.append(attrs.evolve(one, key=settle(wanted, one.key)))
        wanted = with_value(wanted, settled[-1].key, one.value)
    if path.suffix in (".yml", ".yaml"):
        import yaml

        return yaml.safe_dump(_plain(wanted), sort_keys=False, allow_unicode=True), "#" not in text
    if not _is_json(text):
        for one in settled:
            text = _replaced(text, one)
        if _reads_as(text, path, wanted):
            return text, True
    return json.dumps(_plain(wanted), indent=2, ensure_ascii=False) + "\n", _is_json(text)


def _is_json(text: str) -> bool:
    try:
        parse_json(text, "")
    except ConfigError:
        return False
    return True


def _reads_as(text: str, path: Path, wanted: Any) -> bool:
    try:
        return bool(parse_text(text, path) == wanted)
    except ConfigError:
        return False


def _plain(data: Any) -> Any:
    """Durations as seconds, for formats that have none."""
    if isinstance(data, Mapping):
        return {key: _plain(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_plain(value) for value in data]
    return data.total_seconds() if isinstance(data, datetime.timedelta) else data


def _replaced(text: str, change: Override) -> str:
    from flpoc.strict_hocon import values_of

    values = values_of(text)
    value = values.get(change.key)
    if value is not None:
        mark = "" if value.has_mark else "= "
        return text[: value.start] + mark + change.text + text[value.end :]
    line = f"{join_key(change.key)} = {change.text}\n"
    if () in values:
        brace = values[()].end - 1
        return f"{text[:brace].rstrip()}\n{line}{text[brace:]}"
    return (text if text.endswith("\n") or not text else text + "\n") + line
