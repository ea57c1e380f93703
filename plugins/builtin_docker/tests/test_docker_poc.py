"""A proof of concept in containers: the same commands, the same model, and walls round every job."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import engine as engines
import pytest
from machine.federation import federation, paths_below, write_job

from flpoc.session import Session

#: Many containers are made and killed, on a machine that may be busy.
pytestmark = pytest.mark.timeout(900)

TRAIN = """
import numpy as np
import flpoc.client as flare

flare.init()
while flare.is_running():
    model = flare.receive()
    params = model.params or {"w": np.zeros(8)}
    rng = np.random.default_rng(flare.get_seed())
    flare.send(flare.FLModel(params={k: v + rng.normal(size=v.shape) for k, v in params.items()}))
"""

#: Every way out that a job might try; what came of it is in the data folder.
TRIES = """
import json, os, socket, sys
import numpy as np
import flpoc.client as flare

found = {}

def tries(name, act):
    try:
        found[name] = str(act())
    except OSError as error:
        found[name] = type(error).__name__

server, engine, kit, other, own = sys.argv[1:]
tries("network interfaces", lambda: " ".join(sorted(os.listdir("/sys/class/net"))))
tries("the server by its name", lambda: socket.create_connection(("server", int(server)), 5))
tries("the server by the bridge", lambda: socket.create_connection(("172.17.0.1", int(server)), 5))
tries("the kit", lambda: os.listdir(kit))
tries("the engine's socket", lambda: os.stat(engine))
tries("the usual socket", lambda: os.stat("/var/run/docker.sock"))
tries("the other site's state", lambda: os.listdir(other))
tries("jobs of this site", lambda: " ".join(os.listdir(own + "/jobs")))
tries("other files of this site", lambda: " ".join(sorted(set(os.listdir(own)) - {"jobs", "sockets", "t"})))
tries("write to the image", lambda: open("/etc/mine", "w"))
tries("write to the code", lambda: open(os.environ["FLPOC_CODE"] + "/mine", "w"))
tries("write beside its folder", lambda: open("../mine", "w"))
tries("write to its folder", lambda: open("mine", "w").write("x"))
tries("mount", lambda: os.mkdir("/proc/mine"))
found["user"] = f"{os.getuid()}:{os.getgid()}"
found["processes"] = str(len([one for one in os.listdir("/proc") if one.isdigit()]))
found["capabilities"] = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("CapBnd"))
flare.init()
found["data"] = str(flare.get_dataset("poc"))
found["in it"] = open(found["data"] + "/hello").read()
open(found["data"] + "/found", "w").write(json.dumps(found))
while flare.is_running():
    flare.receive()
    flare.send(flare.FLModel(params={"w": np.zeros(2)}))
"""

#: A user who is nobody in particular, and a group of those who may use the engine.
SOMEBODY, GROUP = 12345, 12346
AS_ROOT = os.getuid() == 0
#: As whom containers run that the user of these tests starts.
IN_CONTAINERS = "10000:10000" if AS_ROOT else f"{os.getuid()}:{os.getgid()}"


def as_somebody(*groups: int) -> list[str]:
    """What starts a program as that user, who may read everything, as the interpreter may lie in root's own folder."""
    who = [f"--reuid={SOMEBODY}", f"--regid={SOMEBODY}", f"--groups={','.join(map(str, groups or (SOMEBODY,)))}"]
    return ["setpriv", *who, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]


class Poc:
    """A workspace whose services are containers."""

    def __init__(self, folder: Path, engine: engines.Engine, before: list[str] | None = None) -> None:
        self.folder, self.engine, self._before = folder / "poc", engine, before or []
        self._env = {
            **os.environ, "HOME": str(folder), "FLPOC_POC_WORKSPACE": str(self.folder), "DOCKER_HOST": engine.address
        }  # fmt: skip

    def __call__(self, *words: str) -> dict[str, Any]:
        """Run a command; gives its answer."""
        argv = [
            *self._before,
            sys.executable,
            "-c",
            "from flpoc.cli.main import main; main()",
            "--format",
            "json",
            *words,
        ]
        done = subprocess.run(argv, env=self._env, capture_output=True, text=True, timeout=200, check=False)
        assert done.stdout, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    @property
    def kits(self) -> Path:
        return next(self.folder.glob("*/prod_00"))

    def session(self) -> Session:
        return Session.open(self.kits / "admin@nvidia.com", timeout=60.0)

    def containers(self, *, jobs: bool = False) -> list[dict[str, Any]]:
        label = "org.flpoc.job" if jobs else "org.flpoc.participant"
        return list(self.engine.api.containers(filters={"label": label}))

    def run(self, job: Path) -> tuple[str, dict[str, Any]]:
        ident = self("job", "submit", "-j", str(job))["data"]["job_id"]
        return ident, self("job", "wait", ident, "--timeout", "150")

    def images(self, ident: str) -> dict[str, str]:
        """In which image the job's processes ran, by name of the participant."""
        filters = {"event": "create", "label": f"org.flpoc.job={ident}"}
        told = self.engine.api.events(since=0, until=int(time.time()) + 1, filters=filters, decode=True)
        return {one["Actor"]["Attributes"]["org.flpoc.site"]: one["from"] for one in told}


def write_policy(kit: Path, **settings: Any) -> None:
    path = kit / "local" / "policy.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.fixture(scope="module")
def poc(engine: engines.Engine, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Poc]:
    """A POC that runs; when it is stopped and removed, nothing of it is left on the engine."""
    found = Poc(tmp_path_factory.mktemp("containers"), engine)
    prepared = found("poc", "prepare", "-n", "2", "-d", image)
    assert prepared["status"] == "ok", prepared
    assert prepared["data"]["launcher"] == "docker"
    for tag in ("mine", "lung", "other"):
        engine.api.tag(image, "images", tag)
    write_policy(found.kits / "site-1", images={"allowed": ["images:mi*"], "studies": {"default": "images:lung"}})
    try:
        started = found("poc", "start", "--timeout", "150")
        assert started["status"] == "ok", json.dumps(started, indent=2)
        yield found
    finally:
        found("poc", "stop")
        left = [one["Names"] for one in engine.api.containers(all=True)]
        networks = [one["Name"] for one in engine.api.networks(filters={"label": "org.flpoc.network"})]
        volumes = engine.api.volumes()["Volumes"] or []
        removed = found("poc", "clean", "--force")
    assert (left, networks, volumes) == ([], [], [])
    assert removed["data"]["status"] == "removed"
    assert not found.folder.exists()


def test_each_service_has_a_container_on_a_network_of_their_own(poc: Poc) -> None:
    found = poc.containers()
    networks = {name for one in found for name in one["NetworkSettings"]["Networks"]}
    assert len(found) == 3
    assert len(networks) == 1
    assert {one["Labels"]["org.flpoc.participant"] for one in found} == {"server", "site-1", "site-2"}
    assert {poc.engine.api.inspect_container(one["Id"])["Config"]["User"] for one in found} == {IN_CONTAINERS}
    again = poc("poc", "start", "--timeout", "150")
    assert set(again["data"]["already_running"]) == {"server", "site-1", "site-2"}


def test_the_same_job_gives_the_same_model_as_with_local_processes(poc: Poc, tmp_path: Path) -> None:
    job = write_job(tmp_path / "job", TRAIN, sites=["site-1", "site-2"], rounds=2, seed=11)
    ident, waited = poc.run(job)
    assert waited["status"] == "ok", waited
    assert poc.images(ident) == {"server": engines.IMAGE, "site-1": "images:lung", "site-2": engines.IMAGE}
    poc("job", "download", ident, "-o", str(tmp_path / "docker"))
    with federation(tmp_path / "local") as here, here.session() as session:
        local = session.submit_job(job)
        session.wait_for_job(local, 60.0)
        session.download_job_result(local, tmp_path / "results")
    models = [next(tmp_path.glob(f"{one}/**/FL_global_model.safetensors")) for one in ("docker", "results")]
    assert models[0].read_bytes() == models[1].read_bytes()


def test_a_job_cannot_get_out(poc: Poc, tmp_path: Path) -> None:
    (poc.folder / "data" / "hello").write_text("granted")
    state = poc.folder / "state"
    port = str(json.loads((poc.kits / "site-1/startup/fed_client.json").read_text())["server"]["port"])
    socket = poc.engine.address.removeprefix("unix://")
    args = [port, socket, str(poc.kits / "site-1"), str(state / "site-2"), str(state / "site-1")]
    job = write_job(tmp_path / "job", TRIES, sites=["site-1"], rounds=1, args=args)
    (state / "site-1" / "jobs" / "another.1").mkdir(exist_ok=True)
    ident, waited = poc.run(job)
    assert waited["status"] == "ok", waited
    found = json.loads((poc.folder / "data" / "found").read_text())
    assert found == {
        "network interfaces": "lo",
        "the server by its name": "gaierror",
        "the server by the bridge": "OSError",
        "the kit": "FileNotFoundError",
        "the engine's socket": "FileNotFoundError",
        "the usual socket": "FileNotFoundError",
        "the other site's state": "FileNotFoundError",
        "jobs of this site": f"{ident}.1",
        "other files of this site": "",
        "write to the image": found["write to the image"],
        "write to the code": found["write to the code"],
        "write beside its folder": found["write beside its folder"],  # in the container, perhaps
        "write to its folder": "1",
        "mount": found["mount"],
        "user": IN_CONTAINERS,
        "processes": "2",
        "capabilities": "0" * 16,
        "data": "/data/default/poc",
        "in it": "granted",
    }
    assert {found[f"write to the {what}"] for what in ("image", "code")} <= {"OSError", "PermissionError"}
    assert found["mount"].endswith("Error")
    assert [one for one in paths_below(poc.folder) if one.name == "mine" and one.parent.name != "1"] == []


def test_the_site_decides_in_which_image_a_job_runs(poc: Poc, tmp_path: Path) -> None:
    job = write_job(tmp_path / "job", TRAIN, sites=["site-1"], rounds=1, image="images:mine")
    ident, waited = poc.run(job)
    assert waited["status"] == "ok", waited
    assert poc.images(ident)["site-1"] == "images:mine"
    job = write_job(tmp_path / "refused", TRAIN, sites=["site-1"], rounds=1, image="images:other")
    ident, waited = poc.run(job)
    assert waited["status"] == "error"
    assert "site-1 does not run jobs in the image 'images:other'" in json.dumps(waited)
    assert "site-1" not in poc.images(ident)
    job = write_job(tmp_path / "missing", TRAIN, sites=["site-1"], rounds=1, image="images:missing")
    ident, waited = poc.run(job)
    assert f"the Docker engine at {poc.engine.address} has no image 'images:missing'" in json.dumps(waited)
    assert "docker pull images:missing" in json.dumps(waited)


def test_a_site_that_is_added_is_prepared_for_containers(poc: Poc, tmp_path: Path) -> None:
    assert poc("poc", "add-site", "site-3")["status"] == "ok"
    assert poc("poc", "start", "--timeout", "150")["status"] == "ok"
    _, waited = poc.run(write_job(tmp_path / "job", TRAIN, sites=["site-3"], rounds=1))
    assert waited["status"] == "ok", waited


@pytest.mark.skipif(not AS_ROOT, reason="only root can act as somebody else")
def test_a_user_in_the_group_of_the_engine_may_do_the_same(engine: engines.Engine, image: str, tmp_path: Path) -> None:
    socket = engine.address.removeprefix("unix://")
    engine.folder.chmod(0o711)
    group = os.stat(socket).st_gid
    os.chown(socket, 0, GROUP)
    os.chown(tmp_path, SOMEBODY, SOMEBODY)
    refused = Poc(tmp_path, engine, as_somebody())("poc", "prepare", "-n", "1", "-d", image)
    assert f"no permission on the socket of the Docker engine, {socket}" in refused["message"]
    assert "group docker" in refused["hint"]
    poc = Poc(tmp_path, engine, as_somebody(GROUP))
    try:
        assert poc("poc", "prepare", "-n", "1", "-d", image)["status"] == "ok"
        started = poc("poc", "start", "--timeout", "150")
        assert started["status"] == "ok", json.dumps(started, indent=2)
        users = {engine.api.inspect_container(one["Id"])["Config"]["User"] for one in poc.containers()}
        assert f"{SOMEBODY}:{SOMEBODY}" in users
        _, waited = poc.run(write_job(tmp_path / "job", TRAIN, sites=["site-1"], rounds=1))
        assert waited["status"] == "ok", waited
        owners = set()
        for one in paths_below(poc.folder):
            with contextlib.suppress(FileNotFoundError):  # what is left of the job is just deleted
                owners.add(one.lstat().st_uid)
        assert owners == {SOMEBODY}
    finally:
        poc("poc", "stop")
        removed = poc("poc", "clean", "--force")
        os.chown(socket, 0, group)
    assert removed["data"]["status"] == "removed"


WAITS = """
import pathlib, time
import numpy as np
import flpoc.client as flare

flare.init()
while flare.is_running():
    model = flare.receive()
    go = pathlib.Path(flare.get_dataset("poc")) / "go"
    (go.parent / "here").touch()
    while not go.exists():
        time.sleep(0.1)
    flare.send(flare.FLModel(params={"w": np.full(4, 1.0)}))
"""


def _wait_for(path: Path) -> None:
    until = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < until, f"{path} does not come"
        time.sleep(0.1)  # a file that a container makes


@pytest.mark.parametrize("victim", ["trainer", "agent"])
def test_a_job_outlives_the_death_of_a_container(poc: Poc, tmp_path: Path, victim: str) -> None:
    for name in ("go", "here"):
        (poc.folder / "data" / name).unlink(missing_ok=True)
    job = write_job(tmp_path / "job", WAITS, sites=["site-1"], rounds=1)
    ident = poc("job", "submit", "-j", str(job))["data"]["job_id"]
    _wait_for(poc.folder / "data" / "here")
    if victim == "trainer":
        one = next(one for one in poc.containers(jobs=True) if one["Labels"]["org.flpoc.site"] == "site-1")
    else:
        one = next(one for one in poc.containers() if one["Labels"]["org.flpoc.participant"] == "site-1")
    (poc.folder / "data" / "here").unlink()
    os.kill(poc.engine.api.inspect_container(one["Id"])["State"]["Pid"], signal.SIGKILL)
    if victim == "trainer":
        _wait_for(poc.folder / "data" / "here")  # it is launched again
    else:
        assert poc("poc", "start", "--timeout", "150")["status"] == "ok"
    (poc.folder / "data" / "go").touch()
    waited = poc("job", "wait", ident, "--timeout", "150")
    assert waited["status"] == "ok", waited


def test_a_job_outlives_the_death_of_the_engine(poc: Poc, tmp_path: Path) -> None:
    for name in ("go", "here"):
        (poc.folder / "data" / name).unlink(missing_ok=True)
    ident = poc("job", "submit", "-j", str(write_job(tmp_path / "job", WAITS, sites=["site-1"], rounds=1)))
    _wait_for(poc.folder / "data" / "here")
    poc.engine.kill()
    stopped = poc("poc", "stop")
    assert "no Docker engine answers" in stopped["message"]
    poc.engine.start()
    (poc.folder / "data" / "go").touch()
    started = poc("poc", "start", "--timeout", "150")
    assert started["status"] == "ok", json.dumps(started, indent=2)
    waited = poc("job", "wait", ident["data"]["job_id"], "--timeout", "150")
    assert waited["status"] == "ok", waited


def test_a_poc_in_containers_is_moved_to_another_port(poc: Poc, tmp_path: Path) -> None:
    port = int(os.environ.get("FLPOC_POC_PORT", "8002")) + 45
    assert poc("poc", "stop")["status"] == "ok"
    moved = poc("poc", "start", "--port", str(port), "--timeout", "150")
    assert moved["status"] == "ok", json.dumps(moved, indent=2)
    assert moved["data"]["port"] == port
    bound = {one["PublicPort"] for container in poc.containers() for one in container["Ports"] if "PublicPort" in one}
    assert bound == {port}
    _, waited = poc.run(write_job(tmp_path / "job", TRAIN, sites=["site-1", "site-2"], rounds=1))
    assert waited["status"] == "ok", waited
