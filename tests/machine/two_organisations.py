"""A project of two organisations, each with two sites and somebody of every role; the server is one's of them."""

from __future__ import annotations

from flpoc.provisioning import Participant

ADMIN_A, ADMIN_B = "admin@alpha.org", "admin@beta.org"
ORG_A, ORG_B = "org-admin@alpha.org", "org-admin@beta.org"
LEAD_A, LEAD_B = "lead@alpha.org", "lead@beta.org"
MEMBER_A, MEMBER_B = "member@alpha.org", "member@beta.org"
ADMINS, ORG_ADMINS, LEADS, MEMBERS = {ADMIN_A, ADMIN_B}, {ORG_A, ORG_B}, {LEAD_A, LEAD_B}, {MEMBER_A, MEMBER_B}
EVERYBODY = ADMINS | ORG_ADMINS | LEADS | MEMBERS
SITES = {"a-1": "alpha", "a-2": "alpha", "b-1": "beta", "b-2": "beta"}

_ROLES = {"admin": "project_admin", "org-admin": "org_admin", "lead": "lead", "member": "member"}

PARTICIPANTS = (
    Participant("server", "server", "alpha", host_names=("localhost",), connect_to="localhost"),
    *(Participant(name, "site", org) for name, org in SITES.items()),
    *(
        Participant(name, "user", name.partition("@")[2].removesuffix(".org"), _ROLES[name.partition("@")[0]])
        for name in sorted(EVERYBODY)
    ),
)
