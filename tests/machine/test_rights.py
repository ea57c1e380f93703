"""Who may do what: every role of two organisations, every command, every site with a policy of its own.

What is expected is written down here once more, as data; nothing of it is computed by what is tested.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from flpoc.audit.checking import last_records, verify
from flpoc.errors import AuthError, FlpocError, JobError
from flpoc.jobs.statements import SignedStatement, new_order, sign_statement
from flpoc.session import Session
from flpoc.wire.statements import GiveOrder

from .federation import Federation, write_job
from .two_organisations import (
    ADMIN_A,
    ADMIN_B,
    ADMINS,
    EVERYBODY,
    LEAD_A,
    LEAD_B,
    LEADS,
    MEMBER_A,
    MEMBER_B,
    ORG_A,
    ORG_ADMINS,
    ORG_B,
    PARTICIPANTS,
    SITES,
)

SCRIPT = """
    import numpy as np
    import flpoc.client as flare

    flare.init()
    while flare.is_running():
        model = flare.receive()
        if model is None:
            break
        flare.send(flare.FLModel(params={"w": np.zeros(2, np.float32)}))
"""
ENDLESS = """
    import threading
    import flpoc.client as flare

    flare.init()
    flare.receive()
    threading.Event().wait()
"""
#: ``a-2`` works for its own organisation only, and takes orders from nobody but two people.
OWN_ONLY = {
    "project_admin": {"submit_job": "o:alpha", "byoc": "o:alpha", "view": "any", "operate": f"n:{ADMIN_A}"},
    "lead": {"submit_job": ["any", "not o:beta"], "byoc": "any", "operate": [f"n:{LEAD_A}", "not o:beta"]},
}
#: ``b-2`` lets leads do nothing, and nobody else see its log.
CLOSED = {
    "project_admin": {"submit_job": "any", "byoc": "any", "operate": "any", "shell_commands": "none"},
    "org_admin": {"operate": "o:site", "restart": "no"},
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    found = Federation(tmp_path_factory.mktemp("rights"), participants=PARTICIPANTS)
    found.write_rights("a-2", OWN_ONLY)
    found.write_rights("b-2", CLOSED)
    try:
        found.start()
        found.ready()
        yield found
    finally:
        found.close()


@attrs.frozen
class World:
    """What commands are tried on.

    Attributes:
        running: The federation.
        job: A finished job of ``lead@alpha.org``.
        endless: One of theirs that runs at ``a-1`` and ``b-1``.
        folder: A job folder that names a site which is not there.
    """

    running: Federation
    job: str
    endless: str
    folder: Path


@pytest.fixture(scope="module")
def world(running: Federation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("jobs")
    waiting = write_job(folder / "waiting", SCRIPT, sites=["site-9"])
    with running.session(LEAD_A) as lead:
        job = lead.submit_job(write_job(folder / "short", SCRIPT, sites=["a-1", "b-1"], rounds=1))
        assert lead.wait_for_job(job, 60)["status"] == "FINISHED:COMPLETED"
        endless = lead.submit_job(write_job(folder / "endless", ENDLESS, sites=["a-1", "b-1"]))
        assert any(meta["status"] == "RUNNING" for meta in lead.watch_job(endless, timeout=60))
        yield World(running, job, endless, waiting)
        with contextlib.suppress(JobError):
            lead.abort_job(endless)


def refused(session: Session, world: World, act: Callable[[Session, World], Any]) -> tuple[str, str]:
    """How a command ends: code and message; empty if it is done, or could not be done for a reason that is no right."""
    try:
        act(session, world)
    except (JobError, FlpocError) as error:
        if error.code in ("AUTH_FAILED", "NOT_AUTHORIZED"):
            return error.code, error.message
    return "", ""


#: What is tried, and who may; all of it is about what belongs to the organisation alpha: its server, its site
#: ``a-1``, a job of its lead.
COMMANDS: dict[str, tuple[Callable[[Session, World], Any], set[str]]] = {
    "submit": (lambda s, w: s.abort_job(s.submit_job(w.folder)), ADMINS | LEADS),
    "list": (lambda s, w: s.list_jobs(), EVERYBODY),
    "meta": (lambda s, w: s.get_job_meta(w.job), EVERYBODY),
    "logs": (lambda s, w: s.get_job_logs(w.job, "all"), EVERYBODY),
    "stats": (lambda s, w: s.show_stats(w.endless), EVERYBODY),
    "errors": (lambda s, w: s.show_errors(w.job), EVERYBODY),
    "watch": (lambda s, w: next(iter(s.watch_job(w.endless))), EVERYBODY),
    "abort": (lambda s, w: s.abort_job(w.job), {*ADMINS, ORG_A, LEAD_A}),
    "delete": (lambda s, w: s.delete_job(w.endless), {*ADMINS, ORG_A, LEAD_A}),
    "results": (lambda s, w: s.list_job_components(w.job), {*ADMINS, ORG_A, LEAD_A}),
    "clone": (lambda s, w: s.abort_job(s.clone_job(w.endless)["new_job_id"]), {*ADMINS, LEAD_A}),
    "job log-config": (lambda s, w: s.configure_job_log(w.endless, "INFO", "server"), {*ADMINS, ORG_A, LEAD_A}),
    "status": (lambda s, w: s.check_status(), EVERYBODY),
    "version": (lambda s, w: s.report_version("a-1"), {*ADMINS, ORG_A, LEAD_A}),
    "resources": (lambda s, w: s.report_resources("client", ["a-1"]), {*ADMINS, ORG_A, LEAD_A}),
    "env": (lambda s, w: s.report_env("server"), {*ADMINS, ORG_A, LEAD_A}),
    "site log": (lambda s, w: s.get_site_log("a-1", tail=1), {*ADMINS, ORG_A, LEAD_A}),
    "server log": (lambda s, w: s.get_site_log("server", tail=1), {*ADMINS, ORG_A, LEAD_A}),
    "log-config": (lambda s, w: s.configure_site_log("INFO", "a-1"), {*ADMINS, ORG_A, LEAD_A}),
    "enable": (lambda s, w: s.enable_client("a-1"), {*ADMINS, ORG_A, LEAD_A}),
    "register study": (lambda s, w: s.register_study("default"), ADMINS | ORG_ADMINS),
    "add user": (lambda s, w: s.add_study_user("nothing", "x@y.org"), ADMINS | ORG_ADMINS),
    "remove study": (lambda s, w: s.remove_study("nothing"), ADMINS),
    "list studies": (lambda s, w: s.list_studies(), EVERYBODY),
    "list certificates": (lambda s, w: s.list_certificates(), ADMINS | ORG_ADMINS),
}
#: Why not, for those who may not; a part of the message.
_ROLE = {name: f"the role {name} may not" for name in ("org_admin", "lead", "member")}
_MEMBERS = dict.fromkeys((MEMBER_A, MEMBER_B), _ROLE["member"])
_OTHER_SITE = {ORG_B: "only sites of beta; this is one of alpha", LEAD_B: "only sites of beta; this is one of alpha"}
_OTHER_JOB = {ORG_B: "only jobs of beta; this one is of alpha", LEAD_B: f"jobs of their own; this one is {LEAD_A}'s"}
_ORG_ADMINS = dict.fromkeys((ORG_A, ORG_B), _ROLE["org_admin"])
_LEADS = dict.fromkeys((LEAD_A, LEAD_B), _ROLE["lead"])
REASONS: dict[str, dict[str, str]] = {
    "submit": _ORG_ADMINS | _MEMBERS,
    "abort": _OTHER_JOB | _MEMBERS,
    "delete": _OTHER_JOB | _MEMBERS,
    "results": _OTHER_JOB | _MEMBERS,
    "clone": {LEAD_B: f"jobs of their own; this one is {LEAD_A}'s"} | _ORG_ADMINS | _MEMBERS,
    "job log-config": _OTHER_JOB | _MEMBERS,
    **dict.fromkeys(
        ("version", "resources", "env", "site log", "server log", "log-config", "enable"), _OTHER_SITE | _MEMBERS
    ),
    "register study": _LEADS | _MEMBERS,
    "add user": _LEADS | _MEMBERS,
    "remove study": _ORG_ADMINS | _LEADS | _MEMBERS,
    "list certificates": _LEADS | _MEMBERS,
}


@pytest.mark.row("S15")
@pytest.mark.parametrize("command", COMMANDS)
def test_everybody_may_do_what_their_role_says_and_nobody_more(world: World, command: str) -> None:
    act, may = COMMANDS[command]
    reasons = REASONS.get(command, {})
    assert set(reasons) == EVERYBODY - may, "the table says of everybody who may not why"
    code = "NOT_AUTHORIZED" if "study" in command or command == "add user" else "AUTH_FAILED"
    wrong = {}
    for user in sorted(EVERYBODY):
        with world.running.session(user) as session:
            found = refused(session, world, act)
        fits = found == ("", "") if user in may else found[0] == code and reasons[user] in found[1]
        if not fits:
            wrong[user] = found
    assert wrong == {}


# -- each site decides by itself

#: Whose jobs run where.
RUNS = {
    "a-1": {ADMIN_A, ADMIN_B, LEAD_A, LEAD_B},
    "a-2": {ADMIN_A, LEAD_A},
    "b-1": {ADMIN_A, ADMIN_B, LEAD_A, LEAD_B},
    "b-2": {ADMIN_A, ADMIN_B},
}
WHY_NOT_RUN = {
    ("a-2", ADMIN_B): f"{ADMIN_B} (project_admin) may not submit this job here",
    ("a-2", LEAD_B): f"{LEAD_B} (lead) may not submit this job here",
    ("b-2", LEAD_A): "the role lead may not submit jobs",
    ("b-2", LEAD_B): "the role lead may not submit jobs",
}


@pytest.mark.row("S20")
def test_a_site_whose_file_says_less_than_the_servers_runs_less_and_writes_that_down(
    running: Federation, tmp_path: Path
) -> None:
    users = (ADMIN_A, ADMIN_B, LEAD_A, LEAD_B)
    folders = {site: write_job(tmp_path / site, SCRIPT, sites=[site], rounds=1) for site in SITES}
    with contextlib.ExitStack() as stack:
        sessions = {user: stack.enter_context(running.session(user)) for user in users}
        jobs = {(site, user): sessions[user].submit_job(folders[site]) for site in SITES for user in users}
        ends = {pair: sessions[pair[1]].wait_for_job(job, 90) for pair, job in jobs.items()}
    for (site, user), meta in ends.items():
        if user in RUNS[site]:
            assert meta["status"] == "FINISHED:COMPLETED", (site, user, meta["cause"])
        else:
            assert (meta["status"], meta["cause"]["site"]) == ("FINISHED:FAILED", site)
            assert WHY_NOT_RUN[site, user] in meta["cause"]["message"]
            assert f"local/authorization.json of {site} decides" in meta["cause"]["hint"]
            assert str(running.prod) not in str(meta["cause"])
    for site in SITES:
        said = {one.decision.object: one.decision for one in last_records(running.state(site) / "audit", 1000)}
        for user in users:
            record = said[f"job {jobs[site, user]}, run 1"]
            assert (record.principal.name, record.verb) == (user, "run")
            assert record.outcome == ("allow" if user in RUNS[site] else "deny")
            assert WHY_NOT_RUN.get((site, user), "") in record.reason
        assert verify(running.state(site) / "audit").fault is None


#: Whose orders sites carry out; the server, by what was provisioned, lets those of the site's organisation pass.
ORDERS = {
    "a-1": {*ADMINS, ORG_A, LEAD_A},
    "a-2": {ADMIN_A, LEAD_A},
    "b-1": {*ADMINS, ORG_B, LEAD_B},
    "b-2": {*ADMINS, ORG_B},
}
#: Whom the server lets pass, and the site refuses.
BY_THE_SITE = {
    ("a-2", ADMIN_B): f"{ADMIN_B} (project_admin) may not see the version of this site here",
    ("a-2", ORG_A): "the role org_admin may not see the version of sites",
    ("b-2", LEAD_B): "the role lead may not see the version of sites",
}


def test_an_order_needs_the_servers_leave_and_the_sites_own(running: Federation) -> None:
    before = {site: verify(running.state(site) / "audit").records for site in SITES}
    done: dict[str, set[str]] = {site: set() for site in SITES}
    why_not: dict[tuple[str, str], AuthError] = {}
    for user in sorted(EVERYBODY):
        with running.session(user) as session:
            for site in SITES:
                try:
                    session.report_version(site)
                    done[site].add(user)
                except AuthError as error:
                    why_not[site, user] = error
    assert done == ORDERS
    for pair, why in BY_THE_SITE.items():
        assert why in why_not[pair].message
        assert f"local/authorization.json of {pair[0]} decides" in why_not[pair].hint
        assert str(running.prod) not in why_not[pair].hint
    for site in SITES:
        records = [one.decision for one in last_records(running.state(site) / "audit", 1000)[before[site] :]]
        said = {(one.principal.name, one.verb, one.outcome) for one in records}
        assert {name for name, verb, outcome in said if (verb, outcome) == ("version", "allow")} == ORDERS[site]
        denied = {(site, one.principal.name): one.reason for one in records if one.outcome == "deny"}
        assert denied == {pair: why for pair, why in BY_THE_SITE.items() if pair[0] == site}


def test_a_right_that_is_named_counts_before_its_category(running: Federation) -> None:
    with running.session(ORG_B) as session:
        assert session.report_resources("client", ["b-2"])["b-2"]["cpus"]
        with pytest.raises(AuthError, match="the role org_admin may not restart sites"):
            session.restart("client", ["b-2"])
    with running.session(ADMIN_A) as session:
        with pytest.raises(AuthError, match="the role project_admin may not read logs of sites"):
            session.get_site_log("b-2")
        assert session.get_site_log("b-1", tail=5)


def test_an_order_for_several_sites_is_refused_as_a_whole_if_one_is_not_the_callers(running: Federation) -> None:
    with running.session(ORG_B) as session:
        for names in (["b-1", "a-1"], []):
            with pytest.raises(AuthError, match="only sites of beta; this is one of alpha"):
                session.restart("client", names)
        with pytest.raises(AuthError, match="only sites of beta"):
            session.shutdown("all")
        with pytest.raises(AuthError, match="may disable only sites of beta; this is one of alpha"):
            session.disable_client("a-1", "to see whether it works")
    running.ready()


def test_what_a_site_refuses_is_said_beside_what_the_others_did(running: Federation) -> None:
    with running.session(ADMIN_B) as session:
        found = session.configure_site_log("INFO")
    assert set(found) == {"server", *SITES}
    assert [name for name, answer in found.items() if "error" in answer] == ["a-2"]
    assert found["a-2"]["error"]["code"] == "AUTH_FAILED"
    assert found["b-2"] == {"mode": "INFO"}


@pytest.mark.parametrize("name", ["server", "a-1"])
def test_a_service_does_not_start_with_a_file_of_rights_that_is_broken(tmp_path: Path, name: str) -> None:
    found = Federation(tmp_path, participants=PARTICIPANTS)
    path = found.prod / name / "local" / "authorization.json"
    path.write_text('{"format": 1, "permissions": {"lead": {"submit_job": "anybody"}}}')
    try:
        found.start(name)
        assert found._services.pop(name).wait(60) == 4
    finally:
        found.close()
    (line,) = found.log(name).splitlines()
    assert f"{path}: permissions.lead.submit_job: 'anybody' says nothing" in line
    assert "INVALID_CONFIG" in line


# -- orders that are not what they seem, at the server; what sites make of them is in core/tests/site/test_orders.py


def signed(session: Session, action: Any = "version", *, by: Session | None = None, **changes: Any) -> SignedStatement:
    """An order to the server and ``a-1``, changed before it is signed."""
    made = new_order(action, "example_project", ("server", "a-1"))
    kit = (by or session).kit
    return sign_statement(attrs.evolve(made, **changes), key_pem=kit.key_pem, certificate_pem=kit.certificate_pem)


def altered(session: Session) -> SignedStatement:
    good = signed(session)
    return attrs.evolve(good, content=good.content.replace(b'"version"', b'"restart"'))


FORGED: dict[str, tuple[Callable[[Session, Session], SignedStatement], str, str]] = {
    "altered": (lambda admin, _: altered(admin), "INTEGRITY_FAILED", "what it covers was changed"),
    "signed by somebody else": (lambda admin, lead: signed(admin, by=lead), "AUTH_FAILED", f"signed by {LEAD_A}, but"),
    "with somebody else's certificate": (
        lambda admin, lead: attrs.evolve(signed(admin, by=lead), certificate=admin.kit.certificate_pem),
        "INTEGRITY_FAILED",
        "the signature is not that of",
    ),
    "too old": (
        lambda admin, _: signed(admin, created="2026-01-01T00:00:00Z"),
        "AUTH_FAILED",
        "signed at 2026-01-01T00:00:00Z",
    ),
    "of another project": (lambda admin, _: signed(admin, project="elsewhere"), "AUTH_FAILED", "another project"),
    "for nobody": (lambda admin, _: signed(admin, targets=()), "INVALID_ARGS", "names nobody"),
    "for who is not there": (lambda admin, _: signed(admin, targets=("a-1", "a-9")), "SITE_NOT_FOUND", "a-9"),
    "for a user": (lambda admin, _: signed(admin, targets=(LEAD_A,)), "SITE_NOT_FOUND", LEAD_A),
    "with a mode that there is not": (
        lambda admin, _: signed(admin, "log_mode", mode="LOUD"),
        "LOG_CONFIG_INVALID",
        "'LOUD' is not a log level",
    ),
    "of a job that does not run": (
        lambda admin, _: signed(admin, "job_log_mode", mode="INFO", job="nothing"),
        "JOB_NOT_FOUND",
        "no job nothing",
    ),
}


@pytest.mark.row("S15")
@pytest.mark.parametrize("case", FORGED)
def test_an_order_that_is_not_what_it_seems_is_refused_and_nobody_hears_of_it(running: Federation, case: str) -> None:
    make, code, why = FORGED[case]
    before = {name: verify(running.state(name) / "audit").records for name in ("server", "a-1")}
    with running.session(ADMIN_A) as admin, running.session(LEAD_A) as lead, pytest.raises(FlpocError) as caught:
        admin.ask("Order", GiveOrder(make(admin, lead)))
    assert (caught.value.code, why in caught.value.message) == (code, True), caught.value.message
    records = [one.decision for one in last_records(running.state("server") / "audit", 1000)[before["server"] :]]
    assert [(one.verb, one.outcome) for one in records if one.verb != "Status"] == [("Order", "deny")]
    assert verify(running.state("a-1") / "audit").records == before["a-1"]


def test_an_order_is_carried_out_once(running: Federation) -> None:
    with running.session(ADMIN_A) as admin:
        order = GiveOrder(signed(admin))
        assert set(admin.ask("Order", order)) == {"server", "a-1"}
        with pytest.raises(AuthError, match="carried out before"):
            admin.ask("Order", order)
