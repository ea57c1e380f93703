"""One model goes from site to site, and arrives with the same bits whatever is killed on its way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catalogue.attack import becomes

from flpoc.models.tensors import TensorFile

from .federation import Federation, federation, kill_all, write_job

ROUNDS = 4

#: Each site appends its number to a list of digits: the model tells who was there, in which order.
SCRIPT = """
    import os, signal, time
    import numpy as np
    import flpoc.client as flare

    flare.init()
    site = int(flare.get_site_name().removeprefix("site-"))
    while flare.is_running():
        model = flare.receive()
        if model.params:
            value = model.params["digits"]
        else:
            value = np.zeros(1)
        number = model.current_round
        changed = {"digits": value * 10 + site}
        BODY
        flare.send(flare.FLModel(params=changed, metrics={"site": site}))
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with federation(tmp_path_factory.mktemp("cyclic"), sites=3) as found:
        yield found


def nothing(_: str) -> None:
    return None


def run(
    running: Federation,
    folder: Path,
    body: str = "pass",
    *,
    strike: Callable[[str], None] = nothing,
    committed: int = 1,
    **settings: Any,
) -> tuple[dict[str, Any], Path]:
    """Run a job, disturbing it once when so many rounds are committed; gives its final meta and its results."""
    given = {"workflow": "cyclic", "rounds": ROUNDS, "sites": running.sites, **settings}
    job_folder = write_job(folder / "job", SCRIPT.replace("BODY", body), **given)
    disturbed = False
    with running.session() as session:
        job = session.submit_job(job_folder)
        for meta in session.watch_job(job, timeout=90):
            if not disturbed and meta["status"] == "RUNNING" and meta["rounds_committed"] == committed:
                disturbed = True
                strike(job)
        final = session.get_job_meta(job)
        found = folder / "results"
        session.download_job_result(job, str(found))
    return final, next(one.parent for one in found.rglob("artifact_manifest.json"))


def digits(results: Path, name: str = "FL_global_model.safetensors") -> str:
    with TensorFile.open(results / name) as model:
        return str(int(np.asarray(model["digits"])[0]))


def test_every_round_the_model_visits_each_site_once_in_the_order_of_their_names(
    running: Federation, tmp_path: Path
) -> None:
    meta, results = run(running, tmp_path, keep_rounds=True)
    assert meta["status"] == "FINISHED:COMPLETED", meta["cause"]
    assert digits(results) == "123" * ROUNDS
    assert [digits(results, f"round_{number}.safetensors") for number in range(2)] == ["123", "123123"]
    assert len(list(results.glob("round_*.safetensors"))) == ROUNDS
    assert [one["metrics"] for one in meta["rounds"]] == [{"site": 2.0}] * ROUNDS


def test_a_random_order_is_another_one_each_round_and_the_same_again(running: Federation, tmp_path: Path) -> None:
    order = {"name": "cyclic", "order": "random"}
    first, results = run(running, tmp_path / "1", workflow=order, rounds=5)
    again, _ = run(running, tmp_path / "2", workflow=order, rounds=5)
    other, _ = run(running, tmp_path / "3", workflow=order, rounds=5, seed=1)
    passes = [digits(results)[start : start + 3] for start in range(0, 15, 3)]
    assert all(sorted(one) == ["1", "2", "3"] for one in passes)
    assert len(set(passes)) > 1
    assert first["sha256"] == again["sha256"] != other["sha256"]


def test_changes_are_added_to_the_model_that_the_site_received(running: Federation, tmp_path: Path) -> None:
    body = """
        kind = "DIFF" if model.params else "FULL"
        flare.send(flare.FLModel(params={"digits": changed["digits"] - value}, params_type=kind))
        continue
    """
    meta, results = run(running, tmp_path, body)
    assert meta["status"] == "FINISHED:COMPLETED", meta["cause"]
    assert digits(results) == "123" * ROUNDS


@pytest.mark.parametrize("committed", [0, 1])
def test_changes_survive_a_server_that_is_killed(running: Federation, tmp_path: Path, committed: int) -> None:
    """Also in a first round, where a new server does not know yet what they are changes of."""

    def strike(_: str) -> None:
        running.kill("server")
        running.start("server")

    body = """
        time.sleep(0.4)
        kind = "DIFF" if model.params else "FULL"
        flare.send(flare.FLModel(params={"digits": changed["digits"] - value}, params_type=kind))
        continue
    """
    meta, results = run(running, tmp_path, body, strike=strike, committed=committed, rounds=2)
    assert meta["status"] == "FINISHED:COMPLETED", meta["cause"]
    assert digits(results) == "123" * 2


def test_an_initial_model_goes_to_the_first_site(running: Federation, tmp_path: Path) -> None:
    from flpoc.models.tensors import write_tensors

    folder = tmp_path / "job"
    (folder / "code").mkdir(parents=True)
    write_tensors(folder / "code" / "start.safetensors", {"digits": np.full(1, 9.0)})
    (tmp_path / "from").mkdir()
    job = write_job(
        tmp_path / "from" / "job", SCRIPT.replace("BODY", "pass"), workflow="cyclic", rounds=1, sites=running.sites,
        initial_model="start.safetensors",
    )  # fmt: skip
    (folder / "code" / "start.safetensors").rename(job / "code" / "start.safetensors")
    with running.session() as session:
        meta = session.wait_for_job(session.submit_job(job), timeout=60)
        session.download_job_result(meta["job_id"], str(tmp_path / "results"))
    assert digits(next((tmp_path / "results").rglob("FL_global_model.safetensors")).parent) == "9123"


SLOW = "time.sleep(0.15)"


@pytest.mark.parametrize("victim", ["controller", "server", "agent", "trainer", "everything"])
def test_the_model_is_the_same_whatever_is_killed_on_its_way(running: Federation, tmp_path: Path, victim: str) -> None:
    def strike(job: str) -> None:
        jobs = {name: running.job_processes(name, job) for name in ("server", *running.sites)}
        services = {"server": ["server"], "agent": ["site-2"], "everything": ["server", *running.sites]}.get(victim, [])
        for name in services:
            running.kill(name)
        everybody = [pid for found in jobs.values() for pid in found]
        doomed = {"controller": jobs["server"], "trainer": jobs["site-2"], "everything": everybody}
        kill_all(doomed.get(victim, []))
        if services:
            running.start(*services)

    meta, results = run(running, tmp_path, SLOW, strike=strike)
    assert meta["status"] == "FINISHED:COMPLETED", meta["cause"]
    assert digits(results) == "123" * ROUNDS


def test_no_model_of_a_visit_is_left_beside_those_of_rounds(running: Federation, tmp_path: Path) -> None:
    """Also where the server forgets what was handed over."""

    def strike(_: str) -> None:
        running.kill("server")
        running.start("server")

    meta, results = run(running, tmp_path, SLOW, strike=strike, keep_rounds=True)
    assert meta["status"] == "FINISHED:COMPLETED", meta["cause"]
    found = [digits(results, f"round_{number}.safetensors") for number in range(ROUNDS)]
    assert found == ["123" * (number + 1) for number in range(ROUNDS)]


def test_the_model_of_a_visit_that_did_not_end_is_not_kept_as_that_of_a_round(
    running: Federation, tmp_path: Path
) -> None:
    def strike(job: str) -> None:
        with running.session() as session:
            assert becomes(lambda: "site-2" in session.get_job_meta(job)["waiting_for"])
            session.abort_job(job)

    body = "time.sleep(600 if site == 2 and number == 1 else 0)"
    meta, results = run(running, tmp_path, body, strike=strike, keep_rounds=True)
    assert meta["status"] == "FINISHED:ABORTED"
    assert [one.name for one in results.glob("round_*.safetensors")] == ["round_0.safetensors"]
    assert digits(results) == digits(results, "round_0.safetensors") == "123"


@pytest.mark.parametrize("place", [1, 2, 3])
def test_a_quorum_lets_the_model_pass_a_site_that_fails(running: Federation, tmp_path: Path, place: int) -> None:
    body = f'if number == 1 and site == {place}: raise ValueError("no such column")'
    meta, results = run(running, tmp_path, body, quorum=2)
    assert meta["status"] == "FINISHED:COMPLETED", meta["cause"]
    rest = "123".replace(str(place), "")
    assert digits(results) == "123" + rest * (ROUNDS - 1)


def test_without_a_quorum_a_site_that_fails_fails_the_job(running: Federation, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    write_job(
        folder, SCRIPT.replace("BODY", "if site == 2: raise ValueError('no such column')"), workflow="cyclic",
        sites=running.sites,
    )  # fmt: skip
    with running.session() as session:
        meta = session.wait_for_job(session.submit_job(folder), timeout=60)
    assert meta["status"] == "FINISHED:FAILED"
    assert (meta["cause"]["site"], meta["cause"]["message"]) == ("site-2", "no such column")


def test_a_deadline_is_that_of_the_whole_round(running: Federation, tmp_path: Path) -> None:
    body = "time.sleep(0 if number == 0 else 1.2)"
    timeouts = {"round_deadline": 2.0}
    meta, results = run(running, tmp_path, body, rounds=2, quorum=1, timeouts=timeouts)
    assert meta["status"] == "FINISHED:COMPLETED", meta["cause"]
    assert digits(results) == "1231"  # the second site was late, and the third had no time at all


def test_other_tensors_than_those_received_are_refused(running: Federation, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    body = 'changed = {"digits": value * 10 + site} if site != 2 else {"other": value}'
    write_job(folder, SCRIPT.replace("BODY", body), workflow="cyclic", sites=running.sites)
    with running.session() as session:
        meta = session.wait_for_job(session.submit_job(folder), timeout=60)
    assert meta["status"] == "FINISHED:FAILED"
    assert meta["cause"]["site"] == "site-2"
    assert "not the tensors of the model that was sent" in meta["cause"]["message"]
