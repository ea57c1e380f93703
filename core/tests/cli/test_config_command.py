"""``flpoc config``: which kit a user's commands use."""

from __future__ import annotations

import datetime
import json
import shlex
import shutil

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from flpoc.cli.main import main
from flpoc.provision.authority import LocalAuthority
from flpoc.provision.building import provision
from flpoc.provision.project_file import sample_project
from flpoc.provisioning import CertificateRequest


@pytest.fixture
def config(capsys, monkeypatch):
    monkeypatch.delenv("FLPOC_STARTUP_KIT_DIR", raising=False)
    monkeypatch.delenv("FLPOC_POC_WORKSPACE", raising=False)

    def run(*words):
        status = main(["--format", "json", "config", *words])
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


def test_the_next_step_can_be_copied_into_a_shell(config, deployment):
    step = config("add", "my kit", str(deployment.kit()))["data"]["next_step"]
    assert config(*shlex.split(step)[2:])["data"]["startup_kit"]["id"] == "my kit"


@pytest.mark.parametrize("kit_id", ["-x", " x", "a\nb", ""])
def test_what_would_be_no_word_for_a_command_is_no_id(config, deployment, kit_id):
    assert config("add", "--", kit_id, str(deployment.kit()))["error_code"] == "INVALID_ARGS"


def test_the_kit_of_a_site_is_not_registered(config, deployment):
    assert config("add", "site", str(deployment.kit("site-1")))["error_code"] == "INVALID_ARGS"


def test_a_kit_that_is_gone_is_listed_as_missing(config, deployment, tmp_path):
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


@pytest.fixture
def warned(capsys, monkeypatch):
    """Run ``flpoc config``; gives its exit status and what it says on standard error."""
    monkeypatch.delenv("FLPOC_STARTUP_KIT_DIR", raising=False)

    def run(*words):
        status = main(["config", *words])
        return status, capsys.readouterr().err

    return run


@pytest.mark.parametrize("spelling", ["-d", "--startup_kit_dir", "--startup-kit-dir"])
def test_a_kit_is_registered_under_its_users_name_by_the_old_spelling(config, warned, deployment, spelling):
    status, err = warned(spelling, str(deployment.kit() / "startup"))
    assert (status, "deprecated: use `flpoc config add ID DIR`" in err) == (0, True)
    assert config()["data"]["active_startup_kit"] == "admin@nvidia.com"
    assert config("list")["data"][0]["path"] == str(deployment.kit())


@pytest.mark.parametrize("spelling", ["-pw", "--poc_workspace_dir", "--poc-workspace-dir"])
def test_a_workspace_is_set_by_the_old_spelling(config, warned, tmp_path, spelling):
    status, err = warned(spelling, str(tmp_path / "poc"))
    assert (status, "deprecated: use `flpoc poc config -pw DIR`" in err) == (0, True)
    assert config()["data"]["poc_workspace_dir"] == str(tmp_path / "poc")


@pytest.mark.parametrize("spelling", ["-jt", "--job_templates_dir", "--job-templates-dir"])
def test_job_templates_are_set_by_the_old_spelling(config, warned, tmp_path, spelling):
    status, err = warned(spelling, str(tmp_path))
    assert (status, "deprecated: use `flpoc job list-templates -d DIR`" in err) == (0, True)
    assert config()["data"]["job_templates_dir"] == str(tmp_path)


def test_several_old_spellings_are_all_or_nothing(config, deployment, tmp_path):
    before = config()["data"]
    assert config("-d", str(deployment.kit()), "-jt", str(tmp_path / "nowhere"))["error_code"] == "INVALID_ARGS"
    assert config()["data"] == before
    data = config("-d", str(deployment.kit()), "-jt", str(tmp_path), "-pw", str(tmp_path / "poc"))["data"]
    assert data["active_startup_kit"] == "admin@nvidia.com"


@pytest.mark.parametrize("option", ["-d", "-pw", "-jt"])
def test_an_old_spelling_with_what_is_no_folder_is_refused(config, tmp_path, option):
    (tmp_path / "file").touch()
    found = config(option, str(tmp_path / "file"))
    assert (found["error_code"], found["exit_code"]) == ("INVALID_ARGS", 4)
    assert not (tmp_path / "config.conf").exists()


def test_an_old_spelling_before_a_command_is_refused_not_ignored(config, deployment):
    assert config("-d", str(deployment.kit()), "list")["error_code"] == "INVALID_ARGS"


def test_a_kit_that_takes_anothers_place_is_said_to(config, warned, deployment, tmp_path):
    copy = shutil.copytree(deployment.kit(), tmp_path / "copy")
    config("-d", str(deployment.kit()))
    assert f"it is now {copy}" in warned("-d", str(copy))[1]


@pytest.mark.parametrize("words", [(), ("list",), ("inspect",), ("use", "me")])
def test_what_the_environment_says_is_said_to_come_first(config, capsys, deployment, monkeypatch, words):
    config("add", "me", str(deployment.kit()))
    monkeypatch.setenv("FLPOC_STARTUP_KIT_DIR", "/kits/other")
    assert main(["config", *words]) == 0
    assert "FLPOC_STARTUP_KIT_DIR is set to /kits/other" in capsys.readouterr().err


def test_without_an_active_kit_every_field_is_there_and_empty(config):
    data = config("inspect")["data"]
    assert data["findings"][0]["code"] == "NO_ACTIVE_STARTUP_KIT"
    wanted = {"active", "path", "status", "identity", "cert_role", "role", "org", "project", "certificate"}
    assert {key: data[key] for key in wanted} == dict.fromkeys(wanted)


def test_every_documented_field_of_a_kit_is_there(config, deployment):
    config("-d", str(deployment.kit()))
    for row in (config("list")["data"][0], config("inspect")["data"]):
        wanted = {
            "active",
            "path",
            "status",
            "identity",
            "cert_role",
            "role",
            "org",
            "project",
            "certificate",
            "findings",
        }
        assert wanted <= set(row)
        assert set(row["certificate"]) == {"path", "expires_at", "days_remaining", "status"}
        assert row["certificate"]["days_remaining"] > 300
    used = config("use", "admin@nvidia.com")["data"]
    assert set(used) == {"startup_kit", "identity", "project", "certificate", "findings"}
    assert used["startup_kit"] == {"source": "active", "id": "admin@nvidia.com", "path": str(deployment.kit())}


def issued(folder, days):
    """The kit of a user whose certificate ends after so many days."""
    project = sample_project(["site-1"])
    kit = provision(project, folder) / "lead@nvidia.com"
    key = load_pem_private_key((kit / "startup" / "client.key").read_bytes(), None)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    lead = next(one for one in project.users if one.name == "lead@nvidia.com")
    request = CertificateRequest(project.name, lead, public, datetime.timedelta(days=days))
    (kit / "startup" / "client.crt").write_bytes(LocalAuthority().issue(folder / project.name / "ca", request))
    return kit


@pytest.mark.parametrize(
    ("days", "status", "code"),
    [
        (100, "ok", None),
        (20, "expiring_soon", "STARTUP_KIT_CERT_EXPIRING_SOON"),
        (-0.0005, "expired", "STARTUP_KIT_CERT_EXPIRED"),
    ],
)
def test_a_certificate_that_ends_is_a_finding(config, tmp_path, days, status, code):
    kit = issued(tmp_path / "project", days)
    config("add", "lead", str(kit))
    row = config("list")["data"][0]
    assert row["certificate"]["status"] == status
    assert [one["code"] for one in row["findings"]] == ([code] if code else [])
    assert [one["severity"] for one in row["findings"]] == (
        ["error"] if status == "expired" else ["warning"] * bool(code)
    )


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (None, "unknown", "STARTUP_KIT_CERT_MISSING"),
        (b"nonsense", "unreadable", "STARTUP_KIT_CERT_UNREADABLE"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "unreadable",
            "STARTUP_KIT_CERT_UNREADABLE",
        ),
    ],
)
def test_a_certificate_that_is_not_there_or_no_certificate_is_a_finding(
    config, deployment, tmp_path, content, status, code
):
    copy = shutil.copytree(deployment.kit(), tmp_path / "copy")
    config("add", "me", str(copy))
    (copy / "startup" / "client.crt").unlink()
    if content is not None:
        (copy / "startup" / "client.crt").write_bytes(content)
    row = config("list")["data"][0]
    assert (row["status"], row["certificate"]["status"]) == ("invalid", status)
    assert [one["code"] for one in row["findings"]] == [code]


def test_a_kit_of_another_kind_is_listed_as_invalid(config, deployment, tmp_path):
    entries = {"me": str(deployment.kit("site-1"))}
    (tmp_path / "config.conf").write_text(json.dumps({"version": 2, "startup_kits": {"entries": entries}}))
    row = config("list")["data"][0]
    assert (row["status"], row["findings"][0]["code"]) == ("invalid", "STARTUP_KIT_INVALID")


def test_a_file_that_cannot_be_read_is_an_error_of_every_command(config, tmp_path):
    (tmp_path / "config.conf").write_text("startup_kits = {")
    for words in ((), ("list",), ("inspect",), ("use", "me"), ("remove", "me")):
        found = config(*words)
        assert (found["error_code"], found["exit_code"]) == ("INVALID_CONFIG", 4)
