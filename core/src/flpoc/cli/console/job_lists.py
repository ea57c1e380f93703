"""What the console says of jobs in its own way: lists, files, failures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from flpoc.cli.connect import Connection, connects, job_argument
from flpoc.cli.console.command import console_command
from flpoc.cli.console.targets import site_argument
from flpoc.cli.job_table import job_table
from flpoc.cli.options import Number, option
from flpoc.errors import JobError
from flpoc.formatting import Report, Table

_DURATION: Final = "RUN DURATION"


@console_command(
    "list_jobs", examples=("list_jobs", "list_jobs -n hello -r -m 5", "list_jobs -u -d"), kinds={"id_prefix": "job"}
)
@click.argument("id_prefix", metavar="[ID]", required=False, default="")
@option("-d", "--detailed", is_flag=True, help="Show who submitted each, too.")
@option("-u", "--mine", is_flag=True, help="Only your own jobs.")
@option("-r", "--reverse", is_flag=True, help="The newest first.")
@option("-n", "--name", metavar="PREFIX", default="", help="Only jobs whose name begins like this.")
@option("-m", "--max", "limit", type=Number(int, low=0, high=1_000_000), default=0, help="Only the newest N; 0: all.")
@option("--submit-token", metavar="TOKEN", default="", help="Only the job that you submitted with this token.")
@connects
def list_jobs(  # noqa: PLR0917 - click gives them by name
    connection: Connection,
    id_prefix: str,
    detailed: bool,
    mine: bool,
    reverse: bool,
    name: str,
    limit: int,
    submit_token: str,
) -> Report:
    """List the jobs of the study, in the order of their submission; those whose id begins with ID, if it is given.

    Where the terminal is too narrow, ids are shown by their first characters:
    every command takes these, too.
    """
    with connection.open() as session:
        rows = session.list_jobs(name, id_prefix, 0 if mine else limit, reverse, submit_token)
        user = session.kit.settings.name
    if mine:
        rows = newest([row for row in rows if row.get("submitter_name") == user], limit, reverse=reverse)
    return Report(rows, text=job_table(rows, _DURATION, detailed=detailed) if rows else ("No jobs.",))


@console_command("list_job", examples=("list_job ID",))
@job_argument
@connects
def list_job(connection: Connection, job_id: str) -> Report:
    """Show the line of one job in the list; all about it is shown by get_job_meta."""
    with connection.open() as session:
        rows = session.list_jobs(id_prefix=job_id)
    exact = [row for row in rows if row["job_id"] == job_id] or rows
    if not exact:
        raise JobError(
            f"no job {job_id} in study {connection.study!r}",
            code="JOB_NOT_FOUND",
            hint="list_jobs shows those there are",
        )
    if len(exact) > 1:
        names = ", ".join(str(row["job_id"]) for row in exact[:8])
        raise JobError(f"{job_id!r} is the beginning of {len(exact)} job ids: {names}", code="JOB_AMBIGUOUS")
    return Report(exact, text=job_table(exact, _DURATION, detailed=True))


def newest(rows: list[dict[str, Any]], limit: int, *, reverse: bool) -> list[dict[str, Any]]:
    """The newest *limit* of them, all for 0."""
    if not limit:
        return rows
    return rows[:limit] if reverse else rows[-limit:]


@console_command(
    "download_job_components",
    examples=("download_job_components ID", "download_job_components ID ledger.json -o some"),
    mutating=True,
    idempotent=False,
    kinds={"job_id": "ended job", "output_dir": "file"},
)
@job_argument
@click.argument("names", metavar="[FILE]...", nargs=-1)
@option("-o", "--output-dir", metavar="DEST", default=".", show_default=True, help="They go to DEST/JOB_ID.")
@connects
def download_job_components(connection: Connection, job_id: str, names: tuple[str, ...], output_dir: str) -> Report:
    """Download these FILEs of a job's results and logs; without any, list those there are."""
    with connection.open() as session:
        if not names:
            files = session.list_job_components(job_id)
            rows = tuple((str(one["path"]), f"{one['size']:,}", str(one["sha256"])[:16]) for one in files)
            return Report(files, text=(Table(("FILE", "BYTES", "SHA-256"), rows),))
        got = session.download_job_components(job_id, names, Path(output_dir))
    text = [f"Downloaded of job {got.job_id} to {got.path}:", *(f"  {one['path']}" for one in got.files)]
    return Report({"job_id": got.job_id, "path": str(got.path), "files": list(got.files)}, text=text)


@console_command("show_errors", examples=("show_errors ID", "show_errors ID client site-1"), verbatim=True)
@job_argument
@connects
def show_errors(connection: Connection, job_id: str, site: str) -> Report:
    """Show why a job failed, and why sites take no part in it any more.

    TARGET is server, a site's name, client NAME, or all (if nothing is given).
    """
    from flpoc.cli.job_text import cause_lines

    with connection.open() as session:
        found = session.show_errors(job_id, site)
    text = [f"Job {found['job_id']}: {found['status']}"]
    for name, causes in found["errors"].items():
        for one in causes:
            text += cause_lines({"cause": one}) if "phase" in one else [f"{name}: {one['message']}"]
    return Report(found, text=text if len(text) > 1 else (*text, "No errors."))


show_errors.params.append(site_argument())
