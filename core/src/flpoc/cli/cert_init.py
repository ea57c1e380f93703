"""``flpoc cert init``: the authority of a project whose participants make their own keys."""

from __future__ import annotations

from pathlib import Path

import click

from flpoc.cli.command import Command
from flpoc.cli.options import Number, option
from flpoc.formatting import Report


@click.command(
    "init",
    cls=Command,
    examples=("flpoc cert init --profile profile.yaml -o ca",),
    mutating=True,
    idempotent=False,
)
@option("--profile", required=True, metavar="FILE", help="The project's profile: its name and its server.")
@option("-o", "--output-dir", "folder", required=True, metavar="DIR", help="Where the authority is made.")
@option("--deploy-version", "version", metavar="NN", help="Kits belong into prod_NN.  [default: 00]")
@option("--org", default="", metavar="NAME", help="The organisation of the authority.")
@option(
    "--valid-days", type=Number(int, low=1, high=36500), default=3650, show_default=True, metavar="DAYS",
    help="How long the authority lasts; no certificate lasts longer.",
)  # fmt: skip
@option("--force", is_flag=True, help="Set an authority that is there aside, and make a new one.")
def init(*, profile: str, folder: str, version: str | None, org: str, valid_days: int, force: bool) -> Report:
    """Make the certificate authority of a project.

    Its key is encrypted if FLPOC_CA_PASSPHRASE is set; the same passphrase is then needed to use it.
    """
    from flpoc.enrolment.definitions import read_profile
    from flpoc.enrolment.founding import make_ca

    said = read_profile(Path(profile))
    ca, kept = make_ca(said.project, Path(folder), version=version, org=org, valid_days=valid_days, force=force)
    data = {
        "project": ca.project,
        "ca_dir": str(ca.folder.absolute()),
        "rootca": str(ca.folder.absolute() / "rootCA.pem"),
        "key": str(ca.folder.absolute() / "rootCA.key"),
        "deploy_version": ca.version,
        "rootca_fingerprint_sha256": ca.fingerprint,
        "valid_until": f"{ca.not_after:%Y-%m-%dT%H:%M:%SZ}",
        "encrypted": ca.key_is_encrypted,
        "former_ca_dir": str(kept.absolute()) if kept else None,
    }
    warnings = list(said.warnings)
    if kept:
        warnings.append(f"The former authority is in {kept}: kits made with it do not fit to the new one")
    if not ca.key_is_encrypted:
        warnings.append(
            f"Whoever reads {ca.folder / 'rootCA.key'} can issue certificates: keep it off line, "
            "or set FLPOC_CA_PASSPHRASE before `cert init`, and it is encrypted"
        )
    text = (
        f"CA:             {ca.folder} of project {ca.project}, until {ca.not_after:%Y-%m-%d}",
        f"Kits:           prod_{ca.version}",
        f"CA fingerprint: {ca.fingerprint}",
        "Next:           who wants to take part runs `flpoc cert request -p FILE` and sends you the request",
    )
    return Report(data=data, text=text, warnings=warnings)
