"""Filters: what leaves a site has passed them, and nothing leaves that has not."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import re
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from flpoc.jobs.states import Cause
from flpoc.models.tensors import write_tensors
from flpoc.provision.building import provision
from flpoc.provision.project_rules import sample_project

from .federation import Federation, write_job
from .ports import free_port

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "flpoc-clip" / "src"
#: Bytes that no other file has.
MARK = 1.2345678901234567e-89
START = {"a": np.linspace(0, 1, 300).reshape(3, 100), "b": np.ones(7)}
NOISE_THEN = [{"name": "noise"}, {"name": "odd"}]

SCRIPT = """
    import numpy as np
    import flpoc.client as flare

    flare.init()
    while flare.is_running():
        model = flare.receive()
        rng = np.random.default_rng(flare.get_seed())
        steps = 3 if flare.get_site_name() == "site-1" else 5
        params = {name: value + rng.standard_normal(value.shape) for name, value in model.params.items()}
        flare.send(flare.FLModel(params=params, metrics={"steps": steps}, meta={"NUM_STEPS_CURRENT_ROUND": steps}))
"""
SECRETIVE = f"""
    import numpy as np
    import flpoc.client as flare

    flare.init()
    while flare.is_running():
        flare.receive()
        flare.send(flare.FLModel(params={{"w": np.full(1000, {MARK!r})}}))
"""

FILTERS = '''
import hmac, os, signal, sys, time
import attrs, numpy as np
from flpoc import Component, hookimpl
from flpoc.filtering import Filter
from flpoc.models.tensors import write_tensors

FLPOC_API = 1


@attrs.frozen
class How:
    how: str = "copy"
    round: int = 0


class Odd(Filter):
    """Copies, and counts what it did, and fails as it is told."""

    def __init__(self, how):
        self.how = how

    def apply(self, update, received, into, departure):
        with (departure.folder / f"{departure.job}.count").open("a") as file:
            file.write(f"{departure.round}\\n")
        if departure.round == self.how.round:
            getattr(self, self.how.how)(departure, into)
        if self.how.how not in ("nothing", "garbage", "link"):
            write_tensors(into, update)

    def copy(self, departure, into):
        pass

    def fail(self, departure, into):
        raise ValueError("too much of it")

    def nothing(self, departure, into):
        return None

    def garbage(self, departure, into):
        into.write_bytes(b"{}" * 100)

    def link(self, departure, into):
        into.symlink_to(into.parent / "0.safetensors")

    def leave(self, departure, into):
        sys.exit(0)

    def die(self, departure, into):
        os.kill(os.getpid(), signal.SIGKILL)

    def die_once(self, departure, into):
        mark = departure.folder / f"{departure.job}.died"
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def hang(self, departure, into):
        (departure.folder / f"{departure.job}.pid").write_text(str(os.getpid()))
        signal.pause()

    def hang_once(self, departure, into):
        if not (departure.folder / f"{departure.job}.pid").exists():
            self.hang(departure, into)


class Noise(Filter):
    def apply(self, update, received, into, departure):
        draws = np.random.default_rng(int.from_bytes(departure.seed(), "big"))
        write_tensors(into, {name: update[name] + draws.standard_normal(update[name].shape) for name in update})


class Alone(Filter):
    """Refuses what another filter has to have done before."""

    def apply(self, update, received, into, departure):
        total = sum(float(((update[name] - received[name]) ** 2).sum()) for name in update)
        assert total <= 1.001, "the other filter comes later"
        write_tensors(into, update)


@hookimpl
def flpoc_filters():
    yield Component("odd", "Counts and fails", Odd, How)
    yield Component("noise", "Adds noise", lambda settings: Noise())
    yield Component("after", "Wants to be the last", lambda settings: Alone())
'''


class Filtered(Federation):
    """A federation whose kits allow filters, and whose sites have them installed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        project = attrs.evolve(sample_project(self.sites, port=free_port()), plugins=("local", "clip", "odd"))
        self.prod = provision(project, folder / "filtered")

    def demand(self, site: str, *filters: Any, share_metrics: bool = True) -> None:
        """Have a site want filters for every job, from its next start on."""
        path = self.prod / site / "local" / "policy.json"
        policy = {"filters": list(filters), "share_metrics": share_metrics}
        path.write_text(json.dumps(json.loads(path.read_text()) | policy))

    def again(self, *sites: str) -> None:
        self.stop(*sites)
        self.start(*sites)
        self.ready()

    def gate_at_work(self, site: str, job: str) -> int:
        """Process id of a gate, once a filter hangs in it."""
        path = self.state(site) / "filters" / "odd" / f"{job}.pid"
        until(lambda: path.is_file() and path.read_text() != "")
        return int(path.read_text())

    def counted(self, site: str, job: str) -> list[str]:
        """Rounds in which the filter ``odd`` was applied at a site, in the order in which it was."""
        return (self.state(site) / "filters" / "odd" / f"{job}.count").read_text().split()


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def install(packages: Path) -> None:
    """Two packages: the example, and one with filters of this test."""
    (packages / "odd_hooks.py").write_text(FILTERS)
    for name, module in (("clip", "flpoc_clip.hooks"), ("odd", "odd_hooks")):
        folder = packages / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[flpoc]\n{name} = {module}\n")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filtered]:
    packages = tmp_path_factory.mktemp("packages")
    install(packages)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(packages), str(EXAMPLE), os.environ.get("PYTHONPATH", "")]))
        found = Filtered(tmp_path_factory.mktemp("gate"))
        try:
            found.start()
            found.ready()
            yield found
        finally:
            found.close()


def begin(running: Federation, folder: Path, source: str = SCRIPT, **settings: Any) -> str:
    """Submit a job that starts from a small model."""
    start = {"sites": ["site-1", "site-2"], "rounds": 2, "initial_model": "start"}
    found = write_job(folder / "job", source, **(start | settings))
    write_tensors(found / "code" / "start", START)
    with running.session() as session:
        return session.submit_job(found)


def end(running: Federation, job: str) -> dict[str, Any]:
    with running.session() as session:
        return session.wait_for_job(job, timeout=60)


def completed(running: Federation, job: str) -> dict[str, Any]:
    meta = end(running, job)
    assert meta["status"] == "FINISHED:COMPLETED", (meta["cause"], running.log("site-1"), running.log("server"))
    return meta


def after_round_one(running: Federation, job: str) -> None:
    with running.session() as session:
        next(meta for meta in session.watch_job(job) if meta["rounds_committed"] >= 1)


def gates(running: Federation) -> list[int]:
    """Processes that are gates of this federation; others may be tested beside it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            where = (entry / "cwd").readlink()
        except OSError:
            continue
        if b"flpoc.site.gate" in words and where.is_relative_to(running.folder):
            found.append(int(entry.name))
    return found


def is_at_the_server(running: Federation, number: float) -> bool:
    wanted = struct.pack("<d", number)
    return any(wanted in content for content in _contents(running.state("server")))


def _contents(folder: Path) -> Iterator[bytes]:
    """All files below a folder, of which some may just be deleted: a job has ended."""
    for where, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                if (path := Path(where, name)).is_file():
                    yield path.read_bytes()


# -- what filters do


def own_step(site: str, round_number: int, like: dict[str, Any]) -> dict[str, Any]:
    """What the script adds to the model."""
    digest = hmac.digest(b"0", f"{round_number}|{site}".encode(), hashlib.sha256)
    rng = np.random.default_rng(int.from_bytes(digest[:4], "big"))
    return {name: rng.standard_normal(value.shape) for name, value in like.items()}


def clipped(step: dict[str, Any], bound: float) -> dict[str, Any]:
    norm = np.sqrt(sum((value**2).sum() for value in step.values()))
    assert norm > bound
    return {name: value * bound / norm for name, value in step.items()}


def test_the_model_is_the_mean_of_what_the_jobs_filter_left(running: Filtered, tmp_path: Path) -> None:
    job = begin(running, tmp_path, filters=[{"name": "clip", "settings": {"norm": 2.5}}])
    meta = completed(running, job)
    assert [one["metrics"] for one in meta["rounds"]] == [{"steps": 4.25}] * 2
    model = START
    for number in range(2):
        one, two = (clipped(own_step(site, number, model), 2.5) for site in ("site-1", "site-2"))
        model = {name: value + (3 * one[name] + 5 * two[name]) / 8 for name, value in model.items()}
    found = running.final_model(job, tmp_path / "out")
    assert found.keys() == model.keys()
    for name, value in model.items():
        assert np.allclose(found[name], value, rtol=1e-12, atol=1e-12)


@pytest.mark.row("S20")
def test_a_sites_own_filters_come_last_and_cannot_be_left_out(running: Filtered, tmp_path: Path) -> None:
    running.demand("site-2", {"name": "clip", "settings": {"norm": 1.0}}, "after", share_metrics=False)
    running.again("site-2")
    try:
        job = begin(running, tmp_path, rounds=1, filters=["noise"])
        completed(running, job)
        plain = begin(running, tmp_path / "plain", rounds=1)
        meta = completed(running, plain)
        early = end(running, begin(running, tmp_path / "early", rounds=1, filters=["after"]))
    finally:
        running.demand("site-2")
        running.again("site-2")
    step, model = own_step("site-1", 0, START), running.final_model(plain, tmp_path / "out")
    second = {name: (8 * (model[name] - value) - 3 * step[name]) / 5 for name, value in START.items()}
    assert np.sqrt(sum((value**2).sum() for value in second.values())) == pytest.approx(1.0)
    assert [one["metrics"] for one in meta["rounds"]] == [{}]  # site-2 keeps its own
    assert early["status"] == "FINISHED:FAILED"
    assert "the other filter comes later" in early["cause"]["message"]


def test_there_is_a_gate_only_where_there_are_filters(running: Filtered, tmp_path: Path) -> None:
    slow = SCRIPT.replace("rng =", "import time; time.sleep(2 * model.current_round); rng =")
    for filters, count in (([], 0), (["odd"], 2)):
        job = begin(running, tmp_path / str(count), slow, filters=filters)
        after_round_one(running, job)
        found = gates(running)
        completed(running, job)
        assert len(found) == count
    until(lambda: gates(running) == [])


def test_the_gate_knows_nothing_of_the_sites_key(running: Filtered, tmp_path: Path) -> None:
    hang = {"name": "odd", "settings": {"how": "hang", "round": 0}}
    job = begin(running, tmp_path, sites=["site-1"], filters=[hang])
    gate = Path("/proc") / str(running.gate_at_work("site-1", job))
    kit = str(running.prod / "site-1")
    told = (gate / "environ").read_bytes() + (gate / "cmdline").read_bytes()
    opened = [os.readlink(one) for one in (gate / "cwd", *(gate / "fd").iterdir())]
    with running.session() as session:
        session.abort_job(job)
    until(lambda: not gate.exists())
    assert kit.encode() not in told
    assert b"FLPOC" not in told
    assert [one for one in opened if one.startswith(kit)] == []


# -- nothing leaves that has not passed


def test_what_passes_does_arrive(running: Filtered, tmp_path: Path) -> None:
    job = begin(running, tmp_path, SECRETIVE, sites=["site-1"], initial_model="", rounds=1, filters=["odd"])
    completed(running, job)
    assert is_at_the_server(running, MARK)
    with running.session() as session:
        session.delete_job(job)


@pytest.mark.row("P2", "S24")
@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("fail", "ValueError: filter 'odd': too much of it"),
        ("nothing", "IntegrityError: filter 'odd': it has written nothing"),
        ("garbage", "IntegrityError: filter 'odd': .*safetensors"),
        ("link", "IntegrityError: filter 'odd': "),
        ("leave", "SystemExit: filter 'odd': 0"),
        ("die", "the gate ended 3 times"),
    ],
)
def test_a_filter_that_fails_lets_nothing_out(running: Filtered, tmp_path: Path, how: str, told: str) -> None:
    number = MARK * (2 + len(told))
    source = SECRETIVE.replace(repr(MARK), repr(number))
    failing = {"name": "odd", "settings": {"how": how}}
    job = begin(running, tmp_path, source, sites=["site-1"], initial_model="", rounds=1, filters=[failing])
    meta = end(running, job)
    cause = Cause(**meta["cause"])
    assert meta["status"] == "FINISHED:FAILED"
    assert (cause.site, cause.phase, cause.round) == ("site-1", "filtering", 0)
    assert re.search(told, f"{cause.exception}: {cause.message}")
    assert (cause.file, cause.line > 0) == (("odd_hooks.py", True) if how in ("fail", "leave") else ("", False))
    assert not cause.by_own_code
    assert cause.signal == ("SIGKILL" if how == "die" else "")
    assert running.counted("site-1", job) == ["0"] * (3 if how == "die" else 1)
    assert not is_at_the_server(running, number)


@pytest.mark.row("P2", "P1")
def test_a_filter_that_hangs_is_ended_with_the_job(running: Filtered, tmp_path: Path) -> None:
    number = MARK * 3
    source = SECRETIVE.replace(repr(MARK), repr(number))
    hang = {"name": "odd", "settings": {"how": "hang"}}
    job = begin(
        running, tmp_path, source, sites=["site-1"], initial_model="", filters=[hang],
        timeouts={"round_deadline": 6.0},  # the filter is at work by then
    )  # fmt: skip
    gate = running.gate_at_work("site-1", job)
    assert end(running, job)["status"] == "FINISHED:FAILED"
    until(lambda: gate not in gates(running))
    assert not is_at_the_server(running, number)


@pytest.mark.row("P2")
def test_a_filter_that_is_not_installed_is_refused_before_any_training(running: Filtered, tmp_path: Path) -> None:
    meta = end(running, begin(running, tmp_path, filters=["clp"]))
    assert meta["status"] == "FINISHED:CAN_NOT_SCHEDULE"
    assert "filters/clp is not installed, or not allowed, at site-1; did you mean 'clip'?" in meta["cause"]["message"]


def test_settings_of_a_filter_are_checked_before_any_training(running: Filtered, tmp_path: Path) -> None:
    wrong = {"name": "clip", "settings": {"nrom": 1.0}}
    cause = Cause(**end(running, begin(running, tmp_path, sites=["site-1"], filters=[wrong]))["cause"])
    assert (cause.site, cause.phase) == ("site-1", "preparing")
    assert (cause.message, cause.hint) == ("filter 'clip': filter.clip.nrom: no such setting", "did you mean 'norm'?")


@pytest.mark.row("P2", "S24")
def test_a_site_whose_own_filter_is_not_there_does_not_start(running: Filtered) -> None:
    running.stop("site-2")
    running.demand("site-2", "clip", "nosie")
    argv = [sys.executable, "-m", "flpoc.site", str(running.prod / "site-2"), "--state", str(running.state("site-2"))]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    running.demand("site-2")
    running.start("site-2")
    running.ready()
    assert done.returncode == 4
    assert "policy.json: filters[1]: no filter 'nosie' is installed" in done.stderr
    assert "did you mean 'noise'?" in done.stderr


# -- killed, it comes out the same


@pytest.fixture(scope="module")
def undisturbed(running: Filtered, tmp_path_factory: pytest.TempPathFactory) -> str:
    job = begin(running, tmp_path_factory.mktemp("undisturbed"), filters=NOISE_THEN)
    assert running.counted("site-1", job) == ["0", "1"] if completed(running, job) else False
    return str(end(running, job)["sha256"])


def test_a_killed_gate_is_started_again_and_its_noise_is_the_same(
    running: Filtered, undisturbed: str, tmp_path: Path
) -> None:
    dying = [{"name": "noise"}, {"name": "odd", "settings": {"how": "die_once", "round": 1}}]
    job = begin(running, tmp_path, filters=dying)
    assert completed(running, job)["sha256"] == undisturbed
    assert running.counted("site-1", job) == ["0", "1", "1"]
    assert "the gate of a job was lost (SIGKILL)" in running.log("site-1")


def test_an_agent_killed_while_a_filter_works_has_it_done_by_the_next(
    running: Filtered, undisturbed: str, tmp_path: Path
) -> None:
    hanging = [{"name": "noise"}, {"name": "odd", "settings": {"how": "hang_once", "round": 1}}]
    job = begin(running, tmp_path, filters=hanging)
    gate = running.gate_at_work("site-1", job)
    other = running.gate_at_work("site-2", job)
    for site in running.sites:
        running.kill(site)
    until(lambda: not {gate, other} & set(gates(running)))
    running.start(*running.sites)
    running.ready()
    assert completed(running, job)["sha256"] == undisturbed


def sent_while_the_server_is_away(running: Filtered, folder: Path) -> str:
    """A job whose second round site-1 has answered and filtered, while there is no server; the agent is killed then."""
    slow = SCRIPT.replace("rng =", "import time; time.sleep(3 * model.current_round); rng =")
    job = begin(running, folder, slow, filters=NOISE_THEN)
    after_round_one(running, job)
    (state,) = (running.state("site-1") / "jobs").glob(f"{job}.*")
    # who is told that a round is committed may be told so before the sites are asked for the next
    until(lambda: any((state / "in").glob("1.*.safetensors")))
    running.kill("server")
    until(lambda: any((state / "outbox").glob("1.*.json")) and not any((state / "raw").iterdir()))
    running.kill("site-1")
    return job


def test_what_was_filtered_is_sent_as_it_is_and_not_filtered_again(
    running: Filtered, undisturbed: str, tmp_path: Path
) -> None:
    job = sent_while_the_server_is_away(running, tmp_path)
    running.start("server", "site-1")
    running.ready()
    assert completed(running, job)["sha256"] == undisturbed
    assert running.counted("site-1", job) == ["0", "1"]


def test_what_was_filtered_under_another_policy_does_not_leave(running: Filtered, tmp_path: Path) -> None:
    job = sent_while_the_server_is_away(running, tmp_path)
    running.demand("site-1", "clip")
    running.start("server", "site-1")
    running.ready()
    cause = Cause(**end(running, job)["cause"])
    running.demand("site-1")
    running.again("site-1")
    assert (cause.site, cause.phase, cause.round) == ("site-1", "filtering", 1)
    assert "filters were changed" in cause.message
