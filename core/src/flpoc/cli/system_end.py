"""``flpoc system shutdown | restart``."""

from __future__ import annotations

from typing import Any

import click

from flpoc.cli.command import Command
from flpoc.cli.connect import Connection, connects
from flpoc.cli.options import Number, option
from flpoc.cli.progress import Progress
from flpoc.cli.targets import target_arguments
from flpoc.formatting import Report

_TIMEOUT = Number(float, low=0, above=True, high=86400)


@click.command(
    "shutdown",
    cls=Command,
    examples=("flpoc system shutdown all --force", "flpoc system shutdown client site-1 --force"),
    mutating=True,
    idempotent=False,
)
@target_arguments(required=True)
@option("--force", is_flag=True, help="Do not ask.")
@option("--no-wait", is_flag=True, help="Return at once; the work goes on.")
@option("--timeout", type=_TIMEOUT, default=30, show_default=True, metavar="SEC", help="How long to wait.")
@connects
def shutdown(  # noqa: PLR0917 - click gives them by name
    connection: Connection, target: Any, names: tuple[str, ...], force: bool, no_wait: bool, timeout: float
) -> Report:
    """End the server, sites, or all. Running jobs go on when they are started again.

    TARGET is server, client or all; names of sites may follow client.
    """
    return _end(connection, "shutdown", target, names, force=force, wait=not no_wait, timeout=timeout)


@click.command(
    "restart",
    cls=Command,
    examples=("flpoc system restart client site-1 --force",),
    mutating=True,
    idempotent=False,
)
@target_arguments(required=True)
@option("--force", is_flag=True, help="Do not ask.")
@option("--no-wait", is_flag=True, help="Return at once; the work goes on.")
@option("--timeout", type=_TIMEOUT, default=30, show_default=True, metavar="SEC", help="How long to wait.")
@connects
def restart(  # noqa: PLR0917 - click gives them by name
    connection: Connection, target: Any, names: tuple[str, ...], force: bool, no_wait: bool, timeout: float
) -> Report:
    """End the server, sites, or all, and begin anew. Running jobs go on.

    TARGET is server, client or all; names of sites may follow client.
    """
    return _end(connection, "restart", target, names, force=force, wait=not no_wait, timeout=timeout)


def _end(
    connection: Connection, action: str, target: Any, names: tuple[str, ...], *, force: bool, wait: bool, timeout: float
) -> Report:
    whom = ", ".join(names) or {"client": "all sites", "all": "the server and all sites"}.get(target, "the server")
    word = {"shutdown": "Shut down", "restart": "Restart"}[action]
    question = f"{word} {whom}? Jobs that run go on afterwards."
    if not connection.call.confirm(question, force=force):
        return Report(data=None, text=("Nothing was done.",))
    with connection.open() as session, Progress(f"{action} of {whom}"):
        act = session.shutdown if action == "shutdown" else session.restart
        done = act(target, names, wait=wait, timeout=timeout)
    refused = done["refused"]
    text = [f"{name}: {done['status']}" for name in done["targets"] if name not in refused]
    code = next((one["code"] for one in refused.values()), "")
    said = [f"{name}: {one['message']}" for name, one in refused.items()]
    if not refused:
        return Report(data=done, text=text)
    from flpoc.errors import EXIT_STATUS

    return Report(data=done, text=[*said, *text], code=code, exit_status=EXIT_STATUS.get(code, 1))
