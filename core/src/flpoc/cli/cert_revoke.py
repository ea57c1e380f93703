"""``flpoc cert revoke | list``: locking certificates out, and seeing which there are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flpoc.cli.command import Command
from flpoc.cli.connect import Connection, connects
from flpoc.cli.options import option
from flpoc.errors import FlpocError, KitError, UsageError, did_you_mean
from flpoc.formatting import Report, Table

if TYPE_CHECKING:
    from flpoc.session import Session

_WAYS = "give a NAME, --serial HEX or --kit DIR"


@click.command(
    "revoke",
    cls=Command,
    examples=(
        "flpoc cert revoke site-2 --reason 'laptop was stolen' --force",
        "flpoc cert revoke --serial 4f21c09a --force",
        "flpoc cert revoke --kit kits/site-2 --force",
    ),
    mutating=True,
    idempotent=True,
)
@click.argument("name", required=False)
@option("--serial", metavar="HEX", help="Serial number of the certificate, as `flpoc cert list` shows it.")
@option("--kit", metavar="DIR", help="The startup kit that the certificate is in.")
@option("--reason", metavar="TEXT", default="", help="Why, for those who are refused and for the audit logs.")
@option("--force", is_flag=True, help="Do not ask.")
@connects
def revoke(  # noqa: PLR0917 - click gives them by name
    connection: Connection, name: str | None, serial: str | None, kit: str | None, reason: str, force: bool
) -> Report:
    """Lock a certificate out for good: what it has open ends at once.

    For a project_admin. Server and sites do not trust it any more; a running
    job whose submitter it is fails. The participant needs a new kit.
    """
    if sum(one is not None for one in (name, serial, kit)) != 1:
        several = any(one is not None for one in (name, serial, kit))
        raise UsageError(
            "NAME, --serial and --kit exclude each other" if several else "no certificate is named", hint=_WAYS
        )
    if not force:
        connection.call.needs_somebody_to_ask(f"Revoke the certificate of {name or serial or kit}?")
    with connection.open() as session:
        chosen, whose = _chosen(session, name, serial, kit)
        if not connection.call.confirm(f"Revoke the certificate {chosen} of {whose or '?'} for good?", force=force):
            return Report(data=None, text=("Nothing was done.",))
        done = session.revoke_certificate(chosen, name=whose, reason=reason)
    whose = done["name"] or "somebody"
    if done["already_revoked"]:
        return Report(data=done, text=(f"The certificate {chosen} of {whose} was revoked at {done['time']}.",))
    said = f"Revoked the certificate {chosen} of {whose}; calls ended: {done['calls_ended']}."
    return Report(data=done, text=(said, f"To let {whose} in again, give them a new startup kit."))


def _chosen(session: Session, name: str | None, serial: str | None, kit: str | None) -> tuple[str, str]:
    """Serial number and owner of the certificate that is meant."""
    if serial is not None:
        from flpoc.session.revoking import serial_of

        return serial_of(serial), ""
    if kit is not None:
        return _of_kit(Path(kit), session.kit.settings.project)
    rows = session.list_certificates()["certificates"]
    found = [one for one in rows if one["name"] == name]
    good = [one for one in found if one["revoked"] is None] or found[-1:]
    if not good:
        raise FlpocError(
            f"the server has met no certificate of {name!r}",
            code="CERT_NOT_FOUND",
            hint=did_you_mean(str(name), {one["name"] for one in rows}, "give --serial HEX, or --kit DIR"),
        )
    if len(good) > 1:
        which = ", ".join(f"{one['serial']} (ends {one['ends'][:10]})" for one in good)
        raise UsageError(
            f"{name} has {len(good)} certificates: {which}", hint="say which: --serial HEX", data={"certificates": good}
        )
    return str(good[0]["serial"]), str(name)


def _of_kit(folder: Path, project: str) -> tuple[str, str]:
    from flpoc.provision.files import read_guarded
    from flpoc.provision.identity import identity_of
    from flpoc.provision.kit_settings import STARTUP, STEM, find_kit

    place, kind = find_kit(folder)
    path = place / STARTUP / f"{STEM[kind]}.crt"
    try:
        who = identity_of(read_guarded(path))
    except KitError as error:
        raise KitError(f"{path}: {error.message}", hint=error.hint) from None
    if who.project != project:
        raise KitError(f"{place} is a kit of project {who.project!r}, not of {project!r}", hint=_WAYS)
    return f"{who.serial:x}", who.name


@click.command("list", cls=Command, examples=("flpoc cert list",), mutating=False, idempotent=True)
@connects
def list_certificates(connection: Connection) -> Report:
    """List the certificates that the server has met, and those that are revoked.

    For a project_admin; an org_admin sees those of their organisation.
    """
    with connection.open() as session:
        found = session.list_certificates()
    newest = found["list"] or {"number": 0, "serials": {}}
    met = {one["serial"] for one in found["certificates"]}
    unmet = [_unmet(serial, entry) for serial, entry in newest["serials"].items() if serial not in met]
    rows = [*found["certificates"], *unmet]
    data = {"certificates": rows, "list_number": newest["number"]}
    shown = tuple(
        (
            one["name"] or "-", one["role"] or one["kind"] or "-", one["org"] or "-", (one["ends"] or "-")[:10],
            _revoked(one["revoked"]), one["serial"],
        )
        for one in rows
    )  # fmt: skip
    return Report(data=data, text=(Table(("NAME", "ROLE", "ORG", "ENDS", "REVOKED", "SERIAL"), shown),))


def _unmet(serial: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """A certificate that was revoked before it ever came."""
    nothing = dict.fromkeys(("kind", "role", "org", "ends", "seen"))
    return {"serial": serial, "name": entry["name"], **nothing, "revoked": dict(entry)}


def _revoked(entry: Mapping[str, Any] | None) -> str:
    return "-" if entry is None else " ".join(filter(None, (entry["time"], entry["reason"])))
