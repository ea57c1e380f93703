"""Which of the downloaded files is the model, and what is never believed to be one."""

from __future__ import annotations

import json

from flpoc.cli.job_download import artifacts
from flpoc.cli.job_logs import records


def manifest(folder, **named):
    (folder / "artifact_manifest.json").write_text(json.dumps({"schema_version": "1", "artifacts": named}))


def test_the_manifest_is_believed_first(tmp_path):
    for name in ("FL_global_model.safetensors", "other.safetensors"):
        (tmp_path / name).write_text("")
    manifest(tmp_path, global_model="other.safetensors")
    assert artifacts(tmp_path)["global_model"] == str(tmp_path / "other.safetensors")


def test_a_manifest_that_is_broken_is_not_replaced_by_guesses(tmp_path):
    (tmp_path / "FL_global_model.safetensors").write_text("")
    (tmp_path / "artifact_manifest.json").write_text("{")
    assert "global_model" not in artifacts(tmp_path)


def test_without_a_manifest_names_decide(tmp_path):
    (tmp_path / "FL_global_model.pt").write_text("")
    (tmp_path / "best_FL_global_model.pt").write_text("")
    assert artifacts(tmp_path)["global_model"] == str(tmp_path / "FL_global_model.pt")


def test_neither_links_nor_paths_outside_are_artifacts(tmp_path):
    (tmp_path / "secret").write_text("")
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "secret")
    manifest(folder, global_model="../secret", metrics_summary="link", ledger=str(tmp_path / "secret"))
    assert artifacts(folder) == {}


def test_log_lines_become_records_with_what_belongs_to_them():
    found = records("2026-01-31T12:00:00.000Z ERROR flpoc.site failed\n  at train.py\nplain\n")
    assert found == [
        {
            "time": "2026-01-31T12:00:00.000Z",
            "level": "ERROR",
            "logger": "flpoc.site",
            "message": "failed\n  at train.py",
        },
        {"time": None, "level": None, "logger": None, "message": "plain"},
    ]
