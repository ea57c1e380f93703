"""Packages of third parties, installed and used as a stranger would."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from strangers.conftest import EXAMPLES, ROOT, Stranger, project

from flpoc.cli.plugins_new import package
from flpoc.models.tensors import TensorFile

HELLO = ROOT / "docs" / "examples" / "flpoc-hello"

TRAIN = """
from array import array

import flpoc.client as flare

flare.init()
while flare.is_running():
    model = flare.receive()
    before = model.params.get("w", [0.0, 0.0])
    flare.send(flare.FLModel(params={"w": array("d", [value + 1 for value in before])}))
"""


#: An agent, launched through one launcher, launches a job through another and is killed; says how both are.
NESTED = """
import json, os, signal, sys
from flpoc.launching import Handle, LaunchRequest
from flpoc.plugins import Plugins
from flpoc.settings import plain

outer, inner, folder = sys.argv[1:4]
launchers = Plugins.load()

def launch(launcher, name, *argv):
    request = LaunchRequest(name, argv, folder, f"{folder}/state", f"{folder}/{name}.log", {"HOME": os.environ["HOME"]})
    return launchers.create("launchers", launcher).launch(request)

def poll(handle):
    return launchers.create("launchers", handle.launcher).poll(handle).state.value

if len(sys.argv) > 4:
    print(json.dumps(plain(launch(inner, "job", "sleep", "600"))), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
agent = launch(outer, "agent", sys.executable, __file__, outer, inner, folder, "again")
launcher = launchers.create("launchers", outer)
launcher.wait(agent, 30)
job = Handle(**json.loads(launcher.logs(agent)))
print(poll(agent), poll(job))
launchers.create("launchers", inner).stop(job, grace=0)
print(poll(job))
"""

#: Calls every command that there is, wrongly, and some rightly, in several formats; prints what each says.
EVERY = """
import contextlib, io, json, sys
import click
from flpoc.cli.call import Call
from flpoc.cli.main import COMMANDS, main
from flpoc.cli.root import Root

def leaves(command, path):
    context = click.Context(command)
    if not isinstance(command, click.Group):
        return [path]
    inner = [leaves(command.get_command(context, name), [*path, name]) for name in command.list_commands(context)]
    return [one for each in inner for one in each]

lines = [[*path, "--no-such-option"] for path in leaves(Root(Call(), COMMANDS), [])]
lines += [["version"], ["plugins", "list"], ["plugins", "show", "formats"], ["config"], ["config", "list"], ["job"]]
lines += [["job", "list"], ["job", "meta", "x"], ["nothing"], ["plugins", "show", "nothing"]]
found = []
for line in lines:
    for name in ("json", "yaml", "csv"):
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()):
            status = main([*line, "--format", name])
        found.append((line, name, status, out.getvalue()))
json.dump(found, sys.stdout)
"""


@pytest.fixture(scope="module")
def owner(stranger: Stranger, wheels: Callable[[Path], Path]) -> Stranger:
    """A stranger with all examples, and a package of their own: a framework."""
    stranger.run("flpoc", "plugins", "new", "framework", "lists")
    stranger.install(wheels(stranger.here / "flpoc-lists"), *map(wheels, EXAMPLES))
    return stranger


def test_the_example_of_a_launcher_is_what_plugins_new_makes() -> None:
    files = [file.relative_to(HELLO) for file in HELLO.rglob("*") if file.is_file() and file.suffix != ".pyc"]
    # tools leave their folders with a dot here
    found = {str(file): (HELLO / file).read_text(encoding="utf-8") for file in files if file.parts[0][0] != "."}
    assert found == package("launcher", "hello")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_the_tests_of_a_package_pass_where_it_is_installed(owner: Stranger, example: Path) -> None:
    tests = owner.here / example.name / "tests"
    shutil.copytree(example / "tests", tests)
    done = owner.run("python", "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", tests)
    # what a suite asks of formats for people, or of those that stream, is not asked of others
    skipped = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    assert [line for line in skipped if "this format" not in line] == []
    assert " passed" in done.stdout


def test_they_are_checked_and_listed(owner: Stranger) -> None:
    done = owner.run("flpoc", "plugins", "check")
    assert "Nothing is wrong." in done.stdout, done.stdout
    rows = json.loads(owner.run("flpoc", "plugins", "list", "--format", "json").stdout)["data"]
    assert {row["name"]: row["offers"] for row in rows}["hello"] == ["launcher hello"]


@pytest.mark.parametrize(("outer", "inner"), [("local", "hello"), ("hello", "local")])
def test_what_one_launcher_starts_through_another_goes_on_without_it(
    owner: Stranger, tmp_path: Path, outer: str, inner: str
) -> None:
    (tmp_path / "nested.py").write_text(NESTED)
    done = owner.run("python", tmp_path / "nested.py", outer, inner, tmp_path)
    assert done.stdout.split() == ["exited", "running", "exited"]


def test_it_is_chosen_by_its_name(owner: Stranger) -> None:
    said = owner.run("flpoc", "poc", "prepare", "-n", "1", "--launcher", "hello", "--format", "json").stdout
    assert json.loads(said)["data"]["launcher"] == "hello"
    owner.run("flpoc", "poc", "clean")


def test_every_command_answers_in_the_formats_of_a_package_also_when_it_fails(owner: Stranger) -> None:
    said = json.loads(owner.run("python", "-c", EVERY).stdout)
    assert len(said) > 100
    for line, name, status, text in said:
        if name == "json":
            wanted, document = status, json.loads(text)
        elif name == "yaml":
            assert (status, yaml.safe_load(text)) == (wanted, document), line
        else:
            rows = list(csv.reader(io.StringIO(text), strict=True))
            assert (status, len({len(row) for row in rows})) == (wanted, 1), line
            assert document["status"] == "ok" or ["error_code", document["error_code"]] in rows, line


@pytest.fixture
def prepared(owner: Stranger) -> Iterator[Stranger]:
    """A proof of concept with a port that nobody else takes meanwhile."""
    (owner.here / "project.yml").write_text(project(2, launcher="hello", plugins=["hello", "lists"]))
    owner.run("flpoc", "poc", "prepare", "-i", "project.yml")
    yield owner
    owner.run("flpoc", "poc", "clean", "--force")


def test_a_job_runs_through_its_launcher_and_sends_what_another_plugin_knows(prepared: Stranger) -> None:
    job = prepared.here / "job"
    (job / "code").mkdir(parents=True)
    (job / "code" / "train.py").write_text(TRAIN)
    (job / "job.conf").write_text("name = lists\nscript = train.py\nrounds = 2\nmin_clients = 2\n")
    assert prepared.run("flpoc", "poc", "start").returncode == 0
    said = prepared.run("flpoc", "job", "submit", "-j", str(job), "--format", "json").stdout
    number = json.loads(said)["data"]["job_id"]
    prepared.run("flpoc", "job", "wait", number, "--timeout", "60")
    assert prepared.run("flpoc", "job", "list", "--format", "csv").stdout.startswith("job_id,job_name,status,")
    assert f"job_id: {number}" in prepared.run("flpoc", "job", "meta", number, "--format", "yaml").stdout
    prepared.run("flpoc", "job", "download", number, "-o", str(prepared.here / "results"))
    (model,) = (prepared.here / "results").glob("*/FL_global_model.safetensors")
    with TensorFile.open(model) as tensors:
        assert tensors["w"].tolist() == [2.0, 2.0]
    assert prepared.run("flpoc", "poc", "stop").returncode == 0


#: site-3 sends what is far from what the others send.
ODD = """
import numpy as np

import flpoc.client as flare

flare.init()
while flare.is_running():
    flare.receive()
    number = {"site-1": 1.0, "site-2": 2.0, "site-3": 1e6}[flare.get_site_name()]
    flare.send(flare.FLModel(params={"w": np.array([number, -number])}))
"""


def test_an_authority_and_an_aggregator_of_packages_serve_a_whole_job(owner: Stranger) -> None:
    asked = project(3, launcher="hello", plugins=["hello", "p12", "geomed"], authority="p12")
    (owner.here / "project.yml").write_text(asked)
    locked = owner.run("flpoc", "poc", "prepare", "-i", "project.yml", check=False)
    assert locked.returncode != 0
    assert "FLPOC_P12_PASSPHRASE" in locked.stderr
    owner.run("flpoc", "poc", "prepare", "-i", "project.yml", FLPOC_P12_PASSPHRASE="correct horse")
    try:
        job = owner.here / "odd"
        (job / "code").mkdir(parents=True)
        (job / "code" / "train.py").write_text(ODD)
        said = "name = odd\nscript = train.py\nrounds = 1\nmin_clients = 3\naggregator { name = geometric-median }\n"
        (job / "job.conf").write_text(said)
        owner.run("flpoc", "poc", "start")
        said = owner.run("flpoc", "job", "submit", "-j", str(job), "--format", "json").stdout
        number = json.loads(said)["data"]["job_id"]
        owner.run("flpoc", "job", "wait", number, "--timeout", "60")
        owner.run("flpoc", "job", "download", number, "-o", str(owner.here / "found"))
        (model,) = (owner.here / "found").glob("*/FL_global_model.safetensors")
        with TensorFile.open(model) as tensors:
            assert abs(tensors["w"]).max() < 4
        owner.run("flpoc", "poc", "stop")
    finally:
        owner.run("flpoc", "poc", "clean", "--force")
