"""``flpoc cert``: certificates for keys that never leave the machine where they were made."""

from __future__ import annotations

import click

from flpoc.cli.command import Group

_TABLE = (
    ("approve", "flpoc.cli.cert_approve:approve", "Certify the key of a request."),
    ("init", "flpoc.cli.cert_init:init", "Make the certificate authority of a project."),
    ("list", "flpoc.cli.cert_revoke:list_certificates", "List the certificates that the server has met."),
    ("request", "flpoc.cli.cert_request:request", "Make a key, and ask for a certificate for it."),
    ("revoke", "flpoc.cli.cert_revoke:revoke", "Lock a certificate out for good."),
)


@click.group(
    cls=Group, table=_TABLE, help="Ask for certificates, issue and revoke them; private keys stay where they are."
)
def cert() -> None:
    pass
