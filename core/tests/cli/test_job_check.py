"""`flpoc job check`: a job is checked, and run twice, without a server."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flpoc.cli.main import main
from flpoc.models.tensors import narrow, write_tensors
from flpoc.simulate.repeating import Difference, differences

SCRIPT = """
    import numpy as np
    import flpoc.client as flare

    flare.init()
    calls = 0
    while flare.is_running():
        model = flare.receive()
        calls += 1
        number, rng = model.current_round, np.random.default_rng(flare.get_seed())
        w, v, weight = rng.random(4), np.ones((2, 3), np.float32), 1
        BODY
        meta = {"NUM_STEPS_CURRENT_ROUND": weight}
        flare.send(flare.FLModel(params={"w": w, "v": v}, meta=meta, metrics={"calls": calls}))
"""


def checked(
    folder: Path, capsys: pytest.CaptureFixture[str], body: str, *words: str, **settings: Any
) -> tuple[int, Any]:
    """Write a job and check it; gives the exit status, and what was said."""
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "train.py").write_text(textwrap.dedent(SCRIPT).replace("BODY", body))
    said = {"name": "test", "script": "train.py", "rounds": 3, "sites": ["site-1", "site-2"], **settings}
    (folder / "job.json").write_text(json.dumps(said))
    status = main(["--format", "json", "job", "check", "-j", str(folder), *words])
    return status, json.loads(capsys.readouterr().out)


def test_a_script_that_draws_from_the_seed_can_be_repeated(tmp_path: Path, capsys: Any) -> None:
    status, said = checked(tmp_path / "job", capsys, "pass", "--repeat")
    assert status == 0
    assert (said["data"]["repeated"], said["data"]["differences"]) == (2, [])


@pytest.mark.parametrize(
    ("body", "number", "tensor", "elements"),
    [
        ("w[1:] = np.random.random(3)", 0, "w", 3),
        ("v += np.float32(calls)", 1, "v", 6),
    ],
    ids=["chance of its own", "something in memory"],
)
def test_what_cannot_be_repeated_is_named_by_round_site_and_tensor(
    tmp_path: Path, capsys: Any, body: str, number: int, tensor: str, elements: int
) -> None:
    status, said = checked(tmp_path / "job", capsys, body, "--repeat")
    assert (status, said["error_code"]) == (1, "JOB_NOT_REPEATABLE")
    found = said["data"]["differences"]
    assert [(one["site"], one["round"], one["tensor"], one["elements"]) for one in found] == [
        ("site-1", number, tensor, elements),
        ("site-2", number, tensor, elements),
    ]
    assert all(0 < one["largest"] <= 1 for one in found)
    assert "flare.get_seed()" in said["hint"]
    assert "flare.state_dir()" in said["hint"]


def test_an_update_with_another_weight_is_not_the_same(tmp_path: Path, capsys: Any) -> None:
    _, said = checked(tmp_path / "job", capsys, "weight = calls", "--repeat")
    assert [one["what"] for one in said["data"]["differences"]] == ["weight: 2.0, then 1.0"] * 2


def test_filters_of_the_job_are_left_out_for_their_noise_is_another_sites(tmp_path: Path, capsys: Any) -> None:
    noise = [{"name": "gaussian", "settings": {"epsilon": 1.0, "delta": 1e-5, "clip": 1.0}}]
    status, said = checked(tmp_path / "job", capsys, "pass", "--repeat", filters=noise)
    assert status == 0, said


def test_a_script_that_fails_is_the_first_cause(tmp_path: Path, capsys: Any) -> None:
    status, said = checked(tmp_path / "job", capsys, "1 / 0", "--repeat", "-c", "site-1,site-2")
    assert (status, said["error_code"]) == (1, "JOB_FINISHED_EXCEPTION")
    assert "ZeroDivisionError: division by zero" in said["message"]
    assert "at train.py:" in said["message"]


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"aggregator": "mena"}, "JOB_INVALID"),
        ({"rounsd": 3}, "INVALID_CONFIG"),
        ({"script": "other.py"}, "INVALID_CONFIG"),
    ],
)
def test_what_a_submission_would_refuse_is_said(tmp_path: Path, capsys: Any, settings: Any, code: str) -> None:
    status, said = checked(tmp_path / "job", capsys, "pass", **settings)
    assert (status, said["error_code"]) == (4 if code == "INVALID_CONFIG" else 1, code)


def test_a_sound_job_is_checked_without_running_it(tmp_path: Path, capsys: Any) -> None:
    status, said = checked(tmp_path / "job", capsys, "1 / 0")
    assert (status, said["data"]["repeated"], said["data"]["job_name"]) == (0, None, "test")


def test_options_of_runs_are_refused_where_nothing_is_run(tmp_path: Path, capsys: Any) -> None:
    status, said = checked(tmp_path / "job", capsys, "pass", "-c", "site-1")
    assert (status, said["error_code"]) == (4, "INVALID_ARGS")


def kept(folder: Path, name: str = "0.site-1", **arrays: Any) -> Path:
    folder.mkdir(exist_ok=True)
    write_tensors(folder / f"{name}.safetensors", arrays)
    (folder / f"{name}.json").write_text(json.dumps({"weight": 1.0, "params_type": "FULL"}))
    return folder


def test_bits_are_compared_in_every_dtype_and_numbers_are_where_there_are_any(tmp_path: Path) -> None:
    ones = np.ones(3, np.float32)
    first = kept(tmp_path / "1", a=narrow(ones), b=np.array(True), c=np.array([0.0, np.nan]), d=np.arange(4), e=ones)
    second = kept(
        tmp_path / "2",
        a=narrow(ones * [1, 2, 3]), b=np.array(False), c=np.array([-0.0, np.nan]), d=np.arange(4) * 2, e=ones,
    )  # fmt: skip
    found = {one.tensor: (one.elements, one.largest) for one in differences(first, second)}
    assert found == {"a": (2, 2.0), "b": (1, 1.0), "c": (1, 0.0), "d": (3, 3.0)}


def test_another_layout_and_an_update_that_is_not_there_are_differences(tmp_path: Path) -> None:
    first = kept(tmp_path / "1", w=np.zeros(3))
    kept(tmp_path / "1", "0.site-2", w=np.zeros(3))
    second = kept(tmp_path / "2", w=np.zeros(4))
    assert differences(first, second) == [
        Difference("site-1", 0, "", "tensor 'w': shape is [4], expected [3]"),
        Difference("site-2", 0, "", "sent in one of the runs only"),
    ]
