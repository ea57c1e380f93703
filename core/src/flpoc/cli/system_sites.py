"""``flpoc system disable-client | enable-client | log-config``."""

from __future__ import annotations

import click

from flpoc.cli import suggest
from flpoc.cli.command import Command
from flpoc.cli.connect import Connection, connects
from flpoc.cli.options import option
from flpoc.cli.targets import refusals
from flpoc.errors import FlpocError
from flpoc.formatting import Report
from flpoc.log_modes import MODES, check_mode


@click.command(
    "disable-client",
    cls=Command,
    examples=("flpoc system disable-client site-1 --force",),
    mutating=True,
    idempotent=True,
)
@click.argument("name", shell_complete=suggest.sites)
@option("--reason", metavar="TEXT", default="", help="Why, for the audit log and for those who ask.")
@option("--force", is_flag=True, help="Do not ask.")
@connects
def disable_client(connection: Connection, name: str, reason: str, force: bool) -> Report:
    """Keep a site out until it is enabled again; its part in running jobs ends at once.

    Its certificate stays good: to lock it out for ever, use `flpoc cert revoke`.
    """
    if not connection.call.confirm(f"Disable {name}? Its part in running jobs ends.", force=force):
        return Report(data=None, text=("Nothing was done.",))
    with connection.open() as session:
        done = session.disable_client(name, reason)
    said = f"{name} was disabled already" if done["already_disabled"] else f"Disabled {name}"
    return Report(data=done, text=(f"{said}. To let it in again: flpoc system enable-client {name}",))


@click.command(
    "enable-client",
    cls=Command,
    examples=("flpoc system enable-client site-1 --force",),
    mutating=True,
    idempotent=True,
)
@click.argument("name", shell_complete=suggest.sites)
@option("--force", is_flag=True, help="Do not ask.")
@connects
def enable_client(connection: Connection, name: str, force: bool) -> Report:
    """Let a site in again; its agent connects by itself."""
    if not connection.call.confirm(f"Enable {name}?", force=force):
        return Report(data=None, text=("Nothing was done.",))
    with connection.open() as session:
        done = session.enable_client(name)
    said = f"{name} was not disabled." if done["already_enabled"] else f"Enabled {name}."
    return Report(data=done, text=(said,))


@click.command(
    "log-config",
    cls=Command,
    examples=("flpoc system log-config DEBUG", "flpoc system log-config reload --site site-1"),
    mutating=True,
    idempotent=True,
)
@click.argument("level", required=False, default="", shell_complete=suggest.log_levels)
@option("--site", metavar="NAME", default="all", show_default=True, shell_complete=suggest.server_and_sites,
        help="server, a site's name, or all.")  # fmt: skip
@connects
def log_config(connection: Connection, level: str, site: str) -> Report:
    """Have server and sites log more, less or in another form, until their next start.

    LEVEL is DEBUG, INFO, WARNING, ERROR, CRITICAL, concise, msg_only, full,
    verbose, or reload: as at the start.
    """
    mode = check_mode(level)
    with connection.open() as session:
        found = session.configure_site_log(mode, site)
    refused = refusals(found)
    done = [name for name in found if name not in refused]
    if not done:
        first = next(iter(refused.values()))
        raise FlpocError(str(first["message"]), code=str(first["code"]), hint=str(first.get("hint") or ""), data=found)
    warnings = [f"{name}: {one['message']}" for name, one in refused.items()]
    data = {
        "site": site,
        "sites": done,
        "log_config": mode,
        "status": "applied",
        "refused": refused,
        "modes": list(MODES),
    }
    return Report(data=data, text=(f"{', '.join(done)}: {mode}",), warnings=warnings)
