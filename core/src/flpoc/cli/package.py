"""``flpoc package``: a startup kit of an approved request and the key that never left this machine."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

import click

from flpoc.cli.command import Command
from flpoc.cli.options import option
from flpoc.formatting import Report
from flpoc.provision.kit_settings import STARTUP


@click.command(
    "package",
    cls=Command,
    examples=(
        "flpoc package hospital-a.signed.zip --fingerprint FINGERPRINT",
        "flpoc package hospital-a.signed.zip --request-dir hospital-a -w workspace",
    ),
    mutating=True,
    idempotent=False,
)
@click.argument("archive", metavar="SIGNED_ZIP")
@option("-w", "--workspace", default="workspace", show_default=True, metavar="DIR", help="Where kits are made.")
@option("--request-dir", metavar="DIR", help="The folder of `cert request`.  [default: looked for around the zip]")
@option("--fingerprint", default="", metavar="SHA256", help="What the authority must have; refused if it has another.")
@option("--force", is_flag=True, help="Replace the startup folder of a kit that is there.")
def package(archive: str, workspace: str, request_dir: str | None, fingerprint: str, force: bool) -> Report:
    """Make a startup kit of an approved request.

    The key is copied from the folder that `flpoc cert request` has made on this machine.
    """
    from flpoc.enrolment.packaging import package as make

    folder = Path(request_dir) if request_dir else None
    done = make(Path(archive), Path(workspace), request_folder=folder, fingerprint=fingerprint, force=force)
    kit, who = done.kit, done.answer.identity
    place = quote(str(kit.folder))
    use = f"flpoc config add {who.name} {place}" if kit.kind == "user" else f"{place}/{STARTUP}/start.sh"
    asked, one = done.request.participant, done.answer.signed.participant
    warnings = [
        f"Asked for was the {what} {getattr(asked, what)!r}; approved is {getattr(one, what)!r}."
        for what in ("org", "role")
        if getattr(asked, what) != getattr(one, what)
    ]
    data = {
        "name": who.name,
        "type": one.type,
        "org": who.org,
        "role": who.role or None,
        "project": who.project,
        "kit": str(kit.folder),
        "prod_dir": str(kit.folder.parent),
        "server": kit.server_address,
        "valid_until": f"{who.not_after:%Y-%m-%dT%H:%M:%SZ}",
        "request_dir": str(done.request_folder),
        "rootca_fingerprint_sha256": done.answer.fingerprint,
        "fingerprint_checked": done.fingerprint_checked,
        "replaced": done.replaced,
        "next_step": f"flpoc preflight-check -p {place}",
    }
    if not done.fingerprint_checked:
        warnings.append(
            f"The CA has the fingerprint {done.answer.fingerprint}, and nobody has said that it must: "
            "compare it with what whoever approved says; --fingerprint does that"
        )
    text = (
        f"Kit:    {kit.folder}" + (" (replaced)" if done.replaced else ""),
        f"Server: {kit.server_address}",
        f"Check:  flpoc preflight-check -p {place}",
        f"Use:    {use}",
    )
    return Report(data=data, text=text, warnings=warnings)
