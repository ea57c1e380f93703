"""Every command and every option of it, in every spelling, against a proof of concept that runs."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import click
import pytest
from machine.ports import free_port

from flpoc.cli.call import Call
from flpoc.cli.main import COMMANDS, main
from flpoc.cli.options import canonical
from flpoc.cli.root import Root
from flpoc.cli.schema import leaf
from inventory.inventory import read
from inventory.walk import STEPS, Step

#: Spellings that need no step of their own, and why.
ELSEWHERE = {
    ("--study", "--kit-id", "--startup-kit"): "of every command that asks a server; shown with `job list`",
}


@attrs.frozen
class Said:
    """What came of a step."""

    line: str
    status: int
    document: Mapping[str, Any]
    errors: str


class Walk:
    """The steps in their order, each once; what one keeps the later ones may say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.words = {
            "folder": str(folder),
            "home": str(folder / "home"),
            "workspace": str(folder / "poc"),
            "admin": str(folder / "poc/example_project/prod_00/admin@nvidia.com"),
            "lead": str(folder / "poc/example_project/prod_00/lead@nvidia.com"),
        }
        self.said: list[Said] = []

    def take(self, step: Step) -> Said:
        for name, text in step.files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        line = step.line
        for name, value in self.words.items():
            line = line.replace(f"{{{name}}}", value)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main([*shlex.split(line), "--format", "json"] if "--format" not in line else shlex.split(line))
        try:
            document = json.loads(out.getvalue())
        except ValueError:
            document = {"not JSON": out.getvalue()}
        name, _, key = step.keep.partition("=")
        if name and isinstance(document.get("data"), dict):
            self.words[name] = str(document["data"].get(key))
        self.said.append(Said(line, status, document, err.getvalue()))
        return self.said[-1]


def project_file(port: int) -> str:
    people = "".join(
        f"  - {{name: {name}, type: admin, org: nvidia, role: {role}}}\n"
        for name, role in (
            ("admin@nvidia.com", "project_admin"), ("org-admin@nvidia.com", "org_admin"), ("lead@nvidia.com", "lead"),
        )
    )  # fmt: skip
    return (
        "api_version: 3\nname: example_project\nparticipants:\n"
        f"  - {{name: server, type: server, org: nvidia, fed_learn_port: {port}, default_host: localhost}}\n"
        "  - {name: site-1, type: client, org: nvidia}\n  - {name: site-2, type: client, org: nvidia}\n" + people
    )


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Said]]:
    """All steps, taken once; nothing of it is left running."""
    folder = tmp_path_factory.mktemp("walk")
    (folder / "home").mkdir()
    (folder / "home" / "project.yml").write_text(project_file(free_port()), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        for name in [
            name
            for name in os.environ
            if name.startswith("FLPOC_") and name not in {"FLPOC_TESTS_RUN", "FLPOC_POC_PORT"}
        ]:
            patch.delenv(name)
        patch.setenv("HOME", str(folder / "home"))
        patch.setenv("FLPOC_POC_WORKSPACE", str(folder / "poc"))
        patch.setenv("FLPOC_SIMULATOR_WORKSPACE_ROOT", str(folder / "simulated"))
        (folder / "tmp").mkdir()
        patch.setattr(tempfile, "tempdir", str(folder / "tmp"))  # what --debug keeps is gone with the rest
        patch.chdir(folder)
        taken = Walk(folder)
        try:
            for step in STEPS:
                taken.take(step)
            yield taken.said
        finally:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                main(["poc", "clean", "--force"])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("place", range(len(STEPS)), ids=[f"{at:03d} {one.line[:60]}" for at, one in enumerate(STEPS)])
def test_every_step_ends_as_it_must(walk, place):
    step, said = STEPS[place], walk[place]
    shown = f"{said.line}\n{json.dumps(said.document)[:2000]}\n{said.errors[:2000]}"
    document = said.document
    assert said.status == step.exit, shown
    assert document.get("schema_version") == "1", shown
    assert document["exit_code"] == step.exit, shown
    if step.code:
        assert (document["status"], document["error_code"]) == ("error", step.code), shown
        assert document["message"], shown
        assert document["hint"], shown
    else:
        assert document["status"] == "ok", shown
    fields, data = step.fields.split(), document.get("data")
    if fields[:1] == ["[]"]:
        assert data, shown
        fields, data = fields[1:], data[0]
    assert [field for field in fields if field not in (data or {})] == [], shown


def called(line: str) -> str:
    """Which command a line calls, by its own name; empty if there is none."""
    try:
        return leaf(Root(Call(), COMMANDS), shlex.split(line)).command_path.removeprefix("flpoc ")
    except (click.UsageError, AssertionError):
        return ""


DOCUMENTED = [one for one in read()[0] if one.output and any(called(step.line) == one.path for step in STEPS)]


@pytest.mark.parametrize("command", DOCUMENTED, ids=lambda one: one.path)
def test_every_documented_field_is_in_an_answer(walk, command):
    answers = [one.document["data"] for one in walk if one.document.get("data") and called(one.line) == command.path]
    missing = [path for path in command.output if "?" not in path and not any(has(one, path) for one in answers)]
    assert missing == []


def has(data: Any, path: str) -> bool:
    """Whether a documented field is there: ``a.b``, ``a[]`` for a list, ``a[].b`` in its rows, if it has any."""
    name, dot, rest = path.partition(".")
    key, is_list = name.removesuffix("[]"), name.endswith("[]")
    if key and (not isinstance(data, dict) or key not in data):
        return False
    value = data[key] if key else data
    if is_list and not isinstance(value, list):
        return False
    rows = value if is_list else [value]
    return not dot or all(has(row, rest) for row in rows)


def leaves() -> dict[str, click.Command]:
    """All commands of core, by their words; groups that do something by themselves, too."""
    from flpoc.cli.command import Group

    found: dict[str, click.Command] = {}
    waiting: list[tuple[str, click.Command]] = [("", Group("flpoc", table=COMMANDS))]
    while waiting:
        path, command = waiting.pop()
        if isinstance(command, click.Group):
            inner = click.Context(command)
            for name in command.list_commands(inner):
                one = command.get_command(inner, name)
                assert one is not None
                waiting.append((f"{path} {name}".strip(), one))
        if path and (not isinstance(command, click.Group) or command.invoke_without_command):
            found[path] = command
    return found


def used(path: str) -> set[str]:
    """The options that the steps of a command give, as they are spelt."""
    depth, found = len(path.split()), set()
    for step in STEPS:
        words = shlex.split(step.line)
        if [word.replace("_", "-") for word in words[:depth]] == path.split():
            found |= {word for word in words[depth:] if word.startswith("-")}
    return found


def test_the_walk_calls_every_command():
    walked = {" ".join(word.replace("_", "-") for word in shlex.split(step.line)) for step in STEPS}
    missing = [path for path in leaves() if not any(one == path or one.startswith(f"{path} ") for one in walked)]
    assert missing == []


@pytest.mark.parametrize("path", sorted(leaves()))
def test_the_walk_gives_every_option_in_every_spelling(path):
    everywhere = {spelling for group in ELSEWHERE for spelling in group}
    spellings = {
        spelling
        for one in leaves()[path].params
        if isinstance(one, click.Option) and one.name != "help"
        for spelling in (*one.opts, *one.secondary_opts)
    }
    given = used(path) | {canonical(one) for one in used(path)}
    assert sorted(spellings - given - everywhere) == []
