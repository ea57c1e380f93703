"""Jobs as users see them."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flpoc.errors import JobError, UsageError
from flpoc.jobs.names import JOB_ID, SITE_NAME
from flpoc.server.files import JobFiles
from flpoc.server.logs import READ_LIMIT, LogKeeper
from flpoc.server.store import JobRow, Store, manifest_of
from flpoc.wire.asks_for_files import ReadLogs

if TYPE_CHECKING:
    from flpoc.server.service import Server

DEFAULT_TAIL = 500


def iso(seconds: float | None) -> str | None:
    """ISO 8601 in UTC, with milliseconds."""
    if seconds is None:
        return None
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


async def find_job(store: Store, job: str, study: str) -> JobRow:
    """A job by its id or a beginning of it.

    Raises:
        JobError: None or several begin like that; one of another study is not found.
    """
    if not JOB_ID.match(job):
        raise UsageError(f"{job[:80]!r} is not a job id")
    prefix = job + "*"
    found = await store.jobs("study = ? AND id GLOB ?", study, prefix)
    exact = [row for row in found if row.id == job]
    if exact or len(found) == 1:
        return (exact or found)[0]
    if found:
        names = ", ".join(row.id for row in found[:8])
        raise JobError(f"{job!r} is the beginning of {len(found)} job ids: {names}", code="JOB_AMBIGUOUS")
    hint = "`flpoc job list` shows the jobs; --study chooses another study"
    raise JobError(f"no job {job} in study {study!r}", code="JOB_NOT_FOUND", hint=hint)


def duration(row: JobRow) -> float | None:
    """Seconds that a job has run; None if it never started."""
    if row.started is None:
        return None
    return round((row.finished or time.time()) - row.started, 3)


def list_row(row: JobRow, server: Server) -> dict[str, Any]:
    """One line of ``job list``."""
    return {
        "job_id": row.id,
        "job_name": row.name,
        "status": row.state,
        "submit_time": iso(row.submitted),
        "duration_s": duration(row),
        "study": row.study,
        "submitter_name": row.submitter,
        "waiting_for": waiting_for(row, server),
    }


def waiting_for(row: JobRow, server: Server) -> str:
    """Whom or what a job waits for now; empty when for nothing."""
    run = server.runs.get(row.id)
    return run.waiting_for() if run is not None else server.queue.reason(row.id)


async def about(row: JobRow, server: Server, rounds_from: int = 0) -> dict[str, Any]:
    """Everything about a job; of its rounds those from *rounds_from* on."""
    spec = manifest_of(row).spec
    run = server.runs.get(row.id)
    rounds = await round_rows(server.store, row, rounds_from)
    return {
        "job_id": row.id,
        "name": row.name,
        "study": row.study,
        "status": row.state,
        "submitter_name": row.submitter,
        "submitter_org": row.org,
        "submitter_role": row.role,
        "submit_time": iso(row.submitted),
        "start_time": iso(row.started),
        "finish_time": iso(row.finished),
        "duration_s": duration(row),
        "min_clients": spec.least,
        "mandatory_clients": list(spec.mandatory_sites),
        "byoc": True,
        "deploy_map": {"job": ["server", *(row.chosen or spec.sites or ("@ALL",))]},
        "resource_spec": {
            site: {"num_of_cpus": s.cpus, "num_of_gpus": s.gpus, "memory_gib": s.memory_gib}
            for site, s in spec.scripts.items()
        },
        "job_deploy_detail": [f"{site}: {'joined' if site in row.joined else 'told'}" for site in row.chosen],
        "schedule_count": row.schedules,
        "last_schedule_time": iso(row.scheduled),
        "job_folder_name": row.folder,
        "job_clients": list(row.joined),
        "cloned_from": row.cloned or None,
        "run": row.run,
        "rounds_total": spec.rounds,
        "rounds_committed": rounds_from + len(rounds),
        "current_round": run.round_now if run is not None else None,
        "rounds": rounds,
        "metrics": row.metrics,
        "waiting_for": waiting_for(row, server),
        "tracking": await server.metrics.describe(row.id, row.run) if spec.tracking else [],
        "metrics_dropped": await server.metrics.dropped(row.id, row.run),
        "partial_allowed": spec.quorum is not None,
        "sha256": row.sha256,
        "failures": dict(run.failures) if run is not None else {},
        "cause": row.cause,
    }


async def round_rows(store: Store, row: JobRow, first: int = 0) -> list[dict[str, Any]]:
    """The committed rounds of a job's last run from *first* on, with their metrics."""
    import json

    query = (
        "SELECT round, metrics, committed FROM rounds WHERE job=? AND run=? AND round>=? AND trained=1 ORDER BY round"
    )
    found = await store.read(lambda db: db.execute(query, (row.id, row.run, first)).fetchall())
    return [
        {"round": one["round"], "metrics": json.loads(one["metrics"]), "time": iso(one["committed"])} for one in found
    ]


# -- logs


def log_answer(row: JobRow, ask: ReadLogs, keeper: LogKeeper) -> dict[str, Any]:
    """Lines of logs, cut as asked: since, then tail, then bytes from the beginning (blocking)."""
    _check(ask)
    names = keeper.sites(row.id) if ask.site == "all" else [ask.site]
    if ask.site == "all":
        names = sorted({*names, "server", *row.chosen}, key=lambda name: (name != "server", name))
    default = ask.tail is None and not ask.since and ask.max_bytes is None
    sites: dict[str, Any] = {}
    logs: dict[str, str] = {}
    since = parse_time(ask.since) if ask.since else None
    applied = False
    for name in names:
        text = keeper.read(row.id, name, READ_LIMIT // len(names))
        if text is None:
            reason = "it has printed nothing so far, or nothing that has reached the server"
            sites[name] = {"available": False, "reason": reason}
            continue
        kept, used = cut(text, since, DEFAULT_TAIL if default else ask.tail, ask.max_bytes)
        applied = applied or used
        logs[name] = kept
        lines = kept.count("\n") + (not kept.endswith("\n") and bool(kept))
        sites[name] = {"available": True, "lines": lines, "bytes": len(kept.encode()), "logs_truncated": kept != text}
    if ask.site != "all" and not logs:
        hint = "--site all shows what there is"
        raise JobError(f"no log of {ask.site} for job {row.id}", code="LOG_NOT_FOUND", hint=hint)
    return {
        "job_id": row.id,
        "target": ask.site,
        "logs": logs,
        "logs_truncated": any(site.get("logs_truncated", False) for site in sites.values()),
        "sites": sites,
        "filters": {
            "tail": ask.tail,
            "since": ask.since or None,
            "since_applied": applied,
            "max_bytes": ask.max_bytes,
            "default_tail_applied": default,
        },
    }


def _check(ask: ReadLogs) -> None:
    if not SITE_NAME.match(ask.site):
        raise UsageError(f"{ask.site[:80]!r} is not the name of a site", hint="--site all shows what there is")
    for name, value in (("tail", ask.tail), ("max-bytes", ask.max_bytes)):
        if value is not None and value < 0:
            raise UsageError(f"--{name} must be 0 or more")


def cut(text: str, since: float | None, tail: int | None, max_bytes: int | None) -> tuple[str, bool]:
    """Apply the bounds in their order; says whether any line had a time to compare."""
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    if not lines[-1]:
        lines.pop()
    applied = False
    if since is not None:
        times = list(_times(lines))
        applied = any(time is not None for time in times)
        if applied:
            lines = [line for line, at in zip(lines, times, strict=True) if at is not None and at >= since]
    if tail is not None:
        lines = lines[len(lines) - min(tail, len(lines)) :]
    kept = "".join(lines)
    if max_bytes is not None:
        kept = kept.encode()[:max_bytes].decode(errors="ignore")
    return kept, applied


_TIME = re.compile(r"\s*(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?)")


def _times(lines: list[str]) -> Iterator[float | None]:
    """The time of each line; one without follows the line before."""
    last: float | None = None
    for line in lines:
        if found := _TIME.match(line):
            # a script may print what only looks like a time
            with contextlib.suppress(UsageError):
                last = parse_time(found.group(1))
        yield last


def parse_time(text: str) -> float:
    """Seconds since 1970 of an ISO time; without a zone it is UTC."""
    try:
        moment = datetime.datetime.fromisoformat(text.strip().replace(",", ".").replace("Z", "+00:00"))
    except ValueError:
        raise UsageError(f"{text[:80]!r} is not an ISO 8601 time", hint="for example 2026-01-31T12:00:00Z") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()


# -- results


def result_files(files: JobFiles) -> list[dict[str, Any]]:
    """All files of a job's results and logs, with their sizes and SHA-256 (blocking)."""
    return [{"path": name, **_size_and_sha256(path)} for name, path in _results(files).items()]


def _results(files: JobFiles) -> dict[str, Path]:
    """Results by name: those of the workflow may be in folders of their own."""
    results = sorted(files.results.rglob("*"))
    found = {path.relative_to(files.results).as_posix(): path for path in results if path.suffix != ".part"}
    logs = sorted((files.folder / "logs").glob("*.log"))
    found.update((f"logs/{path.name}", path) for path in logs)
    return {name: path for name, path in found.items() if _is_result(path)}


def _is_result(path: Path) -> bool:
    return not path.name.startswith(".") and not path.is_symlink() and path.is_file()


def result_file(files: JobFiles, name: str) -> Path:
    """One of :func:`result_files` by its name; anything else does not exist."""
    path = _results(files).get(name)
    if path is None:
        raise JobError(f"no result {name[:100]!r}", code="JOB_NOT_FOUND")
    return path


def _size_and_sha256(path: Path) -> dict[str, Any]:
    """Of what is there now: a log may grow meanwhile."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size = left = os.fstat(file.fileno()).st_size
        while left and (chunk := file.read(min(left, 1 << 20))):
            digest.update(chunk)
            left -= len(chunk)
    return {"size": size - left, "sha256": digest.hexdigest()}
