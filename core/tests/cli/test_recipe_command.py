"""``flpoc recipe``: the catalogue, and the job of a program that makes a recipe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flpoc.cli.main import main

PROGRAM = """
import argparse
from flpoc.recipe import NumpyFedAvgRecipe, add_export_options

parser = argparse.ArgumentParser()
parser.add_argument("--rounds", type=int, default=2)
add_export_options(parser)
args = parser.parse_args()
print("making a recipe")
recipe = NumpyFedAvgRecipe(min_clients=1, num_rounds=args.rounds, train_script="train.py")
recipe.run()
print("never said")
"""
MAKER = """
from flpoc.recipe import NumpyFedAvgRecipe

def make(name="made"):
    return NumpyFedAvgRecipe(name=name, min_clients=1, train_script="train.py")

def number():
    return 7

first = make("first")
SECOND
if __name__ == "__main__" and "--run" in __import__("sys").argv:
    raise RuntimeError("it was run")
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("FLPOC_EXPORT_DIR", raising=False)
    Path("train.py").write_text("import flpoc.client as flare\n")
    Path("job.py").write_text(PROGRAM)
    Path("maker.py").write_text(MAKER.replace("SECOND", ""))
    Path("two.py").write_text(MAKER.replace("SECOND", "second = make('second')"))
    return tmp_path / "here"


@pytest.fixture
def said(capsys):
    """Run a command; gives its envelope."""

    def run(*words):
        status = main(["--format", "json", *words])
        document = json.loads(capsys.readouterr().out)
        assert document["exit_code"] == status
        return document

    return run


# -- list and show

ROW = {"name", "description", "framework", "module", "class", "algorithm", "aggregation", "state_exchange", "privacy"}


def test_the_list_has_the_documented_fields(said):
    rows = said("recipe", "list")["data"]
    assert {frozenset(row) for row in rows} == {frozenset(ROW)}
    assert said("recipe")["data"] == rows
    assert "fedavg-numpy" in [row["name"] for row in rows]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--framework", "numpy"], True),
        (["--framework", "NumPy"], True),
        (["--framework", "pytorch"], False),
        (["--framework", "pytorch", "--framework", "numpy"], True),
        (["--filter", "state_exchange=full_model"], True),
        (["--filter", "state-exchange=full-model", "--filter", "algorithm=fedavg"], True),
        (["--filter", "algorithm=fedprox", "--filter", "algorithm=fedavg"], True),
        (["--filter", "algorithm=fedavg", "--filter", "aggregation=median"], False),
        (["--framework", "numpy", "--filter", "framework=pytorch"], True),
        (["--filter", "privacy=he"], False),
    ],
)
def test_the_list_can_be_narrowed(said, words, found):
    names = [row["name"] for row in said("recipe", "list", *words)["data"]]
    assert ("fedavg-numpy" in names) is found


@pytest.mark.parametrize("value", ["algorithm", "=x", "algorithm=", "nothing=x"])
def test_a_filter_that_says_nothing_is_refused(said, value):
    document = said("recipe", "list", "--filter", value)
    assert (document["error_code"], document["exit_code"]) == ("INVALID_ARGS", 4)
    assert document["hint"]


def test_an_empty_list_says_what_there_is(capsys):
    assert main(["recipe", "list", "--framework", "nothing"]) == 0
    assert "numpy" in capsys.readouterr().out


def test_show_has_the_documented_fields(said, capsys):
    data = said("recipe", "show", "fedavg-numpy")["data"]
    assert set(data) == ROW | {
        "client_requirements", "framework_support", "heterogeneity_support", "privacy_compatible", "parameters",
        "optional_dependencies", "template_references", "notes",
    }  # fmt: skip
    assert {frozenset(one) for one in data["parameters"]} == {
        frozenset({"name", "type", "required", "default", "kind"})
    }
    assert main(["recipe", "show", "fedavg-numpy"]) == 0
    assert "from flpoc.recipe import NumpyFedAvgRecipe" in capsys.readouterr().out


def test_an_unknown_recipe_is_not_found(said):
    document = said("recipe", "show", "fedavg-nump")
    assert (document["error_code"], document["exit_code"]) == ("RECIPE_ENTRY_NOT_FOUND", 1)
    assert "fedavg-numpy" in document["hint"]


def test_no_framework_is_imported_for_the_catalogue():
    code = (
        "import sys; from flpoc.cli.main import main;"
        "main(['recipe', 'list']); main(['recipe', 'show', 'fedavg-numpy']);"
        "print([m for m in ('numpy', 'grpc', 'cryptography', 'pyhocon', 'yaml', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# -- export


def test_a_program_is_run_until_it_runs_its_recipe(said):
    data = said("recipe", "export", "job.py", "--export-dir", "jobs", "--", "--rounds", "5")["data"]
    assert data == {
        "name": "fedavg",
        "job_folder": str(Path("jobs/fedavg").resolve()),
        "files": ["code/train.py", "job.conf"],
        "next_step": "flpoc job submit -j jobs/fedavg",
    }
    assert json.loads(Path("jobs/fedavg/job.conf").read_text())["rounds"] == 5
    assert not [one for one in Path("jobs").iterdir() if one.name != "fedavg"]


def test_without_a_folder_it_is_the_documented_one(said):
    assert said("recipe", "export", "job.py")["data"]["job_folder"] == str(Path("fl_job/fedavg").resolve())


def test_what_the_program_prints_is_on_standard_error(capsys):
    assert main(["recipe", "export", "job.py", "--format", "json"]) == 0
    captured = capsys.readouterr()
    assert "making a recipe" in captured.err
    assert "making a recipe" not in captured.out
    assert "never said" not in captured.err


def test_a_program_elsewhere_finds_its_scripts(said, here, monkeypatch):
    Path("away").mkdir()
    monkeypatch.chdir("away")
    assert said("recipe", "export", "../job.py")["data"]["files"] == ["code/train.py", "job.conf"]


def test_the_working_directory_does_not_stand_before_what_is_installed(said):
    Path("flpoc.py").write_text("raise RuntimeError('not this one')")
    Path("sub").mkdir()
    Path("job.py").rename("sub/job.py")
    Path("train.py").rename("sub/train.py")
    assert said("recipe", "export", "sub/job.py")["data"]["name"] == "fedavg"


@pytest.mark.parametrize("entry", ["make", "maker:make", "first"])
def test_a_recipe_that_is_not_run_can_be_named(said, entry):
    found = said("recipe", "export", "maker.py", "--entry", entry, "--", "--run")["data"]["name"]
    assert found == ("first" if entry == "first" else "made")


def test_a_recipe_that_is_made_and_not_run_will_do(said):
    assert said("recipe", "export", "maker.py")["data"]["name"] == "first"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["two.py"], "RECIPE_ENTRY_AMBIGUOUS", "first, second"),
        (["train.py"], "RECIPE_ENTRY_NOT_FOUND", "without a recipe"),
        (["job.py", "--", "--help"], "RECIPE_ENTRY_NOT_FOUND", "without a recipe"),
        (["maker.py", "--entry", "mak"], "RECIPE_ENTRY_NOT_FOUND", "no 'mak'"),
        (["maker.py", "--entry", "number"], "RECIPE_ENTRY_NOT_FOUND", "number is int"),
        (["maker.py", "--", "--run"], "RECIPE_EXPORT_FAILED", "it was run"),
        (["job.py", "--", "--rounds", "0"], "RECIPE_EXPORT_FAILED", "num_rounds: 0"),
        (["job.py", "--", "--nonsense"], "RECIPE_EXPORT_FAILED", "--nonsense"),
        (["job.py", "--export-dir", "train.py"], "OUTPUT_DIR_NOT_WRITABLE", "train.py/fedavg"),
        (["nowhere.py"], "INVALID_ARGS", "no such file"),
        (["."], "INVALID_ARGS", "not a file"),
        (["job.py", "--entry", "other:x"], "INVALID_ARGS", "'other' is not job.py"),
        (["job.py", "--entry", "a-b"], "INVALID_ARGS", "no name"),
        ([], "INVALID_ARGS", "JOB.PY"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_exported_is_said_and_leaves_nothing(said, words, code, told):
    document = said("recipe", "export", *words)
    assert document["error_code"] == code
    assert told in document["message"]
    assert document["hint"]
    assert not Path("fl_job").exists() or not list(Path("fl_job").iterdir())


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("def x(:", "SyntaxError"),
        ("import nowhere_to_be_found", "ModuleNotFoundError"),
        ("import sys; sys.exit(3)", "ended with 3"),
        ("import sys; sys.exit('no good')", "no good"),
        ("import os; os.kill(os.getpid(), 9)", "signal 9"),
        ("import os; os._exit(0)", "ended with 0"),
        ("print('\\x1b[2J'); 1/0", "ZeroDivisionError"),
    ],
)
def test_a_program_that_fails_shows_its_own_frames_only(said, capsys, program, told):
    Path("bad.py").write_text(program)
    document = said("recipe", "export", "bad.py")
    assert document["error_code"] == "RECIPE_EXPORT_FAILED"
    assert told in document["message"]
    assert not any("runpy" in line for line in document["data"]["output"])


# -- without the command


def run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], env={**os.environ, **more}, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("words", ["--export", "--export --export-dir fl_job", "--export-dir=fl_job --export"])
def test_the_documented_options_of_a_program_export_it(words):
    done = run("job.py", *words.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"Exported fedavg: {Path('fl_job/fedavg').resolve()}"
    assert Path("fl_job/fedavg/job.conf").is_file()


def test_the_variable_exports_a_program_that_knows_no_options():
    Path("plain.py").write_text(MAKER.replace("SECOND", "first.execute()"))
    assert run("plain.py", FLPOC_EXPORT_DIR="jobs").returncode == 0
    assert Path("jobs/first/job.conf").is_file()
    assert run("plain.py", "--export").returncode == 0
    assert Path("fl_job/first/job.conf").is_file()


def test_a_program_that_is_only_run_says_what_to_do():
    done = run("job.py")
    assert done.returncode == 1
    assert "flpoc recipe export job.py" in done.stderr


def test_importing_recipes_leaves_the_line_alone():
    code = "import sys; import flpoc.recipe; print(sys.argv[1:])"
    assert run("-c", code, "--export", "--export-dir").stdout.strip() == "['--export', '--export-dir']"


def test_an_option_without_its_value_exports_nothing():
    Path("plain.py").write_text(MAKER.replace("SECOND", "first.execute()"))
    assert "requires a value" in run("plain.py", "--export", "--export-dir").stderr
    assert not Path("fl_job").exists()
