"""A recipe becomes a job folder that runs, and that knows nothing of the machine it was made on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from flpoc.errors import FlpocError
from flpoc.jobs.folder import read_job
from flpoc.models.tensors import TensorFile
from flpoc.recipe import NumpyFedAvgRecipe
from flpoc.recipe.job import bundle
from flpoc.session import Session


def recipe(**changed) -> NumpyFedAvgRecipe:
    return NumpyFedAvgRecipe(**{"min_clients": 2, "train_script": "train.py", "train_args": "1.0", **changed})


def files(folder: Path) -> list[str]:
    return sorted(one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file())


# -- the job


def test_an_exported_job_runs_to_its_end_from_the_model_it_names(deployment, project):
    start = {"w": np.arange(4, dtype=np.float32), "b": np.ones((2, 2))}
    folder = recipe(model=start, num_rounds=3).export("jobs")
    with Session.open(deployment.kit()) as session:
        job = session.submit_job(folder)
        assert session.wait_for_job(job, 60)["status"] == "FINISHED:COMPLETED"
        got = session.download_job_result(job, project / "results")
    with TensorFile.open(got.path / "FL_global_model.safetensors") as model:
        assert model["w"].tolist() == [3, 4, 5, 6]
        assert model["b"].tolist() == [[4, 4], [4, 4]]


def test_sites_that_are_named_run_what_is_said_for_them(deployment, project):
    (project / "other.py").write_text((project / "train.py").read_text())
    per_site = {"site-1": {"train_script": "other.py", "train_args": ["5"]}}
    folder = recipe(model=[0.0], per_site_config=per_site, num_rounds=1).export("jobs")
    with Session.open(deployment.kit()) as session:
        job = session.submit_job(folder)
        assert session.wait_for_job(job, 60)["status"] == "FINISHED:COMPLETED"
        got = session.download_job_result(job, project / "results")
    with TensorFile.open(got.path / "FL_global_model.safetensors") as model:
        assert model["numpy_key"].tolist() == [3.0]


def test_everything_is_written_into_the_job_file_defaults_too(project):
    folder = recipe().export("jobs")
    said = json.loads((folder / "job.conf").read_text())
    assert {key: said[key] for key in ("name", "workflow", "rounds", "min_clients", "aggregator", "seed")} == {
        "name": "fedavg",
        "workflow": "fedavg",
        "rounds": 2,
        "min_clients": 2,
        "aggregator": "mean",
        "seed": 0,
    }
    assert said["timeouts"] == {"join_timeout": 300.0}
    assert read_job(folder).min_clients == 2


@pytest.mark.row("D19")
@pytest.mark.parametrize("how", ["relative", "absolute", "dotted"])
def test_no_path_of_its_authors_machine_is_in_an_exported_job(project, how):
    script = {"relative": "train.py", "absolute": str(project / "train.py"), "dotted": "../project/train.py"}[how]
    per_site = {"site-1": {"train_script": script}}
    folder = recipe(train_script=script, per_site_config=per_site, model=[1.0]).export("jobs")
    assert files(folder) == ["code/initial_model.safetensors", "code/steps.py", "code/train.py", "job.conf"]
    for path in folder.rglob("*"):
        assert "authors" not in path.relative_to(folder).as_posix()
        assert path.is_dir() or b"authors" not in path.read_bytes(), path
    assert {one.script for one in read_job(folder).scripts.values()} == {"train.py"}


# -- scripts


def test_modules_that_are_imported_come_along_and_others_stay(tmp_path):
    def put(path: str, text: str = "") -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    put("train.py", "import numpy, one\ndef late():\n    from pack.inner import x\n")
    put("one.py", "import two.three as t")
    put("two/three.py", "from . import four")
    put("two/four.py", "import one")
    put("pack/__init__.py", "from .inner import x")
    put("pack/inner.py", "x = 1")
    put("pack/data.csv", "1,2")
    put("unused.py")
    assert sorted(bundle(tmp_path / "train.py")) == [
        "one.py", "pack/__init__.py", "pack/inner.py", "train.py", "two/four.py", "two/three.py",
    ]  # fmt: skip


def test_a_script_is_found_beside_the_program_too(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [str(project / "job.py")])
    assert "code/train.py" in files(recipe().export("jobs"))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"train_script": "nowhere.py"}, "no such script"),
        ({"train_script": "../project"}, "not a file"),
        ({"train_script": "broken.py"}, "broken.py: line 1"),
        ({"per_site_config": {"site-1": {"train_script": "sub/train.py"}}}, "would both be train.py"),
    ],
)
def test_an_export_that_cannot_be_submitted_leaves_nothing(project, given, told):
    (project / "sub").mkdir()
    (project / "sub" / "train.py").write_text("pass")
    (project / "broken.py").write_text("def x(:")
    with pytest.raises(FlpocError, match=told) as caught:
        recipe(**given).export("jobs")
    assert caught.value.code == "RECIPE_EXPORT_FAILED"
    assert "/jobs/." not in caught.value.message
    assert list(Path("jobs").iterdir()) == []


# -- where it is written


def test_an_earlier_export_is_replaced(project):
    recipe(model=[1.0]).export("jobs")
    assert files(recipe(num_rounds=7).export("jobs")) == ["code/steps.py", "code/train.py", "job.conf"]
    assert [one.name for one in Path("jobs").iterdir()] == ["fedavg"]


@pytest.mark.parametrize("there", ["file", "link", "folder", "more"])
def test_what_is_no_export_is_left_alone(project, there):
    place = Path("jobs/fedavg")
    place.parent.mkdir()
    if there == "file":
        place.write_text("mine")
    elif there == "link":
        place.symlink_to(project)
    else:
        place.mkdir()
        (place / "notes.txt").write_text("mine")
        if there == "more":
            (place / "job.conf").write_text("{}")
    with pytest.raises(FlpocError, match="not as an export left it"):
        recipe().export("jobs")
    assert [one.name for one in Path("jobs").iterdir()] == ["fedavg"]
    assert there in ("file", "link") or (place / "notes.txt").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_named(project):
    Path("jobs").write_text("a file")
    with pytest.raises(FlpocError, match="jobs/fedavg cannot be written") as caught:
        recipe().export("jobs")
    assert caught.value.code == "OUTPUT_DIR_NOT_WRITABLE"


# -- parameters


@pytest.mark.parametrize(
    ("model", "name", "dtype"),
    [
        ([[1, 2], [3, 4]], "numpy_key", "float32"),
        (np.array([1, 2]), "numpy_key", "int64"),
        (np.float64(3.0), "numpy_key", "float64"),
        ({"w": [1, 2]}, "w", "float32"),
        ({"w": np.zeros((2, 3), np.float16)}, "w", "float16"),
    ],
)
def test_a_model_is_an_array_a_list_or_a_dict_of_them(project, model, name, dtype):
    folder = recipe(model=model).export("jobs")
    with TensorFile.open(folder / "code" / "initial_model.safetensors") as found:
        assert found.names == (name,)
        assert found[name].dtype == dtype


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"name": "a b"}, "name: "),
        ({"name": "../x"}, "name: "),
        ({"min_clients": 0}, "min_clients: 0"),
        ({"min_clients": True}, "min_clients: True"),
        ({"num_rounds": 1.5}, "num_rounds: 1.5"),
        ({"train_script": ""}, "train_script: "),
        ({"train_script": Path("train.py")}, "train_script: "),
        ({"train_args": "'open"}, "train_args: No closing quotation"),
        ({"train_args": 7}, "train_args: "),
        ({"aggregator": 7}, "aggregator: "),
        ({"model": []}, None),
        ({"model": {}}, "model: there is nothing in it"),
        ({"model": {1: [1.0]}}, "model: the name of a parameter"),
        ({"model": ["a"]}, "model: 'numpy_key' is no array of numbers"),
        ({"model": [[1], [1, 2]]}, "model: 'numpy_key' is no array of numbers"),
        ({"model": {"w": np.array([None])}}, "model: 'w' is an array of object"),
        ({"model": {"w": [float("nan")]}}, "model: 'w' holds NaN"),
        ({"model": {"class_path": "net.Net"}}, "model: 'class_path'"),
        ({"model": {"w": Path("x")}}, "model: pathlib.PosixPath is no array, and no installed framework"),
        ({"per_site_config": {"server": {}}}, "per_site_config: 'server'"),
        ({"per_site_config": {"a b": {}}}, "per_site_config: 'a b'"),
        ({"per_site_config": {"site-1": {"train_scrip": "x"}}}, "did you mean 'train_script'"),
        ({"per_site_config": {"site-1": "x.py"}}, "wanted are keys and values"),
        ({"per_site_config": {"site-1": {"train_args": [1]}}}, r"per_site_config\['site-1'\]: train_args"),
    ],
    ids=str,
)
def test_a_parameter_that_cannot_be_used_is_named_at_once(given, told):
    if told is None:
        recipe(**given)
        return
    with pytest.raises(ValueError, match=told):
        recipe(**given)
