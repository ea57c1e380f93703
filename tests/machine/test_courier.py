"""What scripts log reaches trackers, and what happens reaches plugins, whatever these do and whoever is killed."""

from __future__ import annotations

import json
import os
import select
import signal
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from catalogue.attack import becomes

from flpoc.errors import JobError

from .federation import Federation, federation, write_job

#: A tracker that writes into a pipe what it is told; its settings say how it misbehaves.
PAPER = """
import json, os, threading
from pathlib import Path
import attrs
from flpoc import Component, hookimpl
from flpoc.tracking import Tracker

FLPOC_API = 1

@attrs.frozen
class PaperSettings:
    pipe: str
    refuses: int = 0
    hangs_in: str = ""
    hangs_while: str = "/"
    dies_once: str = ""

class Paper(Tracker):
    def __init__(self, settings):
        self.settings = settings
        self.refused = 0
        self.pipe = os.open(settings.pipe, os.O_WRONLY)

    def say(self, **words):
        os.write(self.pipe, json.dumps(words).encode() + b"\\n")

    def hang(self, where):
        if self.settings.hangs_in == where and Path(self.settings.hangs_while).exists():
            self.say(what="hangs", where=where)
            threading.Event().wait()

    def open(self, job):
        self.say(what="open", job=attrs.asdict(job))

    def write(self, metrics):
        self.hang("write")
        if self.refused < self.settings.refuses:
            self.refused += 1
            raise RuntimeError("no ink")
        if self.settings.dies_once and not Path(self.settings.dies_once).exists():
            Path(self.settings.dies_once).touch()
            os._exit(7)
        for one in metrics:
            self.say(what="write", **attrs.asdict(one))

    def close(self):
        self.hang("close")
        self.say(what="close")

@hookimpl
def flpoc_trackers():
    yield Component("paper", "On paper", Paper, PaperSettings)
    yield Component("copy", "The same again", Paper, PaperSettings)
"""

#: Plugins that hear events: one writes them down, one fails in every way.
HEARS = """
import json, os
import attrs
from flpoc import hookimpl

FLPOC_API = 1

@hookimpl
def flpoc_run_event(event):
    with open(os.environ["ACME_EVENTS"], "a") as file:
        file.write(json.dumps({"what": event.kind, **attrs.asdict(event)}) + "\\n")
"""
GRUMPY = """
import sys
from flpoc import hookimpl

FLPOC_API = 1

@hookimpl
def flpoc_run_event(event):
    if event.kind == "running":
        sys.exit("I do not want to hear it")
    raise ValueError("news!")
"""

SCRIPT = """
    import numpy as np
    import flpoc.client as flare

    flare.init()
    while flare.is_running():
        model = flare.receive()
        start = model.current_round * 10
        for number in range(start, start + 10):
            flare.log("number", number, step=number)
        params = model.params or {"w": np.zeros(4, "float32")}
        flare.send(flare.FLModel(params={name: value + 1 for name, value in params.items()}, metrics={"m": start}))
"""
ROUNDS = 6


class Pipe:
    """Lines that somebody writes, heard as they come."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self._handle = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._rest = b""
        self.lines: list[dict[str, Any]] = []

    def until(self, what: str, times: int = 1) -> list[dict[str, Any]]:
        """All lines so far, once so many of this kind have come."""
        end = time.monotonic() + 60
        while self.count(what) < times:
            ready, _, _ = select.select([self._handle], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"no {what!r}; said was {self.lines[-3:]}"
            *lines, self._rest = (self._rest + os.read(self._handle, 1 << 16)).split(b"\n")
            self.lines += [json.loads(line) for line in lines]
        return self.lines

    def count(self, what: str) -> int:
        return sum(line["what"] == what for line in self.lines)

    def close(self) -> None:
        os.close(self._handle)


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Pipe]:
    found = Pipe(tmp_path / "pipe")
    yield found
    found.close()


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    """Modules with plugins, which the services that are started find."""
    folder = tmp_path_factory.mktemp("packages")
    (folder / "acme").mkdir()
    for name, source in {"__init__": "", "paper": PAPER, "hears": HEARS, "grumpy": GRUMPY}.items():
        (folder / "acme" / f"{name}.py").write_text(source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
        patch.setenv("FLPOC_STARTUP_KIT", "/nowhere")
        yield patch


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, packages: pytest.MonkeyPatch) -> Iterator[Federation]:
    with federation(tmp_path_factory.mktemp("courier"), plugins=("local", "acme.paper")) as found:
        yield found


def submit(
    running: Federation, folder: Path, pipe: Pipe, *, rounds: int = ROUNDS, script: str = SCRIPT, **how: Any
) -> str:
    tracking = [{"name": "paper", "settings": {"pipe": str(pipe.path), **how}}]
    job = write_job(folder / "job", script, rounds=rounds, sites=running.sites, tracking=tracking)
    with running.session() as session:
        return session.submit_job(job)


def end(running: Federation, job: str) -> dict[str, Any]:
    with running.session() as session:
        return session.wait_for_job(job, timeout=60)


def couriers(running: Federation) -> list[int]:
    """Process ids of the children of the server that are couriers."""
    found = []
    for task in Path(f"/proc/{running.pid('server')}/task").iterdir():
        found += [int(pid) for pid in read(task / "children").split()]
    return [pid for pid in found if b"flpoc.server.courier" in command(pid)]


def command(pid: int) -> bytes:
    return read(Path(f"/proc/{pid}/cmdline"))


def read(path: Path) -> bytes:
    """What the system says of a process or thread; nothing if that has ended meanwhile."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def gone(pids: list[int]) -> bool:
    """Wait for the end of processes."""
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        ended = bool(select.select([handle], [], [], 60)[0])
        os.close(handle)
        if not ended:
            return False
    return True


def numbers(lines: list[dict[str, Any]], site: str) -> list[float]:
    return [one["value"] for one in lines if one["what"] == "write" and (one["site"], one["key"]) == (site, "number")]


def first_times(values: list[float]) -> list[float]:
    return list(dict.fromkeys(values))


WANTED = [float(number) for number in range(10 * ROUNDS)]


def test_what_two_sites_log_comes_once_in_order_with_the_means_of_rounds(
    running: Federation, pipe: Pipe, tmp_path: Path
) -> None:
    job = submit(running, tmp_path, pipe)
    meta = end(running, job)
    lines = pipe.until("close")
    assert meta["status"] == "FINISHED:COMPLETED"
    assert numbers(lines, "site-1") == numbers(lines, "site-2") == WANTED
    assert [one["step"] for one in lines if one.get("site") == "site-1"] == list(range(10 * ROUNDS))
    means = [(one["round"], one["value"]) for one in lines if one.get("site") == "server"]
    assert means == [(number, 10.0 * number) for number in range(ROUNDS)]
    about = lines[0]["job"]
    assert (lines[0]["what"], about["id"], about["name"], about["run"], about["rounds"]) == (
        "open",
        job,
        "test",
        1,
        ROUNDS,
    )
    assert pipe.count("open") == pipe.count("close") == 1


def test_the_courier_knows_no_kit_and_ends_when_nobody_needs_it(
    running: Federation, pipe: Pipe, tmp_path: Path
) -> None:
    assert becomes(lambda: couriers(running) == [])  # that of the test before ends while the next may begin
    job = submit(running, tmp_path, pipe, rounds=1)
    pipe.until("open")
    [pid] = couriers(running)
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    assert b"FLPOC_" not in environment
    assert str(running.prod).encode() not in environment + command(pid)
    end(running, job)
    pipe.until("close")
    assert gone([pid])
    assert couriers(running) == []


def test_a_job_without_tracking_has_no_courier(running: Federation, tmp_path: Path) -> None:
    job = write_job(tmp_path / "job", SCRIPT, rounds=1, sites=running.sites)
    with running.session() as session:
        found = session.submit_job(job)
        assert session.wait_for_job(found, timeout=60)["status"] == "FINISHED:COMPLETED"
        assert couriers(running) == []
        assert session.get_job_meta(found)["tracking"] == []
        path = session.download_job_result(found, tmp_path / "results").path
    logged = [json.loads(line) for line in (path / "site_metrics.jsonl").read_text().splitlines()]
    assert [one["value"] for one in logged if one["site"] == "site-2"] == [float(number) for number in range(10)]


@pytest.mark.row("P3")
def test_a_tracker_that_fails_twice_gets_everything_in_order(running: Federation, pipe: Pipe, tmp_path: Path) -> None:
    job = submit(running, tmp_path, pipe, refuses=2)
    lines = pipe.until("close")
    assert numbers(lines, "site-1") == numbers(lines, "site-2") == WANTED
    assert running.log("server").count(f"job {job}: tracker paper: RuntimeError: no ink (paper.py:") == 2
    assert pipe.count("open") == 1


def test_a_tracker_that_ends_its_process_is_asked_by_another(running: Federation, pipe: Pipe, tmp_path: Path) -> None:
    submit(running, tmp_path, pipe, dies_once=str(tmp_path / "died"))
    lines = pipe.until("close")
    assert numbers(lines, "site-1") == numbers(lines, "site-2") == WANTED
    assert "the courier ended (7); it is started again in 0.5 s" in running.log("server")
    assert pipe.count("open") == 2


def disturb_by_courier(running: Federation) -> None:
    for pid in couriers(running):
        os.kill(pid, signal.SIGKILL)


def disturb_by_server(running: Federation) -> None:
    left = couriers(running)
    running.kill("server")
    assert left
    assert gone(left), "a courier outlives its server"
    running.start("server")


@pytest.mark.parametrize("disturb", [disturb_by_courier, disturb_by_server])
def test_kill_9_in_mid_run_loses_nothing(
    running: Federation, pipe: Pipe, tmp_path: Path, disturb: Callable[[Federation], None]
) -> None:
    slow = SCRIPT.replace("params = model", "__import__('time').sleep(0.2); params = model")
    job = submit(running, tmp_path, pipe, script=slow)
    pipe.until("write", 15)
    disturb(running)
    running.ready()
    assert end(running, job)["status"] == "FINISHED:COMPLETED"
    lines = pipe.until("close")
    assert first_times(numbers(lines, "site-1")) == first_times(numbers(lines, "site-2")) == WANTED
    assert pipe.count("open") == 2


@pytest.mark.row("P3")
@pytest.mark.parametrize("where", ["write", "close"])
def test_a_tracker_that_hangs_holds_up_nothing_and_is_asked_again_after_a_restart(
    running: Federation, pipe: Pipe, tmp_path: Path, where: str
) -> None:
    stuck, other = tmp_path / "stuck", Pipe(tmp_path / "other")
    stuck.touch()
    tracking = [
        {"name": "paper", "settings": {"pipe": str(pipe.path), "hangs_in": where, "hangs_while": str(stuck)}},
        {"name": "copy", "settings": {"pipe": str(other.path)}},
    ]
    job = write_job(tmp_path / "job", SCRIPT, rounds=ROUNDS, sites=running.sites, tracking=tracking)
    with running.session() as session:
        found = session.submit_job(job)
        assert session.wait_for_job(found, timeout=60)["status"] == "FINISHED:COMPLETED"
        pipe.until("hangs")
        assert numbers(other.until("close"), "site-1") == WANTED
        waiting = {one["tracker"]: one["to_write"] for one in session.get_job_meta(found)["tracking"]}
    assert waiting == {"paper": 126 if where == "write" else 0, "copy": 0}
    left, begun = couriers(running), time.monotonic()
    running.stop("server")
    assert time.monotonic() - begun < 15
    assert gone(left)
    stuck.unlink()
    running.start("server")
    running.ready()
    lines = pipe.until("close")
    assert numbers(lines, "site-1") == numbers(lines, "site-2") == WANTED
    other.close()


REFUSED = {
    "misspelt": ("papre", {}, "no tracker 'papre' is installed at the server", "did you mean 'paper'?"),
    "of a package": ("mlflow", {}, "no tracker 'mlflow' is installed at the server", "install flpoc-tracking-mlflow"),
    "settings": ("paper", {"pipe": "p", "colour": 1}, "tracker.paper.colour: no such setting", ""),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_tracker_that_is_not_there_is_refused_at_submission(running: Federation, tmp_path: Path, case: str) -> None:
    name, settings, message, hint = REFUSED[case]
    tracking = [{"name": name, "settings": settings}]
    job = write_job(tmp_path / "job", SCRIPT, sites=running.sites, tracking=tracking)
    with running.session() as session, pytest.raises(JobError) as refused:
        session.submit_job(job)
    assert message in refused.value.message
    assert hint in refused.value.hint


# -- plugins that hear events


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory, packages: pytest.MonkeyPatch) -> Iterator[tuple[Federation, Pipe]]:
    folder = tmp_path_factory.mktemp("heard")
    events = Pipe(folder / "events")
    packages.setenv("ACME_EVENTS", str(events.path))
    with federation(folder, plugins=("local", "acme.hears", "acme.grumpy")) as found:
        yield found, events
    events.close()


def test_a_plugin_hears_of_a_job_from_its_submission_to_its_end(heard: tuple[Federation, Pipe], tmp_path: Path) -> None:
    running, events = heard
    job = write_job(tmp_path / "job", SCRIPT, rounds=2, sites=running.sites)
    with running.session() as session:
        found = session.submit_job(job)
    lines = [one for one in events.until("finished") if one["job"] == found]
    kinds = [one["what"] for one in lines]
    assert sorted(kinds[2:4]) == ["site-joined", "site-joined"]
    assert [*kinds[:2], *kinds[4:]] == [
        "submitted", "dispatched", "running", "round-committed", "round-committed", "finished",
    ]  # fmt: skip
    assert lines[0]["detail"] == {"name": "test", "by": "admin@nvidia.com"}
    assert lines[1]["detail"] == {"sites": running.sites}
    assert [one["detail"] for one in lines if one["round"] == 1] == [{"metrics": {"m": 10.0}, "sites": running.sites}]
    assert lines[-1]["detail"] == {"status": "FINISHED:COMPLETED"}
    assert [one["time"] for one in lines] == sorted(one["time"] for one in lines)


def test_a_plugin_that_fails_is_logged_and_harms_nobody(heard: tuple[Federation, Pipe], tmp_path: Path) -> None:
    running, events = heard
    broken = textwrap.dedent(SCRIPT).replace("params = ", "1 / 0; params = ")
    job = write_job(tmp_path / "job", broken, sites=running.sites)
    before = len(events.lines)
    with running.session() as session:
        found = session.submit_job(job)
        assert session.wait_for_job(found, timeout=60)["status"] == "FINISHED:FAILED"
    said = {one["what"]: one for one in events.until("finished", events.count("finished") + 1)[before:]}
    assert said["site-failed"]["detail"] == {"reason": "division by zero"}
    assert said["finished"]["detail"]["cause"]["exception"] == "ZeroDivisionError"
    log = running.log("server")
    assert "plugin acme.grumpy: flpoc_run_event: ValueError: news!" in log
    assert "SystemExit: I do not want to hear it" in log
    assert len(couriers(running)) == 1


def test_what_happened_while_the_server_was_down_or_killed_is_told_by_the_next(
    heard: tuple[Federation, Pipe], tmp_path: Path
) -> None:
    running, events = heard
    [courier] = couriers(running)
    os.kill(courier, signal.SIGSTOP)  # it hears nothing, and the server does not notice
    job = write_job(tmp_path / "job", SCRIPT, rounds=2, sites=running.sites)
    before = len(events.lines)
    with running.session() as session:
        assert session.wait_for_job(session.submit_job(job), timeout=60)["status"] == "FINISHED:COMPLETED"
    running.kill("server")
    os.kill(courier, signal.SIGKILL)
    running.start("server")
    running.ready()
    lines = events.until("finished", events.count("finished") + 1)[before:]
    assert [one["round"] for one in lines if one["what"] == "round-committed"] == [0, 1]
    assert lines[0]["what"] == "submitted"
