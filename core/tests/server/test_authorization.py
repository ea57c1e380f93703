"""Who may call what: every combination."""

from __future__ import annotations

import datetime
from types import SimpleNamespace
from typing import Any

import pytest

from flpoc.errors import AuthError, InternalError
from flpoc.provision.identity import Identity
from flpoc.provision.rights import About, Permissions
from flpoc.server.authorization import SITE_CALLS, USER_CALLS, authorize, check_complete
from flpoc.server.site_service import SiteService
from flpoc.server.user_service import UserService

ROLES = ("project_admin", "org_admin", "lead", "member")
NOW = datetime.datetime.now(datetime.UTC)


def who(kind: Any = "user", role: str = "", name: str = "me", org: str = "ours") -> Identity:
    return Identity(name, kind, role, org, "p", 1, NOW, NOW)


def allowed(who: Identity, call: str, about: About | None = None) -> bool:
    try:
        authorize(who, call, Permissions(), about)
    except AuthError:
        return False
    return True


#: Role, and whether the job is one's own, of one's organisation, somebody else's.
JOBS = {"own": ("me", "ours"), "org": ("you", "ours"), "other": ("you", "theirs")}
TOUCH = {"project_admin": {"own", "org", "other"}, "org_admin": {"own", "org"}, "lead": {"own"}, "member": set()}
COPY = {"project_admin": {"own", "org", "other"}, "org_admin": set(), "lead": {"own"}, "member": set()}


def of(job: str) -> About:
    owner, org = JOBS[job]
    return About("theirs", owner, org)


@pytest.mark.row("S15")
@pytest.mark.parametrize("call", ["Abort", "Delete", "Results", "Download", "Source"])
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("job", JOBS)
def test_jobs_are_touched_by_those_whom_they_concern(call: str, role: str, job: str) -> None:
    may = COPY if call == "Source" else TOUCH
    assert allowed(who(role=role), call, of(job)) == (job in may[role])


@pytest.mark.parametrize("call", ["Status", "Ready", "List", "Meta", "Watch", "Logs", "Stats"])
@pytest.mark.parametrize("role", ROLES)
def test_everybody_in_the_project_may_look(call: str, role: str) -> None:
    assert allowed(who(role=role), call, of("other"))


@pytest.mark.parametrize("call", ["Disable", "Enable"])
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("org", ["ours", "theirs"])
def test_sites_are_kept_out_and_let_in_by_their_own_organisation(call: str, role: str, org: str) -> None:
    expected = {"project_admin": True, "org_admin": org == "ours", "lead": org == "ours", "member": False}
    assert allowed(who(role=role), call, About(org)) == expected[role]


#: Matters of the project, which no file of a server or site decides.
BY_ROLE = {
    "StudyList": set(ROLES),
    "StudyShow": set(ROLES),
    "StudyRegister": {"project_admin", "org_admin"},
    "StudyAdd": {"project_admin", "org_admin"},
    "StudyTake": {"project_admin", "org_admin"},
    "StudyRemove": {"project_admin"},
    "Revoked": {"project_admin", "org_admin"},
    "Revoke": {"project_admin"},
}


@pytest.mark.row("S15")
@pytest.mark.parametrize("call", BY_ROLE)
@pytest.mark.parametrize("role", ROLES)
def test_matters_of_the_project_are_decided_by_the_role_alone(call: str, role: str) -> None:
    nobody = Permissions(dict.fromkeys(ROLES, "none"))
    for permissions in (Permissions(), nobody):
        if role in BY_ROLE[call]:
            authorize(who(role=role), call, permissions)
            continue
        with pytest.raises(AuthError, match=f"the role {role} may not") as caught:
            authorize(who(role=role), call, permissions)
        assert caught.value.code == ("NOT_AUTHORIZED" if call.startswith("Study") else "AUTH_FAILED")


def test_only_project_admins_and_leads_submit() -> None:
    mine = About("theirs", "me", "ours")
    assert [role for role in ROLES if allowed(who(role=role), "Submit")] == ["project_admin", "lead"]
    assert [role for role in ROLES if allowed(who(role=role), "Submit", mine)] == ["project_admin", "lead"]


@pytest.mark.row("S15", "K6")
@pytest.mark.parametrize("call", [*sorted(USER_CALLS), *sorted(SITE_CALLS), "Nope", ""])
@pytest.mark.parametrize("kind", ["site", "server"])
def test_sites_and_servers_make_only_the_calls_of_sites(call: str, kind: str) -> None:
    assert allowed(who(kind), call) == (kind == "site" and call in SITE_CALLS)
    assert allowed(who(kind, role="project_admin"), call) == (kind == "site" and call in SITE_CALLS)


@pytest.mark.row("S15", "K6")
@pytest.mark.parametrize("call", [*sorted(SITE_CALLS), "Nope", "", "__init__"])
@pytest.mark.parametrize("role", [*ROLES, "", "root"])
def test_users_make_no_calls_of_sites_and_none_that_are_not_in_the_table(call: str, role: str) -> None:
    assert not allowed(who(role=role), call)


@pytest.mark.parametrize("role", ["", "root", "Project_admin"])
def test_a_role_that_does_not_exist_may_nothing(role: str) -> None:
    assert not any(allowed(who(role=role), call) for call in USER_CALLS)


@pytest.mark.row("S15")
def test_every_call_that_is_served_is_in_the_table_and_no_other() -> None:
    served: Any = SimpleNamespace(plugins=None, kit=None, revocations=None)
    users = UserService(served, served)
    check_complete(SiteService.CALLS, users.calls)
    assert frozenset(users.handlers()) == users.calls
    for sites, calls in ((SiteService.CALLS | {"X"}, users.calls), (SiteService.CALLS, users.calls - {"List"})):
        with pytest.raises(InternalError, match=r"X|List"):
            check_complete(sites, calls)
