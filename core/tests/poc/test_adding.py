"""`flpoc poc add-user` and `add-site`: whoever comes later gets a kit, and nobody else's is touched."""

from __future__ import annotations

import contextlib
import json
import shutil
import stat
import subprocess
import textwrap
from pathlib import Path

import pytest
import yaml

from flpoc.configuration import Configuration
from flpoc.poc.adding import with_participant
from flpoc.provision.identity import identity_of
from flpoc.provision.kits import load_kit
from flpoc.provision.project_file import read_project, sample_project
from flpoc.provisioning import Participant

JOB = """
    from pathlib import Path

    import numpy as np

    import flpoc.client as flare

    flare.init()
    while flare.is_running():
        model = flare.receive()
        Path(DATA, flare.get_site_name()).write_text("was here")
        flare.send(flare.FLModel(params={"w": np.ones(2) + (model.params or {"w": 0})["w"]}))
"""


def contents(place, *but):
    """Every file of the project and its bytes, but those of some participants."""
    folder = place.kit("server").parents[1]
    files = [one for one in folder.rglob("*") if one.is_file() and not set(one.relative_to(folder).parts) & set(but)]
    return {str(one.relative_to(folder)): one.read_bytes() for one in files}


def project(place):
    return read_project(place.workspace / "project.yml")[0]


# -- what comes of it


def test_a_site_gets_a_kit_and_a_place_in_the_project(place):
    place.prepare(sites=1)
    data = place.run("add-site", "site-9").data
    assert (data["status"], data["type"], data["name"], data["org"]) == ("added", "site", "site-9", "nvidia")
    assert (data["startup_kit"], data["prod_dir"]) == (str(place.kit("site-9")), str(place.kit("server").parent))
    assert [one.name for one in project(place).sites] == ["site-1", "site-9"]
    assert load_kit(place.kit("site-9"), kind="site").identity.name == "site-9"


def test_nobody_elses_kit_is_touched(place):
    place.prepare(sites=1)
    before = contents(place)
    place.run("add-site", "site-9")
    place.run("add-user", "lead", "ada@example.org")
    assert contents(place, "site-9", "ada@example.org") == before


def test_its_key_is_its_own_and_secret(place):
    place.prepare(sites=1)
    place.run("add-site", "site-9")
    assert stat.S_IMODE((place.kit("site-9") / "startup" / "client.key").stat().st_mode) == 0o600


def test_jobs_at_a_site_that_was_added_may_use_the_data_folder(place):
    place.prepare(sites=1)
    place.run("add-site", "site-9")
    policies = [json.loads((place.kit(name) / "local" / "policy.json").read_text()) for name in ("site-1", "site-9")]
    assert policies[0]["datasets"] == policies[1]["datasets"]
    assert policies[1]["datasets"]["poc"]["source"] == str(place.workspace / "data")


def test_a_site_that_was_added_while_the_poc_runs_takes_part(place, tmp_path):
    place.prepare(sites=1)
    place.run("start")
    place.run("add-site", "site-9")
    data = place.run("start", "-p", "site-9").data
    assert (data["ready"], list(data["started"])) == (True, ["site-9"])
    job = tmp_path / "job"
    (job / "code").mkdir(parents=True)
    (job / "code" / "train.py").write_text(textwrap.dedent(JOB.replace("DATA", repr(str(place.workspace / "data")))))
    (job / "job.conf").write_text("name = both\nscript = train.py\nmin_clients = 2\n")
    submitted = place.answer("job", "submit", "-j", str(job)).data["job_id"]
    assert place.answer("job", "wait", submitted, "--timeout", "60").data["status"] == "FINISHED:COMPLETED"
    assert sorted(one.name for one in (place.workspace / "data").iterdir()) == ["site-1", "site-9"]
    meta = place.answer("job", "meta", submitted).data
    assert meta["deploy_map"] == {"job": ["server", "site-1", "site-9"]}
    assert "site-9" in place.run("stop").data["stopped"]


def test_a_user_is_registered_and_the_active_kit_stays(place):
    place.prepare(sites=1)
    data = place.run("add-user", "org_admin", "ada@example.org", "--org", "hospital").data
    wanted = {
        "status": "added",
        "type": "user",
        "id": "ada@example.org",
        "identity": "ada@example.org",
        "org": "hospital",
        "cert_role": "org_admin",
        "startup_kit": str(place.kit("ada@example.org")),
        "prod_dir": str(place.kit("server").parent),
        "next_step": "flpoc config use ada@example.org",
    }
    assert data == wanted
    assert place.config["startup_kits"]["active"] == "admin@nvidia.com"
    assert place.config["startup_kits"]["entries"]["ada@example.org"] == str(place.kit("ada@example.org"))
    owner = load_kit(place.kit("ada@example.org"), kind="user").identity
    assert (owner.role, owner.org) == ("org_admin", "hospital")


def test_a_user_is_activated_where_nobody_was(place):
    place.prepare(sites=1)
    place.answer("config", "remove", "admin@nvidia.com")
    data = place.run("add-user", "lead", "ada@example.org").data
    assert data["active"] == place.config["startup_kits"]["active"] == "ada@example.org"
    assert "next_step" not in data


def test_a_user_can_work_at_once_with_a_server_that_runs(place):
    place.prepare(sites=1)
    place.run("start", "-p", "server")
    place.run("add-user", "member", "ada@example.org")
    assert place.answer("job", "list", "--kit-id", "ada@example.org").data == []


def test_an_id_that_a_kit_elsewhere_has_is_left_to_it(make_place):
    first, second = make_place("one"), make_place("two")
    first.prepare(sites=1)
    first.run("add-user", "lead", "ada@example.org")
    second.prepare(sites=1)
    answer = second.run("add-user", "lead", "ada@example.org")
    assert (answer.data["id"], answer.data["identity"]) == ("ada@example.org@two", "ada@example.org")
    assert "was left as it is" in answer.err
    assert second.config["startup_kits"]["entries"]["ada@example.org"] == str(first.kit("ada@example.org"))


def test_what_people_read_says_what_to_do_next(place):
    place.prepare(sites=1)
    assert place.run("add-site", "site-9", text=True).out.splitlines()[-1] == "Next:   flpoc poc start -p site-9"
    said = place.run("add_user", "lead", "ada@example.org", "-debug", text=True).out
    assert said.splitlines() == [
        "Added ada@example.org (lead, org nvidia).",
        f"Kit:    {place.kit('ada@example.org')}",
        "Next:   flpoc config use ada@example.org",
    ]


# -- made anew


def test_one_whose_certificate_is_gone_gets_a_new_kit(place):
    place.prepare(sites=1)
    (place.kit("site-1") / "startup" / "client.crt").unlink()
    assert place.run("add-site", "site-1", "--force").data["status"] == "updated"
    assert load_kit(place.kit("site-1"), kind="site").identity.name == "site-1"


def test_a_site_is_made_anew_with_force_and_keeps_its_policy(place):
    place.prepare(sites=1)
    policy = place.kit("site-1") / "local" / "policy.json"
    policy.write_text(json.dumps({**json.loads(policy.read_text()), "max_jobs": 7, "datasets": {}}))
    before = (place.kit("site-1") / "startup" / "client.crt").read_bytes()
    answer = place.run("add-site", "site-1", "--force")
    assert answer.data["status"] == "updated"
    assert f"`flpoc cert revoke --serial {identity_of(before).serial:x}`" in answer.err
    assert (place.kit("site-1") / "startup" / "client.crt").read_bytes() != before
    kept = json.loads(policy.read_text())
    assert (kept["max_jobs"], kept["datasets"]) == (7, {})
    assert [one.name for one in project(place).sites] == ["site-1"]


def test_a_site_that_runs_is_said_to_run_on_with_its_former_kit(place):
    place.prepare(sites=1)
    place.run("start")
    answer = place.run("add-site", "site-1", "--force")
    assert "runs with its former kit" in answer.err
    place.run("stop", "-p", "site-1")
    assert place.run("start", "-p", "site-1").data["ready"] is True


def test_who_is_made_anew_stays_in_the_organisation(place):
    place.prepare(sites=1)
    place.run("add-user", "lead", "ada@example.org", "--org", "hospital")
    assert place.run("add-user", "lead", "ada@example.org", "--force").data["org"] == "hospital"
    assert place.run("add-user", "lead", "ada@example.org", "--force", "--org", "clinic").data["org"] == "clinic"


# -- refused: everything stays as it is


@pytest.mark.row("C19")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["add-site", "site-1"], "is there already"),
        (["add-site", "SITE-1", "--force"], "differs from 'site-1' only in case"),
        (["add-site", "server", "--force"], "the name of the project's server"),
        (["add-site", "Server"], "the name of the project's server"),
        (["add-site", "admin@nvidia.com", "--force"], "the name of the project's user"),
        (["add-site", "poc"], "reserved"),
        (["add-site", "all"], "reserved"),
        (["add-site", "a b"], "not a name of a site"),
        (["add-site", "../evil"], "not a name of a site"),
        (["add-site", ""], "not a name of a site"),
        (["add-site", "x", "--org", "a/b"], "not a name of a org"),
        (["add-site"], "Missing argument"),
        (["add-user", "lead"], "Missing argument"),
        (["add-user", "lead", "ada"], "not a name of a user"),
        (["add-user", "lead", "site-1", "--force"], "the name of the project's site"),
        (["add-user", "project_admin", "ada@example.org"], "a project_admin cannot be added"),
        (["add-user", "project-admin", "admin@nvidia.com", "--force"], "a project_admin cannot be added"),
        (["add-user", "leed", "ada@example.org"], "is not a role"),
        (["add-user", "lead", "admin@nvidia.com", "--force"], "the role of a user cannot be changed"),
    ],
)
def test_what_cannot_be_added_is_refused_and_nothing_changes(prepared, words, says):
    before = (contents(prepared), (prepared.workspace / "project.yml").read_bytes(), prepared.config)
    answer = prepared.run(*words)
    assert answer.error == ("INVALID_ARGS", 4)
    assert says in answer.document["message"]
    assert (contents(prepared), (prepared.workspace / "project.yml").read_bytes(), prepared.config) == before


@pytest.mark.parametrize("words", [("add-site", "site-9"), ("add-user", "lead", "ada@example.org")])
def test_without_a_workspace_nobody_can_be_added(place, words):
    answer = place.run(*words)
    assert answer.error == ("INVALID_ARGS", 4)
    assert not place.workspace.exists()


@pytest.mark.row("C19")
def test_without_the_authority_nobody_can_be_added(place):
    place.prepare(sites=1)
    shutil.rmtree(place.workspace / "example_project" / "ca")
    answer = place.run("add-site", "site-9")
    assert answer.error == ("INVALID_ARGS", 4)
    assert "ca is missing" in answer.document["message"]
    assert not place.kit("site-9").exists()


def test_a_folder_of_somebody_else_is_not_taken_for_a_kit(place):
    place.prepare(sites=1)
    place.kit("site-9").mkdir()
    (place.kit("site-9") / "mine.txt").write_text("mine")
    assert place.run("add-site", "site-9").error == ("INVALID_ARGS", 4)
    assert (place.kit("site-9") / "mine.txt").read_text() == "mine"


# -- interrupted, and at once


def test_a_kit_that_an_interrupted_command_has_left_is_replaced(place):
    place.prepare(sites=1)
    before = (place.workspace / "project.yml").read_bytes()
    place.run("add-site", "site-9")
    (place.workspace / "project.yml").write_bytes(before)  # killed before the project was written
    assert place.run("add-site", "site-9").data["status"] == "added"
    assert load_kit(place.kit("site-9"), kind="site").identity.name == "site-9"
    assert [one.name for one in project(place).sites] == ["site-1", "site-9"]


def test_one_that_is_killed_at_any_moment_can_be_repeated_and_cleaned(place):
    place.prepare(sites=1)
    for delay in (0.15, 0.25, 0.35, 0.45, 0.6):
        with place.begin("poc", "add-site", "site-9") as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(delay)
            process.kill()
            process.communicate(timeout=30)
    assert place.run("add-site", "site-9", "--force").code == 0
    (place.workspace / ".example_project.new-left").mkdir()
    (place.workspace / ".project.yml.left").touch()
    assert place.run("clean").data["kept"] == []
    assert not place.workspace.exists()


def test_two_at_once_are_both_added(place):
    place.prepare(sites=1)
    both = [place.begin("poc", "add-site", f"site-{number}") for number in (7, 8, 9)]
    for process in both:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, out + err
    assert sorted(one.name for one in project(place).sites) == ["site-1", "site-7", "site-8", "site-9"]


# -- decided without a workspace


def test_the_project_keeps_the_order_of_its_participants():
    before = sample_project(["site-1"])
    added = with_participant(before, Participant("site-9", "site", "acme"), None, force=False)
    assert added.participants == (*before.participants, Participant("site-9", "site", "acme"))
    site = before.sites[0]
    changed = with_participant(before, Participant("site-1", "site", "acme"), site, force=True)
    assert [one.name for one in changed.participants] == [one.name for one in before.participants]


def test_the_project_file_says_what_is_there(place):
    place.prepare(sites=1)
    place.run("add-user", "member", "ada@example.org", "--org", "hospital")
    people = yaml.safe_load((place.workspace / "project.yml").read_text())["participants"]
    assert people[-1] == {"name": "ada@example.org", "type": "admin", "org": "hospital", "role": "member"}


def test_a_configuration_that_cannot_be_written_is_a_warning(place):
    place.prepare(sites=1)
    config = Path(place.home / ".flpoc" / "config.conf")
    aside = config.read_bytes()
    shutil.rmtree(config.parent)
    config.parent.write_bytes(b"no folder")
    answer = place.run("add-user", "lead", "ada@example.org")
    assert "--startup-kit" in answer.data["next_step"]
    assert "not registered" in answer.err
    config.parent.unlink()
    config.parent.mkdir()
    config.write_bytes(aside)
    assert "ada@example.org" not in Configuration.load(config).kits
