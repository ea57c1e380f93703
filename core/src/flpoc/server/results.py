"""What is kept of a job that has come to an end."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import attrs

from flpoc.models.checksums import sha256_file
from flpoc.server.files import JobFiles
from flpoc.server.metrics import MetricRecords
from flpoc.server.runs import Run
from flpoc.server.store import Store

MODEL_NAME = "FL_global_model.safetensors"
BEST_NAME = "best_FL_global_model.safetensors"
MANIFEST_NAME = "artifact_manifest.json"
LOGGED_NAME = "site_metrics.jsonl"


async def keep_results(store: Store, run: Run) -> str:
    """Write the results folder of a job; gives the SHA-256 of the final model."""
    key = (run.id, run.row.run)
    rounds = await store.read(
        lambda db: db.execute(
            "SELECT round, metrics, committed FROM rounds WHERE job=? AND run=? AND trained=1 ORDER BY round", key
        ).fetchall()
    )
    ledger = await store.read(
        lambda db: db.execute(
            "SELECT round, site, status, weight, reason FROM ledger WHERE job=? AND run=? ORDER BY round, site", key
        ).fetchall()
    )
    lines = [{"round": row["round"], "metrics": json.loads(row["metrics"])} for row in rounds]
    run.files.results.mkdir(mode=0o700, parents=True, exist_ok=True)
    logged = await MetricRecords(store).write_file(*key, run.files.results / LOGGED_NAME)
    results = Results(
        run.model.path if run.model is not None else None,
        run.best,
        tuple(lines),
        tuple(dict(row) for row in ledger),
        run.row.metrics,
        run.reports,
        {"site_metrics": LOGGED_NAME} if logged else {},
    )
    digest = await asyncio.to_thread(results.write, run.files.results)
    if run.spec.keep_rounds:
        await asyncio.to_thread(_keep_rounds, run.files)
    return digest


def _keep_rounds(files: JobFiles) -> None:
    for path in (files.folder / "models").glob("*.safetensors"):
        target = files.results / f"round_{path.name.split('.')[0]}.safetensors"
        target.unlink(missing_ok=True)
        os.link(path, target)


@attrs.frozen
class Results:
    """What is left of a job.

    Attributes:
        model: The file of the final model; None for a job that has made none.
        best: The file of the best model; None if no model was measured.
        rounds: ``round`` and ``metrics`` of every round, in order.
        ledger: Every site in every round.
        metrics: What is known of the final model.
        reports: JSON documents of the workflow, by file name.
        more: Further files that are in the folder already, by what they are.
    """

    model: Path | None
    best: Path | None
    rounds: tuple[dict[str, Any], ...]
    ledger: tuple[dict[str, Any], ...]
    metrics: dict[str, float]
    reports: dict[str, Any] = attrs.field(factory=dict)
    more: dict[str, str] = attrs.field(factory=dict)

    def write(self, folder: Path) -> str:
        """Write the results folder; gives the SHA-256 of the final model, empty if there is none (blocking)."""
        models = {"global_model": (self.model, MODEL_NAME), "best_global_model": (self.best, BEST_NAME)}
        digests = {what: _link(path, folder / name) for what, (path, name) in models.items() if path is not None}
        summary = {"metrics": self.metrics, "rounds": len(self.rounds)}
        _put(folder / "metrics_summary.json", json.dumps(summary, indent=2))
        _put(folder / "round_metrics.jsonl", "".join(json.dumps(line) + "\n" for line in self.rounds))
        _put(folder / "ledger.json", json.dumps(self.ledger, indent=2))
        for name, report in self.reports.items():
            _put(folder / name, json.dumps(report, indent=2))
        manifest = {
            "schema_version": "1",
            "artifacts": {
                **{what: models[what][1] for what in digests},
                "metrics_summary": "metrics_summary.json",
                "round_metrics": "round_metrics.jsonl",
                "ledger": "ledger.json",
                **{Path(name).stem: name for name in self.reports},
                **self.more,
            },
            "sha256": digests,
        }
        _put(folder / MANIFEST_NAME, json.dumps(manifest, indent=2))
        return digests.get("global_model", "")


def _link(model: Path, target: Path) -> str:
    target.unlink(missing_ok=True)
    os.link(model, target)
    return sha256_file(target)


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.rename(path)
