"""``flpoc plugins load``, ``unload``, ``disable`` and ``enable``."""

from __future__ import annotations

import json
import textwrap

import pytest

SOURCE = """
    from flpoc import hookimpl

    FLPOC_API = 1

    @hookimpl
    def flpoc_error_hint(error):
        return "ask Ada"
"""


@pytest.fixture
def module(packages):
    """Write a module where Python finds it."""

    def put(name: str, source: str = SOURCE) -> str:
        (packages / f"{name}.py").write_text(textwrap.dedent(source), encoding="utf-8")
        return name

    return put


@pytest.fixture
def change(flpoc, user):
    """Run a command; gives its exit status, its answer, and what the configuration then says of plugins."""

    def run(*words: str):
        done = flpoc("plugins", *words, "--format", "json")
        path = user / "config.conf"
        kept = json.loads(path.read_text(encoding="utf-8")).get("plugins", {}) if path.exists() else None
        return done.returncode, json.loads(done.stdout), kept

    return run


def test_a_private_plugin_is_used_from_then_on_until_it_is_unloaded(flpoc, module, change):
    module("acme_hooks")
    assert change("load", "acme_hooks")[2] == {"load": ["acme_hooks"]}
    assert "acme_hooks" in flpoc("plugins", "list").stdout
    assert change("unload", "acme_hooks")[2] == {}
    assert "acme_hooks" not in flpoc("plugins", "list").stdout


@pytest.mark.parametrize(
    ("does", "undoes", "key"), [("load", "unload", "load"), ("disable", "enable", "disable")], ids=["load", "disable"]
)
def test_twice_is_the_same_as_once(module, change, does, undoes, key):
    module("acme_hooks")
    change("load", "acme_hooks")
    change(does, "acme_hooks")
    status, answer, kept = change(does, "acme_hooks")
    assert (status, answer["data"]["changed"], kept[key]) == (0, False, ["acme_hooks"])
    change(undoes, "acme_hooks")
    status, answer, kept = change(undoes, "acme_hooks")
    assert (status, answer["data"]["changed"], kept.get(key)) == (0, False, None)


def test_everything_else_in_the_configuration_stays(module, change, user):
    text = '{"startup_kits": {"active": "a", "entries": {"a": "/kits/a"}}, "poc": {"workspace": "/w"}, "mine": 1}'
    (user / "config.conf").write_text(text, encoding="utf-8")
    change("load", module("acme_hooks"))
    assert json.loads((user / "config.conf").read_text()) == {
        **json.loads(text), "version": 2, "plugins": {"load": ["acme_hooks"]},
    }  # fmt: skip


REFUSED = {
    "no such module": ("nowhere.at.all", None, "PLUGIN_BROKEN", "PYTHONPATH"),
    "no plugin": ("acme_hooks", "x = 1", "PLUGIN_BROKEN", "FLPOC_API = 1"),
    "too new": ("acme_hooks", "FLPOC_API = 99", "PLUGIN_BROKEN", "needs API 99"),
    "cannot be read": ("acme_hooks", "FLPOC_API = 1\ndef broken(:", "PLUGIN_BROKEN", "packages/acme_hooks.py, line 2"),
    "ends the process": ("acme_hooks", "import sys; sys.exit(0)", "PLUGIN_BROKEN", "SystemExit"),
    "wrong argument": (
        "acme_hooks", SOURCE.replace("(error)", "(eror)"), "PLUGIN_BROKEN", "hint: there is no argument 'eror'",
    ),
    "a path": ("acme/hooks.py", None, "INVALID_ARGS", "not the name of a module"),
    "installed": ("local", None, "INVALID_ARGS", "plugin local of an installed package"),
    "installed, by its module": ("flpoc_builtin_local.hooks", None, "INVALID_ARGS", "flpoc plugins disable local"),
}  # fmt: skip


@pytest.mark.row("G15")
@pytest.mark.parametrize("case", REFUSED)
def test_what_could_not_be_loaded_is_refused_and_nothing_is_written(module, change, case):
    name, source, code, says = REFUSED[case]
    if source is not None:
        module(name, source)
    status, answer, kept = change("load", name)
    assert (status, answer["error_code"], kept) == (4, code, None)
    assert says in f"{answer['message']} {answer['hint']}"


@pytest.mark.parametrize("does", ["disable", "enable"])
def test_a_name_that_no_plugin_has_is_answered_with_a_likely_one(change, does):
    status, answer, kept = change(does, "locale")
    assert (status, answer["error_code"], kept) == (4, "PLUGIN_NOT_FOUND", None)
    assert answer["hint"] == "did you mean 'local'?"


def test_core_cannot_be_switched_off(change):
    assert change("disable", "core")[0] == 4


def test_what_is_gone_can_still_be_unloaded_and_switched_on(module, change, packages):
    module("acme_hooks")
    change("load", "acme_hooks")
    change("disable", "acme_hooks")
    (packages / "acme_hooks.py").unlink()
    assert change("enable", "acme_hooks")[::2] == (0, {"load": ["acme_hooks"]})
    assert change("unload", "acme_hooks")[::2] == (0, {})


def test_unloading_what_is_installed_says_how_to_switch_it_off(flpoc):
    done = flpoc("plugins", "unload", "local")
    assert done.stdout == "Nothing was changed.\n"
    assert "`flpoc plugins disable local` switches it off" in done.stderr
