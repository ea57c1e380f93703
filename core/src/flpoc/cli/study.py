"""``flpoc study``: which sites and users work together, unseen by others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from flpoc.cli import suggest
from flpoc.cli.command import Group
from flpoc.cli.connect import Connection, connects
from flpoc.cli.options import option
from flpoc.errors import FlpocError, UsageError
from flpoc.formatting import Report, Table

if TYPE_CHECKING:
    from flpoc.session import Session


@click.group(cls=Group, help="Make studies, and say which sites and users work in them.")
def study() -> None:
    pass


def _site_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the two ways to name sites."""
    command = option(
        "--site-org",
        "site_orgs",
        metavar="ORG:SITE,SITE",
        multiple=True,
        help="Sites of an organisation; may be given again. For a project_admin.",
    )(command)
    return option("--sites", words=True, metavar="SITE", help="Sites of your own organisation. For an org_admin.")(
        command
    )


@study.command(
    "register",
    examples=(
        "flpoc study register cancer --site-org nvidia:site-1,site-2",
        "flpoc study register cancer --sites site-1 site-2",
    ),
    mutating=True,
    idempotent=True,
)
@click.argument("name")
@_site_options
@connects
def register(connection: Connection, name: str, sites: tuple[str, ...], site_orgs: tuple[str, ...]) -> Report:
    """Make a study with these sites, or add them to it."""
    with connection.open() as session:
        done = session.register_study(name, _chosen(session, name, sites, site_orgs))
    return Report(data=done, text=(*_shown(done), f"To work in it: --study {name}"))


@study.command("show", examples=("flpoc study show cancer",), mutating=False, idempotent=True)
@click.argument("name", shell_complete=suggest.studies)
@connects
def show(connection: Connection, name: str) -> Report:
    """Show the sites and users of a study."""
    with connection.open() as session:
        found = session.show_study(_checked(name))
    return Report(data=found, text=_shown(found))


@study.command("list", examples=("flpoc study list",), mutating=False, idempotent=True)
@connects
def list_studies(connection: Connection) -> Report:
    """List the studies that you may know of."""
    with connection.open() as session:
        found = session.list_studies()
        settings = session.kit.settings
    source, kit_id = connection.kit_source()
    data = {
        "startup_kit": {"source": source, "id": kit_id, "path": str(connection.kit_folder())},
        "identity": {"name": settings.name, "org": settings.org, "role": settings.role},
        **found,
    }
    rows = tuple(
        (one["name"], one["role"], "yes" if one["can_submit_job"] else "no", one.get("reason", ""))
        for one in found["study_details"]
    )
    return Report(data=data, text=(Table(("STUDY", "ROLE", "MAY SUBMIT", "WHY NOT"), rows),))


@study.command("remove", examples=("flpoc study remove cancer",), mutating=True, idempotent=False)
@click.argument("name", shell_complete=suggest.studies)
@connects
def remove(connection: Connection, name: str) -> Report:
    """Remove a study that has no jobs."""
    with connection.open() as session:
        done = session.remove_study(_checked(name))
    return Report(data=done, text=(f"Removed study {done['name']}.",))


@study.command(
    "add-site", examples=("flpoc study add-site cancer --site-org nvidia:site-2",), mutating=True, idempotent=True
)
@click.argument("name", shell_complete=suggest.studies)
@_site_options
@connects
def add_site(connection: Connection, name: str, sites: tuple[str, ...], site_orgs: tuple[str, ...]) -> Report:
    """Add sites to a study."""
    with connection.open() as session:
        done = session.add_study_site(name, _chosen(session, name, sites, site_orgs))
    return Report(data=done, text=_shown(done))


@study.command(
    "remove-site",
    examples=("flpoc study remove-site cancer --site-org nvidia:site-2",),
    mutating=True,
    idempotent=False,
)
@click.argument("name", shell_complete=suggest.studies)
@_site_options
@connects
def remove_site(connection: Connection, name: str, sites: tuple[str, ...], site_orgs: tuple[str, ...]) -> Report:
    """Take sites out of a study; jobs that run there go on."""
    with connection.open() as session:
        done = session.remove_study_site(name, _chosen(session, name, sites, site_orgs))
    return Report(data=done, text=_shown(done))


@study.command("add-user", examples=("flpoc study add-user cancer lead@nvidia.com",), mutating=True, idempotent=False)
@click.argument("name", metavar="STUDY", shell_complete=suggest.studies)
@click.argument("user")
@connects
def add_user(connection: Connection, name: str, user: str) -> Report:
    """Let a user work in a study."""
    with connection.open() as session:
        done = session.add_study_user(_checked(name), user)
    return Report(data=done, text=_shown(done))


@study.command(
    "remove-user", examples=("flpoc study remove-user cancer lead@nvidia.com",), mutating=True, idempotent=False
)
@click.argument("name", metavar="STUDY", shell_complete=suggest.studies)
@click.argument("user")
@connects
def remove_user(connection: Connection, name: str, user: str) -> Report:
    """Take a user out of a study."""
    with connection.open() as session:
        done = session.remove_study_user(_checked(name), user)
    return Report(data=done, text=_shown(done))


def _chosen(session: Session, name: str, sites: tuple[str, ...], site_orgs: tuple[str, ...]) -> dict[str, list[str]]:
    """The sites that are meant, by organisation; what the user's role cannot say is refused here already."""
    _checked(name)
    role, org = session.kit.settings.role, session.kit.settings.org
    if role not in ("project_admin", "org_admin"):
        raise FlpocError(
            f"the role {role} may not change studies",
            code="NOT_AUTHORIZED",
            hint="roles that may: project_admin, org_admin; choose a kit with --kit-id",
        )
    if sites and site_orgs:
        raise UsageError("--sites and --site-org exclude each other", hint=_hint(role))
    if not sites and not site_orgs:
        raise UsageError("no site is named", hint=_hint(role))
    if sites and role == "project_admin":
        raise UsageError("--sites is for an org_admin, whose organisation is known", hint=_hint(role))
    if site_orgs and role == "org_admin":
        raise UsageError("--site-org is for a project_admin", hint=_hint(role))
    if sites:
        return {org: list(sites)}
    found: dict[str, list[str]] = {}
    for text in site_orgs:
        org, colon, names = text.partition(":")
        listed = [one.strip() for one in names.split(",") if one.strip()]
        if not colon or not org.strip() or not listed:
            raise UsageError(f"--site-org: {text[:80]!r} is not ORG:SITE,SITE", hint=_hint(role))
        found.setdefault(org.strip(), []).extend(listed)
    return found


def _hint(role: str) -> str:
    return "--sites SITE ..." if role == "org_admin" else "--site-org ORG:SITE,SITE"


def _checked(name: str) -> str:
    from flpoc.jobs.names import STUDY_NAME

    if not STUDY_NAME.match(name):
        raise FlpocError(
            f"{name[:80]!r} is not the name of a study",
            code="INVALID_STUDY_NAME",
            hint="lower case letters, digits, _ and -, at most 63, a letter or digit at both ends",
        )
    return name


def _shown(found: Mapping[str, Any]) -> tuple[str | Table, ...]:
    connected = set(found["connected"])
    org_of = {site: org for org, sites in found["site_orgs"].items() for site in sites}
    rows = tuple(
        (site, org_of.get(site, "-"), "connected" if site in connected else "not connected") for site in found["sites"]
    )
    users = "everybody" if found["users"] == ["*"] else ", ".join(found["users"]) or "-"
    table = (Table(("SITE", "ORG", "STATE"), rows),) if rows else ("It has no sites.",)
    return (f"Study {found['name']}", *table, f"Users: {users}")
