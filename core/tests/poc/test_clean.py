"""`flpoc poc clean`: all or nothing, and nothing that is not its own."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest


def test_the_workspace_is_gone(place):
    place.run("prepare")
    assert place.run("clean").data["status"] == "removed"
    assert not place.workspace.exists()


@pytest.mark.row("D18")
def test_nothing_is_left_beside_it(place):
    place.run("prepare")
    place.run("clean")
    assert [one.name for one in place.workspace.parent.iterdir()] == ["home"]


def test_its_kits_are_no_longer_registered_and_others_are(make_place):
    first, second = make_place("one"), make_place("two")
    first.run("prepare")
    second.run("prepare")
    second.run("clean")
    kits = first.config["startup_kits"]["entries"]
    assert set(kits) == {"admin@nvidia.com", "org-admin@nvidia.com", "lead@nvidia.com"}
    assert all(folder.startswith(str(first.workspace)) for folder in kits.values())


@pytest.mark.row("D18")
def test_the_configured_workspace_is_kept(place):
    place.run("config", "-pw", str(place.workspace))
    place.run("prepare")
    place.run("clean")
    assert place.config["poc"]["workspace"] == str(place.workspace)


@pytest.mark.row("C8")
def test_a_folder_that_prepare_did_not_make_is_refused(place):
    place.workspace.mkdir()
    (place.workspace / "thesis.txt").write_text("important")
    assert place.run("clean", "--force").error == ("INVALID_ARGS", 4)
    assert (place.workspace / "thesis.txt").exists()


@pytest.mark.row("C8")
def test_files_of_others_in_the_workspace_stay(place):
    place.run("prepare")
    (place.workspace / "thesis.txt").write_text("important")
    assert place.run("clean").data["kept"] == ["thesis.txt"]
    assert [one.name for one in place.workspace.iterdir()] == ["thesis.txt"]


def test_folders_that_cannot_be_written_to_are_removed_too(place):
    place.run("prepare")
    stubborn = place.workspace / "state" / "site-1" / "a"
    stubborn.mkdir(parents=True)
    (stubborn / "file").write_text("")
    stubborn.chmod(0o500)
    assert place.run("clean").data["status"] == "removed"
    assert [one.name for one in place.workspace.parent.iterdir()] == ["home"]


def test_what_runs_is_not_removed_without_force(place):
    place.prepare(sites=1)
    place.run("start", "--no-wait")
    answer = place.run("clean")
    assert answer.error == ("INVALID_ARGS", 4)
    assert "flpoc poc stop" in answer.document["hint"]
    assert len(place.processes) > 0


@pytest.mark.row("D2")
def test_force_stops_what_runs_first(place):
    place.prepare(sites=1)
    place.run("start", "--no-wait")
    assert place.run("clean", "--force").data["stopped"] == ["server", "site-1"]
    assert not place.processes
    assert not place.workspace.exists()


@pytest.mark.row("D1")
def test_it_works_right_after_a_stop(place):
    place.prepare()
    place.run("start")
    place.run("stop")
    assert place.run("clean").data["status"] == "removed"


@pytest.mark.row("D2")
def test_it_works_right_after_a_stop_that_nobody_waited_for(place):
    place.prepare()
    place.run("start")
    place.run("stop", "--no-wait")
    assert place.run("clean").data["status"] == "removed"
    assert not place.processes


@pytest.mark.row("D1")
def test_an_interrupted_one_is_finished_by_the_next(place):
    place.run("prepare")
    for number in range(3000):
        (place.workspace / "data" / str(number)).write_text("")
    process = subprocess.Popen(
        [sys.executable, "-c", "from flpoc.cli.main import main; main()", "poc", "clean"],
        env=place.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and place.workspace.exists():
        pass
    process.send_signal(signal.SIGINT)
    process.wait(30)
    assert not place.workspace.exists()
    place.run("clean")
    assert [one.name for one in place.workspace.parent.iterdir()] == ["home"]
