"""Images and kits for machines that have Docker and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import engine as engines
import pytest
import yaml
from machine.federation import free_port, write_job

from flpoc.provision.building import provision
from flpoc.provision.project_file import sample_project
from flpoc.session import Session
from flpoc_builtin_docker.building import _run, names_in, needed

#: Many containers are made and killed, on a machine that may be busy.
pytestmark = pytest.mark.timeout(900)

TRAIN = """
import numpy as np
import flpoc.client as flare

flare.init()
while flare.is_running():
    flare.receive()
    flare.send(flare.FLModel(params={"w": np.ones(4)}))
"""


def flpoc(engine: engines.Engine | None, home: Path, *words: str) -> dict[str, Any]:
    argv = [sys.executable, "-c", "from flpoc.cli.main import main; main()", "--format", "json", *words]
    env = {**os.environ, "HOME": str(home), "DOCKER_HOST": engine.address if engine else f"unix://{home}/none"}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=200, check=False)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_an_image_is_built_without_any_network(engine: engines.Engine, tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("# of the job\nPyYAML>=6\n")
    words = ["--base", engines.BASE, "--tag", "mine:2", "--plugin", "local", "-r", str(tmp_path / "more.txt")]
    built = flpoc(engine, tmp_path, "image", "build", *words)
    assert built["status"] == "ok", built
    assert {"flpoc", "flpoc-builtin-local", "pyyaml"} <= set(built["data"]["packages"])
    assert "flpoc-builtin-docker" not in built["data"]["packages"]
    said = _run(engine.api, "mine:2", ["python3", "-c", "import flpoc, yaml, grpc, numpy; print(flpoc.__version__)"])
    assert said.strip() == built["data"]["packages"]["flpoc"]
    engine.api.remove_image("mine:2", force=True)


def test_an_image_without_python_cannot_be_built_on(engine: engines.Engine, tmp_path: Path) -> None:
    engine.api.import_image_from_data(bytes(1024), repository="empty", tag="1")
    built = flpoc(engine, tmp_path, "image", "build", "--base", "empty:1")
    assert "has no python3" in built["message"]
    assert engine.api.containers(all=True) == []
    assert flpoc(engine, tmp_path, "image", "build", "--base", "nobody:1")["error_code"] == "LAUNCH_FAILED"


def test_requirements_name_what_is_installed_here(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("numpy >= 1  # arrays\n\nclick[x]==8\n")
    assert names_in(tmp_path / "r.txt") == ["numpy", "click"]
    assert {"flpoc", "grpcio", "numpy"} <= set(needed(["flpoc"]))


@pytest.fixture
def kits(tmp_path: Path) -> Path:
    project = sample_project(["site-1"], port=free_port(), launcher="docker")
    server = attrs.evolve(project.server, connect_to="server")
    others = [one for one in project.participants if one.kind != "server"]
    return provision(attrs.evolve(project, participants=(server, *others)), tmp_path / "kits")


def test_a_prepared_kit_holds_its_owners_files_only(kits: Path, tmp_path: Path) -> None:
    done = flpoc(None, tmp_path, "deploy", "prepare", str(kits / "site-1"), "--output", str(tmp_path / "out"))
    assert done["status"] == "ok", done
    assert sorted(os.listdir(tmp_path / "out")) == ["compose.yaml", "local", "start_docker.sh", "startup", "transfer"]
    compose = yaml.safe_load((tmp_path / "out/compose.yaml").read_text())
    assert compose["services"]["site-1"]["read_only"] is True
    assert subprocess.run(["sh", "-n", tmp_path / "out/start_docker.sh"], check=False).returncode == 0
    again = flpoc(None, tmp_path, "deploy", "prepare", str(kits / "site-1"), "--output", str(tmp_path / "out"))
    assert again["error_code"] == "INVALID_ARGS"
    user = flpoc(None, tmp_path, "deploy", "prepare", str(kits / "lead@nvidia.com"))
    assert (user["error_code"], user["exit_code"]) == ("UNSUPPORTED_KIT", 4)
    provision(sample_project(["site-1"]), tmp_path / "others")
    local = flpoc(None, tmp_path, "deploy", "prepare", str(next(tmp_path.glob("others/*/prod_00/site-1"))))
    assert local["message"] == "the kit of site-1 may not launch jobs by 'docker'"
    odd = flpoc(None, tmp_path, "deploy", "prepare", str(kits / "site-1"), "-d", "x; rm")
    assert odd["error_code"] == "INVALID_CONFIG"
    assert "'x; rm' is not the name of an image" in odd["message"]
    missing = flpoc(None, tmp_path, "deploy", "prepare", "--kit", str(kits / "site-1"), "--config", "nowhere.yaml")
    assert (missing["error_code"], missing["exit_code"]) == ("CONFIG_NOT_FOUND", 4)
    (kits / "site-1" / "config.yaml").write_text("runtime: docker\nparent:\n  docker_image: mine:7\n")
    done = flpoc(None, tmp_path, "deploy", "prepare", "--kit", str(kits / "site-1"))
    assert done["data"]["image"] == "mine:7"


def test_a_kit_is_not_prepared_into_itself_nor_over_other_files(kits: Path, tmp_path: Path) -> None:
    kit = kits / "site-1"
    (tmp_path / "link").symlink_to(kit / "startup")
    before = sorted(str(one) for one in kit.rglob("*"))
    for place in (kit / "startup" / "x", kit / "local", kit / "transfer" / "x", kits, tmp_path / "link" / "x"):
        done = flpoc(None, tmp_path, "deploy", "prepare", str(kit), "--output", str(place), "--force")
        assert done["error_code"] == "INVALID_ARGS", done
        assert "the kit itself" in done["message"]
    assert sorted(str(one) for one in kit.rglob("*")) == before
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    for place in (tmp_path / "precious", tmp_path / "precious" / "file", tmp_path / "link"):
        done = flpoc(None, tmp_path, "deploy", "prepare", str(kit), "--output", str(place), "--force")
        assert done["error_code"] == "INVALID_ARGS", done
    assert (tmp_path / "precious" / "file").exists()


def test_a_kit_that_is_prepared_again_keeps_the_state_of_its_service(kits: Path, tmp_path: Path) -> None:
    words = ["deploy", "prepare", str(kits / "site-1"), "--output", str(tmp_path / "out"), "--force"]
    assert flpoc(None, tmp_path, *words)["status"] == "ok"
    (tmp_path / "out" / "state").mkdir()
    (tmp_path / "out" / "state" / "budget").write_text("spent")
    assert flpoc(None, tmp_path, *words, "-d", "mine:8")["data"]["image"] == "mine:8"
    assert (tmp_path / "out" / "state" / "budget").read_text() == "spent"
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".out")] == []


def test_a_prepared_kit_wants_an_engine_of_its_own_machine(kits: Path, tmp_path: Path) -> None:
    (tmp_path / "docker").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "docker").chmod(0o755)
    done = flpoc(None, tmp_path, "deploy", "prepare", str(kits / "site-1"))
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "DOCKER_HOST": "tcp://elsewhere:2375"}
    said = subprocess.run([done["data"]["start_script"]], env=env, capture_output=True, text=True, check=False)
    assert said.returncode == 2
    assert "site-1: DOCKER_HOST is tcp://elsewhere:2375; wanted is a socket of this machine" in said.stderr


@pytest.fixture
def deployed(engine: engines.Engine, image: str, kits: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The server started by its script; gives what scripts find in their environment."""
    env = {**os.environ, "DOCKER_HOST": engine.address, "FLPOC_NETWORK": "deployed"}
    for name in ("server", "site-1"):
        words = ["deploy", "prepare", str(kits / name), "-d", image, "--output", str(tmp_path / name)]
        assert flpoc(engine, tmp_path, *words)["status"] == "ok"
    try:
        run([str(tmp_path / "server" / "start_docker.sh")], env)
        yield env
    finally:
        for one in engine.api.containers(all=True):
            engine.api.remove_container(one["Id"], v=True, force=True)
        for network in engine.api.networks():
            if network["Driver"] == "bridge":
                engine.api.remove_network(network["Id"])


def run(argv: list[str], env: dict[str, str], folder: Path | None = None) -> None:
    done = subprocess.run(argv, env=env, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def becomes_ready(kits: Path) -> None:
    """Wait until the site is connected, and let it run a job."""
    admin = kits / "admin@nvidia.com"
    (admin / "local").mkdir(exist_ok=True)
    (admin / "local" / "connect.json").write_text(json.dumps({"host": "localhost"}))
    job = write_job(kits / "job", TRAIN, sites=["site-1"], rounds=1)
    with Session.open(admin, timeout=100.0) as session:
        session.wait_ready(["site-1"], 100.0)
        meta = session.wait_for_job(session.submit_job(job), 100.0)
    assert meta["status"] == "FINISHED:COMPLETED", json.dumps(meta["cause"])


def test_prepared_kits_start_with_one_command(
    engine: engines.Engine, deployed: dict[str, str], kits: Path, tmp_path: Path
) -> None:
    run([str(tmp_path / "site-1" / "start_docker.sh")], deployed)
    becomes_ready(kits)
    services = engine.api.containers(filters={"label": "org.flpoc.participant"})
    assert len(services) == 2
    for one in services:
        found = engine.api.inspect_container(one["Id"])
        assert found["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
        assert not found["Config"]["User"].startswith("0")
        assert list(found["NetworkSettings"]["Networks"]) == ["deployed"]


def test_a_kit_runs_with_plain_docker_run_where_its_jobs_are_processes_of_the_agents_container(
    engine: engines.Engine, image: str, deployed: dict[str, str], kits: Path
) -> None:
    kit = kits / "site-1"
    policy = json.loads((kit / "local" / "policy.json").read_text())
    (kit / "local" / "policy.json").write_text(json.dumps({**policy, "launcher": "local", "launcher_settings": {}}))
    for path in (kit, *kit.rglob("*")):
        os.chown(path, 10000, 10000) if os.getuid() == 0 else None
    who = "10000:10000" if os.getuid() == 0 else f"{os.getuid()}:{os.getgid()}"
    server = engine.api.inspect_container("flpoc-example_project-server")
    address = server["NetworkSettings"]["Networks"]["deployed"]["IPAddress"]
    plain = ["docker", "run", "-d", "-v", f"{kit}:{kit}", "-u", who, f"--add-host=server:{address}"]
    network = ["--network", "deployed"]  # this engine has no network by itself
    run([*plain, *network, image, "python3", "-m", "flpoc.site", str(kit), "--state", f"{kit}/state"], deployed)
    becomes_ready(kits)


def test_the_compose_file_starts_the_same(deployed: dict[str, str], kits: Path, tmp_path: Path) -> None:
    compose = compose_program()
    owner = (tmp_path / "server" / "startup").stat()  # the script has found out who may run it
    if os.getuid() == 0:
        for path in (tmp_path / "site-1", *(tmp_path / "site-1").rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid)
    socket = deployed["DOCKER_HOST"].removeprefix("unix://")
    env = {
        **deployed,
        "FLPOC_USER": f"{owner.st_uid}:{owner.st_gid}",
        "FLPOC_DOCKER_GROUP": str(os.stat(socket).st_gid),
        "FLPOC_DOCKER_SOCKET": socket,
        "PWD": str(tmp_path / "site-1"),
    }
    try:
        run([*compose, "config"], env, tmp_path / "site-1")
        run([*compose, "up", "-d"], env, tmp_path / "site-1")
        run(["docker", "network", "connect", "deployed", "flpoc-example_project-site-1"], env)
        becomes_ready(kits)
    finally:
        run([*compose, "down"], env, tmp_path / "site-1")


def compose_program() -> list[str]:
    """Docker Compose, as the plugin of the program docker or as a program; installed where that is possible."""
    for argv in (["docker", "compose"], ["docker-compose"]):
        if (
            shutil.which(argv[0])
            and not subprocess.run([*argv, "version"], capture_output=True, check=False).returncode
        ):
            return argv
    if os.getuid() == 0 and shutil.which("apt-get"):
        install = ["apt-get", "install", "-y", "--no-install-recommends", "docker-compose"]
        subprocess.run(
            install, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, capture_output=True, check=False
        )
    if not shutil.which("docker-compose"):
        why = "NO DOCKER COMPOSE, and it cannot be installed: the compose file is read by no program"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
    return ["docker-compose"]
