"""``flpoc cert``: certificates for keys that never leave the machine where they were made."""

from __future__ import annotations

import click

from flpoc.cli.command import Group

_TABLE = (
    ("approve", "flpoc.cli.cert_approve:approve", "Certify the key of a request."),
    ("init", "flpoc.cli.cert_init:init", "Make the certificate authority of a project."),
    ("request", "flpoc.cli.cert_request:request", "Make a key, and ask for a certificate for it."),
)


@click.group(cls=Group, table=_TABLE, help="Ask for certificates and issue them; private keys stay where they are.")
def cert() -> None:
    pass
