"""Every command says how it is used, and what it says works."""

from __future__ import annotations

import importlib
import importlib.util
import json
import shlex
import shutil
import sys
from pathlib import Path

import click
import pytest

from flpoc.cli.call import Call
from flpoc.cli.command import Command, Group
from flpoc.cli.main import COMMANDS, main
from flpoc.cli.root import Root

#: Groups whose commands need nothing but an installed flpoc.
SELF_SUFFICIENT = ("completion", "plugins", "recipe", "version")
#: Commands that need files, and nothing that runs.
OF_FILES = ("cert", "package", "preflight-check", "provision")
#: Commands that need a few folders, or a proof of concept that does not run; see ``surroundings``.
LOCAL = (
    "flpoc config list", "flpoc config inspect", "flpoc job check", "flpoc job create", "flpoc job list-templates",
    "flpoc job show-variables", "flpoc poc add-site", "flpoc poc add-user", "flpoc poc config", "flpoc poc prepare",
    "flpoc poc prepare-jobs-dir",
)  # fmt: skip


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
    # the program of the examples
    made = 'NumpyFedAvgRecipe(min_clients=1, train_script="train.py").execute()'
    (tmp_path / "job.py").write_text(f"from flpoc.recipe import NumpyFedAvgRecipe\n{made}\n", encoding="utf-8")
    (tmp_path / "train.py").touch()
    status = main(shlex.split(example)[1:])
    said = capsys.readouterr()
    assert status == 0, said
    assert said.out


def write_files(port: int) -> None:
    """The files that examples name, as somebody would have written them."""
    from flpoc.provision.sample import SAMPLE

    person = "name: example_project\nparticipants:\n  - name: {}\n    org: alpha\n    type: {}\n"
    files = {
        "project.yml": SAMPLE.replace("8002", str(port)),
        "profile.yaml": f"name: example_project\nserver: {{host: localhost, fed_learn_port: {port}}}\n",
        "hospital-a.yaml": person.format("hospital-a", "client"),
        "alice.yaml": person.format("alice@hospital.org", "admin") + "    role: lead\n",
        "site-3.yml": "name: site-3\norg: nvidia\n",
        "alice.yml": "name: alice@hospital.org\norg: nvidia\nrole: lead\n",
    }
    for name, text in files.items():
        Path(name).write_text(text, encoding="utf-8")


def do_what_comes_before(example: str) -> None:
    """Run the commands that somebody would have run before the one of an example."""
    lines: list[str] = []
    if example.startswith("flpoc provision -g"):
        Path("project.yml").unlink()
    elif "--add-" in example or "preflight-check" in example:
        lines = ["provision"]
    elif example.startswith(("flpoc cert approve", "flpoc package")):
        requests = [f"cert request -p {name}.yaml" for name in ("hospital-a", "alice")]
        lines = ["cert init --profile profile.yaml -o ca", *requests]
    for line in lines:
        assert main(shlex.split(line)) == 0
    for path in Path().glob("*/*.request.zip"):
        shutil.copy(path, path.name)
    if example.startswith("flpoc package"):
        assert main(shlex.split("cert approve hospital-a.request.zip -c ca --profile profile.yaml")) == 0


@pytest.mark.parametrize(
    "example",
    [
        example
        for path, command in installed()
        if path.split()[1] in OF_FILES and not any(one.name == "startup_kit" for one in command.params)
        for example in command.examples
    ],
)
def test_examples_that_need_files_succeed(example, capsys, tmp_path, monkeypatch, spare_port):
    monkeypatch.chdir(tmp_path)
    write_files(spare_port())
    do_what_comes_before(example)
    if "FINGERPRINT" in example:
        fingerprint = json.loads(Path("ca/ca.json").read_text(encoding="utf-8"))["fingerprint"]
        example = example.replace("FINGERPRINT", fingerprint)
    capsys.readouterr()
    status = main(shlex.split(example)[1:])
    said = capsys.readouterr()
    assert status == 0, said
    assert said.out


@pytest.fixture
def surroundings(tmp_path, monkeypatch, capsys):
    """What the examples of local commands speak of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLPOC_POC_WORKSPACE", str(tmp_path / "poc"))
    for folder in ("jobs", "scripts"):
        (tmp_path / folder).mkdir()
    (tmp_path / "scripts" / "mine.py").touch()
    assert main(["poc", "prepare", "-n", "2"]) == 0
    for folder in ("my-job", "job-templates/own"):
        assert main(["job", "create", "-j", folder, "-w", "sag_np"]) == 0
    capsys.readouterr()


@pytest.mark.parametrize("example", [one for path, command in installed() if path in LOCAL for one in command.examples])
@pytest.mark.usefixtures("surroundings")
def test_examples_of_local_commands_succeed(example, capsys):
    status = main(shlex.split(example)[1:])
    said = capsys.readouterr()
    assert status == 0, said
    assert said.out
