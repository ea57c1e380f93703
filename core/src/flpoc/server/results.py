"""What is kept of a job that has come to an end."""

from __future__ import annotations

import asyncio
import json
import os

from flpoc.server.files import JobFiles, round_of
from flpoc.server.metrics import MetricRecords
from flpoc.server.result_files import LOGGED_NAME, Results
from flpoc.server.runs import Run
from flpoc.server.store import Store


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
        run.lineage.model.path if run.lineage.model is not None else None,
        run.lineage.best,
        tuple(lines),
        tuple(dict(row) for row in ledger),
        run.row.metrics,
        run.reports,
        {"site_metrics": LOGGED_NAME} if logged else {},
    )
    digest = await asyncio.to_thread(results.write, run.files.results)
    if run.spec.keep_rounds:
        await asyncio.to_thread(_keep_rounds, run.files, run.lineage.committed)
    return digest


def _keep_rounds(files: JobFiles, committed: int) -> None:
    for path in (files.folder / "models").glob("*.safetensors"):
        if (number := round_of(path)) > committed:
            continue  # what a task was about that did not come to its end
        target = files.results / f"round_{number}.safetensors"
        target.unlink(missing_ok=True)
        os.link(path, target)
