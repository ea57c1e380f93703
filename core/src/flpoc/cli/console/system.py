"""What the console says of the server and its sites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from flpoc.cli import system_end, system_look, system_sites
from flpoc.cli.connect import Connection, connects
from flpoc.cli.console.command import console_command, taken
from flpoc.cli.console.targets import site_argument
from flpoc.cli.targets import answer_table, refusals, target_arguments
from flpoc.formatting import Report, Table


@console_command("check_status", examples=("check_status server", "check_status client", "check_status client site-1"))
@target_arguments(required=False)
@connects
def check_status(connection: Connection, target: Any, names: tuple[str, ...]) -> Report:
    """Show the server with its jobs and sites, or what each site does.

    TARGET is server, client or all; names of sites may follow client.
    """
    with connection.open() as session:
        found = session.check_status(target, names)
    text: list[str | Table] = []
    if target in ("server", "all"):
        text += server_text(found)
    if target in ("client", "all"):
        text += [*([""] if text else []), client_table(found["client_status"])]
    return Report(found, text=text)


def server_text(found: Mapping[str, Any]) -> list[str | Table]:
    """The state of the server in words."""
    jobs, clients = found["jobs"], found["clients"]
    state = f"running {len(jobs)} job{'s' if len(jobs) > 1 else ''}" if jobs else "idle"
    text: list[str | Table] = [
        f"Engine status: {state}",
        f"Server {found['server_address']}, flpoc {found['version']}, since {found['server_start_time']}",
        Table(("JOB_ID", "APP NAME"), tuple((str(one["job_id"]), str(one["app_name"])) for one in jobs)),
        f"Registered clients: {len(clients)}",
        Table(
            ("CLIENT", "LAST CONNECT TIME"),
            tuple((str(one["client_name"]), str(one["client_last_conn_time"])) for one in clients),
        ),
    ]
    if found.get("disabled_clients"):
        text.append(f"Disabled: {', '.join(found['disabled_clients'])}")
    return text


def client_table(rows: Sequence[Mapping[str, Any]]) -> str | Table:
    """What each site does."""
    cells = tuple(
        (str(one["client_name"]), str(one["app_name"] or "-"), str(one["job_id"] or "-"), str(one["status"]))
        for one in rows
    )
    return Table(("CLIENT", "APP NAME", "JOB_ID", "STATUS"), cells) if cells else "No site is connected."


@console_command("sys_info", examples=("sys_info", "sys_info client site-1"))
@target_arguments(required=False)
@connects
def sys_info(connection: Connection, target: Any, names: tuple[str, ...]) -> Report:
    """Show what machines server and sites run on: system, processors, memory, disk, load.

    TARGET is server, client or all; names of sites may follow client.
    """
    with connection.open() as session:
        environment, machine = session.report_env(target, names), session.report_resources(target, names)
    refused = refusals(environment) | refusals(machine)
    of_environment = ("host", "platform", "python")
    of_machine = ("cpus", "load_1m", "memory_gib", "memory_available_gib", "disk_free_gib")
    found = {
        site: {
            **{key: environment[site].get(key) for key in of_environment},
            **{key: machine.get(site, {}).get(key) for key in of_machine},
        }
        for site in environment
        if site not in refused
    }
    warnings = [f"{name}: {why['message']}" for name, why in refused.items()]
    return Report(found, text=(answer_table(found),), warnings=warnings)


report_resources = taken(
    system_look.resources, "report_resources", examples=("report_resources", "report_resources client site-1")
)

report_env = taken(system_look.env, "report_env", examples=("report_env server",))

report_version = taken(
    system_look.version,
    "report_version",
    site_argument(),
    examples=("report_version", "report_version client site-1"),
)

shutdown = taken(system_end.shutdown, "shutdown", examples=("shutdown client site-1 -f",))

restart = taken(system_end.restart, "restart", examples=("restart client site-1 -f",))

disable_client = taken(
    system_sites.disable_client, "disable_client", examples=("disable_client site-1 -f",), kinds={"name": "site"}
)

enable_client = taken(
    system_sites.enable_client, "enable_client", examples=("enable_client site-1 -f",), kinds={"name": "site"}
)

configure_site_log = taken(
    system_sites.log_config,
    "configure_site_log",
    site_argument(),
    click.Argument(["level"]),
    examples=("configure_site_log DEBUG", "configure_site_log client site-1 reload"),
    text="""Have server and sites log more, less or in another form, until their next start.

    TARGET is server, a site's name, client NAME, or all (if nothing is given).
    LEVEL is DEBUG, INFO, WARNING, ERROR, CRITICAL, concise, msg_only, full,
    verbose, or reload: as at the start.
    """,
)
