"""Every command says how it is used, and what it says works."""

from __future__ import annotations

import importlib
import importlib.util
import shlex
import sys

import click
import pytest

from flpoc.cli.call import Call
from flpoc.cli.command import Command, Group
from flpoc.cli.main import COMMANDS, main
from flpoc.cli.root import Root

#: Groups whose commands need nothing but an installed flpoc.
SELF_SUFFICIENT = ("plugins", "version")


def leaves(command, path):
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from leaves(command.get_command(context, name), f"{path} {name}")
    else:
        yield path, command


def installed():
    for name, place, _ in COMMANDS:
        module, _, attribute = place.partition(":")
        if importlib.util.find_spec(module):
            yield from leaves(getattr(importlib.import_module(module), attribute), f"flpoc {name}")


@pytest.mark.parametrize(("path", "command"), [pytest.param(*one, id=one[0]) for one in installed()])
def test_every_command_has_help_and_an_example_of_itself(path, command):
    assert isinstance(command, Command)
    assert command.help
    assert command.examples
    assert all(example.startswith(path) for example in command.examples)


@pytest.mark.parametrize("example", [example for _, command in installed() for example in command.examples])
def test_the_words_of_every_example_are_right(example):
    from flpoc.cli.global_options import take_globals

    words = list(take_globals(shlex.split(example)[1:]).words)
    context = Root(Call(), COMMANDS).make_context("flpoc", words, obj=Call())
    rest = [*context._protected_args, *context.args]
    while isinstance(context.command, Group) and rest:
        name, command, rest = context.command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
        rest = [*getattr(context, "_protected_args", ()), *context.args]
    assert not isinstance(context.command, Group) or context.command.invoke_without_command


@pytest.mark.parametrize(
    "example",
    [example for path, command in installed() if path.split()[1] in SELF_SUFFICIENT for example in command.examples],
)
def test_examples_that_need_nothing_succeed(example, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("acme", "acme.hooks"):  # the private plugin of the examples
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "hooks.py").write_text("FLPOC_API = 1", encoding="utf-8")
    status = main(shlex.split(example)[1:])
    said = capsys.readouterr()
    assert status == 0, said
    assert said.out
