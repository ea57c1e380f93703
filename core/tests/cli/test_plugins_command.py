"""``flpoc plugins list``, ``show`` and ``check``."""

from __future__ import annotations

import json

import pytest

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
    assert "uri      str          (required)" in said
    assert "port     int          5000" in said
    assert "tags     list of str  -" in said


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


def checked(flpoc, *words):
    done = flpoc("plugins", "check", *words, "--format", "json")
    said = json.loads(done.stdout)
    return done.returncode, {row["what"]: (row["status"], row["details"]) for row in said["data"]}


def test_a_component_with_required_settings_is_not_made_but_says_which(flpoc, install):
    install("acme", TRACKER)
    assert checked(flpoc, "acme") == (0, {"plugin": ("ok", ""), "tracker paper": ("ok", "needs settings: uri")})
    assert checked(flpoc, "paper") == checked(flpoc, "acme")


@pytest.mark.parametrize(
    ("old", "new", "status", "says"),
    [
        ("lambda settings: None", "lambda settings: 1 / 0", "error", "ZeroDivisionError"),
        ("lambda settings: None", "lambda settings: None", "error", "makes None"),
        ("lambda settings: None", "fail", "warning", "nothing to write on (buy paper)"),
        ("lambda settings: None, Settings", "lambda settings: 1, dict", "error", "not an attrs class"),
        ('"paper"', '"Paper Mill"', "error", "its name"),
        ('"On paper", lambda settings: None', '"", lambda settings: 1', "warning", "its summary"),
    ],
)
def test_what_is_wrong_with_a_component_is_found(flpoc, install, old, new, status, says):
    source = TRACKER.replace("uri: str", "uri: str = ''")
    fail = """
    def fail(settings):
        from flpoc.errors import ConfigError

        raise ConfigError("nothing to write on", hint="buy paper")
    """
    assert old in source
    install("acme", source.replace(old, new) + fail)
    code, found = checked(flpoc, "acme")
    (verdict,) = [one for what, one in found.items() if what.startswith("tracker")]
    assert code == (1 if status == "error" else 0)
    assert verdict[0] == status
    assert says in verdict[1]


def test_a_disabled_plugin_is_skipped(flpoc, install, user):
    install("acme", TRACKER)
    (user / "config.conf").write_text('{"plugins": {"disable": ["acme"]}}', encoding="utf-8")
    code, found = checked(flpoc, "acme")
    assert (code, found["plugin"][0]) == (0, "skipped")


def test_check_of_an_unknown_plugin_names_a_likely_one(flpoc):
    done = flpoc("plugins", "check", "lokal", "--format", "json")
    said = json.loads(done.stdout)
    assert (done.returncode, said["error_code"]) == (4, "PLUGIN_NOT_FOUND")
    assert said["hint"] == "did you mean 'local'?"
