"""``flpoc cert request``: a key that stays here, and a request that is sent."""

from __future__ import annotations

from pathlib import Path

import click

from flpoc.cli.command import Command
from flpoc.cli.options import option
from flpoc.formatting import Report


@click.command(
    "request",
    cls=Command,
    examples=("flpoc cert request -p hospital-a.yaml", "flpoc cert request -p alice.yaml --out alice"),
    mutating=True,
    idempotent=False,
)
@option("-p", "--participant", "definition", required=True, metavar="FILE", help="Who wants to take part, and where.")
@option("--out", metavar="DIR", help="Where key and request are made.  [default: the participant's name]")
@option("--force", is_flag=True, help="Replace a key and a request that are there.")
def request(definition: str, out: str | None, force: bool) -> Report:
    """Make a key, and a request for a certificate for it.

    Run it on the machine where the participant will be: the key stays there.
    """
    from flpoc.enrolment.requesting import request as ask

    made = ask(Path(definition), Path(out) if out else None, force=force)
    one = made.request.participant
    folder = made.folder.absolute()
    data = {
        "name": one.name,
        "type": one.type,
        "org": one.org,
        "role": one.role or None,
        "project": made.request.project,
        "request_id": made.request.request_id,
        "request_dir": str(folder),
        "request_zip": str(made.archive.absolute()),
        "key": str(made.key.absolute()),
        "key_fingerprint_sha256": made.key_fingerprint,
        "next_step": f"send {made.archive.name} to whoever approves; never the key",
    }
    text = (
        f"Key:             {made.key} (it stays here)",
        f"Request:         {made.archive}",
        f"Key fingerprint: {made.key_fingerprint}",
        f"Next:            send the request to whoever has the CA of project {made.request.project},",
        "                 and tell them the fingerprint on another way",
    )
    return Report(data=data, text=text, warnings=made.warnings)
