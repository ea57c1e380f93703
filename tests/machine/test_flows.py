"""What workflows and aggregators promise, with real processes, files and kills."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flpoc.models.checksums import sha256_file
from flpoc.models.tensors import TensorFile, write_tensors
from flpoc.simulate import run as simulate

from .federation import Federation, federation, kill_all, write_job

#: A model of some size, so that nothing of it rides in a message; every site pulls it to its own number.
SCRIPT = """
    import numpy as np
    import flpoc.client as flare

    flare.init()
    site = int(flare.get_site_name().removeprefix("site-"))
    while flare.is_running():
        model = flare.receive()
        value = model.params["w"] if model.params else np.zeros(60_000, np.float32)
        metrics = {"score": float(value[0]) + 100 * site}
        if flare.is_evaluate():
            flare.send(flare.FLModel(metrics=metrics))
            continue
        if flare.is_submit_model():
            flare.send(flare.FLModel(params={"w": np.full(60_000, site, np.float32)}))
            continue
        BODY
        rng = np.random.default_rng(flare.get_seed())
        changed = value + 0.1 * (site - value) + 0.01 * rng.standard_normal(60_000)
        flare.send(flare.FLModel(params={"w": changed.astype(np.float32)}, metrics=metrics))
"""


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    np.savez(folder / "start.npz", w=np.full(60_000, 7, np.float32))
    return folder


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, checkpoints: Path) -> Iterator[Federation]:
    policies = {"server": {"checkpoints": [str(checkpoints)]}}
    with federation(tmp_path_factory.mktemp("flows"), 3, policies=policies) as found:
        yield found


def run(
    running: Federation,
    folder: Path,
    *,
    body: str = "pass",
    strike: Callable[[str], None] | None = None,
    committed: int = 1,
    files: dict[str, str] | None = None,
    script: str = SCRIPT,
    **settings: Any,
) -> tuple[dict[str, Any], Path | None]:
    """Run a job, disturbing it once when so many rounds are committed; gives its final meta and its results."""
    job_folder = write_job(folder / "job", script.replace("BODY", body), **{"sites": running.sites, **settings})
    for name, text in (files or {}).items():
        (job_folder / "code" / name).write_text(textwrap.dedent(text))
    with running.session() as session:
        job = session.submit_job(job_folder)
        for meta in session.watch_job(job, timeout=90):
            if strike is not None and meta["status"] == "RUNNING" and meta["rounds_committed"] >= committed:
                strike, then = None, strike
                then(job)
        final = session.get_job_meta(job)
        if final["status"] != "FINISHED:COMPLETED":
            return final, None
        session.download_job_result(job, str(folder / "results"))
    return final, next(one.parent for one in (folder / "results").rglob("artifact_manifest.json"))


def first(results: Path | None, name: str = "FL_global_model.safetensors") -> float:
    assert results is not None
    with TensorFile.open(results / name) as model:
        return float(model["w"][0])


def report(results: Path | None) -> Any:
    assert results is not None
    return json.loads((results / "cross_site_val" / "cross_val_results.json").read_text())


def kill_controller(running: Federation) -> Callable[[str], None]:
    def strike(_: str) -> None:
        kill_all(running.job_processes("server"))

    return strike


def restart_server(running: Federation) -> Callable[[str], None]:
    def strike(_: str) -> None:
        running.kill("server")
        kill_all(running.job_processes("server"))
        running.start("server")

    return strike


FEDOPT = {"aggregator": {"name": "fedopt", "optimizer": "yogi", "lr": 0.1}, "rounds": 6}
SLOW = "import time; time.sleep(0.3)"


@pytest.mark.parametrize("how", [kill_controller, restart_server])
def test_a_server_optimiser_goes_on_with_its_moments(
    running: Federation, tmp_path: Path, how: Callable[[Federation], Callable[[str], None]]
) -> None:
    undisturbed, _ = run(running, tmp_path / "1", body=SLOW, **FEDOPT)
    assert undisturbed["status"] == "FINISHED:COMPLETED", undisturbed["cause"]
    struck: list[str] = []

    def strike(job: str) -> None:
        struck.append(job)
        how(running)(job)

    disturbed, _ = run(running, tmp_path / "2", body=SLOW, strike=strike, committed=3, **FEDOPT)
    assert disturbed["status"] == "FINISHED:COMPLETED", disturbed["cause"]
    assert struck
    assert disturbed["sha256"] == undisturbed["sha256"]


#: Judging the model of site-1 takes site-2 longer than anybody waits for it.
SLOW_AT_2 = """
        if site == 2 and model.meta.get("MODEL_OWNER") == "site-1":
            import time; time.sleep(11)
        if flare.is_evaluate():"""
CROSS = {"name": "fedavg", "key_metric": "score", "cross_site_evaluation": {}}


def test_all_sites_judge_all_models_and_the_results_have_the_table(running: Federation, tmp_path: Path) -> None:
    meta, results = run(running, tmp_path, workflow=CROSS, rounds=2)
    assert meta["status"] == "FINISHED:COMPLETED", meta["cause"]
    found = report(results)
    assert set(found) == set(running.sites)
    final, best = first(results), first(results, "best_FL_global_model.safetensors")
    assert found["site-2"] == {
        "server": {"score": pytest.approx(200 + final)},
        "server_best": {"score": pytest.approx(200 + best)},
        "site-1": {"score": 201},
        "site-2": {"score": 202},
        "site-3": {"score": 203},
    }
    assert meta["rounds_committed"] == 2
    assert [one["round"] for one in meta["rounds"]] == [0, 1]


@pytest.mark.parametrize("how", [kill_controller, restart_server])
def test_a_cross_site_evaluation_goes_on_where_it_was(
    running: Federation, tmp_path: Path, how: Callable[[Federation], Callable[[str], None]]
) -> None:
    _, undisturbed = run(running, tmp_path / "1", workflow=CROSS, rounds=2)
    meta, results = run(running, tmp_path / "2", workflow=CROSS, rounds=2, strike=how(running), committed=2)
    assert meta["status"] == "FINISHED:COMPLETED", meta["cause"]
    assert report(results) == report(undisturbed)


@pytest.mark.parametrize("settings", [FEDOPT, {"workflow": CROSS, "rounds": 2}], ids=["fedopt", "cross-site"])
def test_a_simulation_comes_to_the_same(running: Federation, tmp_path: Path, settings: dict[str, Any]) -> None:
    meta, results = run(running, tmp_path, **settings)
    outcome = simulate(tmp_path / "job", sites=running.sites, workers=2, workspace=tmp_path / "simulated")
    assert outcome.state == meta["status"] == "FINISHED:COMPLETED", (outcome.cause, meta["cause"])
    assert sha256_file(outcome.results / "FL_global_model.safetensors") == meta["sha256"]
    if "workflow" in settings:
        assert report(outcome.results) == report(results)


def test_a_site_that_is_too_late_with_its_judgement_is_left_out(running: Federation, tmp_path: Path) -> None:
    slow = SCRIPT.replace("        if flare.is_evaluate():", SLOW_AT_2, 1)
    workflow = {**CROSS, "cross_site_evaluation": {"validation_timeout": 8.0}}
    meta, results = run(running, tmp_path, workflow=workflow, rounds=1, script=slow)
    assert meta["status"] == "FINISHED:COMPLETED", meta["cause"]
    found = report(results)
    assert "site-1" in found["site-1"]
    assert "site-1" not in found["site-2"]
    assert "server" in found["site-2"]


def test_a_site_without_a_model_of_its_own_says_so_and_judges_those_of_others(
    running: Federation, tmp_path: Path
) -> None:
    poor = SCRIPT.replace(
        "if flare.is_submit_model():", "if flare.is_submit_model():\n            if site == 2: continue", 1
    )
    # far longer than anybody waits here
    workflow = {"name": "cross_site_evaluation", "submit_model_timeout": 3600.0}
    meta, results = run(running, tmp_path, workflow=workflow, rounds=1, script=poor)
    assert meta["status"] == "FINISHED:COMPLETED", meta["cause"]
    assert report(results)["site-2"] == {f"site-{number}": {"score": 200 + number} for number in (1, 3)}
    outcome = simulate(tmp_path / "job", sites=running.sites, workers=2, workspace=tmp_path / "simulated")
    assert report(outcome.results) == report(results)


def test_sites_can_be_compared_without_a_model_of_the_server(running: Federation, tmp_path: Path) -> None:
    meta, results = run(running, tmp_path, workflow="cross_site_evaluation", rounds=1)
    assert meta["status"] == "FINISHED:COMPLETED", meta["cause"]
    assert report(results)["site-3"] == {f"site-{number}": {"score": 300 + number} for number in (1, 2, 3)}
    assert results is not None
    assert not (results / "FL_global_model.safetensors").exists()


def test_a_job_starts_from_a_checkpoint_that_the_servers_policy_grants(
    running: Federation, tmp_path: Path, checkpoints: Path
) -> None:
    workflow = {"name": "cross_site_evaluation", "site_models": False}
    granted = {**workflow, "initial_checkpoint": str(checkpoints / "start.npz")}
    meta, results = run(running, tmp_path / "granted", workflow=granted, rounds=1)
    assert meta["status"] == "FINISHED:COMPLETED", meta["cause"]
    assert report(results)["site-1"] == {"server": {"score": 107}}
    write_tensors(tmp_path / "other.safetensors", {"w": np.zeros(1)})
    other = {**workflow, "initial_checkpoint": str(tmp_path / "other.safetensors")}
    meta, _ = run(running, tmp_path / "other", workflow=other, rounds=1)
    assert meta["status"] == "FINISHED:FAILED"
    assert "is below no folder that the server grants to jobs" in meta["cause"]["message"]
    assert str(checkpoints) in meta["cause"]["hint"]


def test_training_ends_early_and_only_the_sample_is_asked(running: Federation, tmp_path: Path) -> None:
    workflow = {"name": "fedavg", "key_metric": "score", "stop_cond": "score >= 0", "clients_per_round": 2}
    meta, results = run(running, tmp_path, workflow=workflow, rounds=9)
    assert meta["status"] == "FINISHED:COMPLETED", meta["cause"]
    assert meta["rounds_committed"] == 2  # there is a model to measure from the second round on
    assert results is not None
    ledger = json.loads((results / "ledger.json").read_text())
    asked = {number: [row["site"] for row in ledger if row["round"] == number] for number in (0, 1, 2)}
    assert (len(asked[0]), len(asked[1]), len(asked[2])) == (2, 2, 3)


OWN = """
    from flpoc.aggregating import ModelAggregator
    from flpoc.models.flmodel import FLModel
    from flpoc.workflows.persisting import ModelPersistor


    class Smallest(ModelAggregator):
        def __init__(self, factor):
            self.factor = factor

        def reset_stats(self):
            self.models = []

        def accept_model(self, model):
            self.models.append(model)

        def aggregate_model(self):
            smallest = min(self.models, key=lambda model: model.params["w"][0])
            return FLModel(params={"w": smallest.params["w"] * self.factor})


    class Start(ModelPersistor):
        def load_model(self):
            import numpy as np

            return FLModel(params={"w": np.full(60_000, 5, np.float32)})

        def save_model(self, model):
            print("saved", model.current_round, float(model.params["w"][0]), flush=True)


    class Broken(Smallest):
        def accept_model(self, model):
            raise ZeroDivisionError("own mistake")
"""


def test_a_job_brings_its_own_aggregator_and_persistor(running: Federation, tmp_path: Path) -> None:
    settings = {
        "aggregator": "code",
        "aggregator_settings": {"file": "own.py", "name": "Smallest", "args": {"factor": 0.0}},
        "workflow": {"name": "fedavg", "persistor": {"file": "own.py", "name": "Start"}},
    }
    meta, results = run(running, tmp_path, files={"own.py": OWN}, rounds=2, **settings)
    assert meta["status"] == "FINISHED:COMPLETED", meta["cause"]
    assert first(results) == 0
    assert results is not None
    [log] = results.rglob("server.log")
    assert [line for line in log.read_text().splitlines() if line.startswith("saved")] == ["saved 0 0.0", "saved 1 0.0"]


def test_the_first_cause_names_the_line_of_the_jobs_own_aggregator(running: Federation, tmp_path: Path) -> None:
    settings = {"file": "own.py", "name": "Broken", "args": {"factor": 1}}
    meta, _ = run(running, tmp_path, files={"own.py": OWN}, aggregator="code", aggregator_settings=settings)
    cause = meta["cause"]
    assert (cause["site"], cause["exception"], cause["message"]) == ("server", "ZeroDivisionError", "own mistake")
    assert (cause["file"], cause["line"]) == (
        "own.py",
        1 + textwrap.dedent(OWN).splitlines().index('        raise ZeroDivisionError("own mistake")'),
    )
