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

#: In the metadata of a setting: what it lists, or has as keys, are names of sites.
NAMES_SITES = "names sites"

_CONTAINERS = (dict, list, tuple)
_SCALARS = frozenset({str, bytes, bool, int, float, type(None)})


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


def structure_named(value: Any, cls: type[T], where: str) -> tuple[T, ...]:
    """Read a list as people write it: each is a name, or a *cls* with its ``name`` and what else it has.

    Raises:
        ConfigError: It is not such a list; says which entry.
    """
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{where}: is not a list", hint=f'{where} = ["a", {{"name": "b"}}]')
    return tuple(
        structure({"name": one} if isinstance(one, str) else one, cls, where=f"{where}[{place}]")
        for place, one in enumerate(value)
    )


def sites_in(settings: Any, where: str = "") -> dict[str, tuple[str, ...]]:
    """Which sites an attrs instance names, by the path of the key; :data:`NAMES_SITES` marks what does."""
    found: dict[str, tuple[str, ...]] = {}
    for attribute in attrs.fields(type(settings)):
        value, path = getattr(settings, attribute.name), f"{where}.{attribute.name}" if where else attribute.name
        if attribute.metadata.get(NAMES_SITES):
            found[path] = tuple(value or ())
        elif attrs.has(type(value)):
            found |= sites_in(value, path)
    return found


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
    if cls is Any:
        _refuse_deep(data, where, depth)
    elif isinstance(data, Mapping):
        fields = _field_types(cls)
        inner = _value_type(cls) if fields is None else None
        for key, value in data.items():
            known = fields is None or key in fields
            if known and type(value) in _SCALARS:
                continue  # as most are
            path = f"{where}.{key}" if where else str(key)
            if fields is None:
                refuse_unknown(value, inner, path, depth + 1)
            elif known:
                refuse_unknown(value, fields[key], path, depth + 1)
            else:
                raise ConfigError(f"{path}: no such setting", hint=did_you_mean(str(key), fields))
    elif isinstance(data, (list, tuple)):
        inner = _value_type(cls)
        for place, value in enumerate(data):
            if type(value) not in _SCALARS:
                refuse_unknown(value, inner, f"{where}[{place}]", depth + 1)


def _refuse_deep(data: Any, where: str, depth: int) -> None:
    """Refuse free data that is nested too deeply, level by level: it may be large, and somebody else's."""
    level = [data] if isinstance(data, _CONTAINERS) else []
    while level:
        if depth > MAX_DEPTH:
            raise ConfigError(f"{where}: nested deeper than {MAX_DEPTH} levels")
        inner = [one.values() if isinstance(one, dict) else one for one in level]
        level = [one for each in inner for one in each if isinstance(one, _CONTAINERS)]
        depth += 1


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
    return parse_text(read_text(path), path)


def parse_text(text: str, path: Path) -> Any:
    """Parse what the file *path* holds, or is to hold; see :func:`read_file`."""
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
            from flpoc.strict_hocon import parse_hocon

            data = parse_hocon(text, path, not_json)
    _refuse_odd(data, str(path), "", 0)
    return data


def read_text(path: Path) -> str:
    """Read a small text file; never waits on a pipe or a device."""
    try:
        # O_NONBLOCK: opening a pipe must not wait for its other end
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(f"{path}: not a regular file", hint="give the path of a text file")
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file", hint="check the path") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: not a regular file", hint="give the path of a file in it") from None
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{str(path)[:300]}: {getattr(error, 'strerror', None) or error}", hint="check the path and its permissions"
        ) from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_FILE_BYTES} bytes")
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})", hint="save the file as UTF-8") from None
    if "\0" in text:
        raise ConfigError(f"{path}: not text (there is a NUL in it)", hint="give the path of a text file")
    return text


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
            _refuse_half_letters(key, file, where)
            _refuse_odd(value, file, f"{where}.{key}" if where else key, depth + 1)
    elif isinstance(data, list):
        for place, value in enumerate(data):
            _refuse_odd(value, file, f"{where}[{place}]", depth + 1)
    elif isinstance(data, str):
        _refuse_half_letters(data, file, where)
    elif isinstance(data, float) and not math.isfinite(data):
        raise ConfigError(f"{file}: {where}: {data} is not a number that can be used here")
    elif isinstance(data, datetime.timedelta):
        return  # HOCON's "1 minute": seconds, for whoever takes them
    elif data is not None and not isinstance(data, (int, float, bool)):
        kind = f"{type(data).__module__}.{type(data).__name__}"
        raise ConfigError(f"{file}: {where}: {kind} cannot be used here", hint="write it in quotes if it is text")


def _refuse_half_letters(text: str, file: str, where: str) -> None:
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ConfigError(
            f"{file}: {where}: {text!r} has half a letter (a lone surrogate)", hint="write the letter itself"
        )


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
