"""``flpoc job list | meta``: what jobs there are, and everything about one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from flpoc.cli import suggest
from flpoc.cli.command import Command
from flpoc.cli.connect import Connection, connects, job_argument
from flpoc.cli.job_table import job_table
from flpoc.cli.job_text import cause_lines, metrics_text, seconds_text
from flpoc.cli.options import Number, option
from flpoc.formatting import Report, Table


@click.command(
    "list",
    cls=Command,
    examples=("flpoc job list", "flpoc job list -n hello -r -m 5"),
    mutating=False,
    idempotent=True,
)
@option("-n", "--name", metavar="PREFIX", default="", help="Only jobs whose name begins like this.")
@option("-i", "--id", "id_prefix", metavar="PREFIX", default="", shell_complete=suggest.job_ids,
        help="Only jobs whose id begins like this.")  # fmt: skip
@option("-r", "--reverse", is_flag=True, help="The newest first.")
@option(
    "-m",
    "--max",
    "limit",
    type=Number(int, low=0, high=1_000_000),
    default=0,
    metavar="N",
    help="Only the newest N; 0: all.",
)
@option("--submit-token", metavar="TOKEN", default="", help="Only the job that you submitted with this token.")
@connects
def list_jobs(  # noqa: PLR0917 - click gives them by name
    connection: Connection, name: str, id_prefix: str, reverse: bool, limit: int, submit_token: str
) -> Report:
    """List the jobs of a study, in the order of their submission.

    Where the terminal is too narrow, ids are shown by their first characters:
    every command takes these, too.
    """
    with connection.open() as session:
        rows = session.list_jobs(name, id_prefix, limit, reverse, submit_token)
    for row in rows:
        row["waiting_for"] = str(row.get("waiting_for") or "")
        row.setdefault("duration", seconds_text(row["duration_s"]) if row["duration_s"] is not None else "N/A")
    if not rows:
        return Report(data=[], text=("No jobs.",))
    return Report(data=rows, text=job_table(rows, "DURATION"))


@click.command("meta", cls=Command, examples=("flpoc job meta ID",), mutating=False, idempotent=True)
@job_argument
@connects
def meta(connection: Connection, job_id: str) -> Report:
    """Show everything about a job."""
    with connection.open() as session:
        found = session.get_job_meta(job_id)
    rows = tuple((section, field, value) for section, field, value in meta_rows(found) if value is not None)
    text: list[str | Table] = [Table(("Section", "Field", "Value"), rows)]
    if lines := cause_lines(found):
        text += ["", "First cause:", *lines]
    return Report(data=found, text=text)


def meta_rows(found: Mapping[str, Any]) -> Iterator[tuple[str, str, str | None]]:
    """Section, field and value; a value of None is left out."""
    by = f"{found['submitter_name']} ({found['submitter_role']} @ {found['submitter_org']})"
    for field, value in (
        ("Job ID", found["job_id"]),
        ("Name", found["name"]),
        ("Study", found["study"]),
        ("Submitter", by),
    ):
        yield "Identity", field, _shown(value)
    yield "Status", "Status", found["status"]
    yield "Status", "Submitted", _zoned(found["submit_time"])
    yield "Status", "Started", _zoned(found.get("start_time"))
    yield "Status", "Finished", _zoned(found.get("finish_time"))
    duration = found.get("duration_s")
    yield "Status", "Duration", seconds_text(duration) if duration is not None else None
    yield "Status", "Waiting for", (found.get("waiting_for") or "").removeprefix("waiting for ") or None
    if found.get("rounds_total"):
        yield "Status", "Rounds", f"{found['rounds_committed']} of {found['rounds_total']}"
    yield "Status", "Metrics", metrics_text(found.get("metrics")) or None
    for one in found.get("tracking") or ():
        left = f"{one['to_write']} numbers to write" if one["to_write"] else "up to date"
        yield "Status", "Tracking", ", ".join(filter(None, (f"{one['tracker']}: {left}", one["trouble"])))
    if dropped := found.get("metrics_dropped"):
        yield "Status", "Metrics dropped", str(dropped)
    yield "Execution", "Min clients", _shown(found["min_clients"])
    yield "Execution", "Mandatory clients", ", ".join(found.get("mandatory_clients") or ()) or None
    yield "Execution", "BYOC", "yes" if found["byoc"] else "no"
    for app, sites in found["deploy_map"].items():
        yield "Execution", "Deploy map", f"{app} -> {', '.join(sites)}"
    for site, needs in found["resource_spec"].items():
        said = ", ".join(f"{key} {value:g}" for key, value in needs.items() if value is not None)
        yield "Execution", "Resource spec", f"{site}: {said or '-'}"
    for line in found["job_deploy_detail"]:
        site, _, state = line.partition(": ")
        yield "Deployment", site, state
    yield "Schedule", "Attempts", _shown(found["schedule_count"])
    yield "Schedule", "Last run", _zoned(found.get("last_schedule_time"))
    yield "Details", "Job folder", _shown(found["job_folder_name"])
    yield "Details", "Model SHA-256", found.get("sha256") or None


def _shown(value: Any) -> str:
    return "-" if value in (None, "") else str(value)


def _zoned(time: str | None) -> str | None:
    """A time for people: to the second, with its zone."""
    return None if time is None else time.partition(".")[0].removesuffix("Z").replace("T", " ") + " UTC"
