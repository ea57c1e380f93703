"""What the fields of messages may hold: checked where a message is made, and where one is read.

Much of what a message says becomes the name of a file, a number in a
database or a weight in a mean. What cannot be one of these is refused at the
border and need not be thought of further in.
"""

from __future__ import annotations

import math
import re
from typing import Any

from flpoc.jobs.names import JOB_ID, SITE_NAME

_XXH3 = re.compile(r"[0-9a-f]{32}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_REPORT = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]*/)*[A-Za-z0-9][A-Za-z0-9_-]*\.json\Z")
_MOST = 1 << 62
#: Numbers that one update may carry; logs of numbers may have more.
MOST_METRICS = 1000
#: What a script may add to an update, as JSON.
MOST_META_BYTES = 128 << 10
_DEPTH = 16
_PLAIN = frozenset({dict, list, tuple, bool, int, float, str, type(None)})


def job_id(_: Any, attribute: Any, value: str) -> None:
    if not JOB_ID.match(value):
        raise ValueError(f"{attribute.name}: {value[:80]!r} is not a job id")


def checksum(_: Any, attribute: Any, value: str) -> None:
    if not _XXH3.match(value):
        raise ValueError(f"{attribute.name}: {value[:80]!r} is not an xxh3_128 in hex")


def checksum_or_none(_: Any, attribute: Any, value: str) -> None:
    if value:
        checksum(_, attribute, value)


def sha256(_: Any, attribute: Any, value: str) -> None:
    if not _SHA256.match(value):
        raise ValueError(f"{attribute.name}: {value[:80]!r} is not a SHA-256 in hex")


def sha256_or_none(_: Any, attribute: Any, value: str) -> None:
    if value:
        sha256(_, attribute, value)


def site_name(_: Any, attribute: Any, value: str) -> None:
    if not SITE_NAME.match(value):
        raise ValueError(f"{attribute.name}: {value[:80]!r} is not a site name")


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


def duration_or_none(_: Any, attribute: Any, value: float | None) -> None:
    if value is not None:
        duration(_, attribute, value)


def weight(_: Any, attribute: Any, value: float) -> None:
    """The weight of an update: NaN, infinity, zero or less would spoil the mean of everybody."""
    if not 0 < value < 1e15:
        raise ValueError(f"{attribute.name}: {value} is not greater than 0 and finite")


def params_type(_: Any, attribute: Any, value: str) -> None:
    if value not in ("FULL", "DIFF"):
        raise ValueError(f"{attribute.name}: {value[:40]!r} is neither FULL nor DIFF")


def metric_name(_: Any, attribute: Any, value: str) -> None:
    """What trackers show, and files and tables are made of."""
    if not value or len(value) > 200 or not value.isprintable():
        raise ValueError(f"{attribute.name}: {value[:80]!r} is not 1 to 200 printable characters")


def as_metric_name(text: str) -> str:
    """*text*, changed until :func:`metric_name` takes it."""
    return "".join(one if one.isprintable() else "?" for one in text[:200]) or "?"


def metrics(_: Any, attribute: Any, value: dict[str, float]) -> None:
    if len(value) > MOST_METRICS:
        raise ValueError(f"{attribute.name}: {len(value)} numbers; at most {MOST_METRICS} are taken")
    for name, number in value.items():
        metric_name(_, attribute, name)
        if not math.isfinite(number):
            raise ValueError(f"{attribute.name}: {name[:80]!r} is {number}")


def reports(_: Any, attribute: Any, value: dict[str, Any]) -> None:
    """JSON documents by the names of their files below a results folder."""
    plain_json(_, attribute, value)
    for name in value:
        if len(name) > 200 or not _REPORT.match(name):
            raise ValueError(f"{attribute.name}: {name[:80]!r} is not the name of a report, like folder/name.json")


def plain_json(_: Any, attribute: Any, value: Any) -> None:
    """Only what JSON can say: it is kept as JSON."""
    if not _is_plain(value):
        raise ValueError(f"{attribute.name}: not plain JSON data")


def _is_plain(value: Any) -> bool:
    level, depth = [value], 0
    while level and depth <= _DEPTH:
        maps = [one for one in level if type(one) is dict]
        if not set(map(type, level)) <= _PLAIN or any(set(map(type, one)) - {str} for one in maps):
            return False
        if not all(math.isfinite(one) for one in level if type(one) is float):
            return False
        inner = [one for one in level if type(one) in (list, tuple)]
        level = [one for each in inner for one in each] + [one for each in maps for one in each.values()]
        depth += 1
    return not level
