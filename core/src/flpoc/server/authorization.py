"""Who may call what. A remote procedure that is not named here stops the server's start."""

from __future__ import annotations

from typing import Literal

from flpoc.errors import AuthError, InternalError
from flpoc.provision.identity import Identity

Scope = Literal["any", "own", "org"]

#: Remote procedures of sites.
SITE_CALLS = frozenset({"Connect", "Fetch", "Push"})

#: Calls that carry the traffic of rounds: only those that are refused are written down, as what a site
#: takes part in was decided when the job was given to it.
TRAFFIC = frozenset({"Fetch", "Push"})

#: Calls that change nothing and hand out no model: they are answered even while the audit log cannot be
#: written, so that people can see what is wrong.
LOOKING = frozenset({"Status", "Ready", "List", "Meta", "Watch", "Logs"})

#: Remote procedures of users: role to what it may touch. ``own``: jobs that the user submitted.
#: ``org``: jobs of the user's organisation. A role that is not named may not call it.
USER_CALLS: dict[str, dict[str, Scope]] = {
    "Status": {"project_admin": "any", "org_admin": "any", "lead": "any", "member": "any"},
    "Ready": {"project_admin": "any", "org_admin": "any", "lead": "any", "member": "any"},
    "Submit": {"project_admin": "any", "lead": "any"},
    "List": {"project_admin": "any", "org_admin": "any", "lead": "any", "member": "any"},
    "Meta": {"project_admin": "any", "org_admin": "any", "lead": "any", "member": "any"},
    "Watch": {"project_admin": "any", "org_admin": "any", "lead": "any", "member": "any"},
    "Logs": {"project_admin": "any", "org_admin": "any", "lead": "any", "member": "any"},
    "Abort": {"project_admin": "any", "org_admin": "org", "lead": "own"},
    "Delete": {"project_admin": "any", "org_admin": "org", "lead": "own"},
    "Results": {"project_admin": "any", "org_admin": "org", "lead": "own"},
    "Download": {"project_admin": "any", "org_admin": "org", "lead": "own"},
}


def check_complete(site_calls: frozenset[str], user_calls: frozenset[str]) -> None:
    """Refuse to serve a remote procedure that nobody decided about."""
    unnamed = (site_calls ^ SITE_CALLS) | (user_calls ^ frozenset(USER_CALLS))
    if unnamed:
        raise InternalError(f"not in the authorization table, or not served: {', '.join(sorted(unnamed))}")


def authorize(who: Identity, call: str, *, owner: str = "", owner_org: str = "") -> None:
    """Allow *call*, or say why not.

    Args:
        who: The caller, from its certificate.
        call: Name of the remote procedure.
        owner: Who submitted the job that it is about; empty when it is about none.
        owner_org: That user's organisation.

    Raises:
        AuthError: It is not allowed.
    """
    if call in SITE_CALLS:
        if who.kind != "site":
            raise AuthError(f"{who.name} is a {who.kind}; {call} is for sites")
        return
    rules = USER_CALLS.get(call, {})
    if who.kind != "user":
        raise AuthError(f"{who.name} is a {who.kind}; {call} is for users", hint="use an admin kit")
    scope = rules.get(who.role)
    if scope is None:
        raise AuthError(
            f"the role {who.role} may not {call.lower()}",
            hint=f"roles that may: {', '.join(sorted(rules))}; choose a kit with --kit-id",
        )
    if owner and scope == "own" and owner != who.name:
        raise AuthError(f"{who.name} ({who.role}) may {call.lower()} only jobs of their own; this one is {owner}'s")
    if owner and scope == "org" and owner_org != who.org:
        raise AuthError(f"{who.name} ({who.role}) may {call.lower()} only jobs of {who.org}; this one is {owner_org}'s")
