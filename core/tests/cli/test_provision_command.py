"""``flpoc provision``: the sample, all kits, one more kit, and what is said of keys."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from flpoc.cli.main import main
from flpoc.provision.kits import load_kit
from flpoc.provision.project_file import read_project
from flpoc.provision.sample import SAMPLE

from .conftest import RUN

SITE = "name: site-3\norg: hospital\n"
USER = "name: bob@hospital.org\norg: hospital\nrole: lead\n"
HOME = Path("workspace/example_project")


@attrs.frozen
class Done:
    status: int
    document: dict[str, Any]
    said: str

    @property
    def data(self) -> Any:
        assert self.status == 0, self.document
        return self.document["data"]


@pytest.fixture
def flpoc(capsys, tmp_path, monkeypatch) -> Callable[..., Done]:
    """Run a command in an empty folder, in this process."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("FLPOC_CA_PASSPHRASE", raising=False)

    def run(*words: object) -> Done:
        capsys.readouterr()
        status = main(["--format", "json", *map(str, words)])
        said = capsys.readouterr()
        return Done(status, json.loads(said.out), said.err)

    return run


def files() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


# -- the sample


def test_the_sample_is_a_project_without_a_word_to_say_about_it(tmp_path):
    (tmp_path / "project.yml").write_text(SAMPLE)
    project, warnings = read_project(tmp_path / "project.yml")
    assert warnings == []
    assert [one.kind for one in project.participants] == ["server", "site", "site", "user", "user"]
    assert (project.name, project.port) == ("example_project", 8002)


def test_a_sample_is_written_and_the_command_that_it_suggests_works(flpoc):
    data = flpoc("provision", "-g").data
    assert data.keys() == {"project_yml", "message", "next_step", "suggested_command"}
    assert Path(data["project_yml"]).read_text() == SAMPLE
    made = flpoc(*data["suggested_command"].split()[1:]).data
    assert [Path(one).name for one in made["packages"]] == [
        "server1", "site-1", "site-2", "admin@nvidia.com", "lead@nvidia.com",
    ]  # fmt: skip
    for kit in made["packages"]:
        load_kit(Path(kit))


def test_a_project_file_is_not_replaced_without_asking(flpoc):
    Path("project.yml").write_text("mine")
    refused = flpoc("provision", "-g")
    assert (refused.status, refused.document["error_code"]) == (4, "INVALID_ARGS")
    assert "--force" in refused.document["hint"]
    assert Path("project.yml").read_text() == "mine"
    assert flpoc("provision", "-g", "--force").status == 0


@pytest.mark.parametrize("more", [["-p", "x.yml"], ["--add-user", "x.yml"], ["--add_client", "x.yml"]])
def test_the_sample_excludes_everything_else(flpoc, more):
    assert flpoc("provision", "-g", *more).document["error_code"] == "INVALID_ARGS"
    assert files() == {}


# -- all kits


def test_without_a_project_it_is_said_how_to_get_one(flpoc):
    refused = flpoc("provision")
    assert (refused.status, refused.document["error_code"]) == (4, "INVALID_ARGS")
    assert "provision -g" in refused.document["hint"]


def test_the_project_file_here_is_the_default(flpoc):
    Path("project.yml").write_text(SAMPLE)
    data = flpoc("provision").data
    assert data["workspace"] == str(Path("workspace").absolute())
    assert data["prod_dir"] == str((HOME / "prod_00").absolute())


@pytest.mark.row("S8")
def test_it_is_said_that_keys_have_to_travel_and_how_they_need_not(flpoc):
    Path("p.yml").write_text(SAMPLE)
    said = flpoc("provision", "--project_file", "p.yml").said
    assert "private keys" in said
    assert "`flpoc cert request`" in said


@pytest.mark.row("G19")
def test_a_second_time_is_asked_about_and_makes_a_new_generation(flpoc):
    Path("project.yml").write_text(SAMPLE)
    assert flpoc("provision").status == 0
    before = files()
    refused = flpoc("provision")
    assert (refused.status, refused.document["error_code"]) == (4, "INVALID_ARGS")
    assert "prod_00" in refused.document["message"]
    assert files() == before
    assert flpoc("provision", "--force").data["prod_dir"].endswith("prod_01")
    assert files().items() >= before.items()


@pytest.mark.parametrize(("answer", "generations"), [(b"n\n", 1), (b"y\n", 2)])
def test_at_a_terminal_the_question_is_asked(flpoc, tmp_path, answer, generations):
    Path("project.yml").write_text(SAMPLE)
    assert flpoc("provision").status == 0
    leader, follower = pty.openpty()
    words = [sys.executable, "-c", RUN, "provision"]
    with subprocess.Popen(words, stdin=follower, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as asked:
        os.write(leader, answer)
        assert asked.stdout is not None
        said = asked.stdout.read().decode()
    os.close(leader)
    os.close(follower)
    assert asked.returncode == 0, said
    assert "[y/N]" in said
    assert ("Nothing was changed." in said) == (generations == 1)
    assert len(list(HOME.glob("prod_*"))) == generations


@pytest.mark.parametrize(
    ("words", "says"),
    [(["-c", "folder"], "-c has no effect"), (["-e"], "-e has no effect"), (["-s"], "-s has no effect")],
)
def test_options_of_a_comparable_system_are_taken_and_said_to_do_nothing(flpoc, words, says):
    Path("project.yml").write_text(SAMPLE)
    done = flpoc("provision", *words)
    assert done.status == 0
    assert says in done.said
    assert says not in flpoc("provision", "--force").said


@pytest.mark.row("K17", "S10")
def test_an_encrypted_authority_goes_on_working(flpoc, monkeypatch):
    Path("project.yml").write_text(SAMPLE)
    Path("site.yml").write_text(SITE)
    monkeypatch.setenv("FLPOC_CA_PASSPHRASE", "correct horse")
    assert flpoc("provision").status == 0
    assert b"ENCRYPTED" in (HOME / "ca" / "rootCA.key").read_bytes()
    assert flpoc("provision", "--add-client", "site.yml").status == 0
    before = files()
    monkeypatch.setenv("FLPOC_CA_PASSPHRASE", "battery staple")
    refused = flpoc("provision", "--force")
    assert refused.document["error_code"] == "INVALID_KIT"
    assert "staple" not in str(refused)
    assert files() == before


@pytest.mark.parametrize(
    ("text", "code"),
    [("", "INVALID_CONFIG"), ("name: [", "INVALID_CONFIG"), (SAMPLE.replace("site-2", "site-1"), "INVALID_CONFIG"),
     (SAMPLE + "builders: []\n", ""), (SAMPLE.replace("org: nvidia", "org: a b"), "INVALID_CONFIG"),
     (SAMPLE + "plugins: [absent]\n", "")],
)  # fmt: skip
def test_a_wrong_project_makes_nothing(flpoc, text, code):
    Path("project.yml").write_text(text)
    done = flpoc("provision")
    assert done.document.get("error_code", "") == code
    if code:
        assert done.status == 4
        assert list(files()) == [Path("project.yml")]
    else:
        assert "has no effect" in done.said or "absent" in done.said


def test_a_workspace_that_cannot_be_made_is_named(flpoc):
    Path("project.yml").write_text(SAMPLE)
    refused = flpoc("provision", "-w", "project.yml/x")
    assert refused.document["error_code"] == "INVALID_CONFIG"
    assert list(files()) == [Path("project.yml")]


# -- one more kit


@pytest.fixture
def provisioned(flpoc):
    Path("project.yml").write_text(SAMPLE)
    Path("site.yml").write_text(SITE)
    Path("user.yml").write_text(USER)
    assert flpoc("provision").status == 0
    return files()


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--add-client", "site.yml"], ["site-3"]),
        (["--add_user", "user.yml"], ["bob@hospital.org"]),
        (["--add-user", "user.yml", "--add-client", "site.yml"], ["bob@hospital.org", "site-3"]),
    ],
)
def test_one_more_kit_is_put_beside_the_others(flpoc, provisioned, words, names):
    data = flpoc("provision", *words).data
    assert [Path(one).name for one in data["packages"]] == names
    for kit in data["packages"]:
        assert load_kit(Path(kit)).root_pem == (HOME / "ca" / "rootCA.pem").read_bytes()
        assert Path(kit).parent.name == "prod_00"
    assert files().items() >= provisioned.items(), "the others are as they were"


def test_a_role_is_that_of_the_file(flpoc, provisioned):
    kit = Path(flpoc("provision", "--add-user", "user.yml").data["packages"][0])
    assert (load_kit(kit).identity.role, load_kit(kit).identity.org) == ("lead", "hospital")


def test_a_kit_that_is_there_is_replaced_only_by_force(flpoc, provisioned):
    kit = Path(flpoc("provision", "--add-client", "site.yml").data["packages"][0])
    before = load_kit(kit).key_pem
    refused = flpoc("provision", "--add-client", "site.yml")
    assert (refused.status, "--force" in refused.document["hint"]) == (4, True)
    assert load_kit(kit).key_pem == before
    assert flpoc("provision", "--add-client", "site.yml", "--force").status == 0
    assert load_kit(kit).key_pem != before


def test_somebody_whom_the_project_names_gets_another_kit(flpoc, provisioned):
    Path("again.yml").write_text("name: site-1\norg: other\ntype: client\n")
    kit = Path(flpoc("provision", "--add-client", "again.yml", "--force").data["packages"][0])
    assert load_kit(kit).identity.org == "other"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "wanted are name and org"),
        ("name: site-3\n", "org"),
        ("name: '../x'\norg: a\n", "../x"),
        ("name: lead@nvidia.com\norg: a\n", "lead@nvidia.com"),
        ("name: server1\norg: a\n", "server1"),
        ("name: SITE-1\norg: a\n", "differ only in case"),
        ("name: x\norg: a\ntype: admin\n", "type"),
        ("name: x\norg: a\nrole: lead\n", "role"),
    ],
)
def test_a_wrong_participant_makes_nothing(flpoc, provisioned, text, says):
    Path("wrong.yml").write_text(text)
    before = files()
    refused = flpoc("provision", "--add-client", "wrong.yml")
    assert (refused.status, refused.document["error_code"]) == (4, "INVALID_CONFIG")
    assert says in refused.document["message"]
    assert files() == before


def test_components_are_said_to_have_no_effect(flpoc, provisioned):
    Path("site.yml").write_text(SITE + "components:\n  resource_manager: {path: x}\n")
    done = flpoc("provision", "--add-client", "site.yml")
    assert done.status == 0
    assert "components: has no effect" in done.said


def test_a_kit_cannot_be_added_before_there_are_any(flpoc):
    Path("project.yml").write_text(SAMPLE)
    Path("site.yml").write_text(SITE)
    refused = flpoc("provision", "--add-client", "site.yml")
    assert "nothing is provisioned" in refused.document["message"]
    assert not Path("workspace").exists()
