"""Consoles of a proof of concept: opened by ``poc start -p USER``, ended by ``poc stop``."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import attrs
import pytest

from flpoc.poc.consoles import end_consoles, recorded, this_process

pytest.importorskip("flpoc_builtin_local.launcher")

USER = "admin@nvidia.com"


@pytest.fixture
def open_console(terminal):
    """Open a console of a place's POC, and wait for its prompt."""

    def run(place, *words):
        found = terminal("poc", "start", "-p", USER, *words, **place.env)
        found.expect("> ")
        return found

    return run


def test_a_console_needs_a_server(place):
    place.prepare(sites=1)
    answer = place.run("start", "-p", USER, text=True)
    assert answer.code == 2
    assert "nothing listens at" in answer.err
    assert "flpoc poc start;" in answer.err
    assert "Code: SERVICE_FAILED (exit 2)" in answer.err


def test_formats_for_programs_are_refused(place):
    place.prepare(sites=1)
    assert place.run("start", "-p", USER).error == ("INVALID_ARGS", 4)


def test_an_unknown_user_is_told_who_there_is(place):
    place.prepare(sites=1)
    answer = place.run("start", "-p", "admin@nvidia.co", text=True)
    assert answer.code == 4
    assert f"did you mean '{USER}'?" in answer.err


def test_consoles_open_in_a_study_and_end_with_the_poc(place, open_console):
    place.prepare(sites=1)
    assert place.run("start").code == 0
    answer = place.run("start", "-p", USER, "--study", "nosuch", text=True)
    assert (answer.code, answer.out) == (1, "")
    assert "Code: STUDY_NOT_FOUND" in answer.err
    assert "flpoc study register" in answer.err

    first, second = open_console(place), open_console(place)
    assert "Registered clients: 1" in first.ask("check_status server")
    records = place.workspace / "state" / "poc" / "consoles"
    assert {one.stem for one in records.iterdir()} == {str(first.process.pid), str(second.process.pid)}
    assert place.run("stop", "-p", "site-1").data["consoles"] == []
    second.type("bye\n")
    assert second.end() == 0
    assert [one.stem for one in records.iterdir()] == [str(first.process.pid)]

    data = place.run("stop").data
    assert data["consoles"] == [{"user": USER, "pid": first.process.pid}]
    assert not list(records.iterdir())
    first.expect("Told to end by SIGTERM")
    assert first.end() == 143


def test_consoles_can_be_stopped_or_left_alone(place, open_console):
    place.prepare(sites=1)
    place.run("start")
    console = open_console(place)
    assert place.run("stop", "-ex", USER).data["consoles"] == []
    assert console.process.poll() is None
    data = place.run("stop", "-p", USER).data
    assert (data["consoles"], data["services"]) == ([{"user": USER, "pid": console.process.pid}], {})
    assert console.end() == 143
    assert place.run("stop", "-p", USER).data["already_stopped"] is True


def test_a_workspace_that_is_removed_has_no_consoles(place, open_console):
    place.prepare(sites=1)
    place.run("start")
    console = open_console(place)
    place.run("stop", "-ex", USER)
    assert place.run("clean").code == 0
    assert console.end() == 143


# -- records


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    yield process
    process.kill()
    process.wait()


def leave_a_record(folder, pid, **changes):
    records = folder / "state" / "poc" / "consoles"
    records.mkdir(parents=True, exist_ok=True)
    record = attrs.asdict(this_process(USER)) | {"pid": pid} | changes
    (records / f"{pid}.json").write_text(json.dumps(record))
    return records


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ({"started": 1}, 0),  # the pid was given to another process since
        ({"boot": "another"}, 0),
        ({"namespace": "pid:[1]"}, 1),  # a console in a container; its pid means nothing here
    ],
)
def test_a_process_that_is_not_the_console_is_left_alone(tmp_path, sleeper, changes, left):
    records = leave_a_record(tmp_path, sleeper.pid, **changes)
    assert end_consoles(tmp_path) == []
    assert sleeper.poll() is None
    assert len(list(records.iterdir())) == left


def test_a_record_of_what_has_ended_is_taken_away(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    records = leave_a_record(tmp_path, process.pid)
    (records / "damaged.json").write_text("{")
    assert end_consoles(tmp_path) == []
    assert [one.name for one in records.iterdir()] == ["damaged.json"]


def test_only_consoles_of_the_named_users_end(tmp_path):
    (tmp_path / "state" / "poc").mkdir(parents=True)
    with recorded(tmp_path, USER, print):
        assert end_consoles(tmp_path, ["lead@nvidia.com"]) == []
        assert (tmp_path / "state" / "poc" / "consoles" / f"{os.getpid()}.json").is_file()
    assert not list((tmp_path / "state" / "poc" / "consoles").iterdir())
