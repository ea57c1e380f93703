"""``flpoc job clone | stats | log-config``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from flpoc.cli import suggest
from flpoc.cli.command import Command
from flpoc.cli.connect import Connection, connects, job_argument
from flpoc.cli.options import option
from flpoc.cli.targets import answer_table, refusals
from flpoc.errors import FlpocError
from flpoc.formatting import Report, Table
from flpoc.log_modes import check_mode


@click.command("clone", cls=Command, examples=("flpoc job clone ID",), mutating=True, idempotent=False)
@job_argument
@connects
def clone(connection: Connection, job_id: str) -> Report:
    """Submit a copy of a job, signed by you; it is scheduled at once."""
    with connection.open() as session:
        done = session.clone_job(job_id)
    return Report(data=done, text=(f"Submitted job: {done['new_job_id']} (a copy of {done['source_job_id']})",))


@click.command(
    "stats",
    cls=Command,
    examples=("flpoc job stats ID", "flpoc job stats ID --site site-1"),
    mutating=False,
    idempotent=True,
)
@job_argument
@option("--site", metavar="NAME", default="all", show_default=True, shell_complete=suggest.server_and_sites,
        help="server, a site's name, or all.")  # fmt: skip
@connects
def stats(connection: Connection, job_id: str, site: str) -> Report:
    """Show where a running job is: rounds, what each site does, the newest numbers."""
    with connection.open() as session:
        found = session.show_stats(job_id, site)
    return Report(data=found, text=(f"Job {found['job_id']}: {found['status']}", _table(found["stats"])))


def _table(stats: Mapping[str, Any]) -> Table:
    return answer_table({site: {group: one for group, one in groups.items() if one} for site, groups in stats.items()})


@click.command(
    "log-config",
    cls=Command,
    aliases=("log",),
    examples=("flpoc job log-config ID DEBUG", "flpoc job log-config ID full --site site-1"),
    mutating=True,
    idempotent=True,
)
@job_argument
@click.argument("level", required=False, default="", shell_complete=suggest.log_levels)
@option("--site", metavar="NAME", default="all", show_default=True, shell_complete=suggest.server_and_sites,
        help="server, a site's name, or all.")  # fmt: skip
@connects
def log_config(connection: Connection, job_id: str, level: str, site: str) -> Report:
    """Have a running job's processes log more, less or in another form, until the job ends.

    LEVEL is DEBUG, INFO, WARNING, ERROR, CRITICAL, concise, msg_only, full,
    verbose, or reload: as at the start. It is for what scripts write with
    Python's logging; what they print stays as it is.
    """
    mode = check_mode(level)
    with connection.open() as session:
        found = session.configure_job_log(job_id, mode, site)
    refused = refusals(found.pop("answers"))
    done = [name for name in found["sites"] if name not in refused]
    if not done:
        first = next(iter(refused.values()))
        raise FlpocError(str(first["message"]), code=str(first["code"]), hint=str(first.get("hint") or ""))
    data = {**found, "sites": done, "status": "applied", "refused": refused}
    warnings = [f"{name}: {one['message']}" for name, one in refused.items()]
    return Report(data=data, text=(f"{', '.join(done)}: {mode}",), warnings=warnings)
