"""``flpoc job create | list-templates | show-variables``: what they say, and that what they make runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from flpoc.cli.main import main
from flpoc.configuration import Configuration


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def text(capsys):
    def run(*words):
        status = main(["job", *words])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.fixture
def document(text):
    def run(*words):
        status, out, _ = text(*words, "--format", "json")
        found = json.loads(out)
        assert found["exit_code"] == status
        return found

    return run


@pytest.mark.parametrize("template", ["sag_np", "cyclic_np"])
def test_what_is_made_of_a_template_completes(document, deployment, monkeypatch, template):
    monkeypatch.setenv("FLPOC_STARTUP_KIT_DIR", str(deployment.kit()))
    document("create", "-j", template, "-w", template, "-f", "job.conf", "rounds=3")
    job = document("submit", "-j", template)["data"]["job_id"]
    assert document("wait", job, "--timeout", "90")["data"]["status"] == "FINISHED:COMPLETED"
    rounds = document("meta", job)["data"]["rounds"]
    losses = [one["metrics"]["loss"] for one in rounds]
    assert len(losses) == 3
    assert losses[2] < losses[0] / 10


def test_a_job_is_made_and_its_variables_are_shown(text, here):
    status, out, _ = text("create", "-j", "mine", "-w", "sag_np", "-f", "job.conf", "rounds=7")
    assert status == 0
    assert f"Made {here / 'mine'} from the template sag_np." in out
    assert [line.split() for line in out.splitlines() if " rounds " in line] == [["job.conf", "rounds", "7", "job"]]
    assert "Next: flpoc job submit -j mine" in out


def test_a_job_is_made_in_the_current_job_folder(document, here):
    assert document("create", "--template", "sag_np")["data"]["job_folder"] == str(here / "current_job")


def test_documented_long_options_are_understood(document, here):
    (here / "src").mkdir()
    (here / "src" / "mine.py").write_text("")
    words = ["--job_folder", "mine", "--template", "sag_np", "--script_dir", "src"]
    data = document(
        "create", *words, "--config_file", "job.conf", "script=mine.py", "--config_file", "job.conf", "seed=3"
    )
    values = {one["variable"]: one["value"] for one in data["data"]["variables"]}
    assert (values["script"], values["seed"]) == ("mine.py", 3)


def test_without_a_name_the_default_says_what_to_install(document, here, capsys):
    assert main(["plugins", "disable", "torch"]) == 0
    capsys.readouterr()
    found = document("create")
    assert (found["error_code"], found["exit_code"]) == ("INVALID_ARGS", 4)
    assert "flpoc-framework-torch" in found["hint"]
    assert list(here.iterdir()) == []


def test_a_configuration_that_is_there_is_kept_with_a_warning(text, document):
    document("create", "-j", "mine", "-w", "sag_np")
    status, out, err = text("create", "-j", "mine", "-w", "cyclic_np")
    assert status == 0
    assert "was left as it is" in out
    assert "-force replaces the job" in err
    assert document("create", "-j", "mine", "-w", "cyclic_np", "-force")["data"]["status"] == "replaced"


def test_templates_are_listed_in_the_documented_columns(text):
    status, out, _ = text("list_templates")
    heads, _, *rows = (re.split(r" {2,}", line.strip()) for line in out.splitlines())
    assert status == 0
    assert heads == ["name", "Description", "Controller Type", "Execution API Type"]
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    assert all(len(row) == len(heads) for row in rows)


def test_a_folder_of_templates_is_remembered(document, text, here):
    document("create", "-j", "own/special", "-w", "sag_np")
    names = [one["name"] for one in document("list-templates", "-d", "own")["data"]]
    assert {"cyclic_np", "sag_np", "special"} <= set(names)
    assert Configuration.load().job_templates == str(here / "own")
    assert document("create", "-j", "job", "-w", "special")["data"]["template"] == "special"
    (here / "own").rename(here / "gone")
    status, _, err = text("list-templates")
    assert status == 0
    assert "is not there" in err


def test_a_folder_that_is_not_there_is_not_remembered(document):
    assert document("list-templates", "-d", "nowhere")["error_code"] == "INVALID_ARGS"
    assert Configuration.load().job_templates == ""


def test_a_template_of_a_plugin_is_listed_and_used(flpoc, install, packages):
    folder = packages / "acme_templates" / "acme"
    (folder / "code").mkdir(parents=True)
    (folder / "job.conf").write_text("name = acme\nscript = train.py\n")
    (folder / "code" / "train.py").touch()
    (folder / "info.conf").write_text('description = "From Acme"')
    install(
        "acme",
        """
        from pathlib import Path
        from flpoc import hookimpl

        FLPOC_API = 1

        @hookimpl
        def flpoc_job_templates():
            yield Path(__file__).parent / "acme_templates" / "acme"
            yield Path(__file__).parent / "nothing"
        """,
    )
    done = flpoc("job", "list-templates")
    assert "From Acme" in done.stdout
    assert "Plugin acme: " in done.stderr
    assert flpoc("job", "create", "-j", "job", "-w", "acme").returncode == 0
    assert Path("job/code/train.py").exists()


def test_variables_of_a_job_are_a_table(text, document):
    document("create", "-j", "mine", "-w", "cyclic_np")
    status, out, _ = text("show_variables", "-j", "mine")
    assert status == 0
    assert out.splitlines()[0].split() == ["file", "variable", "value", "component"]
    assert ["job.conf", "workflow.order", "fixed", "cyclic"] in [line.split() for line in out.splitlines()]


def test_variables_of_no_job_are_an_error(document):
    assert document("show-variables")["error_code"] == "INVALID_ARGS"


def test_templates_are_not_deprecated(capsys):
    for name in ("create", "list-templates", "show-variables"):
        assert main(["job", name, "--schema"]) == 0
        assert "deprecated" not in json.loads(capsys.readouterr().out)
