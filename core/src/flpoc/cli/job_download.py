"""``flpoc job download``: a job's results on this machine, and what is among them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import click

from flpoc.cli.command import Command
from flpoc.cli.connect import Connection, connects, job_argument
from flpoc.cli.options import option
from flpoc.cli.progress import Progress
from flpoc.formatting import Report

#: Where models are looked for when no manifest says; the first that is there counts.
_MODELS = ("FL_global_model", "global_model", "best_FL_global_model", "best_global_model")
_EXPECTED = ("global_model", "metrics_summary", "client_logs")


@click.command(
    "download",
    cls=Command,
    examples=("flpoc job download ID", "flpoc job download ID -o results --force"),
    mutating=True,
    idempotent=False,
)
@job_argument
@option("-o", "--output-dir", metavar="DIR", default=".", show_default=True, help="The results go to DIR/JOB_ID.")
@option("--force", is_flag=True, help="Replace DIR/JOB_ID if it is there.")
@connects
def download(connection: Connection, job_id: str, output_dir: str, force: bool) -> Report:
    """Download the results and logs of a job that has ended: all of them, or nothing."""
    with connection.open() as session, Progress(f"results of job {job_id}") as bar:

        def progress(done: int, total: int) -> None:
            bar.update(done=done, total=total)

        got = session.download_job_result(job_id, output_dir, force=force, progress=progress)
        told = session.get_job_meta(got.job_id)["job_deploy_detail"]
    found = artifacts(got.path)
    silent = [site for site in (line.partition(": ")[0] for line in told) if site not in found.get("client_logs", {})]
    missing = [key for key in _EXPECTED if not found.get(key)]
    data = {
        "job_id": got.job_id,
        "status": got.status,
        "download_path": str(got.path),
        "path": str(got.path),
        "artifact_discovery": "completed",
        "artifacts": found,
        "missing_artifacts": missing,
        "sites_without_log": silent,
        "sha256": got.sha256 or None,
        "files": [dict(one) for one in got.files],
    }
    text = [f"Downloaded job {got.job_id} ({got.status}) to {got.path}"]
    text += [f"  {key}: {value}" for key, value in found.items() if isinstance(value, str)]
    text += [f"  log of {site}: {path}" for site, path in (found.get("client_logs") or {}).items()]
    if absent := [key for key in missing if key != "client_logs"]:
        text.append(f"  not there: {', '.join(absent)}")
    if silent:
        text.append(f"  no log of {', '.join(silent)}: nothing was printed there, or it did not reach the server")
    warnings = [f"What was in the folder before is kept in {got.kept}"] if got.kept is not None else []
    return Report(data=data, text=text, warnings=warnings)


def artifacts(folder: Path) -> dict[str, Any]:
    """What the results are: absolute paths by key; by the manifest, else by names."""
    listed = _listed(folder)
    if listed is None:
        names: dict[str, str] = {
            "metrics_summary": "metrics_summary.json",
            "round_metrics": "round_metrics.jsonl",
            "ledger": "ledger.json",
            "site_metrics": "site_metrics.jsonl",
        }
        for stem in _MODELS:
            names.setdefault("global_model", next((one.name for one in sorted(folder.glob(f"{stem}.*"))), ""))
            names = {key: value for key, value in names.items() if value}
        listed = names
    found: dict[str, Any] = {key: str(folder / name) for key, name in listed.items() if _is_file(folder, name)}
    logs = {path.stem: str(path) for path in sorted((folder / "logs").glob("*.log")) if not path.is_symlink()}
    if "server" in logs:
        found["server_log"] = logs.pop("server")
    if logs:
        found["client_logs"] = logs
    return found


def _listed(folder: Path) -> dict[str, str] | None:
    """What the manifest names; None without one. It is believed even where it is wrong."""
    path = folder / "artifact_manifest.json"
    if path.is_symlink() or not path.is_file():
        return None
    with contextlib.suppress(OSError, ValueError):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(manifest, Mapping) and manifest.get("schema_version") == "1":
            named = manifest.get("artifacts")
            if isinstance(named, Mapping):
                return {str(key): str(value) for key, value in named.items()}
    return {}


def _is_file(folder: Path, name: str) -> bool:
    """Whether *name* is a file below *folder*, without links and ``..``."""
    parts = PurePosixPath(name).parts
    if not parts or PurePosixPath(name).is_absolute() or ".." in parts:
        return False
    places = [folder.joinpath(*parts[: count + 1]) for count in range(len(parts))]
    return not any(place.is_symlink() for place in places) and places[-1].is_file()
