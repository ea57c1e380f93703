"""Two studies in one project: neither sees anything of the other."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from catalogue.attack import becomes

from flpoc.audit.checking import last_records
from flpoc.errors import AuthError, FlpocError, JobError
from flpoc.session import Session

from .federation import Federation, write_job
from .two_organisations import (
    ADMIN_A,
    LEAD_A,
    LEAD_B,
    MEMBER_A,
    ORG_A,
    ORG_B,
    PARTICIPANTS,
)

SCRIPT = """
    import numpy as np
    import flpoc.client as flare

    flare.init()
    while flare.is_running():
        model = flare.receive()
        if model is None:
            break
        print("a secret of", flare.get_site_name(), flush=True)
        flare.send(flare.FLModel(params={"w": np.zeros(2, np.float32)}, metrics={"loss": 1.0}))
"""
ENDLESS = """
    import threading
    import flpoc.client as flare

    flare.init()
    flare.receive()
    threading.Event().wait()
"""
#: Study, its sites by organisation, and who works in it; b-2 is in none.
STUDIES = {
    "cancer": ({"alpha": ["a-1"], "beta": ["b-1"]}, LEAD_A),
    "heart": ({"alpha": ["a-2"], "gamma": ["b-2"]}, LEAD_B),  # b-2 is of beta, whatever the study says
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    found = Federation(tmp_path_factory.mktemp("studies"), participants=PARTICIPANTS)
    try:
        found.start()
        found.ready()
        yield found
    finally:
        found.close()


@attrs.frozen
class Worlds:
    """For each study: a session of its user, a finished job, and one that runs."""

    sessions: dict[str, Session]
    done: dict[str, str]
    endless: dict[str, str]


@pytest.fixture(scope="module")
def worlds(running: Federation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds]:
    folder = tmp_path_factory.mktemp("jobs")
    with running.session(ADMIN_A) as admin:
        for name, (sites, user) in STUDIES.items():
            assert admin.register_study(name, sites)["users"] == [ADMIN_A]
            assert user in admin.add_study_user(name, user)["users"]
    with contextlib.ExitStack() as stack:
        sessions, done, endless = {}, {}, {}
        for name, (_, user) in STUDIES.items():
            session = sessions[name] = stack.enter_context(running.session(user, study=name))
            done[name] = session.submit_job(write_job(folder / f"{name}-done", SCRIPT, rounds=2, name=f"{name}-done"))
            meta = session.wait_for_job(done[name], 60)
            assert meta["status"] == "FINISHED:COMPLETED", meta["cause"]
            endless[name] = session.submit_job(write_job(folder / f"{name}-on", ENDLESS, name=f"{name}-on"))
            assert any(one["status"] == "RUNNING" for one in session.watch_job(endless[name], timeout=60))
        yield Worlds(sessions, done, endless)
        for name, session in sessions.items():
            session.abort_job(endless[name])
            session.wait_for_job(endless[name], 60)


def test_a_job_for_all_sites_runs_at_those_of_its_study(worlds: Worlds) -> None:
    ran = {name: worlds.sessions[name].get_job_meta(job)["job_clients"] for name, job in worlds.done.items()}
    assert ran == {"cancer": ["a-1", "b-1"], "heart": ["a-2"]}


def test_each_study_sees_its_own_jobs_and_sites(worlds: Worlds) -> None:
    for name, session in worlds.sessions.items():
        assert {job["job_id"] for job in session.list_jobs()} == {worlds.done[name], worlds.endless[name]}
        status = session.status()
        sites = {"cancer": ["a-1", "b-1"], "heart": ["a-2"]}[name]
        assert [one["name"] for one in status["sites"]] == sites
        assert status["active_jobs"] == [worlds.endless[name]]
        assert set(session.show_stats(worlds.endless[name])["stats"]) == {"server", *sites}
        assert set(session.get_job_logs(worlds.done[name], "all")["logs"]) >= {"server"}
        assert [row["client_name"] for row in session.get_client_job_status()] == sites


#: What is asked about one job.
QUESTIONS: dict[str, Callable[[Session, str], Any]] = {
    "meta": lambda s, job: s.get_job_meta(job),
    "status": lambda s, job: s.get_job_status(job),
    "watch": lambda s, job: list(s.watch_job(job, timeout=5)),
    "wait": lambda s, job: s.wait_for_job(job, 5),
    "logs": lambda s, job: s.get_job_logs(job, "all"),
    "log of a site": lambda s, job: s.get_job_logs(job, "a-2"),
    "stats": lambda s, job: s.show_stats(job),
    "errors": lambda s, job: s.show_errors(job),
    "results": lambda s, job: s.list_job_components(job),
    "download": lambda s, job: s.download_job_result(job, "nowhere"),
    "clone": lambda s, job: s.clone_job(job),
    "abort": lambda s, job: s.abort_job(job),
    "delete": lambda s, job: s.delete_job(job),
    "log-config": lambda s, job: s.configure_job_log(job, "DEBUG"),
}


def how_it_fails(act: Callable[[Session, str], Any], session: Session, job: str) -> tuple[str, str, str, Any]:
    with pytest.raises(FlpocError) as caught:
        act(session, job)
    error = caught.value
    return type(error).__name__, error.code, error.message.replace(job, "ID"), (error.hint, error.data)


@pytest.mark.row("S16")
@pytest.mark.parametrize("question", QUESTIONS)
def test_a_job_of_another_study_is_answered_like_one_that_does_not_exist(worlds: Worlds, question: str) -> None:
    act = QUESTIONS[question]
    session = worlds.sessions["cancer"]
    nothing = how_it_fails(act, session, "00000000-0000-0000-0000-000000000000")
    assert nothing[1] == "JOB_NOT_FOUND"
    for job in (worlds.done["heart"], worlds.endless["heart"], worlds.done["heart"][:13]):
        assert how_it_fails(act, session, job) == nothing


def test_a_beginning_of_an_id_counts_within_the_study_only(worlds: Worlds) -> None:
    """Whatever ids begin alike elsewhere."""
    for name, session in worlds.sessions.items():
        assert session.get_job_meta(worlds.done[name][:13])["job_id"] == worlds.done[name]
        other = next(job for key, job in worlds.done.items() if key != name)
        assert session.list_jobs(id_prefix=other) == []
        assert session.list_jobs(name_prefix="heart" if name == "cancer" else "cancer") == []


def test_the_default_study_sees_neither_of_their_jobs(running: Federation, worlds: Worlds) -> None:
    with running.session(ADMIN_A) as admin:
        assert admin.list_jobs() == []
        for job in (*worlds.done.values(), *worlds.endless.values()):
            assert how_it_fails(QUESTIONS["meta"], admin, job)[1] == "JOB_NOT_FOUND"


def test_a_submit_token_means_something_else_in_each_study(running: Federation, tmp_path: Path) -> None:
    job = write_job(tmp_path / "job", SCRIPT, min_clients=9)
    found = set()
    for name in (*STUDIES, "default"):
        with running.session(ADMIN_A, study=name) as session:
            found.add(session.submit_job(job, submit_token="once"))
            assert session.submit_job(job, submit_token="once") in found
            (row,) = session.list_jobs(submit_token="once")
            session.abort_job(row["job_id"])
            session.delete_job(row["job_id"])
    assert len(found) == 3


#: Jobs that name a site of the other study, each in another way.
FOREIGN: dict[str, dict[str, Any]] = {
    "sites": {"sites": ["a-1", "a-2"]},
    "mandatory": {"mandatory_sites": ["a-2"]},
    "scripts": {"scripts": {"@default": {"script": "train.py"}, "a-2": {"script": "train.py"}}},
    "an organisation that it is not of": {"sites": ["b-2"]},
    "nobody's": {"sites": ["a-9"]},
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_job_that_names_a_site_of_another_study_is_refused(worlds: Worlds, tmp_path: Path, case: str) -> None:
    settings = dict(FOREIGN[case])
    folder = write_job(tmp_path / "job", SCRIPT, **settings)
    if "scripts" in settings:
        text = (folder / "job.json").read_text()
        (folder / "job.json").write_text(text.replace('"script": "train.py", ', "", 1))
    with pytest.raises(JobError, match="not in study 'cancer'") as caught:
        worlds.sessions["cancer"].submit_job(folder)
    assert "flpoc study show cancer" in caught.value.hint


def test_a_job_file_says_nothing_else_than_the_session(running: Federation, worlds: Worlds, tmp_path: Path) -> None:
    folder = write_job(tmp_path / "job", SCRIPT, study="heart")
    with pytest.raises(FlpocError, match="heart"):
        worlds.sessions["cancer"].submit_job(folder)


#: What is asked of a site that is not of the session's study.
ORDERS: dict[str, Callable[[Session, str], Any]] = {
    "resources": lambda s, site: s.report_resources("client", [site]),
    "version": lambda s, site: s.report_version(site),
    "log": lambda s, site: s.get_site_log(site),
    "log-config": lambda s, site: s.configure_site_log("INFO", site),
    "restart": lambda s, site: s.restart("client", [site]),
    "status": lambda s, site: s.check_status("client", [site]),
}


@pytest.mark.parametrize("order", ORDERS)
def test_a_site_of_another_study_is_answered_like_one_that_does_not_exist(running: Federation, order: str) -> None:
    with running.session(ADMIN_A, study="cancer") as session:
        answers = {}
        for site in ("a-2", "b-2", "a-9"):
            with pytest.raises(FlpocError) as caught:
                ORDERS[order](session, site)
            error = caught.value
            assert error.code == "SITE_NOT_FOUND"
            answers[site] = (error.message.replace(site, "X"), error.hint)
            assert not {"a-2", "b-2"} & set((error.hint + str(error.data)).replace(site, "").split(", "))
        assert len(set(answers.values())) == 1, answers


def test_all_means_all_of_the_study(running: Federation) -> None:
    with running.session(ADMIN_A, study="heart") as session:
        assert set(session.report_version()["sites"][0]) == {"site", "version"}
        assert [one["site"] for one in session.report_version()["sites"]] == ["server", "a-2"]
        assert [one["client_name"] for one in session.get_connected_client_list()] == ["a-2"]
        with pytest.raises(FlpocError, match="b-2"):
            session.wait_ready(["b-2"], 1.0)


@pytest.mark.row("J12", "S16")
def test_who_is_not_in_a_study_is_not_told_whether_it_exists(running: Federation, worlds: Worlds) -> None:
    for user in (LEAD_B, MEMBER_A, ORG_A):
        answers = set()
        for study in ("cancer", "nowhere"):
            with running.session(user, study=study) as session, pytest.raises(AuthError) as caught:
                session.list_jobs()
            error = caught.value
            assert (error.code, error.exit_status) == ("AUTH_FAILED", 2)
            assert error.data["auth_code"] == "AUTH_STUDY_USER_NOT_MAPPED"
            answers.add((error.message.replace(study, "X"), error.hint.replace(study, "X")))
        assert len(answers) == 1
    with running.session(ADMIN_A, study="nowhere") as session, pytest.raises(AuthError) as caught:
        session.list_jobs()
    assert caught.value.data == {"auth_code": "AUTH_UNKNOWN_STUDY", "study": "nowhere"}


def test_everybody_is_told_of_their_own_studies(running: Federation, worlds: Worlds) -> None:
    seen = {ADMIN_A: ["default", "cancer", "heart"], LEAD_A: ["default", "cancer"], LEAD_B: ["default", "heart"]}
    seen |= {MEMBER_A: ["default"], ORG_A: ["default", "cancer", "heart"], ORG_B: ["default", "cancer"]}
    for user, names in seen.items():
        with running.session(user) as session:
            found = session.list_studies()
            assert found["studies"] == names
            may = {one["name"]: one["can_submit_job"] for one in found["study_details"]}
            assert may == dict.fromkeys(names, user in (ADMIN_A, LEAD_A, LEAD_B))
            for row in found["study_details"]:
                assert row["can_submit_job"] == ("reason" not in row)
            for name in {"cancer", "heart"} - set(names):
                with pytest.raises(FlpocError, match=f"there is no study '{name}'") as caught:
                    session.show_study(name)
                assert caught.value.code == "STUDY_NOT_FOUND"
    with running.session(LEAD_A) as session:
        shown = session.show_study("cancer")
    assert shown["site_orgs"] == {"alpha": ["a-1"], "beta": ["b-1"]}
    assert shown["users"] == [ADMIN_A, LEAD_A]
    assert shown["connected"] == ["a-1", "b-1"]


def test_a_site_of_another_organisation_than_the_study_says_does_not_count(running: Federation) -> None:
    with running.session(ADMIN_A) as session:
        shown = session.show_study("heart")
    assert (shown["sites"], shown["connected"]) == (["a-2", "b-2"], ["a-2"])


# -- changing studies

#: Who does what, and which error comes of it.
REFUSED: dict[str, tuple[str, Callable[[Session], Any], str, int]] = {
    "a name with capitals": (ADMIN_A, lambda s: s.register_study("Cancer"), "INVALID_STUDY_NAME", 4),
    "a name that is too long": (ADMIN_A, lambda s: s.register_study("x" * 64), "INVALID_STUDY_NAME", 4),
    "a name that ends oddly": (ADMIN_A, lambda s: s.register_study("x-"), "INVALID_STUDY_NAME", 4),
    "the default study": (ADMIN_A, lambda s: s.register_study("default"), "INVALID_STUDY_NAME", 4),
    "a site for the default study": (
        ADMIN_A, lambda s: s.add_study_site("default", {"alpha": ["a-1"]}), "INVALID_STUDY_NAME", 4,
    ),
    "the end of the default study": (ADMIN_A, lambda s: s.remove_study("default"), "INVALID_STUDY_NAME", 4),
    "a site with an odd name": (ADMIN_A, lambda s: s.register_study("new", {"alpha": ["../x"]}), "INVALID_SITE", 4),
    "an organisation with an odd name": (
        ADMIN_A, lambda s: s.register_study("new", {"a/b": ["a-1"]}), "INVALID_SITE", 4,
    ),
    "a site of another organisation": (
        ORG_B, lambda s: s.register_study("new", {"alpha": ["a-1"]}), "INVALID_SITE", 4,
    ),
    "a site of another organisation, added": (
        ORG_B, lambda s: s.add_study_site("cancer", {"alpha": ["a-2"]}), "INVALID_SITE", 4,
    ),
    "a site of another organisation, removed": (
        ORG_B, lambda s: s.remove_study_site("cancer", {"alpha": ["a-1"]}), "INVALID_SITE", 4,
    ),
    "a site that is not in it": (
        ADMIN_A, lambda s: s.remove_study_site("cancer", {"alpha": ["a-2"]}), "INVALID_SITE", 4,
    ),
    "a study of others": (ORG_B, lambda s: s.register_study("heart", {"beta": ["b-2"]}), "STUDY_ALREADY_EXISTS", 1),
    "a study of others, added to": (
        ORG_B, lambda s: s.add_study_site("heart", {"beta": ["b-2"]}), "STUDY_NOT_FOUND", 1,
    ),
    "a study that there is not": (ADMIN_A, lambda s: s.show_study("nowhere"), "STUDY_NOT_FOUND", 1),
    "a user for it": (ADMIN_A, lambda s: s.add_study_user("nowhere", LEAD_A), "STUDY_NOT_FOUND", 1),
    "the end of it": (ADMIN_A, lambda s: s.remove_study("nowhere"), "STUDY_NOT_FOUND", 1),
    "a user twice": (ADMIN_A, lambda s: s.add_study_user("cancer", LEAD_A), "USER_ALREADY_IN_STUDY", 1),
    "a user who is not in it": (ADMIN_A, lambda s: s.remove_study_user("cancer", LEAD_B), "USER_NOT_IN_STUDY", 1),
    "a user with an odd name": (ADMIN_A, lambda s: s.add_study_user("cancer", "a b"), "INVALID_ARGS", 4),
    "a study with jobs": (ADMIN_A, lambda s: s.remove_study("cancer"), "STUDY_HAS_JOBS", 1),
    "a lead who registers": (LEAD_A, lambda s: s.register_study("new"), "NOT_AUTHORIZED", 1),
    "a lead who adds": (LEAD_A, lambda s: s.add_study_user("cancer", LEAD_B), "NOT_AUTHORIZED", 1),
    "a member who removes": (MEMBER_A, lambda s: s.remove_study_user("cancer", LEAD_A), "NOT_AUTHORIZED", 1),
    "an org_admin who ends one": (ORG_A, lambda s: s.remove_study("cancer"), "NOT_AUTHORIZED", 1),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_change_that_is_refused_changes_nothing_and_is_written_down(
    running: Federation, worlds: Worlds, case: str
) -> None:
    user, act, code, status = REFUSED[case]
    with running.session(ADMIN_A) as admin, running.session(user) as session:
        before = [admin.show_study(name) for name in (*STUDIES, "default")]
        with pytest.raises(FlpocError) as caught:
            act(session)
        record = last_records(running.state("server") / "audit", 1)[0].decision
        assert [admin.show_study(name) for name in (*STUDIES, "default")] == before
        assert admin.list_studies()["studies"] == ["default", *STUDIES]
    assert (caught.value.code, caught.value.exit_status) == (code, status), caught.value.message
    if code != "STUDY_HAS_JOBS":  # that is no decision about a right
        assert (record.principal.name, record.outcome, record.reason) == (user, "deny", caught.value.message)


def test_an_org_admin_makes_a_study_with_sites_of_their_own(running: Federation) -> None:
    with running.session(ORG_B) as org, running.session(ADMIN_A) as admin:
        try:
            made = org.register_study("lung", {"beta": ["b-2"]})
            assert (made["sites"], made["users"], made["registered_by"]) == (["b-2"], [ORG_B], ORG_B)
            assert org.register_study("lung", {"beta": ["b-1"]})["sites"] == ["b-1", "b-2"]
            assert org.remove_study_site("lung", {"beta": ["b-2"]})["sites"] == ["b-1"]
            assert admin.add_study_site("lung", {"alpha": ["a-1"]})["sites"] == ["a-1", "b-1"]
            assert admin.remove_study_site("lung", {"alpha": ["a-1"]})["site_orgs"] == {"beta": ["b-1"]}
            assert org.remove_study_user("lung", ORG_B)["users"] == []
        finally:
            assert admin.remove_study("lung") == {"name": "lung", "removed": True}


def test_changes_at_the_same_time_are_all_kept(running: Federation) -> None:
    people = [f"user-{number}@x.org" for number in range(12)]

    def add(name: str) -> None:
        with running.session(ADMIN_A) as session:
            session.add_study_user("crowd", name)

    with running.session(ADMIN_A) as admin:
        admin.register_study("crowd")
        try:
            threads = [threading.Thread(target=add, args=(name,)) for name in people]
            for one in threads:
                one.start()
            for one in threads:
                one.join()
            assert set(people) < set(admin.show_study("crowd")["users"])
        finally:
            admin.remove_study("crowd")


def test_who_is_taken_out_of_a_study_sees_it_no_longer(running: Federation, worlds: Worlds, tmp_path: Path) -> None:
    with running.session(ADMIN_A, study="cancer") as admin, running.session(MEMBER_A, study="cancer") as member:
        job = admin.submit_job(write_job(tmp_path / "job", SCRIPT, min_clients=9))
        admin.add_study_user("cancer", MEMBER_A)
        news = member.watch_job(job)
        assert next(news)["status"] == "SUBMITTED"
        admin.remove_study_user("cancer", MEMBER_A)
        admin.abort_job(job)
        with pytest.raises(AuthError, match="no study 'cancer'"):
            next(news)
        with pytest.raises(AuthError, match="no study 'cancer'"):
            member.list_jobs()
        admin.delete_job(job)


def test_a_job_whose_site_leaves_the_study_before_it_starts_never_starts(running: Federation, tmp_path: Path) -> None:
    with running.session(ADMIN_A) as admin:
        admin.register_study("brief", {"alpha": ["a-1", "a-9"]})
        with running.session(ADMIN_A, study="brief") as session:
            job = session.submit_job(write_job(tmp_path / "job", SCRIPT, sites=["a-1", "a-9"]))
            assert becomes(lambda: "a-9 (never connected)" in (session.get_job_meta(job)["waiting_for"] or ""))
            admin.remove_study_site("brief", {"alpha": ["a-9"]})
            meta = session.wait_for_job(job, 60)
            assert meta["status"] == "FINISHED:CAN_NOT_SCHEDULE"
            assert meta["cause"]["message"] == "a-9: not in study 'brief'"
            session.delete_job(job)
        admin.remove_study("brief")


def test_a_job_waits_for_a_site_that_is_added_to_its_study(running: Federation, tmp_path: Path) -> None:
    with running.session(ADMIN_A) as admin:
        admin.register_study("grows", {"alpha": ["a-1"]})
        with running.session(ADMIN_A, study="grows") as session:
            job = session.submit_job(write_job(tmp_path / "job", SCRIPT, min_clients=2, rounds=1))
            assert becomes(lambda: session.get_job_meta(job)["waiting_for"] == "1 of 2 sites are connected")
            admin.add_study_site("grows", {"beta": ["b-2"]})
            meta = session.wait_for_job(job, 60)
            assert (meta["status"], meta["job_clients"]) == ("FINISHED:COMPLETED", ["a-1", "b-2"])
            session.delete_job(job)
        admin.remove_study("grows")


def test_studies_and_their_jobs_survive_a_restart_of_the_server(running: Federation, worlds: Worlds) -> None:
    with running.session(ADMIN_A) as admin:
        before = [admin.show_study(name) for name in STUDIES]
    running.kill("server")
    running.start("server")
    running.ready()
    with running.session(ADMIN_A) as admin:
        assert [admin.show_study(name) for name in STUDIES] == before
    for name, (_, user) in STUDIES.items():
        with running.session(user, study=name) as session:
            assert {job["job_id"] for job in session.list_jobs()} == {worlds.done[name], worlds.endless[name]}
    with running.session(LEAD_A, study="heart") as session, pytest.raises(AuthError):
        session.list_jobs()


class Slow(Session):
    """A submitter whose archive takes its time; something happens meanwhile."""

    def __init__(self, *arguments: Any, meanwhile: Callable[[], None], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.meanwhile = meanwhile

    def send(self, name: str, requests: Iterator[bytes]) -> Any:
        def slowly() -> Iterator[bytes]:
            yield next(requests)
            self.meanwhile()
            yield from requests

        return super().send(name, slowly())


def test_a_job_does_not_come_into_a_study_that_was_removed_meanwhile(running: Federation, tmp_path: Path) -> None:
    log = running.state("server") / "audit"

    def meanwhile() -> None:
        while "Submit" not in [one.decision.verb for one in last_records(log, 3)]:
            admin.list_studies()
        admin.remove_study("gone")

    with running.session(ADMIN_A) as admin:
        admin.register_study("gone", {"alpha": ["a-1"]})
        with (
            Slow(running.prod / ADMIN_A, study="gone", meanwhile=meanwhile) as session,
            pytest.raises(FlpocError, match="study 'gone' was removed meanwhile") as caught,
        ):
            session.submit_job(write_job(tmp_path / "job", SCRIPT))
        assert caught.value.code == "STUDY_NOT_FOUND"
        admin.register_study("gone", {"alpha": ["a-1"]})
        with running.session(ADMIN_A, study="gone") as session:
            assert session.list_jobs() == []
        admin.remove_study("gone")
