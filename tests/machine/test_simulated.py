"""A simulation against the real thing: the same bits, the same ledger, the same words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flpoc.jobs.states import Cause
from flpoc.settings import structure
from flpoc.simulate import run

from .federation import Federation, federation, write_job

LOOP = """
    import os, signal, sys, time
    import numpy as np
    import flpoc.client as flare

    flare.init()
    while flare.is_running():
        model = flare.receive()
        site, number = flare.get_site_name(), model.current_round
        if flare.is_evaluate():
            flare.send(flare.FLModel(metrics={"norm": float(np.linalg.norm(model.params["w"]))}))
            continue
        kept = flare.state_dir() / "kept"
        drift = float(kept.read_text()) + 0.5 if kept.exists() else 0.0
        kept.write_text(str(drift))
        rng = np.random.default_rng(flare.get_seed())
        params = {"w": model.params.get("w", np.zeros(300)) + rng.normal(size=300) + drift}
        BODY
        flare.send(flare.FLModel(params=params, metrics={"number": number}, meta={"NUM_STEPS_CURRENT_ROUND": 7}))
"""
FAILURES = {
    "raises": 'if site == "site-2" and number == 1: raise ValueError("bad label")',
    "raises at once": 'if site == "site-2": no_such_name',
    "exits": 'if site == "site-2" and number == 1: sys.exit(3)',
    "ends": 'if site == "site-2" and number == 1: sys.exit()',
    "wrong type": 'if site == "site-2": flare.send({"w": 1})',
    "wrong keys": 'if site == "site-2" and number == 1: params["v"] = np.ones(1)',
    "wrong shape": 'if site == "site-2" and number == 1: params = {"w": np.ones(5)}',
    "other keys in the first round": "params[site] = np.ones(1)",
    "no number": 'params["w"][3] = np.nan',
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with federation(tmp_path_factory.mktemp("real")) as found:
        yield found


def real(running: Federation, job: Path, into: Path) -> tuple[dict[str, Any], Path]:
    with running.session() as session:
        meta = session.wait_for_job(session.submit_job(job), timeout=100)
        return meta, session.download_job_result(meta["job_id"], into).path


def digest(results: Path) -> str:
    return hashlib.sha256((results / "FL_global_model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"workflow": {"name": "cyclic", "order": "random"}},
        {"aggregator": {"name": "fedopt", "optimizer": "adam"}, "seed": 3},
        {"scripts": {"@default": {"script": "train.py", "transfer_type": "DIFF", "launch_once": False}}},
    ],
    ids=["fedavg", "cyclic", "fedopt", "a start for each task"],
)
def test_a_simulation_leaves_what_a_real_run_leaves(running: Federation, tmp_path: Path, settings: Any) -> None:
    job = write_job(tmp_path / "job", LOOP.replace("BODY", "pass"), rounds=3, **settings)
    if "scripts" in settings:  # instead of what write_job says for all
        data = json.loads((job / "job.json").read_text())
        del data["script"]
        (job / "job.json").write_text(json.dumps(data))
    meta, theirs = real(running, job, tmp_path)
    assert meta["status"] == "FINISHED:COMPLETED", meta["cause"]
    for workers in (1, 2):
        outcome = run(job, sites=running.sites, workers=workers, workspace=tmp_path / "simulated")
        assert (outcome.state, outcome.cause) == (meta["status"], None)
        assert digest(outcome.results) == digest(theirs)
        for name in ("ledger.json", "round_metrics.jsonl", "metrics_summary.json", "artifact_manifest.json"):
            assert (outcome.results / name).read_text() == (theirs / name).read_text()
        there = {path.relative_to(theirs) for path in theirs.rglob("*")} - {Path("download.json")}
        assert {path.relative_to(outcome.results) for path in outcome.results.rglob("*")} == there


@pytest.mark.parametrize("body", FAILURES.values(), ids=FAILURES)
def test_a_failure_has_the_same_words(running: Federation, tmp_path: Path, body: str) -> None:
    job = write_job(tmp_path / "job", LOOP.replace("BODY", body), rounds=3)
    with running.session() as session:
        meta = session.wait_for_job(session.submit_job(job), timeout=100)
    assert meta["cause"] is not None
    theirs = structure(meta["cause"], Cause)
    for how in ({"workers": 2}, {"workers": 1}, {"in_process": True}):
        outcome = run(job, sites=running.sites, workspace=tmp_path / "simulated", **how)
        assert outcome.state == meta["status"]
        assert outcome.cause is not None
        assert without_log(outcome.cause) == without_log(theirs), how
        if theirs.log_tail and "in_process" not in how:
            assert outcome.cause.log_tail[-1] == theirs.log_tail[-1]


def without_log(cause: Cause) -> list[str]:
    return [line for line in cause.lines() if not line.startswith("  |")]
