"""Files into data: no guessing, no waiting, no reaching out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

from flpoc.errors import ConfigError
from flpoc.settings import MAX_FILE_BYTES, read_file, structure


@attrs.frozen
class Inner:
    size: int = 1


@attrs.frozen
class Typed:
    name: str
    count: int = 0
    inner: Inner = attrs.field(factory=Inner)
    many: dict[str, Inner] = attrs.field(factory=dict)


def read(tmp_path: Path, name: str, text: str | bytes) -> Any:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_file(path)


SAME = {
    "a.json": '{"name": "x", "inner": {"size": 2}}',
    "a.conf": 'name = x\r\ninner { size = 2 } // include "nothing"\r\n',
    "b.conf": '\ufeff{"name": "x", "inner": {"size": 2}}',
    "a.yml": "name: x\r\ninner: {size: 2}\r\n",
    "b.yaml": "\ufeffname: x\ninner:\n  size: 2\n",
}


@pytest.mark.row("G1")
@pytest.mark.parametrize("name", SAME)
def test_every_format_says_the_same(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, name, SAME[name]) == {"name": "x", "inner": {"size": 2}}


REFUSED: dict[str, tuple[str, str | bytes, str]] = {
    "duplicate key": ("a.json", '{"a": 1, "a": 2}', "'a' is given twice"),
    "duplicate key, not passed on to HOCON": ("a.conf", '{"a": 1, "a": 2}', "'a' is given twice"),
    "duplicate key further in": ("a.conf", '{"x": [{"a": {}, "a": {}}]}', "'a' is given twice"),
    "duplicate key in HOCON": ("a.conf", "role = user\nrole = admin", "line 2: key 'role' is given twice"),
    "duplicate key on a path": ("a.conf", "a { b = 1 }\na.b = 2", "line 2: key 'a.b' is given twice"),
    "duplicate key in a list": ("a.conf", "x = [{ a = 1, a = 2 }]", "key 'x.a' is given twice"),
    "a value and a set of one key": ("a.conf", "a { b = 2 }\na = 1", "key 'a' is given twice"),
    "added to": ("a.conf", "a = [1]\na += 2", "key 'a' is given twice"),
    "NaN": ("a.conf", '{"a": NaN}', "NaN is not a number"),
    "infinity": ("a.json", '{"a": -Infinity}', "not a number"),
    "a number beyond all": ("a.conf", '{"a": 1e999}', "1e999 is not a number"),
    "deep": ("a.json", "[" * 100_000, "nested too deeply"),
    "deep, as conf": ("a.conf", "[" * 100_000, "nested too deeply"),
    "deep and closed": ("a.conf", "[" * 5000 + "]" * 5000, "nested"),
    "deep HOCON": ("a.conf", "a = " + "[" * 3000 + "]" * 3000, "a.conf"),
    "deep YAML": ("a.yml", "[" * 100_000, "nested too deeply"),
    "deep YAML in blocks": ("a.yml", "- " * 2000 + "x", "nested too deeply"),
    "not UTF-8": ("a.conf", "name = größe".encode("latin-1"), "not UTF-8 text (byte 9)"),
    "not UTF-8 either": ("a.yml", "a: ü".encode("utf-16"), "not UTF-8"),
    "too large": ("a.json", b" " * (MAX_FILE_BYTES + 1), "larger than"),
    "alias": ("a.yml", "a: &x 1\nb: *x\n", "line 2: aliases"),
    "merge": ("a.yml", "a:\n  <<: {b: 1}\n", "line 2: merges"),
    "tag": ("a.yml", "a: !!python/object/apply:os.system ['true']\n", "line 1: tags"),
    "harmless tag": ("a.yml", "a: !!str 1\n", "line 1: tags"),
    "YAML duplicate": ("a.yml", "a: 1\nb: 2\na: 3\n", "line 3: key 'a' is given twice"),
    "octal": ("a.yml", "a: 012\n", "line 1: 012 can be read in two ways"),
    "base sixty": ("a.yml", "a: 1:30\n", "can be read in two ways"),
    "underscores": ("a.yml", "a: 1_000\n", "can be read in two ways"),
    "date": ("a.yml", "a: 2026-01-01\n", "a: datetime.date"),
    "infinite YAML": ("a.yml", "a: .inf\n", "a: inf is not a number"),
    "key that is no text": ("a.yml", "no: 1\n", "the key False is not text"),
    "key that is a list": ("a.yml", "[a]: 1\n", "line 1"),
    "second document": ("a.yml", "a: 1\n---\nb: 2\n", "line 2"),
    "broken YAML": ("a.yml", "a: [1\nb: 2\n", "line"),
    "include": ("a.conf", 'include "/etc/passwd"', "include is not allowed"),
    "include in braces": ("a.conf", 'a { include "/etc/passwd" }', "include is not allowed"),
    "include after a comma": ("a.conf", 'a = 1, include file("/etc/passwd")', "include is not allowed"),
    "include in capitals": ("a.conf", 'INCLUDE "/etc/passwd"', "include is not allowed"),
    "include over lines": ("a.conf", 'a = 1\ninclude\n  url("http://127.0.0.1:9/")', "include is not allowed"),
    "required include": ("a.conf", 'include required(file("/etc/passwd"))', "include is not allowed"),
    "include as a value": ("a.conf", 'a = include "/etc/passwd"', "include is not allowed"),
    "substitution": ("a.conf", "a = ${HOME}", "substitutions"),
    "optional substitution": ("a.conf", "a = x${?HOME}", "substitutions"),
    "broken HOCON": ("a.conf", "a = {", "a.conf"),
    "broken HOCON, by line": ("a.conf", "a = 1\nb = 2\nc {\nd = = 3\n}", "a.conf: line 4: cannot be read as HOCON"),
    "something after JSON": ("a.conf", '{"a": 1}\nb = 2', "a.conf: line 2: something follows the closing brace"),
}


@pytest.mark.row("G1", "G3", "G4", "G5", "G6", "G7", "G8")
@pytest.mark.parametrize("case", REFUSED)
def test_what_could_be_misread_or_reach_out_is_refused(tmp_path: Path, case: str) -> None:
    name, text, says = REFUSED[case]
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, name, text)
    assert says in refused.value.message
    assert name in refused.value.message


def test_words_in_quotes_are_only_words(tmp_path: Path) -> None:
    text = 'a = "include file(x)"\nb = "cost ${x}"\nc = """\ninclude "y"\n"""\ninclude_all = true\n# include "z"\n'
    found = read(tmp_path, "a.conf", text)
    assert (found["a"], found["b"], found["include_all"]) == ("include file(x)", "cost ${x}", True)


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ('a.b."x.y" = 1', {"a": {"b": {"x.y": 1}}}),
        ('"x.y".b = 1 # c', {"x.y": {"b": 1}}),
        ('"a"."b" = 1\nc = 2', {"a": {"b": 1}, "c": 2}),
        ('a."x" = {\n y = 1 # z\n}\nq = 3', {"a": {"x": {"y": 1}}, "q": 3}),
        ('a { "x.y".z { "q.r"."s.t" = [1,\n2] } } # e', {"a": {"x.y": {"z": {"q.r": {"s.t": [1, 2]}}}}}),
        ('a."x.y" = "http://u.v" // "w".x', {"a": {"x.y": "http://u.v"}}),
        ('k = [ { a."b.c" = 1 }, 2 ]', {"k": [{"a": {"b.c": 1}}, 2]}),
    ],
)
def test_quotes_in_dotted_keys_are_hocon(tmp_path: Path, text: str, data: Any) -> None:
    assert read(tmp_path, "a.conf", text) == data


def test_a_dotted_key_with_quotes_that_is_there_twice_is_refused_by_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"line 3: key 'a\.x' is given twice"):
        read(tmp_path, "a.conf", 'a."x" = 1\n\na."x" = 2')


def test_sets_of_one_key_add_to_each_other_in_hocon(tmp_path: Path) -> None:
    text = 'a { b = "x = 1, x = 2" }\na.c = 2 # a.c = 3\na { d = [{ e = 1 }, { e = 2 }] }\n"a.b" = """\na.c = 4"""\n'
    found = read(tmp_path, "a.conf", text)
    assert found["a"] == {"b": "x = 1, x = 2", "c": 2, "d": [{"e": 1}, {"e": 2}]}


@pytest.mark.row("C7")
@pytest.mark.parametrize("kind", ["pipe", "folder", "nothing", "device"])
def test_what_is_no_file_is_said_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.conf"
    {
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "nothing": int,
        "device": lambda: path.symlink_to("/dev/zero"),
    }[kind]()
    with pytest.raises(ConfigError, match="no such file" if kind == "nothing" else "not a regular file"):
        read_file(path)


WRONG: dict[str, tuple[str, str]] = {
    "name: no\n": ("name: Expected `str`, got `bool`", ""),
    "name: x\ncount: yes\n": ("count: Expected `int`, got `bool`", ""),
    "name: x\ncount: '1'\n": ("count: Expected `int`, got `str`", ""),
    "name: 1.5\n": ("name: Expected `str`, got `float`", ""),
    "name: x\ninner: {siez: 1}\n": ("inner.siez: no such setting", "did you mean 'size'?"),
    "name: x\nmany: {a: {siez: 1}}\n": ("many.a.siez: no such setting", "did you mean 'size'?"),
    "name: x\nmany: {a: {size: x}}\n": ("size", ""),
    "count: 1\n": ("missing required field `name`", ""),
}


@pytest.mark.row("G2", "G4")
@pytest.mark.parametrize("text", WRONG)
def test_types_are_not_guessed_and_errors_have_the_path(tmp_path: Path, text: str) -> None:
    says, hint = WRONG[text]
    with pytest.raises(ConfigError) as refused:
        structure(read(tmp_path, "a.yml", text), Typed)
    assert says in refused.value.message
    assert refused.value.hint == hint


RELATIVE = """
class relativedelta:
    def __init__(self, **units):
        for unit in ("years", "months", "days", "hours", "minutes", "seconds", "microseconds"):
            setattr(self, unit, units.get(unit, 0))
"""


def test_durations_are_the_same_where_dateutil_is_installed(tmp_path: Path) -> None:
    """pyhocon makes another class of them there: pandas and matplotlib bring it along."""
    (tmp_path / "dateutil").mkdir()
    (tmp_path / "dateutil" / "__init__.py").touch()
    (tmp_path / "dateutil" / "relativedelta.py").write_text(RELATIVE)
    (tmp_path / "a.conf").write_text("short = 10 s\nlong = [5 m, 2 days]\ntext = some text\n")
    (tmp_path / "b.conf").write_text("period = 2 months\n")
    code = """
import sys
from pathlib import Path
from flpoc.settings import read_file
print(read_file(Path("a.conf")))
try:
    read_file(Path("b.conf"))
except Exception as error:
    print(error.message)
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    read, refused = done.stdout.splitlines()
    assert "timedelta(seconds=10)" in read
    assert "[datetime.timedelta(seconds=300), datetime.timedelta(days=2)]" in read
    assert "period: dateutil.relativedelta.relativedelta cannot be used here" in refused
