"""A site carries out what users have signed, and nothing that a server makes up."""

from __future__ import annotations

import asyncio
import datetime
import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from flpoc.audit.checking import last_records
from flpoc.jobs.statements import (
    Order,
    RevocationList,
    Revoked,
    SignedStatement,
    new_order,
    sign_statement,
)
from flpoc.log_modes import set_mode
from flpoc.plugins import Plugins
from flpoc.provision.building import provision
from flpoc.provision.identity import identity_of, sign
from flpoc.provision.kits import load_kit
from flpoc.provision.project_file import sample_project
from flpoc.settings import canonical_json
from flpoc.site.agent import Agent
from flpoc.site.orders import RECORD
from flpoc.wire.messages import Instruct, Revocation, Told

ADMIN, LEAD, ORG_ADMIN = "admin@nvidia.com", "lead@nvidia.com", "org-admin@nvidia.com"
PROJECT = "example_project"


@pytest.fixture(scope="module")
def prod(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return provision(sample_project(["site-1", "site-2"]), tmp_path_factory.mktemp("project"))


@pytest.fixture(autouse=True)
def logs_stay() -> Iterator[None]:
    level = logging.getLogger().level
    yield
    set_mode("reload", base=level)


def keys(prod: Path, user: str = ADMIN) -> dict[str, bytes]:
    startup = prod / user / "startup"
    return {"key_pem": (startup / "client.key").read_bytes(), "certificate_pem": (startup / "client.crt").read_bytes()}


def order(
    action: Any = "version", *, project: str = PROJECT, targets: tuple[str, ...] = ("site-1",), **facts: Any
) -> Order:
    return new_order(action, project, targets, **facts)


def with_agent(prod: Path, state: Path, work: Callable[[Agent], Awaitable[Any]]) -> Any:
    """Let *work* use an agent that has no connection."""

    async def run() -> Any:
        kit = load_kit(prod / "site-1")
        agent = Agent(kit, Plugins.of_kit(kit.settings.plugins), state)
        try:
            return await work(agent)
        finally:
            await agent.stop()

    return asyncio.run(run())


def told(prod: Path, state: Path, *signed: SignedStatement) -> list[Told]:
    """What an agent says to these orders, one after the other."""

    async def work(agent: Agent) -> list[Told]:
        return [await agent._orders.carry_out(Instruct(number, one)) for number, one in enumerate(signed)]

    return list(with_agent(prod, state, work))


def decisions(state: Path) -> list[tuple[str, str, str, str]]:
    found = [one.decision for one in last_records(state / "audit", 100)]
    return [(one.principal.name, one.verb, one.outcome, one.reason) for one in found]


def test_an_order_is_carried_out_and_written_down(prod: Path, tmp_path: Path) -> None:
    (answer,) = told(prod, tmp_path, sign_statement(order(), **keys(prod)))
    assert (answer.code, answer.number) == ("", 0)
    assert answer.data["version"]
    assert decisions(tmp_path) == [(ADMIN, "version", "allow", "")]


def later(signed: SignedStatement, **changes: Any) -> SignedStatement:
    return attrs.evolve(signed, content=canonical_json(json.loads(signed.content) | changes))


def written(minutes: float) -> str:
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=minutes)
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def altered(prod: Path) -> SignedStatement:
    return later(sign_statement(order(), **keys(prod)), action="shutdown")


def of_somebody_else(prod: Path) -> SignedStatement:
    """The lead signs, and shows the admin's certificate."""
    made = order("restart")
    return sign_statement(made, key_pem=keys(prod, LEAD)["key_pem"], certificate_pem=keys(prod)["certificate_pem"])


def of_a_site(prod: Path) -> SignedStatement:
    return sign_statement(order("restart"), **keys(prod, "site-2"))


def of_the_server(prod: Path) -> SignedStatement:
    startup = prod / "server" / "startup"
    key, certificate = (startup / "server.key").read_bytes(), (startup / "server.crt").read_bytes()
    return sign_statement(order("restart"), key_pem=key, certificate_pem=certificate)


def not_canonical(prod: Path) -> SignedStatement:
    content = json.dumps(json.loads(canonical_json(order())), indent=1).encode()
    mine = keys(prod)
    return SignedStatement(content, sign(mine["key_pem"], content), mine["certificate_pem"])


def with_content(prod: Path, content: bytes) -> SignedStatement:
    mine = keys(prod)
    return SignedStatement(content, sign(mine["key_pem"], content), mine["certificate_pem"])


def with_more(prod: Path) -> SignedStatement:
    return with_content(prod, canonical_json(json.loads(canonical_json(order())) | {"sudo": True}))


FORGED: dict[str, tuple[Callable[[Path], SignedStatement], str]] = {
    "altered": (altered, "or what it covers was changed"),
    "somebody else's key": (of_somebody_else, "or what it covers was changed"),
    "a site's": (of_a_site, "signed by 'site-2', a site: only users may"),
    "the server's own": (of_the_server, "signed by 'server', a server: only users may"),
    "too old": (
        lambda prod: sign_statement(attrs.evolve(order("restart"), created=written(-5.2)), **keys(prod)),
        "the order was signed at",
    ),
    "of the future": (
        lambda prod: sign_statement(attrs.evolve(order("restart"), created=written(6)), **keys(prod)),
        "the order was signed at",
    ),
    "no time": (lambda prod: sign_statement(attrs.evolve(order(), created="now"), **keys(prod)), "'now' is no time"),
    "of another project": (
        lambda prod: sign_statement(order(project="elsewhere"), **keys(prod)), "signed for another project",
    ),
    "for another site": (
        lambda prod: sign_statement(order("restart", targets=("server", "site-2")), **keys(prod)),
        "the order is for server, site-2, not for site-1",
    ),
    "for nobody": (lambda prod: sign_statement(order("restart", targets=()), **keys(prod)), "not for site-1"),
    "not canonical": (not_canonical, "not canonical"),
    "with a word more": (with_more, "sudo"),
    "no JSON": (lambda prod: with_content(prod, b"restart"), "not sound"),
    "a list": (lambda prod: with_content(prod, b"[]"), "not sound"),
    "not text": (lambda prod: with_content(prod, b"\xff\xfe"), "not sound"),
    "deep": (lambda prod: with_content(prod, b"[" * 100_000), "not sound"),
    "empty": (lambda prod: with_content(prod, b""), "size"),
    "huge": (lambda prod: with_content(prod, b" " * (257 << 10)), "size"),
    "an action that there is not": (
        lambda prod: with_content(prod, canonical_json(json.loads(canonical_json(order())) | {"action": "rm"})),
        "action",
    ),
    "without a certificate": (
        lambda prod: attrs.evolve(sign_statement(order(), **keys(prod)), certificate=b""), "not to be trusted",
    ),
    "by who may not": (lambda prod: sign_statement(order(), **keys(prod, ORG_ADMIN)), "of this site here"),
    "of a job that is not here": (
        lambda prod: sign_statement(order("job_log_mode", job="nothing", mode="DEBUG"), **keys(prod)),
        "does not run at",
    ),
}  # fmt: skip


@pytest.mark.row("S20")
@pytest.mark.parametrize("case", FORGED)
def test_what_a_server_makes_up_is_refused_and_written_down(prod: Path, tmp_path: Path, case: str) -> None:
    make, why = FORGED[case]
    planned: list[Any] = []

    async def work(agent: Agent) -> Told:
        agent.loop = SimpleNamespace(call_later=lambda *what: planned.append(what))  # type: ignore[assignment]
        agent.permissions = attrs.evolve(agent.permissions, roles={"project_admin": "any", "org_admin": "n:nobody"})
        return await agent._orders.carry_out(Instruct(1, make(prod)))

    answer = with_agent(prod, tmp_path, work)
    assert answer.code in ("AUTH_FAILED", "INTEGRITY_FAILED", "JOB_NOT_RUNNING")
    assert why in answer.message
    assert answer.data is None
    assert not planned, "it was about to end"
    ((_, _, outcome, reason),) = decisions(tmp_path)
    assert outcome == "deny"
    assert reason[:100] == answer.message[:100]


def test_an_order_that_comes_twice_is_carried_out_once_also_by_the_agent_that_comes_after(
    prod: Path, tmp_path: Path
) -> None:
    signed = sign_statement(order("log_mode", mode="INFO"), **keys(prod))
    first, again = told(prod, tmp_path, signed, signed)
    assert (first.code, again.code) == ("", "AUTH_FAILED")
    assert "carried out before" in again.message
    (after,) = told(prod, tmp_path, signed)
    assert "carried out before" in after.message
    other = sign_statement(order("log_mode", mode="INFO"), **keys(prod))
    assert [one.code for one in told(prod, tmp_path, other)] == [""]
    assert [one[2] for one in decisions(tmp_path)] == ["allow", "deny", "deny", "allow"]


def test_orders_that_come_together_are_each_remembered(prod: Path, tmp_path: Path) -> None:
    signed = [sign_statement(order(), **keys(prod)) for _ in range(20)]

    async def work(agent: Agent) -> list[Told]:
        return await asyncio.gather(*(agent._orders.carry_out(Instruct(1, one)) for one in signed))

    assert {one.code for one in with_agent(prod, tmp_path, work)} == {""}
    assert {one.code for one in told(prod, tmp_path, *signed)} == {"AUTH_FAILED"}


def test_without_its_memory_a_site_takes_no_order_from_before(prod: Path, tmp_path: Path) -> None:
    tmp_path.joinpath(RECORD).write_bytes(b"\0\0")
    old = sign_statement(attrs.evolve(order(), created=written(-0.2)), **keys(prod))
    (answer,) = told(prod, tmp_path, old)
    assert "before this began" in answer.message
    time_passes = sign_statement(attrs.evolve(order(), created=written(2)), **keys(prod))
    assert [one.code for one in told(prod, tmp_path, time_passes)] == [""]


def test_an_order_that_cannot_be_written_down_is_not_carried_out(prod: Path, tmp_path: Path) -> None:
    tmp_path.joinpath(RECORD).mkdir()
    mode = logging.getLogger().level

    async def work(agent: Agent) -> Told:
        return await agent._orders.carry_out(Instruct(1, sign_statement(order("log_mode", mode="DEBUG"), **keys(prod))))

    answer = with_agent(prod, tmp_path, work)
    assert (answer.code, answer.data) == ("RESOURCE_EXHAUSTED", None)
    assert logging.getLogger().level == mode


# -- lists of revoked certificates


def serial(prod: Path, name: str) -> str:
    return f"{identity_of(keys(prod, name)['certificate_pem']).serial:x}"


def revocations(prod: Path, number: int, *names: str, by: str = ADMIN, **changes: Any) -> SignedStatement:
    entries = {serial(prod, name): Revoked(name, written(0), "lost") for name in names}
    found = RevocationList(PROJECT, number, entries, written(0))
    return sign_statement(attrs.evolve(found, **changes), **keys(prod, by))


def after_lists(prod: Path, state: Path, *lists: SignedStatement) -> tuple[int, set[str]]:
    """Number of the list, and whose certificates are locked out, once an agent has been sent these."""

    async def work(agent: Agent) -> tuple[int, set[str]]:
        for one in lists:
            await agent._revoke(Revocation(one))
        newest = agent.revocations.newest
        return agent.revocations.number, {one.name for one in newest.serials.values()} if newest else set()

    found: tuple[int, set[str]] = with_agent(prod, state, work)
    return found


def test_a_site_takes_newer_lists_keeps_them_and_refuses_older_ones(prod: Path, tmp_path: Path) -> None:
    first, second = revocations(prod, 1, LEAD), revocations(prod, 4, LEAD, ORG_ADMIN)
    assert after_lists(prod, tmp_path, first, second, first) == (4, {LEAD, ORG_ADMIN})
    assert after_lists(prod, tmp_path) == (4, {LEAD, ORG_ADMIN})
    assert after_lists(prod, tmp_path, revocations(prod, 5, ORG_ADMIN)) == (4, {LEAD, ORG_ADMIN})
    said = [(one[1], one[2]) for one in decisions(tmp_path)]
    assert said == [("revoke", "allow"), ("revoke", "allow"), ("revoke", "deny"), ("revoke", "deny")]
    reasons = [one[3] for one in decisions(tmp_path)]
    assert "it has number 1, known is 4" in reasons[2]
    assert "what is revoked stays revoked" in reasons[3]
    assert tmp_path.joinpath("revocations.json").stat().st_mode & 0o077 == 0


BAD_LISTS: dict[str, tuple[Callable[[Path], SignedStatement], str]] = {
    "a lead's": (lambda prod: revocations(prod, 1, ORG_ADMIN, by=LEAD), "may not revoke certificates"),
    "an org_admin's": (lambda prod: revocations(prod, 1, LEAD, by=ORG_ADMIN), "may not revoke certificates"),
    "a site's": (lambda prod: revocations(prod, 1, LEAD, by="site-2"), "only users may"),
    "altered": (lambda prod: later(revocations(prod, 1, LEAD), number=2), "was changed"),
    "of another project": (lambda prod: revocations(prod, 1, LEAD, project="other"), "another project"),
    "an order": (lambda prod: sign_statement(order(), **keys(prod)), "not sound"),
}


@pytest.mark.row("S20")
@pytest.mark.parametrize("case", BAD_LISTS)
def test_a_list_that_no_project_admin_has_signed_locks_nobody_out(prod: Path, tmp_path: Path, case: str) -> None:
    make, why = BAD_LISTS[case]
    assert after_lists(prod, tmp_path, make(prod)) == (0, set())
    ((_, verb, outcome, reason),) = decisions(tmp_path)
    assert (verb, outcome) == ("revoke", "deny")
    assert why in reason


def test_orders_of_who_is_locked_out_are_refused(prod: Path, tmp_path: Path) -> None:
    signed = sign_statement(order(), **keys(prod, LEAD))
    assert after_lists(prod, tmp_path, revocations(prod, 1, LEAD)) == (1, {LEAD})
    (answer,) = told(prod, tmp_path, signed)
    assert answer.code == "AUTH_FAILED"
    assert f"the certificate of {LEAD} was revoked at" in answer.message
    assert "(lost)" in answer.message
    assert decisions(tmp_path)[-1][:3] == (LEAD, "version", "deny")


def test_lists_of_an_admin_who_is_locked_out_are_refused(prod: Path, tmp_path: Path) -> None:
    """Whose key was stolen cannot lock others out; the server of this test is the thief's."""
    mine = revocations(
        prod, 1, ADMIN
    )  # servers take this from no admin; here it stands for one that another has signed
    assert after_lists(prod, tmp_path, mine) == (1, {ADMIN})
    assert after_lists(prod, tmp_path, revocations(prod, 2, ADMIN, LEAD)) == (1, {ADMIN})
    assert "was revoked at" in decisions(tmp_path)[-1][3]


@pytest.mark.row("K18")
@pytest.mark.parametrize(
    "damage", [b"", b"{}", b"[1]", b"\xff", b'{"content": "{}", "signature": "", "certificate": ""}', None]
)
def test_an_agent_does_not_start_with_a_list_that_is_damaged(prod: Path, tmp_path: Path, damage: bytes | None) -> None:
    from flpoc.errors import IntegrityError

    after_lists(prod, tmp_path, revocations(prod, 1, LEAD))
    path = tmp_path / "revocations.json"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"lost", b"l0st") if damage is None else damage)
    with pytest.raises(IntegrityError, match="is damaged") as caught:
        after_lists(prod, tmp_path)
    assert "restore it" in caught.value.hint


def test_a_list_holds_also_while_it_cannot_be_written(prod: Path, tmp_path: Path) -> None:
    tmp_path.joinpath("revocations.part").mkdir()
    assert after_lists(prod, tmp_path, revocations(prod, 1, LEAD)) == (1, {LEAD})
    assert after_lists(prod, tmp_path) == (0, set())
