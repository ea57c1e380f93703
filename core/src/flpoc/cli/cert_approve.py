"""``flpoc cert approve``: a certificate for the key of a request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from flpoc.cli.call import Call
from flpoc.cli.command import Command
from flpoc.cli.options import Number, option
from flpoc.errors import UsageError, did_you_mean
from flpoc.formatting import Report
from flpoc.provisioning import ROLES


@click.command(
    "approve",
    cls=Command,
    examples=(
        "flpoc cert approve hospital-a.request.zip -c ca --profile profile.yaml",
        "flpoc cert approve alice@hospital.org.request.zip -c ca --profile profile.yaml --role member",
    ),
    mutating=True,
    idempotent=False,
)
@click.argument("archive", metavar="REQUEST_ZIP")
@option("-c", "--ca-dir", "ca_dir", required=True, metavar="DIR", help="The authority's folder.")
@option("--profile", required=True, metavar="FILE", help="The project's profile: its name and its server.")
@option("--out", metavar="FILE", help="Where the answer is written.  [default: beside the request]")
@option("--role", default="", metavar="ROLE", help="The role of the user, whatever was asked for.")
@option("--org", default="", metavar="NAME", help="The organisation, whatever was asked for.")
@option(
    "--valid-days", type=Number(int, low=1, high=36500), default=1095, show_default=True, metavar="DAYS",
    help="How long the certificate lasts; not longer than the authority.",
)  # fmt: skip
@option("--force", is_flag=True, help="Replace an answer that is there.")
@click.pass_obj
def approve(
    call: Call,
    *,
    archive: str,
    ca_dir: str,
    profile: str,
    out: str | None,
    role: str,
    org: str,
    valid_days: int,
    force: bool,
) -> Report:
    """Certify the key of a request.

    Of the certificate signing request in it only the public key is used. Somebody becomes
    project_admin only by --role project_admin.
    """
    from flpoc.enrolment.approving import Words, approve

    if role and role not in ROLES:
        raise UsageError(f"--role: {role!r} is not a role", hint=did_you_mean(role, ROLES))
    words = Words(role, org, valid_days)
    target = Path(out) if out else None
    done = approve(
        Path(archive), Path(ca_dir), Path(profile), words, out=target, force=force, plugins=lambda: call.plugins
    )
    return _report(done)


def _report(done: Any) -> Report:
    who, one, asked = done.identity, done.signed.participant, done.request.participant
    until = f"{who.not_after:%Y-%m-%dT%H:%M:%SZ}"
    data = {
        "name": one.name,
        "type": one.type,
        "org": one.org,
        "role": one.role or None,
        "project": done.signed.project,
        "deploy_version": done.signed.deploy_version,
        "request_id": done.signed.request_id,
        "signed_zip": str(done.archive.absolute()),
        "serial": f"{who.serial:x}",
        "valid_until": until,
        "server": f"{done.signed.server.host}:{done.signed.server.port}",
        "key_fingerprint_sha256": done.key_fingerprint,
        "rootca_fingerprint_sha256": done.fingerprint,
        "next_step": f"flpoc package {done.archive.name} --fingerprint {done.fingerprint}",
    }
    warnings = list(done.warnings)
    for what in ("org", "role"):
        if getattr(one, what) != getattr(asked, what):
            warnings.append(f"Asked for was the {what} {getattr(asked, what)!r}; certified is {getattr(one, what)!r}.")
    text = (
        f"Certified:       {one.name} as {one.role or one.type} of {one.org}, until {who.not_after:%Y-%m-%d}",
        f"Answer:          {done.archive}",
        f"Key fingerprint: {done.key_fingerprint}",
        f"CA fingerprint:  {done.fingerprint}",
        f"Next:            compare the key's fingerprint with what {one.name} says; if it is the same, send the answer",
        "                 back, and tell them that of the CA on another way",
    )
    return Report(data=data, text=text, warnings=warnings)
