"""What the fields of messages may hold: checked where a message is made, and where one is read.

Much of what a message says becomes the name of a file, a number in a
database or a weight in a mean. What cannot be one of these is refused at the
border and need not be thought of further in.
"""

from __future__ import annotations

import math
import re
from typing import Any

from flpoc.jobs.spec import JOB_ID, SITE_NAME

_XXH3 = re.compile(r"[0-9a-f]{32}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_MOST = 1 << 62
_DEPTH = 16


def job_id(_: Any, attribute: Any, value: str) -> None:
    if not JOB_ID.match(value):
        raise ValueError(f"{attribute.name}: {value[:80]!r} is not a job id")


def checksum(_: Any, attribute: Any, value: str) -> None:
    if not _XXH3.match(value):
        raise ValueError(f"{attribute.name}: {value[:80]!r} is not an xxh3_128 in hex")


def checksum_or_none(_: Any, attribute: Any, value: str) -> None:
    if value:
        checksum(_, attribute, value)


def sha256_or_none(_: Any, attribute: Any, value: str) -> None:
    if value and not _SHA256.match(value):
        raise ValueError(f"{attribute.name}: {value[:80]!r} is not a SHA-256 in hex")


def site_names(_: Any, attribute: Any, value: tuple[str, ...]) -> None:
    for name in value:
        if not SITE_NAME.match(name):
            raise ValueError(f"{attribute.name}: {name[:80]!r} is not a site name")


def count(_: Any, attribute: Any, value: int) -> None:
    """0 or more, and small enough for every database."""
    if not 0 <= value < _MOST:
        raise ValueError(f"{attribute.name}: {value} is not a count")


def round_number(_: Any, attribute: Any, value: Any) -> None:
    """-1 stands for what comes before the first round."""
    if value is not None and not -1 <= value < 1 << 31:
        raise ValueError(f"{attribute.name}: {value} is not the number of a round")


def integer(_: Any, attribute: Any, value: Any) -> None:
    """Any whole number that a database can hold."""
    if value is not None and not -_MOST < value < _MOST:
        raise ValueError(f"{attribute.name}: {value} is too large")


def finite(_: Any, attribute: Any, value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{attribute.name}: {value} is not a finite number")


def duration(_: Any, attribute: Any, value: float) -> None:
    if not 0 <= value < 1e9:
        raise ValueError(f"{attribute.name}: {value} is not a number of seconds")


def weight(_: Any, attribute: Any, value: float) -> None:
    """The weight of an update: NaN, infinity, zero or less would spoil the mean of everybody."""
    if not 0 < value < 1e15:
        raise ValueError(f"{attribute.name}: {value} is not greater than 0 and finite")


def params_type(_: Any, attribute: Any, value: str) -> None:
    if value not in ("FULL", "DIFF"):
        raise ValueError(f"{attribute.name}: {value[:40]!r} is neither FULL nor DIFF")


def metrics(_: Any, attribute: Any, value: dict[str, float]) -> None:
    for name, number in value.items():
        if not math.isfinite(number):
            raise ValueError(f"{attribute.name}: {name[:80]!r} is {number}")


def plain_json(_: Any, attribute: Any, value: Any) -> None:
    """Only what JSON can say: it is kept as JSON."""
    if not _is_plain(value, 0):
        raise ValueError(f"{attribute.name}: not plain JSON data")


def _is_plain(value: Any, depth: int) -> bool:
    if depth > _DEPTH:
        return False
    if isinstance(value, dict):
        return all(type(key) is str and _is_plain(each, depth + 1) for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return all(_is_plain(each, depth + 1) for each in value)
    if type(value) is float:
        return math.isfinite(value)
    return value is None or type(value) in (bool, int, str)
