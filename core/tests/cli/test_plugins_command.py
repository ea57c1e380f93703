"""``flpoc plugins list`` and ``show``."""

from __future__ import annotations

import json

from flpoc.cli.main import main

TRACKER = """
    import attrs
    from flpoc import Component, hookimpl

    FLPOC_API = 1

    @attrs.frozen
    class Settings:
        uri: str
        port: int = 5000
        tags: tuple[str, ...] = ()
        sites: list = attrs.field(factory=list)

    @hookimpl
    def flpoc_trackers():
        yield Component("paper", "On paper", lambda settings: None, Settings)
"""


def test_the_list_has_name_version_state_and_offers(capsys):
    assert main(["plugins", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "version", "state", "offers"]
    assert any(line.startswith("core") for line in lines)


def test_a_component_is_shown_with_its_settings(flpoc, install):
    install("acme", TRACKER)
    said = flpoc("plugins", "show", "paper").stdout
    assert "tracker paper, of plugin acme: On paper" in said
    assert "uri      str              (required)" in said
    assert "port     int              5000" in said
    assert "tags     tuple[str, ...]  ()" in said


def test_a_plugin_is_shown_with_what_it_offers(flpoc, install):
    install("acme", TRACKER)
    data = json.loads(flpoc("plugins", "show", "acme", "--format", "json").stdout)["data"]
    assert data["plugin"]["state"] == "loaded"
    assert data["plugin"]["version"] == "1.0"
    (component,) = data["components"]
    assert component["kind"] == "tracker"
    assert component["settings"][0] == {"name": "uri", "type": "str", "required": True, "default": None}


def test_an_unknown_name_is_answered_with_a_likely_one(capsys):
    from flpoc.errors import EXIT_STATUS

    assert main(["plugins", "show", "cora"]) == EXIT_STATUS["PLUGIN_NOT_FOUND"]
    said = capsys.readouterr()
    assert said.out == ""
    assert "did you mean 'core'?" in said.err
    assert "Code: PLUGIN_NOT_FOUND" in said.err
