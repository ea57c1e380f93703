"""For every promise of a plugin: one that breaks it, and the test of the suite that notices."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

CORRECT = """
import attrs
from flpoc import Component, hookimpl
from flpoc.errors import FlpocError

FLPOC_API = 1

@attrs.frozen
class Settings:
    size: int = 3

@hookimpl
def flpoc_trackers():
    yield Component("one-of-two", "What it is, in one line", lambda settings: object(), Settings)
    yield Component("two", "Another", lambda settings: object())
"""

#: What breaks which promise: the test that notices, and a change of the correct plugin.
WRONG: dict[str, tuple[str, str, str]] = {
    "other_interface": ("test_it_is_written_for_this_plugin_interface", "FLPOC_API = 1", "FLPOC_API = 99"),
    "hook_that_is_none": ("test_it_loads", "def flpoc_trackers", "def flpoc_trakcers"),
    "no_hook": ("test_it_answers_at_least_one_hook", "@hookimpl", ""),
    "fails_when_asked": ("test_it_can_be_asked_for_what_it_offers", 'Component("two', '1 / 0, ("two'),
    "no_component": ("test_it_can_be_asked_for_what_it_offers", 'yield Component("two"', 'yield ("two"'),
    "heavy_module": ("test_hooks_and_offers_import_nothing_heavy", "import attrs", "import attrs, numpy"),
    "heavy_offer": ("test_hooks_and_offers_import_nothing_heavy", "    yield", "    import grpc\n    yield"),
    "name_with_blank": ("test_names_are_short_words_with_hyphens", "one-of-two", "one of two"),
    "long_summary": ("test_summaries_are_one_line", "in one line", "in one\\nline"),
    "no_summary": ("test_summaries_are_one_line", '"Another"', '""'),
    "one_name_twice": ("test_no_two_offers_of_a_kind_have_one_name", "one-of-two", "two"),
    "settings_of_another_kind": ("test_settings_are_attrs_classes", "@attrs.frozen", ""),
    "settings_that_take_all": (
        "test_a_setting_that_does_not_exist_is_refused_with_its_path", "object(), Settings)", "object(), dict)"
    ),
    "cannot_be_made": (
        "test_what_it_offers_can_be_made_or_says_what_is_missing", "lambda settings: object()", "lambda: object()"
    ),
    "makes_nothing": (
        "test_what_it_offers_can_be_made_or_says_what_is_missing", "lambda settings: object()", "lambda settings: None"
    ),
    "no_hint": (
        "test_what_it_offers_can_be_made_or_says_what_is_missing", "settings: object()", "settings: fail()"
    ),
}  # fmt: skip

FAIL = "\ndef fail():\n    raise FlpocError('something is missing')\n"

#: These cannot fail for a plugin without a package of its own.
PACKAGED_ONLY = {"test_its_package_its_module_and_its_hooks_are_named_alike"}

PACKAGE = """
class TestMisnamed(PluginSuite):
    plugin = "acme_hooks_elsewhere"
"""


def run(folder: Path, suites: str, *chosen: str) -> dict[str, str]:
    """Run suites that find their plugins in *folder*, and say how each test went."""
    file, report = folder / "test_plugins.py", folder / "report.xml"
    file.write_text("from flpoc.testing import PluginSuite\n" + suites)
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", "-c", os.devnull]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)])}
    done = subprocess.run(
        [*argv, f"--rootdir={folder}", *(f"{file}::{one}" for one in chosen)],
        env=env, cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return {
        f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}": case[0].tag if len(case) else "passed"
        for case in ElementTree.parse(report).iter("testcase")
    }


def suite(module: str) -> str:
    return f"class Test_{module}(PluginSuite):\n    plugin = {module!r}\n"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("wrong")
    for name, (_, old, new) in WRONG.items():
        assert old in CORRECT
        (folder / f"acme_{name}.py").write_text(CORRECT.replace(old, new, 1 if name == "no_hook" else -1) + FAIL)
    chosen = [f"Test_acme_{name}::{test}" for name, (test, _, _) in WRONG.items()]
    return run(folder, "".join(suite(f"acme_{name}") for name in WRONG), *chosen)


@pytest.mark.parametrize("name", WRONG)
def test_a_plugin_that_breaks_a_promise_is_caught(name: str, outcomes: dict[str, str]) -> None:
    assert outcomes[f"Test_acme_{name}::{WRONG[name][0]}"] == "failure"


def test_a_correct_plugin_passes_and_every_test_has_a_plugin_that_fails_it(tmp_path: Path) -> None:
    (tmp_path / "acme_correct.py").write_text(CORRECT)
    outcomes = run(tmp_path, suite("acme_correct"))
    tests = {name.partition("::")[2]: outcome for name, outcome in outcomes.items()}
    assert {name for name, outcome in tests.items() if outcome != "passed"} == PACKAGED_ONLY
    assert set(tests) == {test for test, _, _ in WRONG.values()} | PACKAGED_ONLY


def test_a_package_that_is_not_named_like_its_module_is_caught(tmp_path: Path) -> None:
    (tmp_path / "acme_hooks_elsewhere.py").write_text(CORRECT)
    info = tmp_path / "acme_flpoc-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-flpoc\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[flpoc]\nacme = acme_hooks_elsewhere\n")
    (only,) = PACKAGED_ONLY
    assert run(tmp_path, PACKAGE, f"TestMisnamed::{only}") == {f"TestMisnamed::{only}": "failure"}
