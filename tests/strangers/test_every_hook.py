"""Every hook is of use: something in core asks it, and a test shows what comes of the answer."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from flpoc import hookspecs
from flpoc.cli.plugins_new import KINDS
from flpoc.plugins import singular

ROOT = Path(__file__).resolve().parents[2]

#: Where core asks the hook, and the test that shows it with a plugin. An empty place: nothing in core asks it
#: yet; what `plugins new` makes of that kind is asked by its own tests.
USES = {
    "authorities": (
        "provision/building.py",
        "core/tests/provision/test_building.py::test_the_authority_is_chosen_among_plugins",
    ),
    "launchers": (
        "poc/services.py",
        "tests/strangers/test_packages.py::test_a_job_runs_through_its_launcher_and_sends_what_another_plugin_knows",
    ),
    "frameworks": (
        "client/foreign.py",
        "tests/strangers/test_packages.py::test_a_job_runs_through_its_launcher_and_sends_what_another_plugin_knows",
    ),
    "filters": ("site/gate.py", "tests/machine/test_gate.py::test_the_model_is_the_mean_of_what_the_jobs_filter_left"),
    "ciphers": ("", "tests/strangers/test_skeletons.py::test_what_is_made_passes_its_tests"),
    "aggregators": ("runner/controller.py", "tests/test_docs.py::test_what_a_page_says_works"),
    "workflows": ("runner/controller.py", "tests/strangers/test_skeletons.py::test_what_is_made_passes_its_tests"),
    "trackers": (
        "server/courier.py",
        "tests/machine/test_courier.py::test_what_two_sites_log_comes_once_in_order_with_the_means_of_rounds",
    ),
    "formatters": ("cli/call.py", "core/tests/cli/test_foreign_plugins.py::test_a_format_of_a_plugin_is_used"),
    "simulators": ("simulate/engine.py", "tests/strangers/test_skeletons.py::test_what_is_made_passes_its_tests"),
    "commands": (
        "cli/root.py",
        "core/tests/cli/test_foreign_plugins.py::test_a_plain_click_command_of_a_plugin_prints_for_itself",
    ),
    "kit_files": (
        "provision/building.py",
        "core/tests/provision/test_building.py::test_a_plugins_file_is_in_the_kit_and_signed",
    ),
    "checks": (
        "poc/checks.py",
        "core/tests/poc/test_checks.py::test_an_error_refuses_with_all_findings_and_leaves_nothing",
    ),
    "job_templates": (
        "jobs/templates.py",
        "core/tests/cli/test_template_commands.py::test_a_template_of_a_plugin_is_listed_and_used",
    ),
    "framework_for": (
        "client/foreign.py",
        "core/tests/client/test_foreign.py::test_parameters_of_a_framework_become_arrays_through_its_plugin",
    ),
    "error_hint": (
        "cli/run.py",
        "core/tests/cli/test_command_line.py::test_an_error_in_text_is_three_lines_on_standard_error",
    ),
    "run_event": (
        "server/courier.py",
        "tests/machine/test_courier.py::test_a_plugin_hears_of_a_job_from_its_submission_to_its_end",
    ),
}
#: Who asks which, by the method of ``Plugins`` that is called.
_METHODS = ("create", "contributions", "ask", "tell")


def hooks() -> set[str]:
    return {name.removeprefix("flpoc_") for name in vars(hookspecs) if name.startswith("flpoc_")}


def asked_in(path: Path) -> set[str]:
    """Names of hooks that a file asks."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _METHODS:
            first = node.args[0] if node.args else None
            found.add("run_event" if node.func.attr == "tell" else str(getattr(first, "value", "")))
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "made" and len(node.args) > 1:
            found.add(str(getattr(node.args[1], "value", "")))  # the controller looks at what it gets
    return found


def test_every_hook_has_a_use() -> None:
    assert set(USES) == hooks()


@pytest.mark.parametrize("hook", [hook for hook, (place, _) in USES.items() if place])
def test_core_asks_where_the_table_says(hook: str) -> None:
    assert hook in asked_in(ROOT / "core" / "src" / "flpoc" / USES[hook][0])


def test_only_what_comes_later_is_asked_by_nobody() -> None:
    """Once core asks one of these, the table says where."""
    core = ROOT / "core" / "src" / "flpoc"
    asked = {hook for path in core.rglob("*.py") if "testing" not in path.parts for hook in asked_in(path)}
    assert {hook for hook, (place, _) in USES.items() if not place} & asked == set()


@pytest.mark.parametrize("hook", USES)
def test_the_test_that_the_table_names_is_there(hook: str) -> None:
    file, _, name = USES[hook][1].partition("::")
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_a_plugin_of_every_hook_can_be_made() -> None:
    """`framework_for` comes with the framework that it names."""
    made = {kind.replace("-", "_") for kind in KINDS} | {"framework_for"}
    assert {hook if hook in made else singular(hook) for hook in hooks()} == made
