"""What preflight-check finds wrong with a kit or with the machine, and how it says so."""

from __future__ import annotations

import datetime
import hashlib
import json
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from flpoc.cli.main import main
from flpoc.preflight import machine
from flpoc.preflight.checks import examine
from flpoc.preflight.findings import Finding, overall
from flpoc.provision.authority import LocalAuthority
from flpoc.provision.building import provision
from flpoc.provision.kits import load_kit
from flpoc.provision.project_file import sample_project

OF_SERVER = ["kit", "certificate", "port", "plugins", "policy", "launcher", "state", "disk"]
OF_SITE = ["kit", "certificate", "plugins", "policy", "datasets", "launcher", "state", "disk"]
WAY = ["host", "connection", "server", "access", "clock"]


@pytest.fixture(scope="module")
def provisioned(tmp_path_factory: pytest.TempPathFactory, spare_port: Callable[[], int]) -> Path:
    return provision(sample_project(["site-1"], port=spare_port()), tmp_path_factory.mktemp("preflight"))


@pytest.fixture
def kits(provisioned: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(provisioned, tmp_path / "kits"))


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[int, str]]:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FLPOC_CONFIG", str(tmp_path / "config.conf"))

    def command(*words: object) -> tuple[int, str]:
        capsys.readouterr()
        status = main([str(word) for word in words])
        said = capsys.readouterr()
        return status, said.out + said.err

    return command


def found(kit: Path, **options: Any) -> dict[str, Finding]:
    return {one.component: one for one in examine(kit, within=1.0, **options).findings}


def seal(kit: Path, ca: Path, **changes: Any) -> None:
    """Change the settings of a kit and sign it again, as only the authority's owner could."""
    startup = kit / "startup"
    settings = next(startup.glob("fed_*.json"))
    settings.write_text(json.dumps(json.loads(settings.read_text()) | changes))
    manifest = json.loads((startup / "manifest.json").read_text())
    manifest["files"] = {name: hashlib.sha256((startup / name).read_bytes()).hexdigest() for name in manifest["files"]}
    (startup / "manifest.json").write_text(json.dumps(manifest))
    (startup / "manifest.sig").write_bytes(LocalAuthority().sign(ca, (startup / "manifest.json").read_bytes()))


def certify(kit: Path, ca: Path, *, days: tuple[float, float]) -> None:
    """Give a kit a certificate that begins and ends so many days from now."""
    path = next((kit / "startup").glob("*.crt"))
    old = x509.load_pem_x509_certificate(path.read_bytes())
    key = serialization.load_pem_private_key((ca / "rootCA.key").read_bytes(), None)
    start, end = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(one) for one in days)
    builder = x509.CertificateBuilder(old.issuer, old.subject, old.public_key(), 5, start, end)
    for one in old.extensions:
        builder = builder.add_extension(one.value, one.critical)
    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))  # type: ignore[arg-type]
    seal(kit, ca)


# -- the command


def test_a_server_that_can_be_started_passes(kits: Path, run: Callable[..., tuple[int, str]]):
    status, said = run("preflight-check", "-p", kits / "server")
    assert status == 0, said
    rows = [line.split()[:2] for line in said.splitlines()[2:]]
    assert rows == [[name, "ok"] for name in OF_SERVER]


def test_a_site_without_a_server_fails_at_the_connection_and_what_follows_is_skipped(kits: Path):
    checks = found(kits / "site-1")
    assert list(checks) == [*OF_SITE, *WAY]
    assert {name for name, one in checks.items() if one.status != "ok"} == {"connection", "server", "access", "clock"}
    assert checks["connection"].status == "error"
    assert checks["server"].status == "skipped"


def test_a_failure_ends_with_1_and_says_what_to_do(kits: Path, run: Callable[..., tuple[int, str]]):
    status, said = run("preflight-check", "-p", kits / "lead@nvidia.com")
    assert status == 1
    assert "nothing listens at" in said
    assert "Hint: connection: " in said
    status, said = run("--format", "json", "preflight-check", "-p", kits / "lead@nvidia.com")
    document = json.loads(said)
    assert (status, document["status"], document["exit_code"]) == (1, "ok", 1)
    assert document["data"]["package"] == str(kits / "lead@nvidia.com")
    assert document["data"]["overall"] == "error"
    assert {"component", "status"} <= document["data"]["checks"][0].keys()


@pytest.mark.parametrize("name", ["preflight-check", "preflight_check", "preflight"])
@pytest.mark.parametrize("option", ["-p", "--package-path", "--package_path"])
def test_all_documented_spellings_are_one_command(
    kits: Path, run: Callable[..., tuple[int, str]], name: str, option: str
):
    assert run(name, option, kits / "server")[0] == 0


@pytest.mark.parametrize("place", ["nowhere", ".", "server/startup/fed_server.json", "server/local"])
def test_where_there_is_no_kit_the_path_is_wrong(kits: Path, run: Callable[..., tuple[int, str]], place: str):
    status, said = run("preflight-check", "-p", kits / place)
    assert status == 4
    assert "INVALID_ARGS" in said


def test_the_startup_folder_of_a_kit_will_do(kits: Path):
    assert examine(kits / "server" / "startup").folder == kits / "server"


def test_one_error_makes_the_whole_an_error():
    ok, warning, error = (Finding("x", status) for status in ("ok", "warning", "error"))
    assert [overall(one) for one in ([ok], [ok, warning], [warning, error, ok], [])] == ["ok", "warning", "error", "ok"]


# -- the kit


@pytest.mark.row("K14", "K15")
@pytest.mark.parametrize("kind", ["server", "site-1", "lead@nvidia.com"])
def test_a_kit_that_is_not_whole_is_not_looked_at_further(kits: Path, kind: str):
    settings = next((kits / kind / "startup").glob("fed_*.json"))
    settings.write_text(settings.read_text().replace('"org": "nvidia"', '"org": "other"'))
    checks = found(kits / kind)
    assert list(checks) == ["kit"]
    assert settings.name in checks["kit"].details
    assert checks["kit"].hint
    key = next((kits / kind / "startup").glob("*.key"))
    key.chmod(0o644)
    assert "can be read by others" in found(kits / kind)["kit"].details


@pytest.mark.row("K1", "K2", "K17")
@pytest.mark.parametrize(
    ("days", "status", "says"),
    [((-9, -3.5), "error", "expired 3 days ago"), ((1, 9), "error", "is the clock of this host right?"),
     ((-1, 20.5), "warning", "20 days from now"), ((-1, 200), "ok", "199 days from now")],
)  # fmt: skip
def test_a_certificate_is_looked_at_by_its_dates(
    kits: Path, provisioned: Path, days: tuple[float, float], status: str, says: str
):
    certify(kits / "server", provisioned.parent / "ca", days=days)
    found_now = found(kits / "server")["certificate"]
    assert (found_now.status, says in found_now.details) == (status, True), found_now
    assert bool(found_now.hint) == (status != "ok")


def test_an_authority_that_ends_soon_is_a_warning(tmp_path: Path):
    LocalAuthority(valid_for=datetime.timedelta(12)).create(tmp_path / "example_project" / "ca", "example_project")
    prod = provision(sample_project(["site-1"], port=1), tmp_path)
    found_now = found(prod / "server")["certificate"]
    assert found_now.status == "warning"


# -- the machine


@pytest.mark.row("G11")
def test_a_port_that_is_taken_is_told_with_its_owner(kits: Path):
    with socket.create_server(("", load_kit(kits / "server").settings.server_port)):
        found_now = found(kits / "server")["port"]
    assert found_now.status == "error"
    assert "pid" in found_now.details


def test_a_state_folder_that_cannot_be_made_is_an_error(kits: Path, tmp_path: Path):
    (tmp_path / "file").touch()
    found_now = found(kits / "server", state=tmp_path / "file" / "state")["state"]
    assert (found_now.status, "is not a folder" in found_now.details) == ("error", True)
    assert found(kits / "server", state=tmp_path / "new" / "state")["state"].status == "ok"
    assert not (tmp_path / "new").exists(), "a check makes nothing"


def test_a_state_folder_that_cannot_be_written_to_is_an_error(kits: Path):
    """Nobody can make a file in /proc, not even the superuser."""
    found_now = found(kits / "server", state=Path("/proc"))["state"]
    assert (found_now.status, "/proc: cannot be written to" in found_now.details) == ("error", True)
    assert "--state" in found_now.hint


def test_a_disk_that_is_nearly_full_is_told(kits: Path, monkeypatch: pytest.MonkeyPatch):
    for free, status in ((1 << 20, "error"), (1 << 30, "warning"), (1 << 40, "ok")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: attrs.make_class("Usage", ["free"])(free))
        assert found(kits / "server")["disk"].status == status


@pytest.mark.row("G15")
def test_a_plugin_that_is_missing_is_a_warning_and_a_launcher_an_error(kits: Path, provisioned: Path):
    seal(kits / "server", provisioned.parent / "ca", plugins=["local", "absent"], launcher="nowhere")
    checks = found(kits / "server")
    assert checks["plugins"].status == "warning"
    assert "absent" in checks["plugins"].details
    assert checks["launcher"].status == "error"
    assert "'nowhere'" in checks["launcher"].details


@pytest.mark.parametrize(
    ("policy", "component", "says"),
    [
        ("{", "policy", "policy.json"),
        ('{"max_job": 1}', "policy", "max_job"),
        ('{"filters": [{"name": "absent"}]}', "policy", "absent"),
        ('{"datasets": {"x": "relative"}}', "datasets", "not an absolute path"),
        ('{"datasets": {"x": "/no/such/folder"}}', "datasets", "/no/such/folder: is not there"),
        ('{"python": "/no/such/python"}', "python", "/no/such/python"),
        ('{"launcher": "nowhere"}', "launcher", "'nowhere'"),
        ('{"launcher_settings": {"colour": "red"}}', "launcher", "colour"),
    ],
)
def test_a_policy_that_would_stop_the_agent_or_its_jobs_is_told(kits: Path, policy: str, component: str, says: str):
    (kits / "site-1" / "local" / "policy.json").write_text(policy)
    found_now = found(kits / "site-1")[component]
    assert found_now.status == "error"
    assert says in found_now.details


@pytest.mark.parametrize(
    ("policy", "status", "says"),
    [
        ('{"checkpoints": ["models"]}', "error", "checkpoints[0]: 'models' is not an absolute path"),
        ('{"checkpoint": []}', "error", "checkpoint: no such setting"),
        ('{"checkpoints": ["/nowhere/at/all"]}', "warning", "there is no folder /nowhere/at/all"),
        ("{}", "ok", "local/policy.json"),
    ],
)
def test_what_is_wrong_with_the_servers_policy_is_told(kits: Path, policy: str, status: str, says: str):
    (kits / "server" / "local" / "policy.json").write_text(policy)
    found_now = found(kits / "server")["policy"]
    assert found_now.status == status
    assert says in found_now.details


def test_data_that_is_there_is_named(kits: Path, tmp_path: Path):
    (tmp_path / "data").mkdir()
    policy = {"datasets": {"poc": {"source": str(tmp_path / "data"), "mode": "rw"}}, "python": sys.executable}
    (kits / "site-1" / "local" / "policy.json").write_text(json.dumps(policy))
    checks = found(kits / "site-1")
    assert (checks["datasets"].status, checks["datasets"].details) == ("ok", "poc")
    assert (checks["python"].status, checks["python"].details) == ("ok", sys.executable)


def test_the_state_of_a_proof_of_concept_is_in_its_workspace(
    run: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("FLPOC_POC_WORKSPACE", str(tmp_path / "poc"))
    assert run("poc", "prepare", "-n", "1")[0] == 0
    kit = next((tmp_path / "poc").glob("*/prod_00/server"))
    assert found(kit)["state"].details.startswith(str(tmp_path / "poc" / "state"))


@pytest.mark.parametrize(
    ("theirs", "status", "says"),
    [(105.0, "ok", "within a minute"), (200.0, "warning", "95 s ahead of"), (0.0, "warning", "100 s behind"),
     (None, "skipped", "does not say")],
)  # fmt: skip
def test_clocks_are_compared_with_the_time_that_the_question_took(theirs: float | None, status: str, says: str):
    from flpoc.preflight.checks import _clock

    found_now = _clock(theirs, 100.0, 105.0)
    assert (found_now.status, says in found_now.details) == (status, True), found_now


def test_limits_are_those_of_the_server():
    from flpoc.server.submissions import DISK_RESERVE_BYTES

    assert machine.LEAST_FREE == DISK_RESERVE_BYTES
