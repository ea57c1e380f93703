"""Plain data into attrs classes, strictly, and files into plain data.

One reader for settings files, job files and messages: types are not guessed,
unknown keys are refused with the path of the key and the name that was
probably meant.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import re
import stat
import types
import typing
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

import attrs

from flpoc.errors import ConfigError, did_you_mean

T = TypeVar("T")

#: A settings, project or job file larger than this is refused.
MAX_FILE_BYTES = 1 << 20
#: Deeper nesting than this is refused, in files and in messages.
MAX_DEPTH = 32


def structure(data: Any, cls: type[T], *, where: str = "") -> T:
    """Turn plain *data* into an instance of the attrs class *cls*.

    Raises:
        ConfigError: A key is unknown or missing, or a value has another type;
            the message starts with the path of the key, below *where*.
    """
    import msgspec

    refuse_unknown(data, cls, where)
    try:
        return msgspec.convert(data, cls)
    except msgspec.ValidationError as error:
        raise ConfigError(_with_path(str(error), where)) from None


def plain(value: Any) -> Any:
    """Turn an attrs instance into plain data: dicts, lists, strings, numbers."""
    import msgspec

    return msgspec.to_builtins(value)


def canonical_json(value: Any) -> bytes:
    """The one JSON spelling of *value*: sorted keys, no spaces, UTF-8; what is signed and hashed."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def refuse_unknown(data: Any, cls: Any, where: str = "", depth: int = 0) -> None:
    """Refuse keys that the attrs classes below *cls* do not have."""
    if depth > MAX_DEPTH:
        raise ConfigError(f"{where}: nested deeper than {MAX_DEPTH} levels")
    if isinstance(data, Mapping):
        fields = _field_types(cls)
        if fields is not None:
            for key, value in data.items():
                path = f"{where}.{key}" if where else str(key)
                if key not in fields:
                    raise ConfigError(f"{path}: no such setting", hint=did_you_mean(str(key), fields))
                refuse_unknown(value, fields[key], path, depth + 1)
        else:
            inner = _value_type(cls)
            for key, value in data.items():
                refuse_unknown(value, inner, f"{where}.{key}" if where else str(key), depth + 1)
    elif isinstance(data, (list, tuple)):
        inner = _value_type(cls)
        for place, value in enumerate(data):
            refuse_unknown(value, inner, f"{where}[{place}]", depth + 1)


@lru_cache(maxsize=256)
def _field_types(cls: Any) -> dict[str, Any] | None:
    """Field names and types of an attrs class, also inside ``X | None``; None for anything else."""
    if get_origin(cls) in (Union, types.UnionType):
        found = [part for part in get_args(cls) if isinstance(part, type) and attrs.has(part)]
        return _field_types(found[0]) if len(found) == 1 else None
    if not (isinstance(cls, type) and attrs.has(cls)):
        return None
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in attrs.fields(cls)}


def _value_type(cls: Any) -> Any:
    if get_origin(cls) in (Union, types.UnionType):
        found = [part for part in get_args(cls) if get_args(part)]
        return _value_type(found[0]) if len(found) == 1 else Any
    args = [part for part in get_args(cls) if part is not Ellipsis]
    return args[-1] if args else Any


def _with_path(message: str, where: str) -> str:
    text, _, path = message.partition(" - at `")
    key = path.rstrip("`").removeprefix("$").lstrip(".")
    if key and where:
        key = f"{where}.{key}"
    return f"{key or where}: {text}" if (key or where) else text


def read_file(path: Path) -> Any:
    """Read a JSON, HOCON or YAML file into plain data, without includes or substitutions.

    The suffix decides: ``.yml`` and ``.yaml`` are YAML; everything else is
    tried as JSON first, then as HOCON.

    Raises:
        ConfigError: The file is missing, too large, not text, or cannot be
            parsed; the message names the file and, where known, the line.
    """
    text = read_text(path)
    if path.suffix in (".yml", ".yaml"):
        from flpoc.strict_yaml import parse_yaml

        data = parse_yaml(text, path)
    else:
        try:
            data = parse_json(text, str(path))
        except _NotJsonError as not_json:
            # what is JSON, but has a key twice or the like, is not given to HOCON, which would take it
            if path.suffix == ".json":
                raise
            data = _parse_hocon(text, path, not_json)
    _refuse_odd(data, str(path), "", 0)
    return data


def read_text(path: Path) -> str:
    """Read a small text file; never waits on a pipe or a device."""
    try:
        # O_NONBLOCK: opening a pipe must not wait for its other end
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(f"{path}: not a regular file")
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: not a regular file") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_FILE_BYTES} bytes")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})", hint="save the file as UTF-8") from None


class _NotJsonError(ConfigError):
    """The text is not JSON at all; it may be HOCON."""


def _refuse_odd(data: Any, file: str, where: str, depth: int) -> None:
    """Refuse what a file format can say and JSON cannot: infinities, periods of months, keys that are no text."""
    if depth > MAX_DEPTH:
        raise ConfigError(f"{file}: nested deeper than {MAX_DEPTH} levels")
    if isinstance(data, dict):
        for key, value in data.items():
            if not isinstance(key, str):
                raise ConfigError(f"{file}: the key {key!r} is not text", hint="write it in quotes")
            _refuse_odd(value, file, f"{where}.{key}" if where else key, depth + 1)
    elif isinstance(data, list):
        for place, value in enumerate(data):
            _refuse_odd(value, file, f"{where}[{place}]", depth + 1)
    elif isinstance(data, float) and not math.isfinite(data):
        raise ConfigError(f"{file}: {where}: {data} is not a number that can be used here")
    elif isinstance(data, datetime.timedelta):
        return  # HOCON's "1 minute": seconds, for whoever takes them
    elif data is not None and not isinstance(data, (str, int, float, bool)):
        kind = f"{type(data).__module__}.{type(data).__name__}"
        raise ConfigError(f"{file}: {where}: {kind} cannot be used here", hint="write it in quotes if it is text")


def parse_json(text: str | bytes, where: str) -> Any:
    """Parse JSON; duplicate keys, NaN and deep nesting are refused."""
    try:
        data = json.loads(
            text, object_pairs_hook=_unique(where), parse_constant=_no_constant(where), parse_float=_finite(where)
        )
    except json.JSONDecodeError as error:
        raise _NotJsonError(f"{where}: line {error.lineno}: {error.msg}") from None
    except (RecursionError, ValueError) as error:
        raise ConfigError(f"{where}: {'nested too deeply' if isinstance(error, RecursionError) else error}") from None
    return data


def _unique(where: str) -> Any:
    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise ConfigError(f"{where}: key {key!r} is given twice")
            found[key] = value
        return found

    return build


def _no_constant(where: str) -> Any:
    def refuse(name: str) -> Any:
        raise ConfigError(f"{where}: {name} is not a number that can be used here")

    return refuse


def _finite(where: str) -> Any:
    def number(text: str) -> float:
        if not math.isfinite(value := float(text)):
            raise ConfigError(f"{where}: {text[:40]} is not a number that can be used here")
        return value

    return number


def _parse_hocon(text: str, path: Path, not_json: ConfigError) -> Any:
    from pyhocon import ConfigFactory
    from pyhocon.exceptions import ConfigException
    from pyparsing import ParseBaseException

    bare = _outside_strings(text)
    if re.search(r'(?<![\w.-])include\s*("|(file|url|package|classpath|required)\s*\()', bare, re.IGNORECASE):
        raise ConfigError(f"{path}: include is not allowed here", hint="write all settings into this one file")
    if "${" in bare:
        raise ConfigError(f"{path}: substitutions (${{...}}) are not allowed here", hint="write the value itself")
    try:
        return ConfigFactory.parse_string(text).as_plain_ordered_dict()
    except ParseBaseException as error:
        raise ConfigError(f"{path}: line {error.lineno}: cannot be read as HOCON ({not_json.message})") from None
    except (ConfigException, RecursionError, ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"{path}: cannot be read as HOCON: {error}") from None


def _outside_strings(text: str) -> str:
    """The text with strings and comments blanked out, lines kept."""
    pattern = re.compile(r'"""(?:.|\n)*?"""|"(?:\\.|[^"\\\n])*"|#[^\n]*|//[^\n]*')
    return pattern.sub(_blank, text)


def _blank(found: re.Match[str]) -> str:
    marks = '""' if found.group().startswith('"') else ""
    return marks + "\n" * found.group().count("\n")
