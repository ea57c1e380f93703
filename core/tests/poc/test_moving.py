"""A proof of concept that is stopped gets another port, and stays otherwise what it was."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import attrs
import pytest

from flpoc.errors import KitError
from flpoc.poc.workspace import open_workspace
from flpoc.provision.kits import load_kit
from flpoc.provision.moving import move_kits

SCRIPT = """
import numpy as np

import flpoc.client as flare

flare.init()
while flare.is_running():
    model = flare.receive()
    flare.send(flare.FLModel(params={"w": np.ones(2)}))
"""


@pytest.fixture
def job(tmp_path):
    folder = tmp_path / "job"
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "train.py").write_text(SCRIPT)
    (folder / "job.conf").write_text("name = moved\nscript = train.py\nrounds = 1\n")
    return folder


def kits(place):
    return {one.name: one for one in place.kit("server").parent.iterdir()}


def keys(place):
    return {
        path: path.read_bytes() for kit in kits(place).values() for path in (kit / "startup").glob("*.[ck][re][ty]")
    }


def test_it_runs_on_the_new_port_with_the_same_keys_and_jobs(place, job):
    first = place.prepare()["port"]
    place.run("start")
    before, done = keys(place), place.answer("job", "submit", "-j", str(job)).data["job_id"]
    place.answer("job", "wait", done)
    place.run("stop")
    second = place.spare_port
    moved = place.run("start", "--port", str(second)).data
    assert (moved["moved_from"], moved["port"], moved["ready"]) == (first, second, True)
    assert moved["server_address"] == f"localhost:{second}"
    assert keys(place) == before
    assert [one["job_id"] for one in place.answer("job", "list").data] == [done]
    place.run("stop")
    again = place.run("start").data
    assert (again["moved_from"], again["port"]) == (None, second)
    place.answer("job", "submit", "-j", str(job))


def test_a_taken_port_says_with_which_it_would_start(place):
    with socket.socket() as other:
        taken = place.spare_port
        other.bind(("", taken))
        other.listen()
        place.prepare(sites=1, port=taken)
        free = place.run("start").document["hint"].rpartition("flpoc poc start --port ")[2]
        assert place.run("start", "--port", free).data["ready"] is True


def test_a_port_that_is_taken_moves_nothing(place):
    port = place.prepare(sites=1)["port"]
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        answer = place.run("start", "--port", str(other.getsockname()[1]))
    assert answer.error == ("SERVICE_FAILED", 2)
    assert f"pid {os.getpid()}" in answer.document["message"]
    assert {load_kit(kit).settings.server_port for kit in kits(place).values()} == {port}
    assert place.run("start").data["port"] == port


def test_what_runs_keeps_its_port(place):
    port = place.prepare(sites=1)["port"]
    place.run("start", "-p", "site-1", "--no-wait")
    answer = place.run("start", "--port", str(place.spare_port))
    assert answer.error == ("INVALID_ARGS", 4)
    assert "flpoc poc stop" in answer.document["hint"]
    assert place.run("start", "--port", str(port)).data["moved_from"] is None


def test_people_read_that_it_was_moved(place):
    first, second = place.prepare(sites=1)["port"], place.spare_port
    answer = place.run("start", "--port", str(second), "--no-wait", text=True)
    assert f"from port {first} to {second}" in answer.out, answer.err


def test_sites_that_are_added_later_know_the_new_port(place):
    place.prepare(sites=1)
    port = place.spare_port
    place.run("start", "--port", str(port))
    place.run("add-site", "site-9")
    assert place.run("start", "-p", "site-9").data["ready"] is True
    assert load_kit(place.kit("site-9")).settings.server_port == port


@pytest.mark.parametrize("port", ["0", "65536", "http"])
def test_what_is_no_port_is_refused(place, port):
    assert place.run("start", "--port", port).error == ("INVALID_ARGS", 4)


@pytest.mark.parametrize("done", range(7))
def test_a_move_that_was_interrupted_can_be_repeated(place, monkeypatch, done):
    place.prepare(sites=1)
    workspace, port, left = open_workspace(place.workspace), place.spare_port, [None] * done
    project = attrs.evolve(workspace.project, port=port)
    replace = Path.replace

    def stopped(self, target):
        left.pop()
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", stopped)
    with pytest.raises(IndexError):
        move_kits(project, workspace.folder, workspace.prod)
    monkeypatch.setattr(Path, "replace", replace)
    move_kits(project, workspace.folder, workspace.prod)
    for kit in kits(place).values():
        assert load_kit(kit).settings.server_port == port


def test_a_kit_that_was_changed_is_not_signed_again(place):
    place.prepare(sites=1)
    workspace = open_workspace(place.workspace)
    (place.kit("site-1") / "startup" / "start.sh").write_text("rm -rf /\n")
    before = (place.kit("server") / "startup" / "fed_server.json").read_bytes()
    with pytest.raises(KitError, match=r"start.sh was changed"):
        move_kits(workspace.project, workspace.folder, workspace.prod)
    assert (place.kit("server") / "startup" / "fed_server.json").read_bytes() == before
    answer = place.run("start", "--port", str(place.spare_port))
    assert answer.error == ("INVALID_ARGS", 4)
    assert json.loads(before)["server"]["port"] == workspace.project.port
