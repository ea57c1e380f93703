"""The loader: one bad plugin never harms a command that does not need it."""

from __future__ import annotations

import importlib
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from flpoc.errors import ConfigError, PluginError
from flpoc.plugins import PluginRecord, Plugins, PluginState, singular

HEAD = """
import attrs
from flpoc import Component, hookimpl
from flpoc.errors import PluginError
FLPOC_API = 1
@attrs.frozen
class Settings:
    size: int = 3
"""
TRACKERS = HEAD + "@hookimpl\ndef flpoc_trackers():\n    yield Component('{name}', 'One', lambda s: s, Settings)\n"
HINT = HEAD + "@hookimpl\ndef flpoc_error_hint(error):\n    {does}\n"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a distribution with one plugin on the path, as pip would."""
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = []

    def put(name: str, code: str, *, version: str = "1.2", module: str = "", entry: bool = True) -> None:
        module = module or f"acme_{name.replace('-', '_')}"
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(code))
        if entry:
            info = tmp_path / f"{module}-{version}.dist-info"
            info.mkdir()
            head = f"Metadata-Version: 2.1\nName: {module.replace('_', '-')}\nVersion: {version}\n\nVersion: 9\n"
            (info / "METADATA").write_text(head)
            (info / "entry_points.txt").write_text(f"[flpoc]\n{name} = {module}\n")
        modules.append(module)
        importlib.invalidate_caches()

    yield put
    for module in modules:
        sys.modules.pop(module, None)


def record(plugins: Plugins, name: str) -> PluginRecord:
    return next(one for one in plugins.records if one.name == name)


def test_a_plugin_is_loaded_with_name_and_version_of_its_package(install: Callable[..., None]) -> None:
    install("one", TRACKERS.format(name="t"))
    found = record(Plugins.load(), "one")
    assert found == PluginRecord("one", "acme_one", "acme-one", "1.2", PluginState.LOADED)


def test_finding_plugins_does_not_import_the_parser_of_mail() -> None:
    code = "from flpoc.plugins import Plugins; import sys; Plugins.load(); sys.exit('email.parser' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


BAD: dict[str, tuple[str, str]] = {
    "raises": ("1 / 0", "ZeroDivisionError"),
    "exits": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "cannot say what is wrong": ("class E(Exception):\n  def __str__(self): return 1 / 0\nraise E()", "E"),
    "misspells": (TRACKERS.replace("flpoc_trackers", "flpoc_trakcers"), "did you mean 'flpoc_trackers'?"),
    "wants more": (TRACKERS.replace("trackers()", "trackers(server)"), "server"),
}


@pytest.mark.row("G15", "P1")
@pytest.mark.parametrize("case", BAD)
def test_a_plugin_that_cannot_be_loaded_is_broken_and_says_why(install: Callable[..., None], case: str) -> None:
    install("bad", BAD[case][0].format(name="t") if "{name}" in BAD[case][0] else BAD[case][0])
    install("good", TRACKERS.format(name="u"))
    plugins = Plugins.load()
    found = record(plugins, "bad")
    assert found.state is PluginState.BROKEN
    assert BAD[case][1] in found.reason
    assert "u" in [offer.name for offer in plugins.offers("trackers")]


ANSWERS = {
    "exits": "import sys; sys.exit(1)",
    "raises": "raise RuntimeError('x')",
    "a number": "return 3",
    "no component": "return ['t']",
    "a name that is none": "return [Component(7, 'One', lambda s: s)]",
}


@pytest.mark.row("P1")
@pytest.mark.parametrize("case", ANSWERS)
def test_a_plugin_with_a_bad_answer_is_broken_and_the_others_answer(install: Callable[..., None], case: str) -> None:
    install("bad", HEAD + f"@hookimpl\ndef flpoc_trackers():\n    {ANSWERS[case]}\n")
    install("good", TRACKERS.format(name="u"))
    plugins = Plugins.load()
    assert "u" in [offer.name for offer in plugins.offers("trackers")]
    assert record(plugins, "bad").state is PluginState.BROKEN
    assert record(plugins, "bad").reason.startswith("flpoc_trackers: ")


def test_offers_are_sorted_by_name_whatever_the_plugins_are_called(install: Callable[..., None]) -> None:
    for plugin, name in (("a", "z"), ("m", "y"), ("z", "x")):
        install(plugin, TRACKERS.format(name=name))
    names = [offer.name for offer in Plugins.load().offers("trackers")]
    assert names == sorted(names)
    assert {"x", "y", "z"} <= set(names)


@pytest.mark.row("G15")
def test_two_that_offer_one_name_are_both_named_when_it_is_asked_for(install: Callable[..., None]) -> None:
    install("a", TRACKERS.format(name="t"))
    install("b", TRACKERS.format(name="t"))
    plugins = Plugins.load()
    with pytest.raises(PluginError, match=r"a \(acme-a\) and b \(acme-b\)") as refused:
        plugins.find("trackers", "t")
    assert refused.value.code == "PLUGIN_CONFLICT"
    assert Plugins.load(disabled=["a"]).find("trackers", "t").plugin.name == "b"


def test_two_packages_with_one_entry_point_are_both_listed(install: Callable[..., None]) -> None:
    install("same", TRACKERS.format(name="t"), module="acme_a")
    install("same", TRACKERS.format(name="u"), module="acme_b")
    states = {one.name: one.state for one in Plugins.load().records if one.name.startswith("same")}
    assert sorted(state.value for state in states.values()) == ["broken", "loaded"]
    off = [one for one in Plugins.load(disabled=["same"]).records if one.name.startswith("same")]
    assert len(off) == 2 or {one.state for one in off} == {PluginState.DISABLED}


def test_a_stranger_cannot_take_the_name_of_core_nor_switch_it_off(install: Callable[..., None]) -> None:
    install("core", TRACKERS.format(name="t"))
    assert record(Plugins.load(disabled=["core"]), "core").state is PluginState.LOADED


@pytest.mark.row("G15")
def test_a_misspelt_name_gets_the_right_one(install: Callable[..., None]) -> None:
    install("a", TRACKERS.format(name="ledger"))
    with pytest.raises(PluginError, match="no tracker 'legder' is installed") as refused:
        Plugins.load().find("trackers", "legder")
    assert "did you mean 'ledger'?" in refused.value.hint


@pytest.mark.row("G15", "P1", "S25")
def test_another_interface_is_incompatible_and_a_disabled_one_is_not_imported(
    install: Callable[..., None], tmp_path: Path
) -> None:
    install("new", "FLPOC_API = 99")
    install("off", f"open({str(tmp_path / 'imported')!r}, 'w').close()\nFLPOC_API = 1")
    plugins = Plugins.load(disabled=["off"])
    assert record(plugins, "new").state is PluginState.INCOMPATIBLE
    assert "needs API 99" in record(plugins, "new").reason
    assert record(plugins, "off").state is PluginState.DISABLED
    assert record(Plugins.load(only=["new"]), "off").state is PluginState.DISABLED
    assert not (tmp_path / "imported").exists()


@pytest.mark.row("S25")
def test_only_what_a_kit_lists_is_loaded_and_core(install: Callable[..., None]) -> None:
    install("a", TRACKERS.format(name="t"))
    loaded = [one.name for one in Plugins.load(only=["a"]).records if one.state is PluginState.LOADED]
    assert loaded == ["core", "a"]


def test_a_private_module_is_a_plugin_like_any_other(install: Callable[..., None]) -> None:
    install("p", TRACKERS.format(name="t"), entry=False)
    assert Plugins.load(private=["acme_p"]).find("trackers", "t").plugin.distribution == ""


@pytest.mark.row("P1")
def test_news_is_never_fatal(install: Callable[..., None]) -> None:
    install("a", HEAD + "@hookimpl\ndef flpoc_run_event(event):\n    raise RuntimeError(event)\n")
    install("b", HEAD + "@hookimpl\ndef flpoc_run_event():\n    raise SystemExit(2)\n")
    install("c", HEAD + "seen = []\n@hookimpl\ndef flpoc_run_event(event):\n    seen.append(event)\n")
    plugins = Plugins.load()
    assert plugins.tell("x") == ("a: RuntimeError: x", "b: SystemExit: 2")
    assert sys.modules["acme_c"].seen == ["x"]
    assert plugins.listeners() == ("a", "b", "c")
    assert (plugins.tell("y", only="c"), plugins.tell("y", only="b")) == ((), ("b: SystemExit: 2",))
    assert sys.modules["acme_c"].seen == ["x", "y"]


def test_a_question_passes_over_those_that_fail(install: Callable[..., None]) -> None:
    for name, does in (("a", "raise SystemExit(1)"), ("b", "return 7"), ("c", "return None"), ("d", "return 'do it'")):
        install(name, HINT.format(does=does))
    plugins = Plugins.load()
    assert plugins.ask("error_hint", error=ValueError()) == "do it"
    states = {name: record(plugins, name).state.value for name in "abcd"}
    assert states == {"a": "broken", "b": "broken", "c": "loaded", "d": "loaded"}


def test_a_question_that_nobody_knows_has_no_answer() -> None:
    assert Plugins.load(only=[]).ask("error_hint", error=ValueError()) is None


def test_wrong_settings_have_the_path_in_the_singular() -> None:
    with pytest.raises(ConfigError, match=r"^authority\.local-ca\.x: no such setting"):
        Plugins.load(only=[]).create("authorities", "local-ca", {"x": 1})
    assert (singular("launchers"), singular("authorities")) == ("launcher", "authority")


@pytest.mark.row("P1")
def test_a_component_that_cannot_be_made_names_its_plugin(install: Callable[..., None]) -> None:
    install("a", TRACKERS.format(name="t").replace("lambda s: s", "lambda s: 1 / 0"))
    with pytest.raises(PluginError, match=r"^a: 't' could not be made: ZeroDivisionError") as refused:
        Plugins.load().create("trackers", "t")
    assert refused.value.code == "PLUGIN_BROKEN"


@pytest.mark.row("P1")
def test_what_a_kit_lists_and_is_not_there_is_told_as_trouble() -> None:
    plugins = Plugins.of_kit(["local", "nowhere", "nowhere.hooks"])
    assert [line.partition(":")[0] for line in plugins.troubles] == [
        "plugin nowhere.hooks is broken",
        "plugin nowhere is not installed here",
    ]
