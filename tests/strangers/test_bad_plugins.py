"""With a broken, a future and two clashing plugins installed, everything that does not need them works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from strangers.conftest import project

from flpoc.cli.plugins_check import HEAVY

RUN = "import sys; from flpoc.cli.main import main; sys.exit(main())"

GOOD = """
    import click
    from flpoc import Component, hookimpl
    from flpoc.cli.command import Command

    FLPOC_API = 1

    @hookimpl
    def flpoc_trackers():
        yield Component("{tracker}", "On paper", lambda settings: object())

    @hookimpl
    def flpoc_commands():
        return (click.command("{command}", cls=Command, examples=(), mutating=False, idempotent=True)(lambda: {{}}),)
"""
HOOK = """
    {first}
    from flpoc import hookimpl

    FLPOC_API = 1

    @hookimpl
    def flpoc_{name}():
        {does}
"""
#: Packages by name, with the source of their hooks.
PACKAGES = {
    "acme-broken": "import nowhere_to_be_found",
    "acme-exits": "import sys; sys.exit(3)",
    "acme-future": "FLPOC_API = 99",
    "acme-one": GOOD.format(tracker="paper", command="paper"),
    "acme-two": GOOD.format(tracker="paper", command="paper"),
    "acme-usurper": GOOD.format(tracker="stone", command="version"),
    "acme-falters": HOOK.format(first="import os", name="launchers", does="raise OSError('out of order')"),
    "acme-heavy": HOOK.format(first="import numpy", name="commands", does="return ()"),
}

#: Prints, for every command there is, how its --help ended; and what was imported for the help of all of it.
EVERY_HELP = """
import contextlib, io, json, sys
from flpoc.cli.main import COMMANDS, main
import click
from flpoc.cli.call import Call
from flpoc.cli.root import Root

def leaves(command, path):
    yield path
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            yield from leaves(command.get_command(click.Context(command), name), [*path, name])

root = Root(Call(), COMMANDS)
found = {}
for name in root.table:
    for path in leaves(root.get_command(click.Context(root), name), [name]):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            status = main([*path, "--help"])
        found[" ".join(path)] = [status, out.getvalue()[:6]]
print(json.dumps(found))
"""


class Victim:
    """A user whose environment has all these packages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        packages = folder / "packages"
        packages.mkdir()
        for name, source in PACKAGES.items():
            module = name.replace("-", "_")
            (packages / f"{module}.py").write_text(textwrap.dedent(source))
            info = packages / f"{module}-1.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            (info / "entry_points.txt").write_text(f"[flpoc]\n{name} = {module}\n")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FLPOC_CONFIG")}
        self.env = {
            **kept,
            "PYTHONPATH": str(packages),
            "HOME": str(folder / "home"),
            "FLPOC_POC_WORKSPACE": str(folder / "poc"),
        }

    def python(self, code: str, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *words],
            env={**self.env, **more},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def flpoc(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return self.python(RUN, *words, **more)

    def data(self, *words: str) -> Any:
        done = self.flpoc(*words, "--format", "json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)["data"]


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    one = Victim(tmp_path_factory.mktemp("victim"))
    yield one
    one.flpoc("poc", "clean", "--force")


def test_the_help_of_every_command_can_be_read(victim: Victim) -> None:
    done = victim.python(EVERY_HELP)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {"poc start", "job submit", "plugins check", "config"} <= set(found)
    assert {path: said for path, said in found.items() if said != [0, "Usage:"]} == {}


def test_the_help_of_all_imports_nothing_heavy(victim: Victim) -> None:
    """All but what a plugin imports by itself: that one is named by `plugins check`."""
    code = f"""
import sys
from flpoc.cli.main import main
assert main(["--help"]) == 0
print(*sorted({set(HEAVY)!r} & set(sys.modules)), file=sys.stderr)
"""
    (victim.folder / "off.conf").write_text('{"plugins": {"disable": ["acme-heavy"]}}')
    done = victim.python(code, FLPOC_CONFIG=str(victim.folder / "off.conf"))
    assert "\n  plugins " in done.stdout
    assert done.stderr.splitlines()[-1] == ""


def test_the_list_says_what_is_wrong_with_each(victim: Victim) -> None:
    states = {row["name"]: row["state"] for row in victim.data("plugins", "list")}
    assert {name: state for name, state in states.items() if name.startswith("acme")} == {
        "acme-broken": "broken",
        "acme-exits": "broken",
        "acme-future": "incompatible",
        "acme-one": "loaded",
        "acme-two": "loaded",
        "acme-usurper": "loaded",
        "acme-falters": "broken",
        "acme-heavy": "loaded",
    }
    said = victim.flpoc("plugins", "list").stderr
    assert "nowhere_to_be_found" in said
    assert "needs API 99" in said
    assert "The tracker paper is offered by acme-one and acme-two: it cannot be used." in said


def test_what_two_plugins_have_is_named_when_it_is_asked_for(victim: Victim) -> None:
    done = victim.flpoc("paper", "--format", "json")
    said = json.loads(done.stdout)
    assert (done.returncode, said["error_code"]) == (4, "PLUGIN_CONFLICT")
    assert "acme-one" in said["message"]
    assert "acme-two" in said["message"]


def test_check_finds_all_of_it(victim: Victim) -> None:
    done = victim.flpoc("plugins", "check", "--format", "json")
    said = json.loads(done.stdout)
    assert (done.returncode, said["error_code"]) == (1, "PLUGIN_CHECK_FAILED")
    found = {(row["plugin"], row["what"]): (row["status"], row["details"]) for row in said["data"]}
    errors = {key for key, (status, _) in found.items() if status == "error"}
    assert errors == {
        *((f"acme-{name}", "plugin") for name in ("broken", "exits", "falters", "future")),
        *((f"acme-{name}", f"{what} paper") for name in ("one", "two") for what in ("tracker", "command")),
        ("acme-usurper", "command version"),
    }
    assert found["acme-heavy", "plugin"] == (
        "warning",
        "imports numpy before anything is made: every command waits for that",
    )
    assert found["core", "plugin"] == ("ok", "")


def test_check_of_a_good_one_ends_with_success(victim: Victim) -> None:
    done = victim.flpoc("plugins", "check", "local")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing is wrong." in done.stdout


def test_a_federation_is_prepared_runs_and_ends(victim: Victim) -> None:
    job = victim.folder / "job"
    (job / "code").mkdir(parents=True)
    (job / "code" / "train.py").write_text(
        "import flpoc.client as flare\nflare.init()\nwhile flare.is_running():\n"
        "    flare.receive()\n    flare.send(flare.FLModel(params={'w': 1.0}))\n"
    )
    (job / "job.json").write_text('{"name": "job", "script": "train.py", "rounds": 1, "min_clients": 1}')
    assert victim.data("poc", "prepare", "-n", "1")["launcher"] == "local"
    (victim.folder / "project.yml").write_text(project(1))
    victim.data("poc", "prepare", "--force", "-i", str(victim.folder / "project.yml"))
    victim.data("poc", "start")
    number = victim.data("job", "submit", "-j", str(job))["job_id"]
    assert victim.data("job", "wait", number, "--timeout", "60")["status"] == "FINISHED:COMPLETED"
    assert [row["job_id"] for row in victim.data("job", "list")] == [number]
    assert victim.data("config", "list")
    victim.data("poc", "stop")
    victim.data("poc", "clean", "--force")
