"""Who may call what. A remote procedure that is not named here stops the server's start."""

from __future__ import annotations

from flpoc.errors import AuthError, InternalError
from flpoc.provision.identity import Identity
from flpoc.provision.rights import About, Permissions
from flpoc.provisioning import ROLES

#: Remote procedures of sites.
SITE_CALLS = frozenset({"Connect", "Fetch", "Push"})

#: Calls that carry the traffic of rounds: only those that are refused are written down, as what a site
#: takes part in was decided when the job was given to it.
TRAFFIC = frozenset({"Fetch", "Push"})

#: Calls that change nothing and hand out no model: they are answered even while the audit log cannot be
#: written, so that people can see what is wrong.
LOOKING = frozenset({"Status", "Ready", "List", "Meta", "Watch", "Logs", "Stats", "StudyList", "StudyShow", "Revoked"})

#: Remote procedures of users, and the right that each needs (``provision/rights.py``). The right for ``Order`` is that
#: of what is ordered.
RIGHTS: dict[str, str] = {
    "Status": "check_status",
    "Ready": "check_status",
    "Submit": "submit_job",
    "List": "list_jobs",
    "Meta": "get_job_meta",
    "Watch": "get_job_meta",
    "Logs": "get_job_log",
    "Stats": "show_stats",
    "Abort": "abort_job",
    "Delete": "delete_job",
    "Results": "download_job",
    "Download": "download_job",
    "Source": "clone_job",
    "Disable": "disable_client",
    "Enable": "enable_client",
    "Order": "",
}
#: Remote procedures of users that are a matter of the project, not of a server's or site's owner: the roles that may.
ROLE_CALLS: dict[str, tuple[str, ...]] = {
    "StudyList": ROLES,
    "StudyShow": ROLES,
    "StudyRegister": ("project_admin", "org_admin"),
    "StudyAdd": ("project_admin", "org_admin"),
    "StudyTake": ("project_admin", "org_admin"),
    "StudyRemove": ("project_admin",),
    "Revoked": ("project_admin", "org_admin"),
    "Revoke": ("project_admin",),
}
USER_CALLS = frozenset({*RIGHTS, *ROLE_CALLS})


def check_complete(site_calls: frozenset[str], user_calls: frozenset[str]) -> None:
    """Refuse to serve a remote procedure that nobody decided about."""
    unnamed = (site_calls ^ SITE_CALLS) | (user_calls ^ USER_CALLS)
    if unnamed:
        raise InternalError(f"not in the authorization table, or not served: {', '.join(sorted(unnamed))}")


def authorize(who: Identity, call: str, permissions: Permissions, about: About | None = None) -> None:
    """Allow *call*, or say why not.

    Args:
        who: The caller, from its certificate.
        call: Name of the remote procedure.
        permissions: What roles may do here.
        about: What it is about; without it, it is asked whether they may call it at all.

    Raises:
        AuthError: It is not allowed.
    """
    if call in SITE_CALLS:
        if who.kind != "site":
            raise AuthError(f"{who.name} is a {who.kind}; {call} is for sites")
        return
    if who.kind != "user":
        raise AuthError(f"{who.name} is a {who.kind}; {call} is for users", hint="use an admin kit")
    if call in ROLE_CALLS:
        if who.role not in ROLE_CALLS[call]:
            hint = f"roles that may: {', '.join(ROLE_CALLS[call])}; choose a kit with --kit-id"
            code = "NOT_AUTHORIZED" if call.startswith("Study") else "AUTH_FAILED"
            raise AuthError(f"the role {who.role} may not {_words(call)}", hint=hint, code=code)
        return
    if call not in RIGHTS or who.role not in ROLES:
        raise AuthError(f"the role {who.role} may not {call.lower()}", hint="choose a kit with --kit-id")
    if right := RIGHTS[call]:
        permissions.check(who, right, about)


def _words(call: str) -> str:
    said = {
        "StudyRegister": "register a study",
        "StudyAdd": "add to a study",
        "StudyTake": "remove from a study",
        "StudyRemove": "remove a study",
        "Revoke": "revoke certificates",
        "Revoked": "see whose certificates there are",
    }
    return said.get(call, call.lower())
