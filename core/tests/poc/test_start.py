"""`flpoc poc start`: all services, ready or a reason why not."""

from __future__ import annotations

import os
import shutil
import socket
import time
from pathlib import Path

import pytest

from flpoc.ports import is_free

from .conftest import kill


def environment_of(pid: int) -> dict[str, str]:
    words = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(word.split("=", 1) for word in words if word)


def test_everything_runs_and_is_ready(place):
    port = place.prepare()["port"]
    data = place.run("start").data
    assert data["status"] == "running"
    assert data["ready"] is True
    assert data["services"] == {"server": "running", "site-1": "running", "site-2": "running"}
    assert data["clients"] == ["site-1", "site-2"]
    assert not is_free(port)


@pytest.mark.row("D6")
def test_what_is_reported_is_what_is_bound(place):
    port = place.prepare(sites=1)["port"]
    data = place.run("start").data
    assert data["server_url"] == f"grpcs://localhost:{port}"
    assert data["server_address"] == data["admin_address"] == f"localhost:{port}"
    assert data["default_port"] == data["default_server_port"] == data["default_admin_port"] == port
    with socket.create_connection(("localhost", port), timeout=5):
        pass


def test_each_service_has_its_log(place):
    place.prepare(sites=1)
    logs = place.run("start").data["console_logs"]
    until = time.monotonic() + 60
    while "registered with project example_project" not in Path(logs["site-1"]).read_text():
        # the server, which says that all is ready, knows of it before the site does
        assert time.monotonic() < until, Path(logs["site-1"]).read_text()
        time.sleep(0.05)


@pytest.mark.row("S22")
def test_a_service_is_given_no_variables_but_the_few_it_needs(place):
    place.prepare(sites=1)
    pid = place.run("start", "-p", "server", SECRET_OF_MINE="x").data["started"]["server"]
    known = {"PATH", "HOME", "LANG", "TMPDIR", "PYTHONUNBUFFERED"}
    assert set(environment_of(pid)) <= known | {"LC_CTYPE"}  # which the interpreter sets itself


@pytest.mark.row("D5")
def test_starting_what_runs_is_a_success_that_says_so(place):
    place.prepare(sites=1)
    first = place.run("start").data
    second = place.run("start").data
    assert second["already_running"] == first["started"]
    assert second["started"] == {}
    assert second["ready"] is True
    assert second["port_conflict"] is False


def test_only_what_is_dead_is_started_again(place):
    place.prepare(sites=1)
    first = place.run("start").data["started"]
    kill(first["server"])
    second = place.run("start").data
    assert list(second["started"]) == ["server"]
    assert second["already_running"] == {"site-1": first["site-1"]}
    assert second["ready"] is True


def test_two_starts_at_once_make_one_set_of_services(place):
    place.prepare()
    both = [place.begin("poc", "start") for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, out + err
    listed = place.processes
    started = place.run("start").data["already_running"]
    assert set(started.values()) <= set(listed)
    assert len(listed) == len(started) == 3


@pytest.mark.row("D7")
def test_one_participant_can_be_started_alone(place):
    place.prepare()
    data = place.run("start", "-p", "server").data
    assert data["ready"] is True
    assert data["clients"] == []
    assert list(data["started"]) == ["server"]


@pytest.mark.row("D7")
def test_one_site_joins_a_server_that_runs(place):
    place.prepare()
    place.run("start", "-p", "server")
    answer = place.run("start", "-p", "site-2", text=True)
    assert "Started: site-2" in answer.out
    assert "/1" not in answer.out


def test_a_site_without_a_server_is_started_and_not_called_ready(place):
    place.prepare()
    answer = place.run("start", "-p", "site-1")
    assert answer.data["status"] == "starting"
    assert answer.data["ready"] is False
    assert "server does not run" in answer.err


def test_one_participant_can_be_left_out(place):
    place.prepare()
    data = place.run("start", "-ex", "site-1").data
    assert list(data["services"]) == ["server", "site-2"]
    assert data["ready"] is True


@pytest.mark.parametrize("option", ["-p", "-ex"])
def test_an_unknown_participant_is_refused_with_the_list(place, option):
    place.prepare()
    answer = place.run("start", option, "site-9")
    assert answer.error == ("INVALID_ARGS", 4)
    assert answer.document["data"]["services"] == ["server", "site-1", "site-2"]


def test_a_user_has_no_service(place):
    place.prepare()
    answer = place.run("start", "-ex", "admin@nvidia.com")
    assert answer.error == ("INVALID_ARGS", 4)
    assert "users have no service" in answer.document["message"]


@pytest.mark.row("D17")
def test_start_before_prepare_names_what_is_missing(place):
    answer = place.run("start")
    assert answer.error == ("INVALID_ARGS", 4)
    assert "flpoc poc prepare" in answer.document["hint"]


@pytest.mark.row("G11", "P11")
def test_a_taken_port_names_its_owner_and_starts_nothing(place):
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        place.prepare(sites=1, port=port)
        answer = place.run("start")
    assert answer.error == ("SERVICE_FAILED", 2)
    assert f"pid {os.getpid()}" in answer.document["message"]
    data = answer.document["data"]
    assert data["port_conflict"] is True
    assert data["conflicts"][0]["owners"][0]["pid"] == os.getpid()
    assert data["warnings"]
    assert not place.processes


def test_the_server_of_another_poc_is_never_taken_for_ours(make_place):
    first, second = make_place("one", "a"), make_place("two", "b")
    port = first.prepare(sites=1)["port"]
    pid = first.run("start").data["started"]["server"]
    second.prepare(sites=1, port=port)
    answer = second.run("start")
    assert answer.error == ("SERVICE_FAILED", 2)
    assert f"pid {pid}" in answer.document["message"]


def test_two_workspaces_run_side_by_side(make_place):
    places = [make_place("one"), make_place("two")]
    for one in places:
        one.prepare(sites=1)
        assert one.run("start").data["ready"] is True
    places[0].run("stop")
    assert places[1].run("start").data["started"] == {}


@pytest.mark.parametrize("name", ["server", "site-1"])
def test_a_service_that_ends_early_is_reported_at_once_with_its_last_words(place, name):
    place.prepare(sites=1)
    key = place.kit(name) / "startup" / ("server.key" if name == "server" else "client.key")
    key.chmod(0o644)
    answer = place.run("start", "--timeout", "110")
    assert answer.error == ("SERVICE_FAILED", 2)
    assert "can be read by others" in answer.document["message"]
    assert answer.document["data"]["service"] == name
    assert answer.seconds < 60  # not when the time is up
    assert not place.processes


def test_a_time_out_says_who_is_missing_and_where_to_look(place):
    place.prepare()
    pids = place.run("start").data["started"]
    kill(pids["site-2"])
    shutil.copy(place.kit("site-2") / "local" / "policy.json", place.home)
    (place.kit("site-2") / "local" / "connect.json").write_text('{"host": "localhost", "port": 1}')
    answer = place.run("start", "--timeout", "8")  # the server must be heard in this time, too
    assert answer.error == ("CONNECTION_FAILED", 2)
    assert answer.document["data"]["missing"] == ["site-2"]
    assert "site-2/poc_console.log" in answer.document["hint"]


def test_nobody_needs_to_wait(place):
    place.prepare(sites=1)
    data = place.run("start", "--no-wait").data
    assert (data["status"], data["ready"], data["no_wait"]) == ("starting", False, True)


def test_a_study_is_noted_as_without_effect(place):
    place.prepare(sites=1)
    answer = place.run("start", "--no-wait", "--study", "default")
    assert answer.code == 0
    assert "has no effect on server and sites" in answer.err


@pytest.mark.parametrize(
    "words", [("-p", "site-9"), ("-ex", "site-9"), ("-gpu", "0"), ("-p", "site-1", "-ex", "site-1")]
)
def test_an_error_says_that_no_port_was_looked_at(prepared, words):
    """Programs find the same fields whatever became of the start."""
    answer = prepared.run("start", *words)
    assert answer.error == ("INVALID_ARGS", 4)
    data = answer.document["data"]
    assert (data["port_conflict"], data["port_preflight"]["checked"], data["warnings"]) == (False, False, [])


@pytest.mark.parametrize("seconds", ["0", "-1", "1.5", "soon", ""])
def test_a_time_to_wait_is_a_whole_number_of_seconds(prepared, seconds):
    assert prepared.run("start", "--timeout", seconds).error == ("INVALID_ARGS", 4)
