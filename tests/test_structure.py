"""The house: what stands where, who may import whom, and what is not used at all."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import flpoc

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "core" / "src" / "flpoc"
DOCKER = ROOT / "plugins" / "builtin_docker" / "src" / "flpoc_builtin_docker"

#: The import arrow: what stands in a line may import from its own line and those above it.
FLOORS = (
    # what everything is made of
    """__init__ cancelling changing components ending errors hookspecs log_modes models moved ports rebuilding settings
    strict_hocon strict_yaml tails""",
    # the rooms: one interface module each, the contract of plugin authors; and the loader of plugins
    "aggregating encrypting filtering formatting launching plugins provisioning simulating tracking training",
    # what is said and sent
    "audit configuration introspection jobs provision serving wire",
    # the processes, and what runs in them
    "client runner server simulate site workflows",
    # what an operator works with
    "enrolment poc preflight recipe session",
    "cli",
)
#: Not on a floor, and why.
APART = {
    "builtin": "offers what core has to the loader like any plugin; its functions import what they make",
    "templates": "scripts of job templates, which are copied into jobs; nothing imports them",
    "testing": "for the tests of plugins; nothing of core may import it",
}

TOP = {
    "files": {".gitignore", "CHANGELOG.md", "LICENSE", "Makefile", "README.md", "SECURITY.md", "conftest.py"}
    | {"pyproject.toml", "requirements-dev.txt"},
    "folders": {".ci", "core", "docs", "plugins", "tests"},
}
MADE = {".git", ".mypy_cache", ".pytest_cache", ".ruff_cache", "__pycache__", "build", "dist", "results"}

DISTRIBUTIONS = [ROOT / "core", *sorted(one.parent for one in (ROOT / "plugins").glob("*/pyproject.toml"))]
PLUGINS = DISTRIBUTIONS[1:]
by_name = pytest.mark.parametrize("folder", DISTRIBUTIONS, ids=lambda folder: folder.name)
of_plugins = pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)


# -- what is there


def tracked() -> list[Path]:
    """All files but those that tools have made."""
    found = []
    waiting = [ROOT]
    while waiting:
        for entry in waiting.pop().iterdir():
            if entry.name in MADE or entry.name.startswith(".venv") or entry.suffix == ".egg-info":
                continue
            if entry.is_dir() and not entry.is_symlink():
                waiting.append(entry)
            elif entry.suffix not in (".pyc", ".log"):
                found.append(entry)
    return sorted(found)


def sources() -> list[Path]:
    return sorted(path for folder in DISTRIBUTIONS for path in (folder / "src").rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def place(path: Path, node: Any = None) -> str:
    return f"{path.relative_to(ROOT)}" + (f":{node.lineno}" if node is not None else "")


def project(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))


# -- imports


@cache
def imports(path: Path) -> tuple[tuple[str, ast.stmt], ...]:
    """Modules that a file imports when it runs, also inside functions; not what only a type checker sees."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[tuple[str, ast.stmt]]:
    waiting: list[ast.AST] = [tree(path)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{place(path, node)}: relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner if is_module(inner) else str(node.module)), node
        waiting += ast.iter_child_nodes(node)


@cache
def is_module(name: str) -> bool:
    path = CORE.parent / Path(*name.split("."))
    return path.with_suffix(".py").is_file() or path.is_dir()


def part(module: str) -> str:
    """``flpoc.wire.codec`` is of the part ``wire``."""
    words = module.split(".")
    return words[1] if len(words) > 1 else "__init__"


def part_of(path: Path) -> str:
    return path.relative_to(CORE).parts[0].removesuffix(".py")


def floor(name: str) -> int:
    return next(number for number, names in enumerate(FLOORS) if name in names.split())


def core_imports() -> Iterator[tuple[str, str, str]]:
    """Which part imports which, and where."""
    for path in sorted(CORE.rglob("*.py")):
        for module, node in imports(path):
            if module.split(".")[0] == "flpoc" and part(module) != part_of(path):
                yield part_of(path), part(module), place(path, node)


def test_every_part_of_core_has_its_floor():
    found = {part_of(path) for path in CORE.rglob("*.py")}
    known = {*" ".join(FLOORS).split(), *APART}
    assert sorted(found - known) == []


def test_parts_import_from_their_own_floor_and_below():
    wrong = [
        f"{where}: {user} imports {used}"
        for user, used, where in core_imports()
        if user not in APART and used not in APART and floor(used) > floor(user)
    ]
    assert wrong == []


def test_no_two_parts_need_each_other():
    needs: dict[str, set[str]] = {}
    for user, used, _ in core_imports():
        if user not in APART:
            needs.setdefault(user, set()).add(used)
    while free := [name for name, used in needs.items() if not used & needs.keys()]:
        for name in free:
            del needs[name]
    assert needs == {}, "these import each other in a circle"


def test_only_the_loader_of_plugins_reaches_what_stands_apart():
    assert [f"{where}: {used}" for user, used, where in core_imports() if used in APART and user not in APART] == []


def test_server_and_site_do_not_import_what_runs_a_users_code():
    wrong = [
        f"{where}: {user} imports {used}"
        for user, used, where in core_imports()
        if user in ("server", "site") and used in ("client", "runner", "server", "site", "workflows")
    ]
    assert wrong == []


def test_core_imports_no_plugin():
    plugins = {f"flpoc_{folder.name}" for folder in PLUGINS}
    wrong = [
        f"{place(path, node)}: {module}"
        for path in sorted(CORE.rglob("*.py"))
        for module, node in imports(path)
        if module.split(".")[0] in plugins or module.startswith("flpoc_")
    ]
    assert wrong == []


@of_plugins
def test_a_plugin_imports_no_other_plugin(folder):
    wrong = [
        f"{place(path, node)}: {module}"
        for path in sorted((folder / "src").rglob("*.py"))
        for module, node in imports(path)
        if module.startswith("flpoc_") and module.split(".")[0] != f"flpoc_{folder.name}"
    ]
    assert wrong == []


# -- names


def test_the_top_level_is_what_the_design_says():
    found = [one for one in ROOT.iterdir() if one.name not in MADE and not one.name.startswith(".venv")]
    assert {one.name for one in found if one.is_dir()} == TOP["folders"]
    assert {one.name for one in found if one.is_file() and one.suffix != ".log"} == TOP["files"]


@by_name
def test_every_distribution_is_whole(folder):
    whole = ("pyproject.toml", "README.md", "LICENSE", "src", "tests")
    assert [name for name in whole if not (folder / name).exists()] == []
    assert list((folder / "tests").rglob("test_*.py"))


@by_name
def test_every_distribution_carries_the_licence(folder):
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert project(folder)["project"]["license"] == "Apache-2.0"


@of_plugins
def test_a_plugins_folder_distribution_module_and_entry_point_are_named_alike(folder):
    found = project(folder)["project"]
    module = f"flpoc_{folder.name}"
    assert found["name"] == module.replace("_", "-")
    assert [one.name for one in (folder / "src").iterdir() if one.is_dir() and one.name not in MADE] == [module]
    assert list(found["entry-points"]) == ["flpoc"]
    assert list(found["entry-points"]["flpoc"].values()) == [f"{module}.hooks"]
    assert (folder / "src" / module / "hooks.py").is_file()


def test_all_distributions_have_the_version_of_core():
    for folder in (ROOT, *PLUGINS):
        assert project(folder)["project"]["version"] == flpoc.__version__, folder.name
    wanted = {project(folder)["project"]["name"] + f"=={flpoc.__version__}" for folder in PLUGINS}
    pinned = {re.sub(r"\[.*?\]", "", one) for one in project(ROOT)["project"]["dependencies"]}
    assert pinned == {f"flpoc=={flpoc.__version__}", *wanted}


@by_name
def test_every_distribution_is_installed_for_the_tests(folder):
    lines = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
    path = f"./{folder.relative_to(ROOT)}"
    assert any(re.match(rf"-e {re.escape(path)}(\[|\s|$)", line) for line in lines)


def test_file_names_say_what_is_inside():
    vague = {"utils", "util", "helpers", "helper", "common", "base", "misc", "manager", "context", "tools", "lib"}
    allowed = {"recipe/utils.py"}  # a documented import: flpoc.recipe.utils
    words = {path: {*path.stem.split("_"), *(one for one in path.relative_to(ROOT).parts[:-1])} for path in sources()}
    assert [place(path) for path, found in words.items() if found & vague and place(path)[15:] not in allowed] == []


def test_no_file_names_a_folder_of_somebodys_machine():
    private = re.compile(r"(?<![\w.~$}])/(?:root|work)/[\w.]" + f"|{re.escape(str(ROOT))}/")
    wrong = []
    for path in tracked():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        wrong += [f"{place(path)}:{number}" for number, line in enumerate(lines, 1) if private.search(line)]
    assert wrong == []


# -- what is not used


@cache
def calls(path: Path) -> tuple[tuple[str, ast.Call], ...]:
    return tuple((ast.unparse(node.func), node) for node in ast.walk(tree(path)) if isinstance(node, ast.Call))


@pytest.mark.row("S1")
def test_nothing_that_runs_what_it_reads_is_imported():
    never = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "tarfile"}
    # writes an archive, which is how an engine takes files; reads none
    allowed = {("tarfile", DOCKER / "building.py")}
    wrong = [
        f"{place(path, node)}: {module}"
        for path in sources()
        for module, node in imports(path)
        if module.split(".")[0] in never and (module, path) not in allowed
    ]
    assert wrong == []


@pytest.mark.row("S1")
def test_nothing_is_evaluated():
    never = {"eval", "exec", "__import__", "builtins.eval", "builtins.exec"}
    # the scripts of simulated sites, many times in one process, which isolates nothing
    allowed = {CORE / "simulate" / "staging.py"}
    wrong = [
        place(path, node) for path in sources() for name, node in calls(path) if name in never and path not in allowed
    ]
    assert wrong == []


@pytest.mark.row("S1", "S21")
def test_no_shell_reads_what_is_started():
    never = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "create_subprocess_shell"}
    wrong = [
        place(path, node)
        for path in sources()
        for name, node in calls(path)
        if name.removeprefix("asyncio.") in never
        or any(one.arg == "shell" and ast.unparse(one.value) != "False" for one in node.keywords)
    ]
    assert wrong == []


@pytest.mark.row("S1")
def test_archives_are_read_by_the_careful_walker_only():
    never = ("extractall", "extract", "unpack_archive")
    wrong = [place(path, node) for path in sources() for name, node in calls(path) if name.split(".")[-1] in never]
    assert wrong == []


@pytest.mark.row("S1")
def test_arrays_are_never_loaded_with_objects_in_them():
    wrong = [
        place(path, node)
        for path in sources()
        for _, node in calls(path)
        if any(one.arg == "allow_pickle" and ast.unparse(one.value) != "False" for one in node.keywords)
    ]
    assert wrong == []


@pytest.mark.row("S1")
def test_yaml_is_read_by_a_safe_loader_of_our_own_only():
    wrong = []
    for path in sources():
        safe = {
            node.name
            for node in ast.walk(tree(path))
            if isinstance(node, ast.ClassDef) and any("SafeLoader" in ast.unparse(base) for base in node.bases)
        }
        for name, node in calls(path):
            if name in ("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"):
                loaders = {ast.unparse(one.value) for one in node.keywords if one.arg == "Loader"}
                if len(loaders) != 1 or not loaders <= safe:
                    wrong.append(place(path, node))
    assert wrong == []


@pytest.mark.row("S10")
def test_chance_that_can_be_guessed_is_not_used():
    wrong = [
        place(path, node)
        for path in sources()
        for module, node in imports(path)
        if module == "random" and "testing" not in path.parts
    ]
    assert wrong == []


@pytest.mark.row("S2")
def test_modules_are_imported_by_name_by_the_loaders_only():
    # installed plugins; flpoc's own commands; the plugin that a suite tests; what simulated scripts are about to import
    allowed = {CORE / "plugins.py", CORE / "cli" / "command.py", CORE / "testing" / "plugin_suite.py"}
    allowed |= {CORE / "simulate" / "preloading.py"}
    wrong = [
        place(path, node)
        for path in sources()
        for name, node in calls(path)
        if name.endswith("import_module") and path not in allowed
    ]
    assert wrong == []


def test_a_jobs_code_is_run_in_processes_of_the_job_only():
    # a user's own program, in a process of its own, on the user's machine; a job's own classes, in its controller
    allowed = {CORE / "recipe" / "program.py", CORE / "workflows" / "job_code.py"}
    wrong = [
        place(path, node)
        for path in sources()
        for module, node in imports(path)
        if module in ("runpy", "importlib.util", "importlib.machinery")
        and part_folder(path) != "runner"
        and path not in allowed
    ]
    assert wrong == []


def part_folder(path: Path) -> str:
    return part_of(path) if path.is_relative_to(CORE) else ""


def test_nothing_sleeps_to_wait():
    allowed = {
        CORE / "launching.py": "an engine that cannot notify is asked again; those that can override the method",
        CORE / "testing" / "launcher_bench.py": "polling is what is tested there",
        CORE / "server" / "user_service.py": "news that come close together are told together",
        CORE / "server" / "commits.py": "a full disk does not say when there is room again",
        CORE / "site" / "departures.py": "a full disk does not say when there is room again",
        CORE / "site" / "agent.py": "reconnecting is paced, so that a server that comes back is not run over",
        ROOT / "plugins/builtin_local/src/flpoc_builtin_local/processes.py": "kernels without pidfd are asked again",
        DOCKER / "keeper.py": "an engine that is away does not say when it is back",
        DOCKER / "launcher.py": "an engine that is away does not say when it is back",
    }
    wrong = [
        place(path, node)
        for path in sources()
        for name, node in calls(path)
        if name.split(".")[-1] == "sleep" and path not in allowed
    ]
    assert wrong == []


def test_no_failure_is_swallowed_unseen():
    wrong = [
        place(path, node)
        for path in sources()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
        and all(isinstance(one, (ast.Pass, ast.Continue)) for one in node.body)
    ]
    assert wrong == []
