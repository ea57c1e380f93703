"""``flpoc system``: the server and its sites, for operators."""

from __future__ import annotations

import click

from flpoc.cli.command import Group

_TABLE = (
    ("disable-client", "flpoc.cli.system_sites:disable_client", "Keep a site out until it is enabled again."),
    ("enable-client", "flpoc.cli.system_sites:enable_client", "Let a site in again."),
    ("env", "flpoc.cli.system_look:env", "Show versions, platform and plugins of server and sites."),
    ("log", "flpoc.cli.system_look:log", "Show the last lines of the log of the server or a site."),
    ("log-config", "flpoc.cli.system_sites:log_config", "Have server and sites log more, less or otherwise."),
    ("resources", "flpoc.cli.system_look:resources", "Show processors, memory, GPUs and disks of server and sites."),
    ("restart", "flpoc.cli.system_end:restart", "End the server or sites and begin anew."),
    ("shutdown", "flpoc.cli.system_end:shutdown", "End the server or sites."),
    ("status", "flpoc.cli.system_look:status", "Show the server, its jobs and its sites."),
    ("version", "flpoc.cli.system_look:version", "Show which flpoc runs where."),
)


@click.group(cls=Group, table=_TABLE, help="Look at and operate the server and its sites.")
def system() -> None:
    pass
