"""Every command, option and default that is documented is there: the inventory against `--schema`."""

from __future__ import annotations

import contextlib
import io
import json
from functools import cache
from typing import Any

import pytest

from flpoc.cli.call import Call
from flpoc.cli.global_options import options_for_help, take_globals
from flpoc.cli.main import COMMANDS, main
from flpoc.cli.options import canonical, rewrite
from flpoc.cli.root import Root
from flpoc.cli.schema import leaf
from flpoc.errors import EXIT_STATUS
from inventory.inventory import DocumentedCommand, DocumentedOption, read

ALL, EVERYWHERE = read()
BUILT = [one for one in ALL if one.built == "now"]
#: Decisions are numbered 1 to this.
LAST_RULING = 37

commands = pytest.mark.parametrize("command", BUILT, ids=lambda one: one.path)
options = pytest.mark.parametrize(
    ("command", "option"),
    [pytest.param(one, each, id=f"{one.path} {each.spellings[0]}") for one in BUILT for each in one.option],
)


@cache
def schema(path: str) -> dict[str, Any]:
    """What `flpoc PATH --schema` prints; raises if there is no such command."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        status = main([*path.split(), "--schema"])
    assert status == 0, err.getvalue()
    return json.loads(out.getvalue())


def exists(path: str) -> bool:
    try:
        schema(path)
    except AssertionError:
        return False
    return True


def found(command: DocumentedCommand, option: DocumentedOption) -> dict[str, Any]:
    """The option in the schema that has the first documented spelling."""
    for one in schema(command.path)["args"]:
        if canonical(option.spellings[0]) in map(canonical, (one["name"], *one.get("aliases", ()))):
            return one
    raise AssertionError(f"flpoc {command.path} has no {option.spellings[0]}")


# -- the data


def test_every_command_is_there_once():
    paths = [one.path for one in ALL]
    assert len(set(paths)) == len(paths)


def test_rulings_are_those_that_there_are():
    named = {number for command in ALL for one in (command, *command.option) for number in one.rulings}
    assert named <= set(range(1, LAST_RULING + 1))


def test_a_code_has_one_exit_status():
    statuses: dict[str, set[int]] = {}
    for command in ALL:
        for code, status in command.errors.items():
            statuses.setdefault(code, set()).add(status)
    assert {code: found for code, found in statuses.items() if len(found) > 1} == {}


def test_a_code_that_cannot_come_says_why():
    assert [one.path for one in ALL if one.unused and not one.note and not one.common] == []


def test_what_is_not_built_says_why():
    assert [one.path for one in ALL if one.built == "never" and not (one.rulings or one.note)] == []


# -- commands


@commands
def test_a_documented_command_is_there(command):
    assert schema(command.path)["command"] == f"flpoc {command.path}"


@pytest.mark.parametrize("command", [one for one in ALL if one.built != "now"], ids=lambda one: one.path)
def test_what_is_not_built_by_decision_is_not_there(command):
    assert not exists(command.path)


@pytest.mark.parametrize(
    ("command", "alias"), [pytest.param(one, each, id=f"{one.path} {each}") for one in BUILT for each in one.aliases]
)
def test_a_documented_alias_is_the_same_command(command, alias):
    group = command.path.rpartition(" ")[0]
    assert schema(f"{group} {alias}".strip())["args"] == schema(command.path)["args"]


@commands
def test_documented_facts_hold(command):
    said = schema(command.path)
    assert ("jsonl" in said.get("output_modes", ())) is ("jsonl" in command.modes)
    assert said.get("streaming", False) is ("jsonl" in command.modes)
    for fact, claimed in command.facts.items():
        have = said["retry_token"]["supported"] if fact == "retry_token" else said.get(fact, False)
        assert have is claimed, fact


@commands
def test_documented_arguments_are_there_in_their_order(command):
    have = [one for one in schema(command.path)["args"] if not one["name"].startswith("-")]
    assert len(have) >= len(command.argument)
    for wanted, one in zip(command.argument, have, strict=False):
        assert one["required"] is wanted.required, one
        assert (one.get("nargs") in ("*", "+")) is wanted.words, one
        assert not wanted.choices or one["choices"] == list(wanted.choices)
    assert not [one for one in have[len(command.argument) :] if one["required"]], "more is asked for than is documented"


@commands
def test_documented_codes_have_the_documented_exit_status(command):
    assert {code: EXIT_STATUS.get(code, 1) for code in command.errors} == command.errors


# -- options


@options
def test_every_documented_spelling_of_an_option_is_accepted(command, option):
    name = found(command, option)["name"]
    root = Root(Call(), COMMANDS)
    params = leaf(root, command.path.split()).command.params
    for spelling in option.spellings:
        line = {"flag": [spelling], "value": [spelling, "7"], "words": [spelling, "7", "8"], "optional": [spelling]}
        written = rewrite(params, line[option.takes])
        known = {each for one in params for each in (*one.opts, *one.secondary_opts) if name in one.opts}
        assert not written or written[0] in known, spelling


@options
def test_an_option_takes_what_is_documented(command, option):
    one = found(command, option)
    assert (one["type"] == "boolean") is (option.takes == "flag")
    assert (one.get("nargs") == "+") is (option.takes == "words")
    assert option.takes != "optional" or one.get("nargs") == "?"
    assert not option.choices or one["choices"] == list(option.choices)


@options
def test_an_option_has_the_documented_default(command, option):
    one = found(command, option)
    assert one["required"] is option.required
    if option.default in (None, ""):
        assert not one["default"], one
    else:
        assert one["default"] == option.default


@pytest.mark.parametrize("option", EVERYWHERE, ids=lambda one: one.spellings[0])
def test_options_of_every_command_are_accepted_before_and_after_it(option):
    if option.spellings[0] == "-h":
        for line in (["-h"], ["--help"], ["job", "-h"], ["job", "list", "--help"]):
            with contextlib.redirect_stdout(io.StringIO()) as out:
                assert main(line) == 0
            assert out.getvalue().startswith("Usage: ")
        return
    [known] = [one for one in options_for_help() if option.spellings[0] in one.opts]
    for spelling in option.spellings:
        assert spelling in known.opts
        words = [spelling] if option.takes == "flag" else [spelling, "7"]
        assert spelling not in take_globals([*words, "job", "list"]).words
        if not option.note.startswith("only before"):
            assert spelling not in take_globals(["job", "list", *words]).words
    assert option.takes == "flag" or known.default == option.default
