"""What is kept of a job that has come to an end."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from flpoc.models.checksums import sha256_file
from flpoc.server.files import JobFiles
from flpoc.server.metrics import MetricRecords
from flpoc.server.runs import Run
from flpoc.server.store import Store

MODEL_NAME = "FL_global_model.safetensors"
MANIFEST_NAME = "artifact_manifest.json"
LOGGED_NAME = "site_metrics.jsonl"


async def keep_results(store: Store, run: Run) -> str:
    """Write the results folder of a job; gives the SHA-256 of the final model."""
    key = (run.id, run.row.run)
    rounds = await store.read(
        lambda db: db.execute(
            "SELECT round, metrics, committed FROM rounds WHERE job=? AND run=? AND round>=0 ORDER BY round", key
        ).fetchall()
    )
    ledger = await store.read(
        lambda db: db.execute(
            "SELECT round, site, status, weight, reason FROM ledger WHERE job=? AND run=? ORDER BY round, site", key
        ).fetchall()
    )
    lines = [{"round": row["round"], "metrics": json.loads(row["metrics"])} for row in rounds]
    assert run.model is not None
    run.files.results.mkdir(mode=0o700, parents=True, exist_ok=True)
    logged = await MetricRecords(store).write_file(*key, run.files.results / LOGGED_NAME)
    more = {"site_metrics": LOGGED_NAME} if logged else {}
    sites = [dict(row) for row in ledger]
    digest = await asyncio.to_thread(
        _write, run.files.results, run.model.path, lines, sites, metrics=run.row.metrics, more=more
    )
    if run.spec.keep_rounds:
        await asyncio.to_thread(_keep_rounds, run.files)
    return digest


def _keep_rounds(files: JobFiles) -> None:
    for path in (files.folder / "models").glob("*.safetensors"):
        target = files.results / f"round_{path.name.split('.')[0]}.safetensors"
        target.unlink(missing_ok=True)
        os.link(path, target)


def _write(
    folder: Path,
    model: Path,
    rounds: list[dict[str, Any]],
    ledger: list[dict[str, Any]],
    *,
    metrics: dict[str, float],
    more: dict[str, str],
) -> str:
    target = folder / MODEL_NAME
    target.unlink(missing_ok=True)
    os.link(model, target)
    digest = sha256_file(target)
    _put(folder / "metrics_summary.json", json.dumps({"metrics": metrics, "rounds": len(rounds)}, indent=2))
    _put(folder / "round_metrics.jsonl", "".join(json.dumps(line) + "\n" for line in rounds))
    _put(folder / "ledger.json", json.dumps(ledger, indent=2))
    manifest = {
        "schema_version": "1",
        "artifacts": {
            "global_model": MODEL_NAME,
            "metrics_summary": "metrics_summary.json",
            "round_metrics": "round_metrics.jsonl",
            "ledger": "ledger.json",
            **more,
        },
        "sha256": {"global_model": digest},
    }
    _put(folder / MANIFEST_NAME, json.dumps(manifest, indent=2))
    return digest


def _put(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.rename(path)
