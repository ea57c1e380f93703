"""What the script of a job can reach at a site, and what it cannot."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flpoc.jobs.states import Cause
from flpoc.settings import structure

from .federation import Federation, write_job

this_kernel = pytest.importorskip("flpoc_builtin_local.landlock").this_kernel

SCRIPT = """
    import ctypes, errno, json, os, pathlib, socket, subprocess, sys
    import numpy as np
    import flpoc.client as flare

    asked = json.loads(pathlib.Path(sys.argv[1]).read_text())
    found = {}

    def tried(name, action, *arguments):
        try:
            action(*arguments)
            found[name] = "done"
        except BaseException as error:
            found[name] = errno.errorcode.get(getattr(error, "errno", None), repr(error))

    def touch(path):
        look = os.listdir if os.path.isdir(path) else open
        return look(path)

    def trace(pid):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.ptrace(16, pid, 0, 0):
            raise OSError(ctypes.get_errno(), "ptrace")

    for name, path in asked["read"].items():
        tried("read " + name, touch, path)
    for name, path in asked["write"].items():
        tried("write " + name, open, path, "a")
    for name, port in asked["dial"].items():
        tried("dial " + name, socket.create_connection, ("127.0.0.1", port), 5)
    for name, pid in asked["processes"].items():
        tried("signal " + name, os.kill, pid, 0)
        tried("trace " + name, trace, pid)
        tried("read environment of " + name, open, f"/proc/{pid}/environ")
    tried("listen", socket.create_server, ("127.0.0.1", 0))
    tried("write code", open, os.path.join(os.path.dirname(__file__), "new.py"), "w")

    def libraries():
        import multiprocessing, tempfile
        import sklearn.datasets
        sklearn.datasets.get_data_home()
        multiprocessing.Manager().list([1])
        assert multiprocessing.Pool(2).map(abs, [-1]) == [1]
        tempfile.NamedTemporaryFile().write(b"x")
        subprocess.run(["sh", "-c", "echo x > said"], check=True)

    tried("use libraries", libraries)
    tried("use granted data", touch, asked["granted"])
    flare.init()
    while flare.is_running():
        flare.receive()
        tried("keep a state", pathlib.Path("state.json").write_text, "{}")
        pathlib.Path(asked["answer"]).write_text(json.dumps(found))
        flare.send(flare.FLModel(params={"w": np.ones(10, "float32")}))
"""

#: What must be denied; the rest must work.
DENIED = (
    "read key of the site", "read kit of the server", "read state of the site", "read database of the server",
    "read another job", "read records of its owner", "read home", "read folder above", "read shadow",
    "write granted for reading", "write site state", "write outside", "write code", "write models",
    "dial server", "dial anywhere", "listen",
    "signal agent", "trace agent", "read environment of agent", "signal server", "trace server",
    "read environment of server",
)  # fmt: skip
ALLOWED = ("use libraries", "use granted data", "keep a state", "read granted for reading", "write granted for writing")

HINTED = """
    import flpoc.client as flare
    flare.init()
    flare.receive()
    open("PATH")
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not this_kernel().is_complete:
        modules = Path("/sys/kernel/security/lsm")
        if modules.exists() and "landlock" in modules.read_text():
            pytest.fail("this kernel should have Landlock, and it cannot be used")
        pytest.skip(f"CONFINEMENT IS NOT TESTED ON THIS MACHINE: {this_kernel().said}")
    return tmp_path_factory.mktemp("confinement")


@pytest.fixture(scope="module")
def running(place: Path) -> Iterator[Federation]:
    found = Federation(place / "federation", sites=1)
    for name in ("ro", "rw"):
        (place / name).mkdir()
        (place / name / "file").write_text("x")
    policy = found.prod / "site-1" / "local" / "policy.json"
    datasets = {"mnist": str(place / "ro"), "notes": {"source": str(place / "rw"), "mode": "rw"}}
    policy.write_text(json.dumps({"datasets": datasets, "launcher_settings": {"confine": "always"}}))
    try:
        found.start()
        found.ready()
        yield found
    finally:
        found.close()


def run(running: Federation, folder: Path, script: str, **settings: Any) -> dict[str, Any]:
    job = write_job(folder / "job", script, rounds=1, sites=running.sites, **settings)
    with running.session() as session:
        return session.wait_for_job(session.submit_job(job), timeout=90)


@pytest.fixture(scope="module")
def tries(running: Federation, place: Path) -> dict[str, str]:
    """What came of everything that a script tried."""
    other = running.state("site-1") / "jobs" / "0123.1" / "run" / "1"
    other.mkdir(parents=True)
    database = next(path for path in running.state("server").rglob("*") if path.is_file() and is_database(path))
    with socket.create_server(("127.0.0.1", 0)) as anywhere:
        asked = {
            "read": {
                "key of the site": f"{running.prod}/site-1/startup/client.key",
                "kit of the server": f"{running.prod}/server/startup",
                "state of the site": str(running.state("site-1")),
                "database of the server": str(database),
                "another job": str(other),
                "records of its owner": "../../signed.json",
                "home": str(Path.home()),
                "folder above": "..",
                "shadow": "/etc/shadow",
                "granted for reading": str(place / "ro"),
            },
            "write": {
                "granted for reading": str(place / "ro" / "file"),
                "granted for writing": str(place / "rw" / "file"),
                "site state": str(running.state("site-1") / "new"),
                "models": "../../in/new",
                "outside": str(place / "new"),
            },
            "dial": {"server": int(running.address.rpartition(":")[2]), "anywhere": anywhere.getsockname()[1]},
            "processes": {"agent": running.pid("site-1"), "server": running.pid("server")},
            "granted": str(place / "ro" / "file"),
            "answer": str(place / "rw" / "answer"),
        }
        (place / "ro" / "asked").write_text(json.dumps(asked))
        meta = run(running, place, SCRIPT, args=[str(place / "ro" / "asked")])
    assert meta["status"] == "FINISHED:COMPLETED", meta["cause"]
    found: dict[str, str] = json.loads((place / "rw" / "answer").read_text())
    assert set(found) == {*DENIED, *ALLOWED}
    return found


def is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(15) == b"SQLite format 3"


@pytest.mark.row("J7", "S19")
@pytest.mark.parametrize("what", DENIED)
def test_a_script_cannot(tries: dict[str, str], what: str) -> None:
    assert tries[what] in ("EACCES", "EPERM")


@pytest.mark.row("S19")
@pytest.mark.parametrize("what", ALLOWED)
def test_a_script_can(tries: dict[str, str], what: str) -> None:
    assert tries[what] == "done"


@pytest.mark.row("J7")
def test_a_script_that_is_denied_a_file_is_told_how_to_get_it(running: Federation, place: Path, tmp_path: Path) -> None:
    (place / "patients.csv").write_text("x")
    cause = structure(run(running, tmp_path, HINTED.replace("PATH", str(place / "patients.csv")))["cause"], Cause)
    assert (cause.site, cause.exception, cause.file, cause.line) == ("site-1", "PermissionError", "train.py", 5)
    assert str(place / "patients.csv") in cause.hint
    assert '"datasets" in the site\'s local/policy.json' in cause.hint


def test_a_site_runs_its_own_program_wherever_the_path_of_a_job_leads(running: Federation, place: Path) -> None:
    """Its folders are granted with it: a job that could choose it could choose what it may read."""
    script = """
        import numpy as np
        import flpoc.client as flare
        flare.init()
        while flare.is_running():
            flare.receive()
            flare.send(flare.FLModel(params={"w": np.ones(10, "float32")}))
    """
    (place / "rw" / "bin").mkdir()
    (place / "rw" / "bin" / "python").write_text("#!/bin/sh\nexit 3\n")
    (place / "rw" / "bin" / "python").chmod(0o700)
    scripts = {"@default": {"script": "train.py", "command": ["python"], "env": {"PATH": str(place / "rw" / "bin")}}}
    job = write_job(place / "path", script, rounds=1, sites=running.sites)
    (job / "job.json").write_text(json.dumps({"name": "test", "rounds": 1, "sites": running.sites, "scripts": scripts}))
    with running.session() as session:
        meta = session.wait_for_job(session.submit_job(job), timeout=90)
    assert meta["status"] == "FINISHED:COMPLETED", meta["cause"]


def test_a_controller_cannot_read_the_servers_state_or_kit(running: Federation, tmp_path: Path) -> None:
    """It runs as confined as a trainer: what it is granted, its launch says."""
    script = """
        import time
        import flpoc.client as flare
        flare.init()
        while flare.is_running():
            flare.receive()
            time.sleep(600)
    """
    job = write_job(tmp_path / "job", script, rounds=1, sites=running.sites)
    with running.session() as session:
        found = session.submit_job(job)
        next(meta for meta in session.watch_job(found) if meta["status"] == "RUNNING")
        (controller,) = running.job_processes("server", found)  # that of the job before may not have ended yet
        status = Path(f"/proc/{controller}/status").read_text()
        session.abort_job(found)
    assert "NoNewPrivs:\t1\n" in status
