"""Plugins that are broken, too new, or in each other's way."""

from __future__ import annotations

import json

import pytest

GREET = """
    import click
    from flpoc import hookimpl
    from flpoc.cli.command import Command

    FLPOC_API = 1

    @click.command("greet", cls=Command, examples=(), mutating=False, idempotent=True)
    def greet():
        "Greet."
        return {"by": __name__}

    @hookimpl
    def flpoc_commands():
        return (greet,)
"""
BAD = {
    "import-error": "import nowhere_to_be_found",
    "exits": "import sys; sys.exit(3)",
    "syntax": "def broken(:",
    "too-new": "FLPOC_API = 99",
    "no-api": "",
    "hook-fails": GREET.replace("return (greet,)", "raise RuntimeError('out of order')"),
    "no-command": GREET.replace("return (greet,)", "return ('greet',)"),
    "wrong-hook": GREET.replace("flpoc_commands", "flpoc_comands"),
}


@pytest.mark.row("G15")
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_plugin_does_no_harm_to_help(flpoc, install, kind):
    install(f"acme-{kind}", BAD[kind])
    done = flpoc("--help")
    assert done.returncode == 0
    assert "\n  plugins " in done.stdout


@pytest.mark.row("G15")
@pytest.mark.parametrize("kind", [kind for kind in BAD if kind not in ("hook-fails", "no-command")])
def test_a_bad_plugin_is_listed_with_the_reason(flpoc, install, kind):
    install(f"acme-{kind}", BAD[kind])
    done = flpoc("plugins", "list", "--format", "json")
    assert done.returncode == 0
    row = next(row for row in json.loads(done.stdout)["data"] if row["name"] == f"acme-{kind}")
    assert row["state"] == ("incompatible" if kind in ("too-new", "no-api") else "broken")
    assert row["reason"]


def test_the_reason_of_a_bad_plugin_is_also_said_to_people(flpoc, install):
    install("acme", BAD["too-new"])
    done = flpoc("plugins", "list")
    assert "incompatible" in done.stdout
    assert "needs API 99" in done.stderr
    assert "needs API 99" in flpoc("plugins", "show", "acme").stdout


def test_a_disabled_plugin_is_not_imported(flpoc, install, user):
    install("acme", f"open({str(user / 'imported')!r}, 'w').close()\nFLPOC_API = 1")
    (user / "config.conf").write_text('{"plugins": {"disable": ["acme"]}}', encoding="utf-8")
    done = flpoc("plugins", "list")
    assert "disabled" in done.stdout
    assert not (user / "imported").exists()


def test_a_private_plugin_is_loaded_from_the_configuration(flpoc, packages, user):
    import textwrap

    (packages / "my_hooks.py").write_text(textwrap.dedent(GREET), encoding="utf-8")
    (user / "config.conf").write_text('{"plugins": {"load": ["my_hooks"]}}', encoding="utf-8")
    assert "\n  greet " in flpoc("--help").stdout
    assert flpoc("greet").returncode == 0


@pytest.mark.row("G15")
def test_two_plugins_with_one_command_are_named_when_it_is_called(flpoc, install):
    install("acme", GREET)
    install("zeta", GREET)
    assert flpoc("--help").returncode == 0
    done = flpoc("greet", "--format", "json")
    said = json.loads(done.stdout)
    assert said["error_code"] == "PLUGIN_CONFLICT"
    assert "acme" in said["message"]
    assert "zeta" in said["message"]


def test_a_command_of_core_cannot_be_taken_over(flpoc, install):
    install("acme", GREET.replace('"greet"', '"version"'))
    assert flpoc("version").stdout.startswith("flpoc ")
    assert "flpoc's own" in flpoc("--help").stderr


def test_a_broken_configuration_leaves_help_and_is_named_elsewhere(flpoc, user):
    (user / "config.conf").write_text('{"plugins": {"load": "not a list"}}', encoding="utf-8")
    assert flpoc("--help").returncode == 0
    done = flpoc("plugins", "list")
    assert done.returncode == 4
    assert "plugins.load" in done.stderr
    assert "Code: INVALID_CONFIG (exit 4)" in done.stderr


def test_a_format_of_a_plugin_is_used(flpoc, install):
    install(
        "acme",
        """
        from flpoc import Component, hookimpl
        from flpoc.formatting import Formatter

        FLPOC_API = 1

        class Shout(Formatter):
            def report(self, report):
                return str(report.data).upper()

            def error(self, error):
                return "", f"!! {error.code}"

        @hookimpl
        def flpoc_formatters():
            yield Component("shout", "In capitals", lambda settings: Shout())
        """,
    )
    assert "'VERSION'" in flpoc("version", "--format", "shout").stdout
    failed = flpoc("plugins", "show", "nobody", "--format", "shout")
    assert failed.stderr == "!! PLUGIN_NOT_FOUND\n"


def test_a_plain_click_command_of_a_plugin_prints_for_itself(flpoc, install):
    install(
        "acme",
        GREET.replace(", cls=Command, examples=(), mutating=False, idempotent=True", "").replace(
            'return {"by": __name__}', 'click.echo("plain")'
        ),
    )
    assert flpoc("greet").stdout == "plain\n"


def test_a_command_that_is_missing_because_its_plugin_is_broken_names_the_plugin(flpoc, install):
    install("acme", GREET.replace("import click", "import clack"))
    for done in (flpoc("--help"), flpoc("greet")):
        assert "Plugin acme could not be loaded" in done.stdout + done.stderr


def test_commands_and_other_hooks_of_a_plugin_are_listed(flpoc, install):
    hint = "\n\n    @hookimpl\n    def flpoc_error_hint(error):\n        return None\n"
    install("acme", GREET.rstrip() + hint)
    row = next(
        row for row in json.loads(flpoc("plugins", "list", "--format", "json").stdout)["data"] if row["name"] == "acme"
    )
    assert row["offers"] == ["command greet", "hints on errors"]
    assert "It has: command greet, hints on errors" in flpoc("plugins", "show", "acme").stdout
