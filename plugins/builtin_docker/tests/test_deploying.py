"""Images and kits for machines that have Docker and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import engine as engines
import pytest
import yaml
from machine.federation import free_port

from flpoc.provision.building import provision
from flpoc.provision.project_file import sample_project
from flpoc.session import Session
from flpoc_builtin_docker.building import _run, names_in, needed


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
    missing = flpoc(None, tmp_path, "deploy", "prepare", "--kit", str(kits / "site-1"), "--config", "nowhere.yaml")
    assert (missing["error_code"], missing["exit_code"]) == ("CONFIG_NOT_FOUND", 4)
    (kits / "site-1" / "config.yaml").write_text("runtime: docker\nparent:\n  docker_image: mine:7\n")
    done = flpoc(None, tmp_path, "deploy", "prepare", "--kit", str(kits / "site-1"))
    assert done["data"]["image"] == "mine:7"


def test_prepared_kits_start_with_one_command(engine: engines.Engine, kits: Path, tmp_path: Path) -> None:
    if not shutil.which("docker"):
        pytest.skip("the program docker is not installed")
    engine.api.create_network("deployed", driver="bridge")
    env = {**os.environ, "DOCKER_HOST": engine.address}
    try:
        for name in ("server", "site-1"):
            words = ["deploy", "prepare", str(kits / name), "-d", engines.IMAGE, "--output", str(tmp_path / name)]
            assert flpoc(engine, tmp_path, *words)["status"] == "ok"
            argv = [str(tmp_path / name / "start_docker.sh"), "--network", "deployed", "--network-alias", name]
            subprocess.run(argv, env=env, check=True, capture_output=True, timeout=100)
        admin = kits / "admin@nvidia.com"
        (admin / "local").mkdir(exist_ok=True)
        (admin / "local" / "connect.json").write_text(json.dumps({"host": "localhost"}))
        with Session.open(admin, timeout=100.0) as session:
            session.wait_ready(["site-1"], 100.0)
    finally:
        for one in engine.api.containers(all=True):
            engine.api.remove_container(one["Id"], v=True, force=True)
        engine.api.remove_network("deployed")
