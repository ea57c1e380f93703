"""What a hostile job or site cannot do to others."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from catalogue.attack import Liar

from flpoc.jobs.states import Cause
from flpoc.session import Session
from flpoc.wire.messages import JobReport

from .federation import Federation, write_job

WAITS = """
    import threading
    import flpoc.client as flare
    flare.init()
    flare.receive()
    threading.Event().wait()
"""
#: Says to the sockets of another job what is no message.
DISTURBS = """
    import json, os, pathlib, socket, sys
    for place in json.loads((pathlib.Path(__file__).parent / "sockets.json").read_text()):
        os.chdir(place)  # the whole path may be longer than that of a socket can be
        with socket.socket(socket.AF_UNIX) as there:
            there.connect("s")
            there.sendall(bytes([255] * 4))
            there.settimeout(20)
            while there.recv(4096):
                pass
    sys.exit(7)
"""
#: Answers rounds that nobody asked for, and goes on writing what it has handed over.
RUNS_AHEAD = """
    import os, pathlib, time
    import numpy as np
    from flpoc.models.tensors import checksum_file, write_tensors
    from flpoc.wire.trainer_messages import LocalHello, Submit, TrainerStart, FROM_TRAINER, TO_TRAINER
    from flpoc.wire.local import Wire, connect

    wire = Wire(connect(pathlib.Path(os.environ["FLPOC_SOCKET"])), TO_TRAINER)
    wire.send(LocalHello(pathlib.Path(os.environ["FLPOC_TOKEN_FILE"]).read_bytes()))
    for number in range(5, 50):
        path = pathlib.Path(f"{number}.safetensors")
        write_tensors(path, {"w": np.ones(4, "float32")})
        file = os.open(path, os.O_RDWR)
        size = path.stat().st_size
        wire.send(Submit(number, "train", path.name, size, checksum_file(path), 1.0, "FULL", {}, {}, False))
        while path.exists():
            time.sleep(0.01)
        os.ftruncate(file, 1 << 40)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    found = Federation(tmp_path_factory.mktemp("hostile"), sites=2)
    try:
        found.start("server", "site-1")
        found.ready("site-1")
        yield found
    finally:
        found.close()


def begun(session: Session, folder: Path) -> str:
    job = session.submit_job(folder)
    next(meta for meta in session.watch_job(job, timeout=60) if meta["status"] == "RUNNING")
    return job


def test_a_job_cannot_disturb_another_through_its_sockets(running: Federation, tmp_path: Path) -> None:
    with running.session() as session:
        victim = begun(session, write_job(tmp_path / "victim", WAITS, sites=["site-1"]))
        folder = write_job(tmp_path / "other", DISTURBS, sites=["site-1"])
        sockets = [running.state("server") / "sockets" / victim, running.state("site-1") / "sockets" / f"{victim}.1"]
        (folder / "code" / "sockets.json").write_text(json.dumps([str(place) for place in sockets]))
        assert session.wait_for_job(session.submit_job(folder), 60)["cause"]["exit_code"] == 7
        assert session.get_job_meta(victim)["status"] == "RUNNING"
        session.abort_job(victim)


def test_a_script_that_runs_ahead_is_stopped(running: Federation, tmp_path: Path) -> None:
    with running.session() as session:
        job = session.submit_job(write_job(tmp_path / "job", RUNS_AHEAD, sites=["site-1"]))
        meta = session.wait_for_job(job, 60)
    assert "answers to 8 rounds wait already" in meta["cause"]["message"]


def test_a_site_can_blame_nobody_but_itself(running: Federation, tmp_path: Path) -> None:
    liar = Liar(running, "site-2")
    with contextlib.closing(liar), running.session() as session:
        session.wait_ready(["site-2"], 20)
        job = session.submit_job(write_job(tmp_path / "job", WAITS, sites=["site-1", "site-2"]))
        liar.join(job)
        cause = Cause(site="site-1", phase="training", message="x" * 100_000, log_tail=("x" * 1000,) * 100)
        liar.stream.send(JobReport(job, 1, "failed", cause))
        found = session.wait_for_job(job, 60)["cause"]
    assert (found["site"], len(found["message"]), len(found["log_tail"])) == ("site-2", 4000, 40)
