"""`flpoc poc prepare-jobs-dir`: a folder where jobs are looked for, too."""

from __future__ import annotations

import shutil

import pytest

from flpoc.cli.job_change import find_folder
from flpoc.configuration import Configuration
from flpoc.errors import UsageError
from flpoc.session import Session


@pytest.fixture
def jobs(place):
    folder = place.home / "jobs"
    folder.mkdir()
    return folder


def test_the_folder_is_remembered_and_shown(place, jobs):
    data = place.run("prepare-jobs-dir", "-j", str(jobs)).data
    assert data == {"jobs_dir": str(jobs), "config_file": str(place.home / ".flpoc" / "config.conf")}
    assert place.config["poc"]["jobs_dir"] == str(jobs)
    assert place.run("config").data["jobs_dir"] == str(jobs)
    assert place.answer("config").data["jobs_dir"] == str(jobs)


def test_nothing_else_of_the_configuration_changes(place, jobs, tmp_path):
    place.run("config", "-pw", str(tmp_path / "elsewhere"))
    place.run("prepare-jobs-dir", "-j", str(jobs))
    place.run("prepare", "-n", "1")
    assert place.config["poc"] == {"workspace": str(tmp_path / "elsewhere"), "jobs_dir": str(jobs)}
    place.run("clean")
    assert place.config["poc"]["jobs_dir"] == str(jobs)


def test_documented_spellings_are_understood(place, jobs):
    assert place.run("prepare_jobs_dir", "--jobs_dir", str(jobs), "-debug").data["jobs_dir"] == str(jobs)


def test_without_a_folder_it_is_that_of_the_examples(place, tmp_path):
    (tmp_path / "flpoc" / "examples").mkdir(parents=True)
    answer = place.run("prepare-jobs-dir", "-j", FLPOC_HOME=str(tmp_path / "flpoc"))
    assert answer.data["jobs_dir"] == str(tmp_path / "flpoc" / "examples")
    assert place.run("prepare-jobs-dir").error == ("INVALID_ARGS", 4)


@pytest.mark.parametrize("name", ["nowhere", "file"])
def test_what_is_no_folder_is_refused(place, name):
    (place.home / "file").touch()
    assert place.run("prepare-jobs-dir", "-j", str(place.home / name)).error == ("INVALID_ARGS", 4)
    assert not (place.home / ".flpoc").exists()


def test_a_relative_folder_is_looked_for_in_four_places_one_after_the_other(prepared, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("FLPOC_CONFIG", str(tmp_path / "config.conf"))
    monkeypatch.setenv("FLPOC_HOME", str(tmp_path / "flpoc"))
    Configuration.load().with_jobs(tmp_path / "jobs").save()
    kit = shutil.copytree(prepared.kit("admin@nvidia.com"), tmp_path / "kit")
    with Session.open(kit) as session:
        with pytest.raises(UsageError) as caught:
            find_folder("sub/job", session)
        for place in (kit / "transfer", tmp_path / "jobs", tmp_path / "flpoc" / "examples"):
            assert str(place) in caught.value.message
        for place in (tmp_path / "flpoc" / "examples", tmp_path / "jobs", kit / "transfer", tmp_path / "here"):
            (place / "sub" / "job").mkdir(parents=True)
            assert find_folder("sub/job", session).absolute() == place / "sub" / "job"


def test_a_job_is_submitted_from_there(place, jobs):
    place.prepare(sites=1)
    place.run("start", "-p", "server")
    place.answer("job", "create", "-j", str(jobs / "mine"), "-w", "sag_np")
    assert place.answer("job", "submit", "-j", "mine").error == ("INVALID_ARGS", 4)
    place.run("prepare-jobs-dir", "-j", str(jobs))
    assert place.answer("job", "submit", "-j", "mine").data["job_name"] == "mine"
