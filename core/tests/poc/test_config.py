"""`flpoc poc config`: where the proof of concept lives."""

from __future__ import annotations


def test_it_shows_the_workspace_and_what_decides(place):
    data = place.run("config").data
    assert data["poc_workspace_dir"] == data["env_override"] == str(place.workspace)


def test_the_workspace_can_be_set(place, tmp_path):
    data = place.run("config", "-pw", str(tmp_path / "other")).data
    assert data["poc_workspace_dir"] == str(tmp_path / "other")
    assert place.config["poc"]["workspace"] == str(tmp_path / "other")
    assert place.run("config", FLPOC_POC_WORKSPACE="").data["poc_workspace_dir"] == str(tmp_path / "other")


def test_the_option_without_a_value_shows(place):
    assert place.run("config", "-pw").data["poc_workspace_dir"] == str(place.workspace)


def test_a_file_is_no_workspace(place, tmp_path):
    (tmp_path / "file").write_text("")
    assert place.run("config", "-pw", str(tmp_path / "file")).error == ("INVALID_ARGS", 4)
