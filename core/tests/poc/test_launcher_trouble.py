"""A proof of concept whose launcher fails, or has been uninstalled."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flpoc.ports import next_free

pytest.importorskip("flpoc_builtin_local.launcher")

HOOKS = """
from flpoc import Component, hookimpl
from flpoc import NoSettings
from flpoc_builtin_local.launcher import LocalLauncher

FLPOC_API = 1

class Tether(LocalLauncher):
    def launch(self, request):
        made = super().launch(request)
        return type(made)("tether", made.name, made.ref, made.pid)

    def poll(self, handle):
        return super().poll(type(handle)("local", handle.name, handle.ref, handle.pid))

    def stop(self, handle, *, grace=10.0):
        super().stop(type(handle)("local", handle.name, handle.ref, handle.pid), grace=grace)

@hookimpl
def flpoc_launchers():
    yield Component("tether", "The local launcher by another name", lambda _: Tether(), NoSettings)
"""


@pytest.fixture
def tethered(place) -> Iterator[Path]:
    """A prepared workspace whose launcher is in a private plugin; gives the plugin's file."""
    module = place.home / "python" / "acme" / "hooks.py"
    module.parent.mkdir(parents=True)
    module.write_text(HOOKS)
    (place.home / ".flpoc").mkdir()
    (place.home / ".flpoc" / "config.conf").write_text(json.dumps({"plugins": {"load": ["acme.hooks"]}}))
    place.env["PYTHONPATH"] = os.pathsep.join([str(module.parents[1]), os.environ.get("PYTHONPATH", "")])
    project = place.project_file(1, next_free(30000, ()))
    project.write_text(project.read_text().replace("name: example_project", "name: example_project\nlauncher: tether"))
    assert place.run("prepare", "-i", str(project), "--force").data
    yield module
    module.write_text(HOOKS)
    place.run("stop")


def start_anyway(place) -> int:
    """Launch one site without waiting for it; gives its pid."""
    started = place.run("start", "-p", "site-1", "--no-wait").data["started"]
    return int(started["site-1"])


def test_an_exception_of_a_launcher_names_it(place, tethered):
    tethered.write_text(
        HOOKS.replace("        made = super", "        raise RuntimeError('kaboom')\n        made = super")
    )
    answer = place.run("start")
    assert answer.error == ("PLUGIN_BROKEN", 4)
    assert "the launcher 'tether' failed in `launch`: RuntimeError: kaboom" in answer.document["message"]
    assert "acme.hooks" in answer.document["hint"]


@pytest.mark.parametrize("command", [("stop",), ("start",), ("clean", "--force")], ids=lambda words: words[0])
def test_without_its_launcher_every_command_says_what_may_still_run(place, tethered, command):
    pid = start_anyway(place)
    tethered.write_text("FLPOC_API = 1\n")
    answer = place.run(*command)
    assert answer.error == ("PLUGIN_NOT_FOUND", 4)
    assert "uses the launcher 'tether'" in answer.document["message"]
    assert f"site-1 (pid {pid})" in answer.document["message"]
    assert "install it again" in answer.document["hint"]


def test_a_stop_fails_where_the_launcher_cannot_say_whether_anything_runs(place, tethered):
    start_anyway(place)
    away = """
    def poll(self, handle):
        from flpoc.launching import State, Status
        return Status(State.EXITED, None, "nobody knows")

    def stop(self, handle, *, grace=10.0):
        from flpoc.errors import LaunchError
        raise LaunchError("the engine does not answer", hint="start it")
"""
    tethered.write_text(HOOKS.partition("    def poll")[0] + away + "\n@hookimpl" + HOOKS.rpartition("@hookimpl")[2])
    answer = place.run("stop")
    assert answer.error[0] == "LAUNCH_FAILED"
    assert answer.document["message"] == "the engine does not answer"
    record = place.workspace / "state" / "poc" / "handles" / "site-1.json"
    assert record.exists()
    tethered.write_text(HOOKS)
    assert place.run("stop").data["status"] == "stopped"
    assert not record.exists()
