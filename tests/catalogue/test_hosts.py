"""Plugins, hosts and processes that fail under a running project."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from machine.federation import Federation, federation, write_job

from .attack import becomes

row = pytest.mark.row

SCRIPT = """
    import time
    import numpy as np
    import flpoc.client as flare

    flare.init()
    while flare.is_running():
        model = flare.receive()
        time.sleep(PAUSE)
        params = model.params or {"w": np.zeros(SIZE, "float32")}
        flare.send(flare.FLModel(params={name: value + 1 for name, value in params.items()}))
"""


def script(pause: float = 0.0, size: int = 4) -> str:
    return SCRIPT.replace("PAUSE", str(pause)).replace("SIZE", str(size))


# -- plugins

PLUGIN = """
    import sys, threading
    from flpoc import Component, hookimpl
    from flpoc.workflows.mean import WeightedMean

    FLPOC_API = 1

    class Raises(WeightedMean):
        def aggregate(self, *args):
            raise RuntimeError("out of luck")

    class Exits(WeightedMean):
        def aggregate(self, *args):
            sys.exit(0)

    class Hangs(WeightedMean):
        def aggregate(self, *args):
            threading.Event().wait()

    class WritesNothing(WeightedMean):
        def aggregate(self, *args):
            return

    class WritesNonsense(WeightedMean):
        def aggregate(self, updates, base, into):
            into.write_bytes(b"nonsense")

    def unmade(_):
        raise ValueError("cannot be made")

    def leaves(_):
        sys.exit("gone")

    @hookimpl
    def flpoc_aggregators():
        for kind in (Raises, Exits, Hangs, WritesNothing, WritesNonsense):
            yield Component(kind.__name__, "A bad one", lambda _, kind=kind: kind())
        yield Component("Unmade", "Cannot be made", unmade)
        yield Component("Leaves", "Ends the process", leaves)
        yield Component("NoAggregator", "Is something else", lambda _: "a text")
"""
BROKEN = {"raising": "1 / 0", "leaving": "import sys; sys.exit(3)", "of_tomorrow": "FLPOC_API = 99"}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with some plugins more than this one: good for nothing, all of them."""
    home = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True, timeout=60)
    (packages,) = home.glob("lib/python*/site-packages")
    ours = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "ours.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in ours))
    for name, source in {"chaos": PLUGIN, **BROKEN}.items():
        (packages / f"{name}_hooks.py").write_text(textwrap.dedent(source))
        folder = packages / f"acme_{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: acme-{name}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[flpoc]\n{name} = {name}_hooks\n")
    return home / "bin" / "python"


@pytest.fixture(scope="module")
def chaos(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """A project whose kits name all of those plugins."""
    found = Federation(tmp_path_factory.mktemp("plugins"), sites=1, plugins=("local", "chaos", *BROKEN))
    found.python = str(python)
    try:
        found.start()
        found.ready()
        yield found
    finally:
        found.close()


WRONG = {
    "Raises": ("RuntimeError", "out of luck"),
    "Exits": ("", "ended before the job did"),
    "Hangs": ("", "no progress"),
    "WritesNothing": ("", ""),
    "WritesNonsense": ("", "safetensors"),
    "Unmade": ("", "chaos"),
    "Leaves": ("", "gone"),
    "NoAggregator": ("", "chaos"),
}


@pytest.fixture(scope="module")
def outcomes(chaos: Federation, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What became of a job with each of the bad aggregators."""
    folder = tmp_path_factory.mktemp("jobs")
    settings: dict[str, Any] = {"sites": ["site-1"], "rounds": 1, "timeouts": {"stall": 5.0}}
    with chaos.session() as session:
        jobs = {
            name: session.submit_job(write_job(folder / name, script(), aggregator=name, **settings)) for name in WRONG
        }
        return {name: session.wait_for_job(job, timeout=60) for name, job in jobs.items()}


@row("P1", "S24")
@pytest.mark.parametrize("name", WRONG)
def test_a_bad_aggregator_fails_its_job(outcomes: dict[str, dict[str, Any]], name: str) -> None:
    meta, (exception, said) = outcomes[name], WRONG[name]
    assert meta["status"] == "FINISHED:FAILED"
    assert meta["cause"]["site"] == "server"
    assert exception in meta["cause"]["exception"]
    assert said in json.dumps(meta["cause"])


@row("P1", "S25")
@pytest.mark.usefixtures("outcomes")
def test_plugins_that_are_good_for_nothing_harm_neither_server_nor_site(chaos: Federation, tmp_path: Path) -> None:
    """Three of them could not even be loaded; eight have failed their jobs."""
    good = write_job(tmp_path / "good", script(), sites=["site-1"], rounds=1)
    with chaos.session() as session:
        assert session.wait_for_job(session.submit_job(good), timeout=60)["status"] == "FINISHED:COMPLETED"
    assert becomes(lambda: not chaos.job_processes("server"))


# -- full disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own; only root can have one."""
    place = tmp_path / "disk"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(place)]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("NOT TESTED: a full disk needs the right to mount one")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> Path:
    """Take all room of a disk, whoever else takes some meanwhile."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file:
        for piece in (100 << 20, 10 << 20, 1 << 20, 4096):
            with contextlib.suppress(OSError):
                while True:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, piece)
    return filler


@row("P5")
@pytest.mark.parametrize("full", ["server", "site-1"])
def test_a_job_waits_while_a_disk_is_full_and_its_model_is_the_same(
    tmp_path: Path, small_disk: Path, full: str
) -> None:
    running = Federation(tmp_path, sites=1)
    (running.folder / "state").mkdir()
    (running.folder / "state" / full).symlink_to(small_disk / "state")
    (small_disk / "state").mkdir(mode=0o700)
    settings: dict[str, Any] = {"sites": ["site-1"], "rounds": 15, "timeouts": {"stall": 60.0}}
    quick = write_job(tmp_path / "quick", script(0.0, 200_000), **settings)
    # to fill a disk takes a while: the job must not be over by then
    slow = write_job(tmp_path / "slow", script(0.5, 200_000), **settings)
    try:
        running.start()
        running.ready()
        with running.session() as session:
            undisturbed = session.wait_for_job(session.submit_job(quick), timeout=60)
            found = session.submit_job(slow)
            for meta in session.watch_job(found):
                if meta["rounds_committed"] >= 2:
                    break
            filler = fill(small_disk)
            stuck = session.get_job_meta(found)["rounds_committed"]
            waits = full == "server"
            assert becomes(lambda: not waits or "cannot write" in session.get_job_meta(found)["waiting_for"], 60)
            filler.unlink()
            meta = session.wait_for_job(found, timeout=60)
        assert stuck < 15
        assert meta["status"] == "FINISHED:COMPLETED", str(meta["cause"])
        assert meta["sha256"] == undisturbed["sha256"]
        path = running.state("server") / "server.sqlite"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    finally:
        running.close()


# -- services that cannot start


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    """A project of which nothing runs."""
    return Federation(tmp_path_factory.mktemp("kits"), sites=1)


def serve(
    kits: Federation, name: str, state: Path, *, seconds: float = 60.0, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run a service that ends by itself."""
    module = "flpoc.server" if name == "server" else "flpoc.site"
    argv = [sys.executable, "-m", module, str(kits.prod / name), "--state", str(state)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=seconds, check=False, **more)


def with_a_job(state: Path) -> Path:
    """A state folder as a server leaves it, without ever having run one."""
    from flpoc.server.store import Store

    state.mkdir(mode=0o700)
    Store(state).close()
    (state / "jobs").mkdir()
    return state / "server.sqlite"


def spoil(path: Path, damage: str) -> None:
    for more in ("-wal", "-shm"):
        path.with_name(path.name + more).unlink(missing_ok=True)
    if damage == "gone":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "of a newer version":
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA user_version=99")
    else:
        path.write_bytes(b"This is no database. " * 1000)


@row("P6")
@pytest.mark.parametrize("damage", ["gone", "empty", "of a newer version", "something else"])
def test_a_server_does_not_start_on_a_database_that_is_not_its_own(
    kits: Federation, tmp_path: Path, damage: str
) -> None:
    path = with_a_job(tmp_path / "state")
    spoil(path, damage)
    before = sorted((one.name, one.stat().st_size) for one in path.parent.iterdir() if one.name.startswith("server"))
    done = serve(kits, "server", path.parent)
    assert done.returncode == 1
    assert "server.sqlite" in done.stderr
    assert "Traceback" not in done.stderr
    after = sorted((one.name, one.stat().st_size) for one in path.parent.iterdir() if one.name.startswith("server"))
    assert [one for one in after if one[0] == path.name] == [one for one in before if one[0] == path.name]


@row("P7", "P6")
def test_a_second_server_on_one_state_folder_names_the_first(kits: Federation, tmp_path: Path) -> None:
    from flpoc.jobs.ownership import lock_state

    handle = lock_state(tmp_path / "state", "a server")
    try:
        done = serve(kits, "server", tmp_path / "state")
    finally:
        os.close(handle)
    assert done.returncode == 2
    assert f"pid {os.getpid()}" in done.stderr


@row("P11")
def test_a_port_that_stays_taken_is_named_after_some_seconds(kits: Federation, tmp_path: Path) -> None:
    port = int(kits.address.rpartition(":")[2])
    with socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True):
        done = serve(kits, "server", tmp_path / "state")
    assert done.returncode == 2
    assert f"port {port} cannot be bound" in done.stderr
    assert "Traceback" not in done.stderr


@row("P11")
def test_a_port_that_becomes_free_is_taken(tmp_path: Path) -> None:
    found = Federation(tmp_path, sites=1)
    port = int(found.address.rpartition(":")[2])
    taken = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    try:
        found.start("server")
        assert becomes(lambda: f":{port}" in found.log("server"))
        taken.close()
        found.start("site-1")
        found.ready()
    finally:
        taken.close()
        found.close()


@row("P10")
def test_a_project_runs_a_job_with_64_open_files_for_each_process(tmp_path: Path) -> None:
    found = Federation(tmp_path, sites=1)
    found.before = ("prlimit", "--nofile=64:64")
    job = write_job(tmp_path / "job", script(), sites=["site-1"], rounds=2)
    try:
        found.start()
        found.ready()
        with found.session() as session:
            assert session.wait_for_job(session.submit_job(job), timeout=60)["status"] == "FINISHED:COMPLETED"
    finally:
        found.close()


@row("P10")
@pytest.mark.parametrize("missing", ["HOME", "all of them"])
def test_services_run_without_the_usual_variables(tmp_path: Path, missing: str) -> None:
    found = Federation(tmp_path, sites=1)
    found.env = {k: v for k, v in os.environ.items() if k != missing and (missing[0] != "a" or k.startswith("FLPOC"))}
    job = write_job(tmp_path / "job", script(), sites=["site-1"], rounds=1)
    try:
        found.start()
        found.ready()
        with found.session() as session:
            assert session.wait_for_job(session.submit_job(job), timeout=60)["status"] == "FINISHED:COMPLETED"
    finally:
        found.close()


@row("P10", "P12")
@pytest.mark.parametrize("name", ["server", "site-1"])
@pytest.mark.parametrize("place", ["a disk that is read-only", "below a file"])
def test_a_state_folder_that_cannot_be_written_is_named(
    kits: Federation, small_disk: Path, name: str, place: str
) -> None:
    state = small_disk / "state"
    if place == "below a file":
        state.write_text("")
        state = state / "state"
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = serve(kits, name, state)
    assert done.returncode == 2
    assert str(state) in done.stderr
    assert "Traceback" not in done.stderr


@row("P12")
def test_a_server_whose_output_nobody_reads_goes_on(tmp_path: Path) -> None:
    """Its log is a pipe whose reader has gone."""
    found = Federation(tmp_path, sites=1)
    job = write_job(tmp_path / "job", script(), sites=["site-1"], rounds=2)
    reader, writer = os.pipe()
    os.close(reader)
    found.output = writer
    try:
        found.start()
        found.ready()
        with found.session() as session:
            assert session.wait_for_job(session.submit_job(job), timeout=60)["status"] == "FINISHED:COMPLETED"
    finally:
        os.close(writer)
        found.close()


# -- processes that stand still


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with federation(tmp_path_factory.mktemp("standing"), sites=1) as found:
        yield found


@pytest.fixture(scope="module")
def undisturbed(running: Federation, tmp_path_factory: pytest.TempPathFactory) -> str:
    job = write_job(tmp_path_factory.mktemp("u") / "job", script(0.1), sites=["site-1"], rounds=6)
    with running.session() as session:
        return str(session.wait_for_job(session.submit_job(job), timeout=60)["sha256"])


@row("P8")
@pytest.mark.parametrize("who", ["server", "agent", "trainer", "controller"])
def test_a_process_that_stands_still_for_a_while_goes_on(
    running: Federation, undisturbed: str, tmp_path: Path, who: str
) -> None:
    job = write_job(tmp_path / "job", script(0.3), sites=["site-1"], rounds=6)
    with running.session() as session:
        found = session.submit_job(job)
        for meta in session.watch_job(found):
            if meta["rounds_committed"] >= 2:
                break
        pid = {
            "server": lambda: running.pid("server"),
            "agent": lambda: running.pid("site-1"),
            "trainer": lambda: running.job_processes("site-1", found)[0],
            "controller": lambda: running.job_processes("server", found)[0],
        }[who]()
        os.kill(pid, signal.SIGSTOP)
        threading.Event().wait(1.5)  # it stands still; nothing is to happen
        os.kill(pid, signal.SIGCONT)
        meta = session.wait_for_job(found, timeout=60)
    assert (meta["status"], meta["sha256"]) == ("FINISHED:COMPLETED", undisturbed)


@row("P8", "P1")
@pytest.mark.parametrize(("who", "site"), [("trainer", "site-1"), ("controller", "server")])
def test_a_process_that_never_goes_on_is_named_and_ended(
    running: Federation, tmp_path: Path, who: str, site: str
) -> None:
    job = write_job(tmp_path / "job", script(0.1), sites=["site-1"], rounds=1000, timeouts={"stall": 5.0})
    with running.session() as session:
        found = session.submit_job(job)
        for meta in session.watch_job(found):
            if meta["rounds_committed"] >= 1:
                break
        (pid,) = running.job_processes("site-1" if who == "trainer" else "server", found)
        os.kill(pid, signal.SIGSTOP)
        meta = session.wait_for_job(found, timeout=60)
    assert meta["status"] == "FINISHED:FAILED"
    assert meta["cause"]["site"] == site
    assert "no progress" in meta["cause"]["message"]
    assert becomes(lambda: not Path(f"/proc/{pid}").exists())


# -- what scripts say


@row("P12", "S22", "W16")
def test_a_script_that_says_terrible_things_harms_neither_agent_nor_terminal(
    running: Federation, tmp_path: Path
) -> None:
    """Lines of megabytes, cursor movements, an endless exception: the agent lives, what is shown is short."""
    source = """
        import sys
        import numpy as np
        import flpoc.client as flare

        flare.init()
        model = flare.receive()
        flare.log("\\x1b[2Jgone\\n", 1.0)
        flare.log("x" * 1_000_000, 1.0)
        flare.log("=cmd|' /C calc'!A0", 1.0)
        for _ in range(30):
            print("\\x1b[31m" + "A" * 1_000_000, flush=True)
        raise ValueError("\\x1b]0;owned\\x07" + "B" * 5_000_000)
    """
    agent = running.pid("site-1")
    job = write_job(tmp_path / "job", source, sites=["site-1"], rounds=1)
    with running.session() as session:
        meta = session.wait_for_job(session.submit_job(job), timeout=60)
        assert session.status()["sites"][0]["name"] == "site-1"
    cause = meta["cause"]
    assert meta["status"] == "FINISHED:FAILED"
    assert (cause["site"], cause["exception"]) == ("site-1", "ValueError")
    assert len(json.dumps(cause)) < 50_000
    assert running.pid("site-1") == agent
    assert running._services["site-1"].poll() is None
    home = tmp_path / "home"
    home.mkdir()
    env = {**os.environ, "HOME": str(home), "FLPOC_STARTUP_KIT_DIR": str(running.prod / "admin@nvidia.com")}
    flpoc = str(Path(sys.executable).parent / "flpoc")
    for words in (["job", "meta", meta["job_id"]], ["job", "logs", meta["job_id"], "--site", "site-1"]):
        shown = subprocess.run([flpoc, *words], env=env, capture_output=True, timeout=60, check=False)
        assert b"\x1b" not in shown.stdout + shown.stderr
        assert b"\x07" not in shown.stdout + shown.stderr
    assert "\x1b" not in running.log("site-1") + running.log("server")
