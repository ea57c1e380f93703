"""``flpoc config``: which kit a user's commands use."""

from __future__ import annotations

import json

import pytest

from flpoc.cli.main import main


@pytest.fixture
def config(capsys, monkeypatch):
    monkeypatch.delenv("FLPOC_STARTUP_KIT_DIR", raising=False)
    monkeypatch.delenv("FLPOC_POC_WORKSPACE", raising=False)

    def run(*words):
        status = main(["config", *words, "--format", "json"])
        found = json.loads(capsys.readouterr().out)
        assert found["exit_code"] == status
        return found

    return run


def test_an_empty_configuration_says_where_it_would_be(config, tmp_path):
    data = config()["data"]
    assert data["config_file"] == str(tmp_path / "config.conf")
    assert data["active_startup_kit"] is None


def test_a_registered_kit_is_listed_and_not_yet_used(config, deployment):
    config("add", "me", str(deployment.kit() / "startup"))
    row = config("list")["data"][0]
    assert (row["id"], row["active"], row["status"]) == ("me", "", "ok")
    assert (row["identity"], row["cert_role"]) == ("admin@nvidia.com", "project_admin")
    assert row["certificate"]["status"] == "ok"


def test_a_used_kit_is_the_active_one(config, deployment):
    config("add", "me", str(deployment.kit()))
    data = config("use", "me")["data"]
    assert data["identity"] == {"name": "admin@nvidia.com", "org": "nvidia", "role": "project_admin"}
    assert data["findings"][0]["code"] == "CONFIG_USE_MUTATES_GLOBAL_STATE"
    assert config()["data"]["active_startup_kit"] == "me"
    assert config("inspect")["data"]["active"] == "me"


def test_an_id_that_is_taken_needs_force(config, deployment):
    config("add", "me", str(deployment.kit()))
    assert config("add", "me", str(deployment.kit("lead@nvidia.com")))["error_code"] == "INVALID_ARGS"
    config("add", "me", str(deployment.kit("lead@nvidia.com")), "--force")
    assert config("list")["data"][0]["identity"] == "lead@nvidia.com"


def test_the_kit_of_a_site_is_not_registered(config, deployment):
    assert config("add", "site", str(deployment.kit("site-1")))["error_code"] == "INVALID_ARGS"


def test_a_kit_that_is_gone_is_listed_as_missing(config, deployment, tmp_path):
    import shutil

    copy = shutil.copytree(deployment.kit(), tmp_path / "copy")
    config("add", "copy", str(copy))
    shutil.rmtree(copy)
    row = config("list")["data"][0]
    assert (row["status"], row["findings"][0]["code"]) == ("missing", "STARTUP_KIT_PATH_MISSING")


def test_removing_the_active_kit_says_what_to_do(config, deployment):
    config("add", "me", str(deployment.kit()))
    config("use", "me")
    data = config("remove", "me")["data"]
    assert (data["removed_startup_kit"], data["next_step"]) == ("me", "flpoc config use ID")
    assert config()["data"]["active_startup_kit"] is None


def test_documented_spellings_still_work(config, deployment, tmp_path):
    config("-d", str(deployment.kit()))
    data = config("-pw", str(tmp_path / "poc"))["data"]
    assert (data["active_startup_kit"], data["poc_workspace_dir"]) == ("admin@nvidia.com", str(tmp_path / "poc"))
