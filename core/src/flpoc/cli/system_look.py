"""``flpoc system status | resources | env | log | version``: how the server and its sites are."""

from __future__ import annotations

from typing import Any

import click

from flpoc.cli import suggest
from flpoc.cli.command import Command
from flpoc.cli.connect import Connection, connects
from flpoc.cli.options import Number, option
from flpoc.cli.targets import answer_table, refusals, target_arguments
from flpoc.formatting import Report, Table


@click.command(
    "status",
    cls=Command,
    examples=("flpoc system status", "flpoc system status client site-1"),
    mutating=False,
    idempotent=True,
)
@target_arguments(required=False)
@connects
def status(connection: Connection, target: Any, names: tuple[str, ...]) -> Report:
    """Show the server, the jobs that run, and the connected sites of the study.

    TARGET is server, client or all; names of sites may follow client.
    """
    with connection.open() as session:
        found = session.check_status(target, names)
    text: list[str | Table] = []
    if "server_status" in found:
        text.append(f"Server {found['server_address']}: {found['server_status']} since {found['server_start_time']}")
        jobs = tuple((job["job_id"], job["app_name"], job["status"]) for job in found["jobs"])
        text += [Table(("JOB ID", "NAME", "STATUS"), jobs) if jobs else "No job runs."]
    if "clients" in found:
        rows = tuple((one["client_name"], one["org"], one["client_last_conn_time"]) for one in found["clients"])
        text += [f"Registered clients: {len(rows)}"]
        text += [Table(("CLIENT", "ORG", "LAST CONNECT TIME"), rows)] if rows else []
    if target == "client":
        doing = tuple(
            (one["client_name"], one["status"], one["job_id"] or "-", one["app_name"] or "-")
            for one in found["client_status"]
        )
        text += [Table(("CLIENT", "STATUS", "JOB ID", "NAME"), doing)] if doing else ["No site is connected."]
    if found.get("disabled_clients"):
        text.append(f"Disabled: {', '.join(found['disabled_clients'])}")
    return Report(data=found, text=text)


@click.command(
    "resources",
    cls=Command,
    examples=("flpoc system resources", "flpoc system resources client site-1"),
    mutating=False,
    idempotent=True,
)
@target_arguments(required=False)
@connects
def resources(connection: Connection, target: Any, names: tuple[str, ...]) -> Report:
    """Show what server and sites have, and what jobs have of it."""
    with connection.open() as session:
        found = session.report_resources(target, names)
    return _answers(found)


@click.command(
    "env",
    cls=Command,
    examples=("flpoc system env", "flpoc system env client site-1"),
    mutating=False,
    idempotent=True,
)
@target_arguments(required=False)
@connects
def env(connection: Connection, target: Any, names: tuple[str, ...]) -> Report:
    """Show versions, platform and plugins of server and sites."""
    with connection.open() as session:
        found = session.report_env(target, names)
    return _answers(found)


@click.command(
    "version",
    cls=Command,
    examples=("flpoc system version", "flpoc system version --site site-1"),
    mutating=False,
    idempotent=True,
)
@option("--site", metavar="NAME", default="all", show_default=True, shell_complete=suggest.server_and_sites,
        help="server, a site's name, or all.")  # fmt: skip
@connects
def version(connection: Connection, site: str) -> Report:
    """Show which flpoc runs where, and whether all is the same as here."""
    with connection.open() as session:
        found = session.report_version(site)
    rows = tuple((row["site"], row["version"] or row.get("error", "-")) for row in found["sites"])
    last = "All the same." if found["compatible"] else f"Other than here: {', '.join(found['mismatched_sites'])}"
    return Report(data=found, text=(Table(("SITE", "VERSION"), rows), f"Here: {found['admin_version']}. {last}"))


@click.command(
    "log",
    cls=Command,
    examples=("flpoc system log", "flpoc system log --site site-1 --tail 50"),
    mutating=False,
    idempotent=True,
)
@option("--site", metavar="NAME", default="server", show_default=True, shell_complete=suggest.server_and_sites,
        help="server, or a site's name.")  # fmt: skip
@option(
    "--tail", type=Number(int, low=1, high=2000), default=200, show_default=True, metavar="N", help="The last N lines."
)
@connects
def log(connection: Connection, site: str, tail: int) -> Report:
    """Show the last lines that the server, or a site's agent, has logged since it began.

    The logs of jobs are shown by `flpoc job logs`.
    """
    with connection.open() as session:
        lines = session.get_site_log(site, tail=tail)
    return Report(data={"site": site, "lines": lines}, text=("\n".join(lines) or "(no log content)",))


def _answers(found: dict[str, Any]) -> Report:
    refused = refusals(found)
    warnings = [f"{name}: {why['message']}" for name, why in refused.items()]
    told = {name: one for name, one in found.items() if name not in refused}
    return Report(data=found, text=(answer_table(told),), warnings=warnings)
