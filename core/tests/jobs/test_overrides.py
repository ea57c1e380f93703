"""Values of the command line in files of a job: typed as in HOCON, comments kept."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from flpoc.errors import ConfigError, UsageError
from flpoc.jobs.overrides import Override, parse_pair, rewritten, split_key, typed, with_value
from flpoc.settings import parse_text

CONF = Path("job.conf")


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("10", 10),
        ("1.5", 1.5),
        ("true", True),
        ("null", None),
        ("[1, 2]", [1, 2]),
        ("[--epochs, 3]", ["--epochs", 3]),
        ('{"a": 1}', {"a": 1}),
        ("{a = 1}", {"a": 1}),
        ("{stall = 10 m}", {"stall": 600.0}),
        ('"3"', "3"),
        ("10 m", datetime.timedelta(minutes=10)),
        ("", ""),
        ("my job", "my job"),
        ("True", "True"),
        ("007", "007"),
        ("10 apples", "10 apples"),
        ("NaN", "NaN"),
        ("http://a//b # c", "http://a//b # c"),
        ("a=b", "a=b"),
        ("${HOME}", "${HOME}"),
    ],
)
def test_values_are_typed_as_in_hocon(word: str, value: Any) -> None:
    assert typed(word) == value
    assert type(typed(word)) is type(value) or isinstance(value, dict)


@pytest.mark.parametrize("word", ["[1, 2", "{a}", "{a = 1", '["x]', "[${HOME}]", '{include "x"}'])
def test_what_begins_like_a_list_or_a_set_must_be_one(word: str) -> None:
    with pytest.raises(UsageError):
        typed(word)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("rounds", ("rounds",)),
        ("timeouts.stall", ("timeouts", "stall")),
        ('scripts."@default".args', ("scripts", "@default", "args")),
        ("scripts.@default.args", ("scripts", "@default", "args")),
        ('env."A.B"', ("env", "A.B")),
    ],
)
def test_keys_are_dotted_and_what_has_dots_is_quoted(text: str, parts: tuple[str, ...]) -> None:
    assert split_key(text) == parts


@pytest.mark.parametrize("pair", ["rounds", "=3", " =3", "", ".a=1", "a.=1", "a..b=1", '"a=1', 'a"b=1'])
def test_what_is_no_pair_is_refused(pair: str) -> None:
    with pytest.raises(UsageError):
        parse_pair(pair)


def test_a_set_on_the_way_is_made_and_a_value_on_the_way_is_an_error() -> None:
    assert with_value({"a": 1}, ("b", "c"), 2) == {"a": 1, "b": {"c": 2}}
    with pytest.raises(UsageError, match="a is 1"):
        with_value({"a": 1}, ("a", "b"), 2)


def change(text: str, *pairs: str, name: str = "job.conf") -> tuple[str, bool]:
    return rewritten(text, Path(name), [parse_pair(one) for one in pairs], lambda _, key: key)


TEXT = """# a job
name = old      # of the template
rounds = 5 // how many
args = [--steps, "20", # two
  --rate, "0.1"]
timeouts {
  stall = 10 m  # long
}
needs { cpus = 1, gpus = 0 }
"quoted key" = "x # no comment"
last = 1"""


def test_comments_and_what_was_not_changed_stay_byte_for_byte() -> None:
    text, has_comments = change(TEXT, "rounds=10", "name=new one", "timeouts.stall=5 m", "needs.gpus=2", "args=[a]")
    assert has_comments
    assert (
        text
        == """# a job
name = "new one"      # of the template
rounds = 10 // how many
args = ["a"]
timeouts {
  stall = 5 m  # long
}
needs { cpus = 1, gpus = 2 }
"quoted key" = "x # no comment"
last = 1"""
    )


def test_a_new_value_is_put_at_the_end() -> None:
    text, has_comments = change(TEXT, "timeouts.join_timeout=60", "quorum=2", "last=2")
    assert has_comments
    assert text == TEXT[:-1] + "2\ntimeouts.join_timeout = 60\nquorum = 2\n"


def test_a_new_value_is_put_before_the_brace_that_closes_all() -> None:
    text, has_comments = change("# all\n{\n  rounds = 5 # five\n}\n# the end\n", "seed=3")
    assert has_comments
    assert text == "# all\n{\n  rounds = 5 # five\nseed = 3\n}\n# the end\n"


def test_a_set_can_be_replaced_by_a_value_and_a_value_by_a_set() -> None:
    text, _ = change("workflow {\n  name = cyclic # c\n}\nrounds = 5", "workflow=fedavg", "rounds={a = 1}")
    assert text == 'workflow = "fedavg"\nrounds = {"a": 1}'


@pytest.mark.parametrize(
    "text",
    [
        "a = 1, b { x = 2 }, c = 3\n",
        "a: 1\nb: {x: 1}\nc = q\n",
        'a = 1\n"b" { "x" = 2 }\nc += 3\n',
        "a =\n  1\nb\n{\nx = 1\n}\nc = [\n1\n2\n]\n",
        "a = 1 # {\nb { x = 1 } # }\nc = [{ d = 1 }, { d = 2 }]\n",
        'a = """x\n= 3"""\nb.x = 4\nc = d e f\n',
        "{ a = 1, b { x = 2 }, c = 3 }",
        '{"a": 1, "b": {"x": 2}, "c": 3}',
    ],
)
def test_whatever_the_text_looks_like_it_says_what_is_wanted(text: str) -> None:
    before = parse_text(text, CONF)
    for pair, key, value in (
        ("a=7", ("a",), 7),
        ("b.x=8", ("b", "x"), 8),
        ("c=[9]", ("c",), [9]),
        ("new=0", ("new",), 0),
    ):
        after, _ = change(text, pair)
        assert parse_text(after, CONF) == with_value(before, key, value)
    after, _ = change(text, "a=7", "b.x=8", "c=[9]", "new=0")
    assert parse_text(after, CONF) == {"a": 7, "b": {"x": 8}, "c": [9], "new": 0}


def test_where_the_text_cannot_be_changed_it_is_written_anew_and_that_is_said() -> None:
    text, has_comments = change("# c\ntimeouts.stall = 1\n", "timeouts={join_timeout = 10 m}")
    assert json.loads(text) == {"timeouts": {"join_timeout": 600.0}}
    assert not has_comments


@pytest.mark.parametrize(
    ("name", "text", "after"),
    [
        ("job.json", '{"rounds": 5}', '{\n  "rounds": 5,\n  "t": {\n    "s": 600.0\n  }\n}\n'),
        ("job.yml", "rounds: 5 # five\n", "rounds: 5\nt:\n  s: 600.0\n"),
    ],
)
def test_other_formats_are_written_anew(name: str, text: str, after: str) -> None:
    assert change(text, "t.s=10 m", name=name) == (after, "#" not in text)


def test_what_cannot_be_read_is_refused() -> None:
    with pytest.raises(ConfigError):
        change("rounds = = 5 {", "rounds=1")
    with pytest.raises(ConfigError, match="not a set of settings"):
        change("[1, 2]", "rounds=1")


def test_keys_are_settled_in_what_earlier_changes_have_made() -> None:
    seen = []

    def settle(data: Any, key: tuple[str, ...]) -> tuple[str, ...]:
        seen.append(dict(data))
        return key

    rewritten("a = 1", CONF, [Override(("a",), 2, "2"), Override(("b",), 3, "3")], settle)
    assert seen == [{"a": 1}, {"a": 2}]
