"""Kits that were made by requests really connect, and what preflight-check says of them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flpoc.enrolment.packaging import package
from flpoc.provision.kits import load_kit
from flpoc.session import Session

from .conftest import PEOPLE, Done


class Federation:
    """A server and a site as processes, each with a kit of its own making."""

    def __init__(self, made: Path, folder: Path) -> None:
        self.folder = folder
        self.kits = {
            name: package(made / name / f"{name}.signed.zip", folder / "workspace", request_folder=made / name).kit
            for name in PEOPLE
        }
        self._running: list[subprocess.Popen[bytes]] = []

    def path(self, name: str) -> Path:
        return self.kits[name].folder

    def start(self) -> None:
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        for name in ("server1", "hospital-a"):
            with (self.folder / f"{name}.log").open("ab") as log:
                words = [str(self.path(name) / "startup" / "start.sh")]
                running = subprocess.Popen(words, env=environment, stdout=log, stderr=log, start_new_session=True)
                self._running.append(running)
        with Session.open(self.kits["alice@hospital.org"]) as session:
            session.wait_ready(["hospital-a"], 30)

    def stop(self) -> None:
        for process in self._running:
            process.terminate()
        for process in self._running:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(15)


@pytest.fixture(scope="module")
def running(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    found = Federation(made, tmp_path_factory.mktemp("running"))
    try:
        found.start()
        yield found
    finally:
        found.stop()


@pytest.fixture
def check(flpoc: Callable[..., Done], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Run preflight-check and give status and details by component."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FLPOC_CONFIG", str(tmp_path / "config.conf"))

    def run(kit: Path, *words: object) -> tuple[int, dict[str, dict[str, str]]]:
        done = flpoc("preflight-check", "-p", kit, *words)
        return done.status, {one["component"]: one for one in done.document["data"]["checks"]}

    return run


@pytest.mark.row("S8")
def test_a_session_works_with_a_key_that_nobody_else_has_seen(running: Federation):
    with Session.open(running.path("alice@hospital.org")) as session:
        status = session.status()
    assert (status["user"], status["role"], status["project"]) == ("alice@hospital.org", "lead", "study")
    assert [one["name"] for one in status["sites"]] == ["hospital-a"]


def test_all_is_well_with_a_site_and_a_user(running: Federation, check: Any):
    for name in ("hospital-a", "alice@hospital.org"):
        status, checks = check(running.path(name))
        assert status == 0
        assert {one["status"] for one in checks.values()} == {"ok"}, checks
    assert list(checks) == ["kit", "certificate", "host", "connection", "server", "access", "clock"]
    assert "alice@hospital.org is lead; connected sites: hospital-a" in checks["access"]["details"]
    assert "within a minute" in checks["clock"]["details"]


def test_a_port_that_the_server_itself_has_is_no_error(running: Federation, check: Any):
    status, checks = check(running.path("server1"))
    assert status == 0
    assert (checks["port"]["status"], checks["state"]["status"]) == ("warning", "ok")
    assert "this server, which runs already" in checks["port"]["details"]


@pytest.mark.row("K12", "K3")
def test_a_kit_of_another_authority_hears_who_issued_what_it_was_shown(running: Federation, check: Any, tmp_path: Path):
    from flpoc.provision.building import provision
    from flpoc.provision.project_file import sample_project

    port = load_kit(running.path("server1")).settings.server_port
    other = provision(sample_project(["site-1"], name="other", port=port), tmp_path)
    for name in ("site-1", "lead@nvidia.com"):
        status, checks = check(other / name)
        assert status == 1
        assert checks["server"]["status"] == "error"
        assert "'CN=study'" in checks["server"]["details"]
        assert "proxy or service mesh" in checks["server"]["hint"]
        assert (checks["access"]["status"], checks["clock"]["status"]) == ("skipped", "skipped")


@pytest.mark.row("K13")
def test_a_server_of_another_name_is_told_with_the_names_that_it_has(
    running: Federation, check: Any, made: Path, tmp_path: Path
):
    from flpoc.enrolment.approving import Words, approve

    folder = Path(shutil.copytree(made, tmp_path / "world"))
    text = (folder / "profile.yaml").read_text().replace("name: server1", "name: elsewhere.org")
    (folder / "profile.yaml").write_text(text)
    name = "hospital-a"
    asked = folder / name / f"{name}.request.zip"
    approve(asked, folder / "ca", folder / "profile.yaml", Words(), force=True)
    kit = package(folder / name / f"{name}.signed.zip", tmp_path / "work", request_folder=folder / name).kit
    status, checks = check(kit.folder)
    assert status == 1
    assert "'elsewhere.org'" in checks["server"]["details"]
    assert "'server1'" in checks["server"]["details"]


def test_a_stranger_that_listens_there_is_no_server(running: Federation, check: Any, tmp_path: Path):
    import socket

    kit = Path(shutil.copytree(running.path("hospital-a"), tmp_path / "kit"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        (kit / "local" / "connect.json").write_text(f'{{"port": {listener.getsockname()[1]}}}')
        status, checks = check(kit, "--connect-timeout", "0.5")
        assert status == 1
        assert checks["connection"]["status"] == "ok"
        assert "says nothing" in checks["server"]["details"]
    status, checks = check(kit)
    assert "nothing listens" in checks["connection"]["details"]
    assert checks["server"]["status"] == "skipped"
    (kit / "local" / "connect.json").write_text('{"host": "no-such-host.invalid"}')
    status, checks = check(kit)
    assert "no-such-host.invalid" in checks["host"]["details"]
    assert checks["connection"]["status"] == "skipped"
