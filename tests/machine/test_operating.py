"""Operating a federation that runs: logs, restarts, sites kept out, copies of jobs, numbers of a running one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from catalogue.attack import becomes

from flpoc.audit.checking import last_records
from flpoc.errors import AuthError, DeadlineError, FlpocError, JobError, UsageError
from flpoc.session import Session

from .federation import Federation, write_job

#: Each round is slow enough to be interrupted; the model depends on nothing but the one before and the site.
SCRIPT = """
    import logging
    import time

    import numpy as np
    import flpoc.client as flare

    log = logging.getLogger("training")
    flare.init()
    part = 0.1 * (1 + (flare.get_site_name() == "site-2"))
    while flare.is_running():
        model = flare.receive()
        if model is None:
            break
        log.debug("a detail of round %d", model.current_round)
        log.warning("a warning of round %d", model.current_round)
        time.sleep(0.15)
        old = model.params.get("w", np.ones(3, np.float32))
        flare.send(flare.FLModel(params={"w": np.float32(old * 1.1 + part)}, metrics={"loss": part}))
"""
ROUNDS = 12
#: Does not end when it is asked to.
STUBBORN = """
    import signal
    import threading

    import flpoc.client as flare

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    flare.init()
    flare.receive()
    threading.Event().wait()
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    found = Federation(tmp_path_factory.mktemp("operating"))
    try:
        found.start()
        found.ready()
        yield found
    finally:
        found.close()


@pytest.fixture
def admin(running: Federation) -> Iterator[Session]:
    with running.session() as session:
        yield session


def submit(session: Session, folder: Path, **settings: Any) -> str:
    return session.submit_job(write_job(folder, SCRIPT, **{"rounds": ROUNDS, "min_clients": 2, **settings}))


def in_round(session: Session, job: str, number: int = 2) -> None:
    assert any(meta["rounds_committed"] >= number for meta in session.watch_job(job, timeout=60))


# -- restarts


@pytest.fixture(scope="module")
def undisturbed(running: Federation, tmp_path_factory: pytest.TempPathFactory) -> str:
    """SHA-256 of the model of a job that nobody interrupts."""
    with running.session() as session:
        meta = session.wait_for_job(submit(session, tmp_path_factory.mktemp("job") / "undisturbed"), 60)
        assert meta["status"] == "FINISHED:COMPLETED"
        return str(meta["sha256"])


RESTARTS: dict[str, tuple[Any, list[str], list[str]]] = {
    "the server": ("server", [], ["server"]),
    "a site": ("client", ["site-2"], ["site-2"]),
    "all sites": ("client", [], ["site-1", "site-2"]),
    "everything": ("all", [], ["server", "site-1", "site-2"]),
}


def beginnings(session: Session) -> dict[str, tuple[int, float]]:
    """Process id of each service, and when it began at the latest: answers take their time."""
    found = session.report_resources()
    now = time.monotonic()
    return {name: (one["process"]["pid"], now - one["process"]["uptime_s"]) for name, one in found.items()}


@pytest.mark.parametrize("case", RESTARTS)
def test_a_running_job_goes_on_after_a_restart_and_gives_the_same_model(
    running: Federation, admin: Session, undisturbed: str, tmp_path: Path, case: str
) -> None:
    target, names, told = RESTARTS[case]
    pids = {name: running.pid(name) for name in ("server", *running.sites)}
    open_files = {name: len(os.listdir(f"/proc/{pid}/fd")) for name, pid in pids.items()}
    began = beginnings(admin)
    job = submit(admin, tmp_path / "job")
    in_round(admin, job)
    ordered = time.monotonic()
    done = admin.restart(target, names)
    assert (done["status"], done["targets"], done["refused"]) == ("restarted", told, {})
    assert done["result"] == dict.fromkeys(told, "restarted")
    meta = admin.wait_for_job(job, 60)
    assert (meta["status"], meta["sha256"]) == ("FINISHED:COMPLETED", undisturbed), meta["cause"]
    after = beginnings(admin)
    for name, pid in pids.items():
        assert running._services[name].poll() is None
        assert after[name][0] == began[name][0] == pid
        assert (after[name][1] > ordered) == (name in told)
        assert becomes(lambda name=name, pid=pid: len(os.listdir(f"/proc/{pid}/fd")) <= open_files[name] + 2)
    for name in told:
        assert running.log(name).count("restart was ordered") >= 1


def test_whoever_is_to_end_for_good_does_not_begin_anew(tmp_path: Path) -> None:
    """SIGTERM, or the order to shut down, while a restart is under way."""
    found = Federation(tmp_path, sites=2)
    try:
        found.start()
        found.ready()
        with found.session() as session, found.session() as other, ThreadPoolExecutor(2) as pool:
            # its script has to be killed, so that there is time enough before site-1 begins anew
            job = session.submit_job(write_job(tmp_path / "job", STUBBORN, sites=["site-1"]))
            next(meta for meta in session.watch_job(job, timeout=60) if meta["status"] == "RUNNING")
            assert session.restart("client", ["site-1"], wait=False)["status"] == "restarting"
            found._services["site-1"].send_signal(signal.SIGTERM)
            assert found._services.pop("site-1").wait(60) == 0
            # at the same time: who is just ending hears nothing more
            orders = [pool.submit(act, "client", ["site-2"], wait=False) for act in (session.restart, other.shutdown)]
            assert [one.result()["refused"] for one in orders] == [{}, {}]
            assert found._services.pop("site-2").wait(60) == 0
            session.restart("server", wait=False)
            found._services["server"].send_signal(signal.SIGTERM)
        assert found._services.pop("server").wait(60) == 0
        assert found.log("server").count("listens on port") == 1
    finally:
        found.close()


def test_what_is_shut_down_ends_well_and_goes_on_when_it_is_started(
    running: Federation, admin: Session, undisturbed: str, tmp_path: Path
) -> None:
    job = submit(admin, tmp_path / "job")
    in_round(admin, job)
    done = admin.shutdown("client", ["site-1"])
    assert (done["status"], done["result"]) == ("stopped", {"site-1": "stopped"})
    assert running._services.pop("site-1").wait(60) == 0
    assert [one["name"] for one in admin.status()["sites"]] == ["site-2"]
    running.start("site-1")
    in_round(admin, job, 5)
    done = admin.shutdown("all")
    assert done["targets"] == ["server", "site-1", "site-2"]
    for name in done["targets"]:
        assert running._services.pop(name).wait(60) == 0
    for name in done["targets"]:
        assert running.job_processes(name) == []
    running.start()
    running.ready()
    meta = admin.wait_for_job(job, 60)
    assert (meta["status"], meta["sha256"]) == ("FINISHED:COMPLETED", undisturbed)


def test_who_does_not_wait_is_answered_at_once_and_who_waits_in_vain_is_told(
    running: Federation, admin: Session
) -> None:

    def registrations(name: str = "site-2") -> int:
        return running.log(name).count(": registered with project")

    before = registrations("site-1")
    began = time.monotonic()
    done = admin.restart("client", ["site-1"], wait=False)
    assert (done["status"], done["wait"], done["result"]) == ("restarting", False, {"site-1": "restarting"})
    assert time.monotonic() - began < 10
    admin.wait_ready(running.sites, 60)
    # whoever did not wait sees the former connection a little longer
    assert becomes(lambda: registrations("site-1") > before)
    running.ready()

    for act in (admin.shutdown, admin.restart):
        before = registrations()
        with pytest.raises(DeadlineError, match=r"after 0\.01 s (still running|not back): site-2") as caught:
            act("client", ["site-2"], timeout=0.01)
        assert (caught.value.code, caught.value.exit_status) == ("TIMEOUT", 3)
        assert caught.value.data["pending"] == ["site-2"]
        if act == admin.shutdown:
            assert running._services.pop("site-2").wait(60) == 0
            running.start("site-2")
        assert becomes(lambda before=before: registrations() > before)
        running.ready()


# -- logs


def site_log(running: Federation, name: str, since: int) -> list[str]:
    return running.log(name)[since:].splitlines()


def test_services_log_more_less_and_otherwise_until_they_begin_anew(running: Federation, admin: Session) -> None:
    assert admin.configure_site_log("ERROR", "server") == {"server": {"mode": "ERROR"}}
    size = {name: len(running.log(name)) for name in ("server", "site-1", "site-2")}
    admin.restart("client", ["site-1"])
    assert not [line for line in site_log(running, "server", size["server"]) if "connected" in line]
    assert admin.configure_site_log("info", "server") == {"server": {"mode": "INFO"}}
    admin.configure_site_log("msg_only")
    admin.restart("client", ["site-1"])
    assert becomes(lambda: "site-1: connected" in site_log(running, "server", size["server"]))
    admin.configure_site_log("full", "site-2")
    admin.configure_site_log("DEBUG", "site-2")
    assert becomes(lambda: any("introspection.py:" in line for line in site_log(running, "site-2", size["site-2"])))
    assert not any("introspection.py:" in line for line in site_log(running, "site-1", size["site-1"]))
    admin.configure_site_log("reload")
    last = [line for line in admin.get_site_log("server", tail=5) if "logs as reload" in line]
    assert last[-1].endswith("WARNING flpoc logs as reload from now on")
    admin.configure_site_log("concise", "site-1")
    admin.restart("client", ["site-1"])
    assert "INFO flpoc.site" in admin.get_site_log("site-1", tail=1)[0]


@pytest.mark.parametrize("level", ["", "LOUD", "debugging", "NOTSET", "10"])
def test_what_is_no_level_is_refused(admin: Session, level: str) -> None:
    for act in (lambda: admin.configure_site_log(level), lambda: admin.configure_job_log("job", level)):
        with pytest.raises(FlpocError) as caught:
            act()
        assert (caught.value.code, caught.value.exit_status) == ("LOG_CONFIG_INVALID", 4)
        assert "DEBUG" in caught.value.hint


def test_the_log_of_a_service_is_bounded_and_the_newest(running: Federation, admin: Session) -> None:
    lines = admin.get_site_log("site-1", tail=2000)
    assert lines[-3:] == admin.get_site_log("site-1", tail=3)
    assert len(admin.get_site_log("server", tail=1)) == 1
    with pytest.raises(FlpocError) as caught:
        admin.get_site_log("site-9")
    assert caught.value.code == "SITE_NOT_FOUND"


def job_log(session: Session, job: str, site: str) -> str:
    return str(session.get_job_logs(job, "all", tail=100000)["logs"].get(site) or "")


def test_scripts_of_a_running_job_log_more_where_it_is_ordered(
    running: Federation, admin: Session, tmp_path: Path
) -> None:
    job = submit(admin, tmp_path / "job", rounds=200)
    in_round(admin, job)
    done = admin.configure_job_log(job, "DEBUG", "site-1")
    assert (done["job_id"], done["config"], done["sites"]) == (job, "DEBUG", ["site-1"])
    assert done["answers"] == {"site-1": {"mode": "DEBUG"}}
    assert becomes(lambda: "DEBUG training a detail of round" in job_log(admin, job, "site-1"))
    assert "a detail" not in job_log(admin, job, "site-2")
    # a script that is started again logs as it was told
    (pid,) = running.job_processes("site-1", job)
    seen = job_log(admin, job, "site-1").count("a detail")
    os.kill(pid, signal.SIGKILL)
    assert becomes(lambda: job_log(admin, job, "site-1").count("a detail") > seen)
    everywhere = admin.configure_job_log(job[:20], "ERROR")
    assert everywhere["sites"] == ["server", "site-1", "site-2"]
    assert all(answer == {"mode": "ERROR"} for answer in everywhere["answers"].values())
    for site, code in (("site-9", "SITE_NOT_FOUND"), ("nobody", "SITE_NOT_FOUND")):
        with pytest.raises(FlpocError) as caught:
            admin.configure_job_log(job, "DEBUG", site)
        assert (caught.value.code, caught.value.exit_status) == (code, 1)
    admin.abort_job(job)
    admin.wait_for_job(job, 60)
    for act in (lambda: admin.configure_job_log(job, "DEBUG"), lambda: admin.show_stats(job)):
        with pytest.raises(JobError) as caught:
            act()
        assert (caught.value.code, caught.value.data) == ("JOB_NOT_RUNNING", {"status": "FINISHED:ABORTED"})


# -- sites kept out


def test_a_site_that_is_disabled_is_out_at_once_until_it_is_enabled_also_over_restarts(
    running: Federation, admin: Session, tmp_path: Path
) -> None:
    job = submit(admin, tmp_path / "job", rounds=500)
    in_round(admin, job)
    done = admin.disable_client("site-2", "smoke in the server room")
    assert (done["state"], done["already_disabled"], done["rejoin_allowed"]) == ("disabled", False, False)
    assert (done["credential_revoked"], done["disabled_by"]) == (False, "admin@nvidia.com")
    meta = admin.wait_for_job(job, 60)
    assert meta["status"] == "FINISHED:FAILED"
    assert (meta["cause"]["site"], meta["cause"]["phase"]) == ("site-2", "disabled")
    assert meta["cause"]["message"] == "site-2 was disabled by admin@nvidia.com: smoke in the server room"
    assert becomes(lambda: running.job_processes("site-2") == []), "its part ends, though nobody speaks with it"
    assert running._services["site-2"].poll() is None
    assert admin.disable_client("site-2", "again")["already_disabled"] is True
    status = admin.check_status()
    assert (status["disabled_clients"], [one["client_name"] for one in status["clients"]]) == (["site-2"], ["site-1"])
    running.kill("server")
    running.start("server")
    running.ready("site-1")
    assert becomes(lambda: "kept out, disabled by admin@nvidia.com" in running.log("server"))
    waiting = submit(admin, tmp_path / "waiting", sites=["site-1", "site-2"], rounds=1)
    assert becomes(lambda: "site-2" in (admin.get_job_meta(waiting)["waiting_for"] or ""))
    running.stop("site-2")
    running.start("site-2")  # also one that is started meanwhile waits
    assert becomes(lambda: running.log("server").count("kept out, disabled by admin@nvidia.com") >= 2)
    assert [one["name"] for one in admin.status()["sites"]] == ["site-1"]
    assert admin.enable_client("site-2")["already_enabled"] is False
    admin.wait_ready(["site-2"], 60)
    assert admin.enable_client("site-2")["already_enabled"] is True
    assert admin.wait_for_job(waiting, 60)["status"] == "FINISHED:COMPLETED"
    verbs = [(one.decision.verb, one.decision.object) for one in last_records(running.state("server") / "audit", 200)]
    assert ("Disable", "site site-2: smoke in the server room") in verbs
    assert ("Enable", "site site-2") in verbs
    found = [one.decision for one in last_records(running.state("server") / "audit", 200)]
    came = [(one.outcome, one.reason) for one in found if (one.verb, one.principal.name) == ("Connect", "site-2")]
    assert came[-2:] == [("deny", "disabled by admin@nvidia.com"), ("allow", "")]


def test_a_job_that_needs_fewer_goes_on_without_a_disabled_site(
    running: Federation, admin: Session, tmp_path: Path
) -> None:
    job = submit(admin, tmp_path / "job", rounds=20, min_clients=1, quorum=1)
    in_round(admin, job)
    admin.disable_client("site-2")
    try:
        why = "lost: site-2 was disabled by admin@nvidia.com"
        assert admin.get_job_meta(job)["failures"] == {"site-2": why}
        assert admin.show_errors(job)["errors"] == {"site-2": [{"site": "site-2", "message": why}]}
        meta = admin.wait_for_job(job, 60)
        assert (meta["status"], meta["rounds_committed"]) == ("FINISHED:COMPLETED", 20)
    finally:
        admin.enable_client("site-2")
        running.ready()


@pytest.mark.parametrize("act", ["disable_client", "enable_client"])
def test_only_a_site_that_ever_came_can_be_disabled(admin: Session, act: str) -> None:
    with pytest.raises(FlpocError, match="no site 'site-9' has ever connected") as caught:
        getattr(admin, act)("site-9")
    assert (caught.value.code, caught.value.exit_status) == ("SITE_NOT_FOUND", 1)
    with pytest.raises(UsageError):
        getattr(admin, act)("../site-1")


# -- copies


def test_a_copy_has_the_same_files_and_another_signer(running: Federation, admin: Session, tmp_path: Path) -> None:
    with running.session("lead@nvidia.com") as lead:
        source = submit(lead, tmp_path / "job", rounds=1)
        assert lead.wait_for_job(source, 60)["status"] == "FINISHED:COMPLETED"
        own = lead.clone_job(source[:20])
        assert (own["source_job_id"], own["name"]) == (source, "test")
    copy = admin.clone_job(source)["new_job_id"]
    metas = {job: admin.wait_for_job(job, 60) for job in (source, copy, own["new_job_id"])}
    assert {meta["sha256"] for meta in metas.values()} == {metas[source]["sha256"]}
    assert [metas[job]["submitter_name"] for job in metas] == ["lead@nvidia.com", "admin@nvidia.com", "lead@nvidia.com"]
    assert [metas[job]["cloned_from"] for job in metas] == [None, source, source]
    assert metas[copy]["job_folder_name"] == metas[source]["job_folder_name"] == "job"
    with running.session("lead@nvidia.com") as lead, pytest.raises(AuthError, match="may copy only jobs of their own"):
        lead.clone_job(copy)
    again = admin.clone_job(copy)["new_job_id"]
    assert admin.get_job_meta(again)["cloned_from"] == copy
    admin.wait_for_job(again, 60)
    admin.delete_job(source)
    admin.delete_job(copy)
    for job in (source, copy):
        with pytest.raises(JobError) as caught:
            admin.clone_job(job)
        assert caught.value.code == "JOB_NOT_FOUND"
    assert admin.wait_for_job(admin.clone_job(again)["new_job_id"], 60)["sha256"] == metas[source]["sha256"]


class Pretender(Session):
    """Says of a job that it is a copy of another."""

    of = ""

    def send(self, name: str, requests: Iterator[bytes]) -> Any:
        import attrs

        from flpoc.wire.codec import encode
        from flpoc.wire.requests import SUBMISSION

        def changed() -> Iterator[bytes]:
            yield encode(attrs.evolve(SUBMISSION.decode(next(requests)), cloned_from=self.of))
            yield from requests

        return super().send(name, changed())


def test_what_is_no_copy_is_not_called_one(running: Federation, admin: Session, tmp_path: Path) -> None:
    other = write_job(tmp_path / "other", SCRIPT + "\n    print('other')\n", rounds=1)
    source = submit(admin, tmp_path / "job", sites=["site-9"], min_clients=1)
    with Pretender(running.prod / "admin@nvidia.com") as session:
        for of, why in ((source, "is no copy of job"), ("nothing", "no job nothing")):
            session.of = of
            with pytest.raises(JobError, match=why):
                session.submit_job(other)
    with Pretender(running.prod / "lead@nvidia.com") as session:
        session.of = source
        with pytest.raises(AuthError, match="may copy only jobs of their own"):
            session.submit_job(other)
    admin.abort_job(source)


# -- numbers of a running job


def test_the_numbers_of_a_running_job(running: Federation, admin: Session, tmp_path: Path) -> None:
    job = submit(admin, tmp_path / "job", rounds=300)
    in_round(admin, job)
    found = admin.show_stats(job[:20])
    assert (found["job_id"], found["status"]) == (job, "RUNNING")
    assert list(found["stats"]) == ["server", "site-1", "site-2"]
    server, site = found["stats"]["server"], found["stats"]["site-1"]
    assert server["rounds"]["total"] == 300
    assert 2 <= server["rounds"]["committed"] <= server["rounds"]["current"]
    assert server["metrics"]["loss"] == pytest.approx(0.15)
    assert server["model"]["bytes"] > 12
    assert server["controller"]["connected"] is True
    assert site["state"]["doing"] in ("training", "update received", "waiting")
    assert (site["state"]["joined"], site["state"]["connected"], site["state"]["failure"]) == (True, True, None)
    assert list(admin.show_stats(job, "site-2")["stats"]) == ["site-2"]
    with pytest.raises(FlpocError, match="site-9 has no part in job") as caught:
        admin.show_stats(job, "site-9")
    assert caught.value.code == "SITE_NOT_FOUND"
    running.stop("site-2")
    assert becomes(lambda: admin.show_stats(job)["stats"]["site-2"]["state"]["connected"] is False)
    running.start("site-2")
    running.ready()
    admin.abort_job(job)


# -- calls that make no sense

WRONG: dict[str, tuple[Callable[[Session], Any], str]] = {
    "another target": (lambda s: s.restart("everything"), "INVALID_ARGS"),
    "a name for the server": (lambda s: s.shutdown("server", ["server-1"]), "INVALID_ARGS"),
    "a path": (lambda s: s.report_env("client", ["../../etc"]), "INVALID_ARGS"),
    "a site that is not there": (lambda s: s.restart("client", ["site-1", "site-9"]), "SITE_NOT_FOUND"),
    "the log of all": (lambda s: s.get_site_log("nobody"), "SITE_NOT_FOUND"),
    "a job that is none": (lambda s: s.show_stats("../x"), "INVALID_ARGS"),
    "a job that is not there": (lambda s: s.configure_job_log("nothing", "INFO"), "JOB_NOT_FOUND"),
    "errors of a job that is not there": (lambda s: s.show_errors("nothing"), "JOB_NOT_FOUND"),
    "components of a job that is not there": (lambda s: s.list_job_components("nothing"), "JOB_NOT_FOUND"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_call_that_makes_no_sense_is_refused_and_nothing_is_done(
    running: Federation, admin: Session, case: str
) -> None:
    act, code = WRONG[case]
    before = {name: running.pid(name) for name in ("server", *running.sites)}
    with pytest.raises(FlpocError) as caught:
        act(admin)
    assert caught.value.code == code
    assert caught.value.hint
    assert {name: running.pid(name) for name in before} == before
    assert [one["name"] for one in admin.status()["sites"]] == running.sites


def without_last_word(status: dict[str, Any]) -> dict[str, Any]:
    """What is said of the system, but for when sites were last heard of: they speak all the time."""
    clients = [{key: one[key] for key in one if key != "client_last_conn_time"} for one in status["clients"]]
    return {**status, "clients": clients}


def test_the_calls_that_look_agree_with_each_other(running: Federation, admin: Session, tmp_path: Path) -> None:
    job = submit(admin, tmp_path / "job", rounds=300)
    in_round(admin, job)
    status = admin.check_status()
    assert without_last_word(admin.get_system_info()) == without_last_word(admin.check_status("server"))
    assert [one["client_name"] for one in status["clients"]] == running.sites
    assert status["jobs"] == [{"job_id": job, "app_name": "test", "status": "RUNNING"}]
    assert admin.get_client_job_status(["site-2"]) == [
        {"client_name": "site-2", "status": "running a job", "app_name": "test", "job_id": job}
    ]
    versions = admin.report_version()
    assert (versions["compatible"], versions["mismatched_sites"]) == (True, [])
    assert [one["site"] for one in versions["sites"]] == ["server", *running.sites]
    assert admin.report_env("client", ["site-1"])["site-1"]["launcher"] == "local"
    assert admin.show_errors(job) == {"job_id": job, "status": "RUNNING", "errors": {}}
    admin.abort_job(job)
    admin.wait_for_job(job, 60)
    assert {one["status"] for one in admin.get_client_job_status()} == {"idle"}


def test_why_a_job_failed_is_told_by_site(admin: Session, tmp_path: Path) -> None:
    job = admin.submit_job(write_job(tmp_path / "job", 'raise ValueError("no such column")', min_clients=2))
    meta = admin.wait_for_job(job, 60)
    found = admin.show_errors(job)
    assert (found["job_id"], found["status"]) == (job, "FINISHED:FAILED")
    (cause,) = found["errors"][meta["cause"]["site"]]
    assert cause["message"] == "no such column"
    assert admin.show_errors(job, "site-9")["errors"] == {}
