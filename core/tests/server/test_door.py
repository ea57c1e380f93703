"""Every decision about a call: the right one, and one record of it."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import attrs
import pytest

from flpoc.audit.checking import last_records, verify
from flpoc.audit.log import AuditLog
from flpoc.audit.records import Record
from flpoc.errors import AuthError, FlpocError, ServiceError
from flpoc.provision.building import provision
from flpoc.provision.project_file import sample_project
from flpoc.provision.rights import About
from flpoc.provisioning import Participant
from flpoc.server.authorization import SITE_CALLS, USER_CALLS
from flpoc.server.peers import Door

MEMBER = "member@nvidia.com"
PEOPLE = {
    "project_admin": "admin@nvidia.com",
    "org_admin": "org-admin@nvidia.com",
    "lead": "lead@nvidia.com",
    "member": MEMBER,
    "site": "site-1",
    "server": "server",
}
#: Whose job a call is about: name and organisation of its submitter, as seen by the caller.
JOBS = ("none", "own", "of the organisation", "foreign")
EVERYBODY = {"project_admin", "org_admin", "lead", "member"}
#: What is allowed, said once more than in the source: call, role, and for which jobs.
LOOK = {role: set(JOBS) for role in EVERYBODY}
TOUCH = {
    "project_admin": set(JOBS),
    "org_admin": {"none", "own", "of the organisation"},
    "lead": {"none", "own"},
}
OPERATE = {role: set(JOBS) for role in EVERYBODY - {"member"}}
ADMINISTER = {role: set(JOBS) for role in ("project_admin", "org_admin")}
ADMIN = {"project_admin": set(JOBS)}
ALLOWED: dict[str, dict[str, set[str]]] = {
    **dict.fromkeys(("Status", "Ready", "List", "Meta", "Watch", "Logs", "Stats", "StudyList", "StudyShow"), LOOK),
    **dict.fromkeys(("Abort", "Delete", "Results", "Download"), TOUCH),
    # what an order asks for is a right of its own, looked at when it has been read
    "Order": LOOK,
    "Submit": {"project_admin": set(JOBS), "lead": set(JOBS)},
    "Source": {"project_admin": set(JOBS), "lead": {"none", "own"}},
    # the server is of the callers' organisation
    **dict.fromkeys(("Disable", "Enable"), OPERATE),
    **dict.fromkeys(("StudyRegister", "StudyAdd", "StudyTake", "Revoked"), ADMINISTER),
    **dict.fromkeys(("StudyRemove", "Revoke"), ADMIN),
    **{call: {"site": set(JOBS)} for call in ("Connect", "Fetch", "Push")},
}


class Peer:
    """What gRPC says about a connection."""

    def __init__(self, certificate: bytes | None) -> None:
        self._certificate = certificate

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_pem_cert": [self._certificate]} if self._certificate is not None else {}

    def peer(self) -> str:
        return "ipv4:192.0.2.1:5000"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., bytes]:
    """The certificate of a participant with a role, of one of two projects with equal names."""
    prods = {}
    for name in ("example_project", "other"):
        project = sample_project(["site-1"], name=name)
        people = (*project.participants, Participant(MEMBER, "user", "nvidia", "member"))
        prods[name] = provision(attrs.evolve(project, participants=people), tmp_path_factory.mktemp(name))

    def read(role: str, project: str = "example_project") -> bytes:
        (path,) = (prods[project] / PEOPLE[role] / "startup").glob("[cs]*.crt")
        return path.read_bytes()

    return read


def decide(state: Path, work: Callable[[Door], Coroutine[Any, Any, None]]) -> list[Record]:
    """Let *work* use a door; gives what was written down."""

    async def run() -> None:
        audit = AuditLog(state)
        try:
            await work(Door("example_project", audit))
        finally:
            await asyncio.to_thread(audit.close)

    asyncio.run(run())
    assert verify(state / "audit").fault is None
    return last_records(state / "audit", 10_000)


async def attempt(door: Door, peer: Peer, call: str, owner: str = "", org: str = "") -> bool:
    """Try a call about a job; says whether it was allowed."""
    try:
        async with door.deciding(peer, call) as case:
            case.about = "job 1"
            if owner:
                case.check(About("nvidia", owner, org))
    except AuthError:
        return False
    return True


def owner_of(job: str, me: str) -> tuple[str, str]:
    return {"none": ("", ""), "own": (me, "nvidia"), "of the organisation": ("you", "nvidia"), "foreign": ("you", "x")}[
        job
    ]


@pytest.mark.row("S15")
def test_every_role_may_call_what_the_table_says_and_nothing_else(tmp_path, certificates):
    cases = [(call, role, job) for call in (*ALLOWED, "Nope", "") for role in PEOPLE for job in JOBS]
    wrong, wanted = [], []

    async def work(door: Door) -> None:
        for call, role, job in cases:
            expected = job in ALLOWED.get(call, {}).get(role, set())
            if await attempt(door, Peer(certificates(role)), call, *owner_of(job, PEOPLE[role])) != expected:
                wrong.append((call, role, job))
            if not expected or call not in ("Fetch", "Push"):
                wanted.append((call, PEOPLE[role], "allow" if expected else "deny"))

    records = decide(tmp_path, work)
    assert set(ALLOWED) == SITE_CALLS | set(USER_CALLS)
    assert wrong == []
    found = [(one.decision.verb, one.decision.principal.name, one.decision.outcome) for one in records]
    assert found == wanted, "one record for each decision, and none for the traffic of rounds that is allowed"


def test_a_record_says_who_with_which_certificate_from_where_and_why_not(tmp_path, certificates):
    async def work(door: Door) -> None:
        assert not await attempt(door, Peer(certificates("lead")), "Abort", "you", "nvidia")

    (record,) = decide(tmp_path, work)
    who = record.decision.principal
    assert (who.name, who.kind, who.role, who.org) == ("lead@nvidia.com", "user", "lead", "nvidia")
    assert who.address == "ipv4:192.0.2.1:5000"
    assert int(who.serial, 16) > 1 << 63
    assert record.decision.object == "job 1"
    assert "only jobs of their own" in record.decision.reason


def test_strangers_are_refused_and_named_as_far_as_they_have_a_name(tmp_path, certificates):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    now = x509.load_pem_x509_certificate(certificates("lead")).not_valid_before_utc
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "admin@nvidia.com\n")])
    key = ec.generate_private_key(ec.SECP256R1())
    odd = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now.replace(year=now.year + 1)).sign(
        key, hashes.SHA256()
    )
    pem = odd.public_bytes(serialization.Encoding.PEM)
    strangers = (None, b"nonsense", pem, certificates("project_admin", "other"))

    async def work(door: Door) -> None:
        for certificate in strangers:
            assert not await attempt(door, Peer(certificate), "List")

    records = [one.decision for one in decide(tmp_path, work)]
    assert [(one.principal.kind, one.outcome) for one in records] == [
        ("unknown", "deny"),
        ("unknown", "deny"),
        ("unknown", "deny"),
        ("user", "deny"),
    ]
    assert "admin@nvidia.com\\x0a" in records[2].principal.name
    assert "belongs to project other" in records[3].reason


def test_a_request_that_cannot_be_used_is_refused_once_whatever_it_raises(tmp_path, certificates):
    async def work(door: Door) -> None:
        peer = Peer(certificates("lead"))
        for error in (FlpocError("no such job", code="JOB_NOT_FOUND"), ValueError("secret"), StopAsyncIteration()):
            with pytest.raises((FlpocError, ValueError, StopAsyncIteration, RuntimeError)):
                async with door.deciding(peer, "Meta"):
                    raise error
        with pytest.raises(asyncio.CancelledError):
            async with door.deciding(peer, "Meta"):
                raise asyncio.CancelledError

    records = [one.decision for one in decide(tmp_path, work)]
    assert [(one.outcome, one.reason) for one in records] == [
        ("deny", "no such job"),
        ("deny", "the request cannot be used (ValueError)"),
        ("deny", "the request cannot be used (StopAsyncIteration)"),
    ]


@pytest.mark.row("S24")
def test_without_an_audit_log_people_may_look_and_nothing_is_changed_or_handed_out(tmp_path, certificates):
    done = set()

    async def work(door: Door) -> None:
        admin, site = Peer(certificates("project_admin")), Peer(certificates("site"))
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))  # as on a disk that is full
        try:
            for call in ALLOWED:
                try:
                    async with door.deciding(site if call in SITE_CALLS else admin, call):
                        pass
                    done.add(call)
                except ServiceError:
                    continue
            assert not await attempt(door, Peer(certificates("member")), "Abort")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert await attempt(door, admin, "Abort")

    gap, record = decide(tmp_path, work)
    looking = {"Status", "Ready", "List", "Meta", "Watch", "Logs", "Stats", "StudyList", "StudyShow", "Revoked"}
    assert done == looking | {"Fetch", "Push"}
    # all but the traffic of rounds, and the member's
    assert gap.decision.reason.startswith(f"{len(ALLOWED) - 2 + 1} decisions since ")
    assert record.decision.verb == "Abort"
