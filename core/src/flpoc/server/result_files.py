"""The files of a results folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs

from flpoc.models.checksums import sha256_file

MODEL_NAME = "FL_global_model.safetensors"
BEST_NAME = "best_FL_global_model.safetensors"
MANIFEST_NAME = "artifact_manifest.json"
LOGGED_NAME = "site_metrics.jsonl"


@attrs.frozen
class Results:
    """What is left of a job.

    Attributes:
        model: The file of the final model; None for a job that has made none.
        best: The file of the best model; None if no model was measured.
        rounds: ``round`` and ``metrics`` of every round, in order.
        ledger: Every site in every round; gone through once.
        metrics: What is known of the final model.
        reports: JSON documents of the workflow, by file name.
        more: Further files that are in the folder already, by what they are.
    """

    model: Path | None
    best: Path | None
    rounds: tuple[dict[str, Any], ...]
    ledger: Iterable[dict[str, Any]]
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
        _put_rows(folder / "ledger.json", self.ledger)
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


def _put_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as one list, without having them all in memory; their values are no containers."""
    part = path.with_name(path.name + ".part")
    with part.open("w") as file:
        comma = "["
        for row in rows:
            # as json.dumps would indent it, which takes ten times as long
            values = ",\n".join(f"    {json.dumps(key)}: {json.dumps(value)}" for key, value in row.items())
            file.write(f"{comma}\n  {{\n{values}\n  }}")
            comma = ","
        file.write("\n]" if comma == "," else "[]")
    part.rename(path)


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.rename(path)
