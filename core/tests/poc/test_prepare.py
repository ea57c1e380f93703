"""`flpoc poc prepare`: what it makes, what it refuses, what it registers."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import stat
import subprocess
import sys

import pytest

from flpoc.errors import UsageError
from flpoc.poc import workspace


def test_two_sites_are_the_default(place):
    assert place.run("prepare").data["clients"] == ["site-1", "site-2"]


def test_the_number_of_sites_can_be_given(place):
    assert place.run("prepare", "-n", "3").data["clients"] == ["site-1", "site-2", "site-3"]


def test_names_of_sites_can_be_given(place):
    assert place.run("prepare", "-n", "5", "-c", "north", "south").data["clients"] == ["north", "south"]


@pytest.mark.row("D4")
@pytest.mark.parametrize("number", ["0", "-3", "1.5", "many"])
def test_a_number_of_sites_that_makes_no_sense_is_refused(place, number):
    assert place.run("prepare", "-n", number).error == ("INVALID_ARGS", 4)
    assert not place.workspace.exists()


def test_every_documented_field_is_reported(place):
    data = place.run("prepare").data
    assert data["workspace"] == str(place.workspace)
    assert data["startup_kit"]["prior_active"] is None
    assert data["startup_kit"]["active"] == "admin@nvidia.com"
    assert data["startup_kit"]["changed"] is True
    preflight = data["port_preflight"]
    assert preflight["checked"] is True
    assert preflight["ports"][0]["port"] == data["port"]
    assert preflight["conflicts"] == []


def test_kits_of_all_participants_lie_below_the_project(place):
    data = place.run("prepare").data
    names = {"server", "site-1", "site-2", "admin@nvidia.com", "org-admin@nvidia.com", "lead@nvidia.com"}
    assert {kit.name for kit in place.kit("server").parent.iterdir()} == names
    assert data["prod_dir"] == str(place.kit("server").parent)


def test_nobody_else_can_look_into_the_workspace(place):
    place.run("prepare")
    for folder in (place.workspace, place.workspace / "state", place.workspace / "data"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_users_kits_are_registered_and_sites_kits_are_not(place):
    place.run("prepare")
    entries = place.config["startup_kits"]["entries"]
    assert set(entries) == {"admin@nvidia.com", "org-admin@nvidia.com", "lead@nvidia.com"}
    # the workspace of these tests comes from the environment: that is not written down
    assert "workspace" not in place.config.get("poc", {})


def test_a_registration_elsewhere_is_left_as_it_is(make_place):
    first, second = make_place("one"), make_place("two")
    first.run("prepare")
    answer = second.run("prepare")
    assert answer.data["startup_kit"]["active"] == "admin@nvidia.com@two"
    assert second.config["startup_kits"]["entries"]["admin@nvidia.com"].startswith(str(first.workspace))
    assert "was left as it is" in answer.err


def test_two_workspaces_of_a_user_get_different_ports(make_place):
    ports = [make_place(name).run("prepare").data["port"] for name in ("one", "two", "three")]
    assert len(set(ports)) == 3


def test_another_port_is_said_with_the_reason(place):
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        wanted = other.getsockname()[1]
        answer = place.run("prepare", FLPOC_POC_PORT=str(wanted))
    assert answer.data["port"] > wanted
    assert f"Port {wanted} belongs to" in answer.err
    assert f"(pid {os.getpid()}); this POC has port {answer.data['port']}" in answer.err


def test_the_environment_says_which_port_is_taken_if_it_is_free(place):
    free = place.spare_port
    assert place.run("prepare", FLPOC_POC_PORT=str(free)).data["port"] == free


@pytest.mark.parametrize("port", ["no", "0", "65536", "80.5"])
def test_a_port_of_the_environment_that_is_none_is_refused(place, port):
    answer = place.run("prepare", text=True, FLPOC_POC_PORT=port)
    assert answer.code == 4
    assert "FLPOC_POC_PORT: " in answer.err
    assert not place.workspace.exists()


def test_a_port_of_a_project_file_is_never_changed(place):
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        answer = place.run("prepare", "-i", str(place.project_file(1, port)))
        assert answer.data["port"] == port
        assert answer.data["port_preflight"]["conflicts"][0]["port"] == port
        assert f"pid {os.getpid()}" in answer.err


def test_a_project_file_in_the_workspace_is_refused(place):
    place.run("prepare")
    before = (place.workspace / "project.yml").read_bytes()
    answer = place.run("prepare", "-i", str(place.workspace / "project.yml"), "--force")
    assert answer.error == ("INVALID_ARGS", 4)
    assert (place.workspace / "project.yml").read_bytes() == before


def test_options_beside_a_project_file_are_named_as_without_effect(place):
    answer = place.run("prepare", "-n", "5", "-i", str(place.project_file(1, 9002)))
    assert answer.data["clients"] == ["site-1"]
    assert "-n has no effect" in answer.err


@pytest.mark.row("D17")
def test_what_is_prepared_is_not_replaced_without_force(place):
    place.run("prepare")
    before = (place.workspace / "project.yml").stat().st_ino
    answer = place.run("prepare")
    assert answer.error == ("INVALID_ARGS", 4)
    assert "--force" in answer.document["hint"]
    assert (place.workspace / "project.yml").stat().st_ino == before


def test_force_replaces_everything_but_data_and_says_so(place):
    place.run("prepare", "-n", "3")
    (place.workspace / "data" / "mine.csv").write_text("1,2")
    data = place.run("prepare", "-n", "1", "--force").data
    assert "example_project" in data["replaced"]
    assert not place.kit("site-3").exists()
    assert (place.workspace / "data" / "mine.csv").read_text() == "1,2"


@pytest.mark.row("C8")
def test_a_folder_with_other_files_is_refused_and_untouched(place):
    place.workspace.mkdir(mode=0o755)
    (place.workspace / "thesis.txt").write_text("important")
    assert place.run("prepare", "--force").error == ("INVALID_ARGS", 4)
    assert [one.name for one in place.workspace.iterdir()] == ["thesis.txt"]
    assert stat.S_IMODE(place.workspace.stat().st_mode) == 0o755


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_workspace_of_another_user_is_refused(place):
    place.workspace.mkdir()
    os.chown(place.workspace, 12345, 12345)
    answer = place.run("prepare")
    assert answer.error == ("INVALID_ARGS", 4)
    assert "belongs to user 12345" in answer.document["message"]


def test_nothing_stays_of_a_refused_project(place):
    assert place.run("prepare", "-c", "same", "same").code == 4
    assert not place.workspace.exists()


@pytest.mark.row("G9")
def test_the_folder_of_the_commands_is_no_name_of_a_site(place):
    assert place.run("prepare", "-c", "poc").error == ("INVALID_ARGS", 4)


def test_without_a_docker_engine_nothing_is_prepared(place, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{place.workspace}/none")
    answer = place.run("prepare", "-d")
    assert answer.error == ("LAUNCH_FAILED", 1)
    assert "no Docker engine answers" in answer.document["message"]
    assert not place.workspace.exists()


def test_encryption_names_the_package_to_install(place):
    answer = place.run("prepare", "-he")
    assert answer.error == ("PLUGIN_NOT_FOUND", 4)
    assert "install flpoc-he" in answer.document["hint"]


@pytest.mark.row("G15")
def test_an_unknown_launcher_is_refused(place):
    assert place.run("prepare", "--launcher", "locall").document["hint"].startswith("did you mean 'local'?")


def test_a_prepare_that_was_killed_can_be_repeated(place):
    place.workspace.mkdir(mode=0o700)
    (place.workspace / ".flpoc-new-0badcafe").mkdir()
    assert place.run("prepare").code == 0
    assert not list(place.workspace.glob(".flpoc-new-*"))


def test_a_kill_at_any_moment_leaves_what_can_be_prepared_again(place):
    place.run("prepare")
    for seconds in (0.15, 0.25, 0.3, 0.35, 0.4):
        process = subprocess.Popen(
            [sys.executable, "-c", "from flpoc.cli.main import main; main()", "poc", "prepare", "--force"],
            env=place.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert place.run("prepare", "--force").code == 0
        assert place.kit("site-1").is_dir()


def test_people_read_where_it_is_and_what_comes_next(place):
    out = place.run("prepare", text=True).out
    assert str(place.workspace) in out
    assert "flpoc poc start" in out


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_the_default_place_is_refused_when_another_user_was_there_first(tmp_path, monkeypatch):
    monkeypatch.setattr(workspace, "DEFAULT_WORKSPACE", tmp_path / "flpoc" / "poc")
    (tmp_path / "flpoc").mkdir()
    os.chown(tmp_path / "flpoc", 12345, 12345)
    with pytest.raises(UsageError, match="belongs to user 12345"):
        workspace.make_workspace_folder(tmp_path / "flpoc" / "poc")


def test_the_default_place_is_made_for_its_owner_only(tmp_path, monkeypatch):
    monkeypatch.setattr(workspace, "DEFAULT_WORKSPACE", tmp_path / "flpoc" / "poc")
    (tmp_path / "flpoc").mkdir(mode=0o777)
    workspace.make_workspace_folder(tmp_path / "flpoc" / "poc")
    assert stat.S_IMODE((tmp_path / "flpoc").stat().st_mode) == 0o700


def test_it_is_quick_for_fifty_sites(place):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer = place.run("prepare", "-n", "50")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert len(answer.data["clients"]) == 50
    # of the processor's time: others may have it meanwhile; 0.8 s on an idle machine
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 10


def test_jobs_of_every_site_may_use_the_data_folder(place):
    place.run("prepare", "-n", "2")
    for site in ("site-1", "site-2"):
        policy = json.loads((place.kit(site) / "local" / "policy.json").read_text())
        assert policy["datasets"] == {"poc": {"source": str(place.workspace / "data"), "mode": "rw"}}


def test_a_workspace_whose_path_is_no_text_is_refused_and_not_made(place):
    odd = place.home / os.fsdecode(b"\xffodd") / "poc"
    answer = place.run("prepare", "-n", "1", FLPOC_POC_WORKSPACE=str(odd))
    assert answer.error == ("INVALID_ARGS", 4)
    assert "not UTF-8" in answer.document["message"]
    assert not odd.parent.exists()
