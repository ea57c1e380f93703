"""Messages: exactly what was said comes out, everything else is refused."""

from __future__ import annotations

import random
import string
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union

import attrs
import msgspec
import pytest

from flpoc.errors import IntegrityError
from flpoc.jobs.spec import JobSpec, ScriptSpec
from flpoc.wire import asks, messages, requests
from flpoc.wire.codec import MAX_MESSAGE_BYTES, Family, encode, tag_of
from flpoc.wire.messages import FETCH, FROM_SITE, Announce, Fetch, LogLines, Progress, Push
from flpoc.wire.trainer_messages import FROM_TRAINER, Beat, Submit

FAMILIES = {
    f"{module.__name__.rpartition('.')[2]}.{name}": value
    for module in (asks, messages, requests)
    for name, value in vars(module).items()
    if isinstance(value, Family)
}
CASES = [(name, cls) for name, family in FAMILIES.items() for cls in family._classes.values()]

#: Fields of which not every value of their type is allowed.
SPECIAL: dict[str, Any] = {
    "job": "3f0c-1",
    "checksum": "0123456789abcdef" * 2,
    "archive": "0123456789abcdef" * 4,
    "params_type": "DIFF",
    "sites": ("site-1", "b"),
    "site": "site-1",
    "weight": 3.5,
    "key": "loss/train",
    "metrics": {"loss": 0.25, "räd": -1.0},
    "meta": {"a": [1, None, True, {"b": 0.5}], "ü": "x"},
}


def made(kind: Any, name: str, rng: random.Random) -> Any:
    """A value of a type, by its hint."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is JobSpec:
        return JobSpec(name="demo", scripts={"@default": ScriptSpec("train.py", args=("--x",))})
    if attrs.has(kind):
        return instance(kind, rng)
    if name in SPECIAL and type(SPECIAL[name]) in (kind, origin):
        return SPECIAL[name]
    if origin is Literal:
        return rng.choice(args)
    if origin in (Union, types.UnionType):
        return made(rng.choice(args), name, rng)
    if origin is tuple:
        return tuple(made(args[0], "", rng) for _ in range(rng.randrange(3)))
    if origin is dict:
        return {made(args[0], "", rng): made(args[1], "", rng) for _ in range(rng.randrange(3))}
    return {
        int: lambda: rng.randrange(1000),
        float: lambda: rng.random() + 0.01,
        str: lambda: "".join(rng.choices(string.printable + "äß🙂", k=rng.randrange(12))),
        bytes: lambda: rng.randbytes(rng.randrange(12)),
        bool: lambda: rng.random() < 0.5,
        type(None): lambda: None,
        Any: lambda: rng.choice([None, 1, "x", [1, {"a": 2.5}]]),
    }[kind]()


def instance(cls: Any, rng: random.Random) -> Any:
    hints = typing.get_type_hints(cls)
    return cls(**{field.name: made(hints[field.name], field.name, rng) for field in attrs.fields(cls)})


@pytest.mark.parametrize(("family", "cls"), CASES)
def test_every_message_comes_out_as_it_went_in(family: str, cls: type) -> None:
    rng = random.Random(f"{family}{cls}")
    for _ in range(50):
        message = instance(cls, rng)
        assert FAMILIES[family].decode(encode(message)) == message


def test_every_tag_is_of_one_class_only() -> None:
    for family in FAMILIES.values():
        assert all(tag_of(cls) == tag for tag, cls in family._classes.items())
    assert tag_of(LogLines) == "log-lines"


def _raw(tag: Any, fields: Any) -> bytes:
    return msgspec.msgpack.encode((tag, fields))


FINE = {"job": "j", "run": 1}
REFUSED: dict[str, bytes] = {
    "empty": b"",
    "not msgpack": b"\xc1",
    "no pair": msgspec.msgpack.encode("progress"),
    "three parts": msgspec.msgpack.encode(("progress", FINE, 1)),
    "unknown tag": _raw("progresss", FINE),
    "tag of another channel": _raw("welcome", {"version": "1", "project": "p"}),
    "tag like a module": _raw("os.system", {"command": "true"}),
    "tag that is a number": _raw(1, FINE),
    "unknown field": _raw("progress", {**FINE, "x": 1}),
    "missing field": _raw("progress", {"job": "j"}),
    "wrong type": _raw("progress", {"job": "j", "run": "1"}),
    "true for a number": _raw("progress", {"job": "j", "run": True}),
    "float for a number": _raw("progress", {"job": "j", "run": 1.5}),
    "None for text": _raw("progress", {"job": None, "run": 1}),
    "fields that are a list": _raw("progress", ["j", 1]),
    "something after it": _raw("progress", FINE) + b"\x00",
    "cut off": _raw("progress", FINE)[:-1],
    # a map of three pairs: job, run, and run again
    "duplicate key": b"\x92\xa8progress\x83\xa3job\xa1j\xa3run\x01\xa3run\x02",
    "long spelling of a number": b"\x92\xa8progress\x82\xa3job\xa1j\xa3run\xcd\x00\x01",
    "long spelling of a text": b"\x92\xa8progress\x82\xa3job\xd9\x01j\xa3run\x01",
    "text that is not UTF-8": b"\x92\xa8progress\x82\xa3job\xa1\xff\xa3run\x01",
    "extension type": b"\x92\xa8progress\x82\xa3job\xd4\x05\x00\xa3run\x01",
    "length of a gigabyte": b"\x92\xa8progress\x82\xa3job\xdb\x40\x00\x00\x00j",
    "depth bomb": b"\x91" * 200_000,
    "deep field": b"\x92\xa8progress\x82\xa3job\xa1j\xa3run" + b"\x91" * 5000 + b"\x01",
    "key that is a map": b"\x92\xa8progress\x81\x81\xa1a\x01\x01",
    "number beyond 63 bits": _raw("progress", {"job": "j", "run": 2**64 - 1}),
    "number below zero": _raw("progress", {"job": "j", "run": -1}),
    "job that is a path": _raw("progress", {"job": "../../etc", "run": 1}),
}


@pytest.mark.row("W6", "W7", "S2")
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_exactly_a_message_is_refused(case: str) -> None:
    with pytest.raises(IntegrityError):
        FROM_SITE.decode(REFUSED[case])


@pytest.mark.row("W2", "S3")
def test_a_message_that_is_too_large_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(IntegrityError, match="at most"):
        FROM_SITE.decode(b"\xc1" * (MAX_MESSAGE_BYTES + 1))


UPDATE = {
    "job": "j", "run": 1, "round": 0, "kind": "train", "attempt": 1, "size": 10, "checksum": "0" * 32, "weight": 1.0,
    "params_type": "FULL", "metrics": {"loss": 1.0}, "meta": {}, "evaluates": False, "inline": None,
}  # fmt: skip
SPOILED: dict[str, dict[str, Any]] = {
    "checksum that leads elsewhere": {"checksum": "x/../../../../tmp/evil"},
    "checksum in capitals": {"checksum": "A" * 32},
    "weight that is no number": {"weight": float("nan")},
    "infinite weight": {"weight": float("inf")},
    "no weight": {"weight": 0.0},
    "negative weight": {"weight": -1.0},
    "infinite metric": {"metrics": {"loss": float("inf")}},
    "another kind of parameters": {"params_type": "SUM"},
    "another kind of task": {"kind": "attack"},
    "round that is too large": {"round": 1 << 40},
    "negative size": {"size": -1},
    "bytes in meta": {"meta": {"a": b"x"}},
    "number as a key in meta": {"meta": {"a": {1: 2}}},
    "extension in meta": {"meta": {"a": msgspec.msgpack.Ext(1, b"x")}},
    "deep meta": {"meta": {"a": [[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]}},
}


@pytest.mark.row("W19")
@pytest.mark.parametrize("case", SPOILED)
def test_an_update_that_would_spoil_files_or_means_is_refused_at_the_border(case: str) -> None:
    assert isinstance(FROM_SITE.decode(_raw("announce", UPDATE)), Announce)
    with pytest.raises(IntegrityError):
        FROM_SITE.decode(_raw("announce", UPDATE | SPOILED[case]))
    submit = {key: value for key, value in UPDATE.items() if key not in ("job", "run", "attempt", "inline")}
    assert isinstance(FROM_TRAINER.decode(_raw("submit", submit | {"file": "f"})), Submit)
    with pytest.raises(IntegrityError):
        FROM_TRAINER.decode(_raw("submit", submit | {"file": "f"} | SPOILED[case]))


def _mutants(rng: random.Random, data: bytes) -> Iterator[bytes]:
    spoiled = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        place = rng.randrange(len(spoiled))
        match rng.randrange(4):
            case 0:
                spoiled[place] = rng.randrange(256)
            case 1:
                spoiled[place] ^= 1 << rng.randrange(8)
            case 2:
                del spoiled[place : place + rng.randrange(1, 5)]
            case _:
                spoiled[place:place] = rng.randbytes(rng.randrange(1, 5))
        if not spoiled:
            return
    yield bytes(spoiled)


@pytest.mark.row("W13")
def test_ten_thousand_damaged_messages_are_refused_or_still_mean_what_they_say() -> None:
    rng = random.Random(20261)
    refused = 0
    for _ in range(10_000):
        family, cls = rng.choice(CASES)
        for data in _mutants(rng, encode(instance(cls, rng))):
            try:
                message = FAMILIES[family].decode(data)
            except IntegrityError:
                refused += 1
            else:
                assert FAMILIES[family].decode(encode(message)) == message
    assert refused > 5_000


@pytest.mark.row("S2")
def test_nothing_is_imported_because_a_message_names_it(tmp_path: Path) -> None:
    canary = tmp_path / "was_imported"
    (tmp_path / "canary.py").write_text(f"open({str(canary)!r}, 'w').close()")
    code = """
import msgspec
from flpoc.errors import IntegrityError
from flpoc.wire.messages import FROM_SITE
for tag in ("canary", "canary.Thing", "canary:main", "!canary"):
    for fields in ({}, {"__class__": "canary"}, {"py/object": "canary.Thing"}, {"job": "canary", "run": 1}):
        try:
            FROM_SITE.decode(msgspec.msgpack.encode((tag, fields)))
        except IntegrityError:
            pass
"""
    subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, check=True, timeout=60
    )
    assert not canary.exists()


def test_a_whole_number_may_stand_for_a_float() -> None:
    assert FROM_TRAINER.decode(encode(Beat(3, 4))) == Beat(3.0, 4)


def test_an_own_message_with_a_bad_value_cannot_even_be_made() -> None:
    for act in (
        lambda: Push("j", 1, 0, "../x", 0),
        lambda: Fetch("j", 1, "model", 0, "", -1),
        lambda: Progress("a/b", 1),
    ):
        with pytest.raises(ValueError, match=r"checksum|offset|job"):
            act()
    assert FETCH.decode(encode(Fetch("j", 1, "archive", 0, "", 0))).what == "archive"
