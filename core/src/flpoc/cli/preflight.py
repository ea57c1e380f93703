"""``flpoc preflight-check``: whether a startup kit will work on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from flpoc.cli.call import Call
from flpoc.cli.command import Command
from flpoc.cli.options import option
from flpoc.cli.progress import Progress
from flpoc.errors import KitError, UsageError
from flpoc.formatting import Report, Table


@click.command(
    "preflight-check",
    cls=Command,
    examples=("flpoc preflight-check -p workspace/example_project/prod_00/server1",),
    mutating=False,
    idempotent=True,
)
@option("-p", "--package-path", "path", required=True, metavar="DIR", help="The startup kit.")
@option("--state", metavar="DIR", help="Where its service keeps its state.  [default: state/ in the kit]")
@click.pass_obj
def preflight_check(call: Call, path: str, state: str | None) -> Report:
    """Check a startup kit on the machine where it will be used.

    For a server: kit, certificate, port, state folder, disk, plugins, launcher. For a site or a
    user also the way to the server: its host, the connection, its certificate, whether it accepts
    ours, and its clock. --connect-timeout says how long reaching the server may take.
    """
    from flpoc.preflight.checks import examine
    from flpoc.preflight.findings import overall

    try:
        with Progress("checking"):
            found = examine(Path(path), state=Path(state) if state else None, within=call.connect_timeout)
    except KitError as error:
        if error.code != "STARTUP_KIT_MISSING":
            raise
        raise UsageError(error.message, hint=error.hint) from None
    worst = overall(found.findings)
    checks = [
        {"component": one.component, "status": one.status}
        | ({"details": one.details} if one.details else {})
        | ({"hint": one.hint} if one.hint else {})
        for one in found.findings
    ]
    data = {"package": str(found.folder), "kind": found.kind, "checks": checks, "overall": worst}
    rows = tuple((one.component, one.status, one.details) for one in found.findings)
    hints = [f"Hint: {one.component}: {one.hint}" for one in found.findings if one.hint]
    return Report(
        data=data, text=(Table(("check", "status", "details"), rows), *hints), exit_status=int(worst == "error")
    )
