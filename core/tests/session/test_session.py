"""What an operator can do from Python, against a real server."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import time

import pytest

from flpoc.errors import AuthError, ConnectionFailed, DeadlineError, JobError, KitError, UsageError
from flpoc.session import Session, new_secure_session


@pytest.fixture
def session(deployment):
    with Session.open(deployment.kit()) as opened:
        yield opened


@pytest.fixture
def nobody(deployment, tmp_path):
    """A session whose server is not there; asking it anything fails."""
    import shutil

    kit = shutil.copytree(deployment.kit(), tmp_path / "kit")
    (kit / "local").mkdir(exist_ok=True)
    (kit / "local" / "connect.json").write_text('{"host": "localhost", "port": 1}')
    with Session.open(kit, timeout=1) as opened:
        yield opened


def test_the_status_names_the_caller_and_the_connected_sites(session):
    status = session.status()
    assert (status["user"], status["role"]) == ("admin@nvidia.com", "project_admin")
    assert [site["name"] for site in status["sites"]] == ["site-1", "site-2"]


def test_waiting_for_a_site_that_is_not_there_names_it(session):
    with pytest.raises(DeadlineError, match="site-3") as caught:
        session.wait_ready(["site-1", "site-3"], timeout=3)  # enough to hear the server
    assert caught.value.code == "SYSTEM_NOT_READY"


def test_a_finished_job_says_how_it_went(session, finished):
    meta = session.get_job_meta(finished)
    assert meta["status"] == session.get_job_status(finished) == "FINISHED:COMPLETED"
    assert (meta["rounds_committed"], meta["rounds_total"]) == (3, 3)
    assert meta["job_folder_name"] == "finished"
    assert [round(one["metrics"]["accuracy"], 3) for one in meta["rounds"]] == [0.1, 0.2, 0.3]


def test_a_job_is_found_by_the_beginning_of_its_id(session, finished):
    assert session.get_job_meta(finished[:13])["job_id"] == finished


def test_a_watch_sees_every_round_and_ends_with_the_job(session, make_job):
    job = session.submit_job(make_job("watched", rounds=4))
    metas = list(session.watch_job(job, timeout=60))
    assert metas[-1]["status"] == "FINISHED:COMPLETED"
    assert [one["round"] for one in metas[-1]["rounds"]] == [0, 1, 2, 3]
    assert [len(meta["rounds"]) for meta in metas] == sorted(len(meta["rounds"]) for meta in metas)


@pytest.mark.row("C9")
def test_the_same_token_and_job_give_the_same_id(session, make_job):
    folder = make_job("again")
    first = session.submit(folder, submit_token="token-same")
    second = session.submit(folder, submit_token="token-same")
    assert (first.job_id, first.existing, second.existing) == (second.job_id, False, True)
    assert [row["job_id"] for row in session.list_jobs(submit_token="token-same")] == [first.job_id]


@pytest.mark.row("C10")
def test_the_same_token_with_another_job_is_a_conflict(session, make_job):
    first = session.submit_job(make_job("one"), submit_token="token-two")
    with pytest.raises(JobError) as caught:
        session.submit_job(make_job("two"), submit_token="token-two")
    assert caught.value.code == "SUBMIT_TOKEN_CONFLICT"
    assert caught.value.data == {"existing_job_id": first}


def test_the_token_of_a_deleted_job_says_so(session, make_job):
    folder = make_job("gone")
    job = session.submit_job(folder, submit_token="token-gone")
    session.wait_for_job(job, 60)
    assert session.delete_job(job)["submit_records_marked_deleted"] == 1
    with pytest.raises(JobError) as caught:
        session.submit_job(folder, submit_token="token-gone")
    assert caught.value.code == "SUBMIT_TOKEN_JOB_DELETED"


def test_a_wrong_token_is_refused_before_anybody_is_asked(nobody, make_job):
    with pytest.raises(UsageError, match="1 to 128"):
        nobody.submit_job(make_job(), submit_token="a b")


@pytest.mark.row("J3")
def test_a_job_that_does_not_compile_is_refused_before_anybody_is_asked(nobody, make_job):
    folder = make_job("broken", step="if")
    with pytest.raises(Exception, match=r"train\.py: line") as caught:
        nobody.submit_job(folder)
    assert caught.value.code == "INVALID_CONFIG"


@pytest.mark.row("C5")
@pytest.mark.parametrize("job", ["../x", "", "a" * 10_000, "a\nb", "a\0b", "*", "a b"])
def test_what_cannot_be_a_job_id_is_refused_before_anybody_is_asked(nobody, job):
    for ask in (nobody.get_job_meta, nobody.wait_for_job, nobody.abort_job, nobody.download_job_result):
        with pytest.raises(UsageError, match="not a job id"):
            ask(job)


def test_an_unknown_job_is_not_found(session):
    with pytest.raises(JobError) as caught:
        session.wait_for_job("00000000-0000")
    assert caught.value.code == "JOB_NOT_FOUND"


def test_lists_are_filtered_limited_and_reversed(session, make_job):
    jobs = [session.submit_job(make_job("filter-me")) for _ in range(3)]
    listed = [row["job_id"] for row in session.list_jobs("filter-")]
    assert listed == jobs
    assert [row["job_id"] for row in session.list_jobs("filter-", limit=2)] == jobs[1:]
    assert [row["job_id"] for row in session.list_jobs("filter-", reverse=True)] == jobs[::-1]
    assert [row["job_id"] for row in session.list_jobs(id_prefix=jobs[0])] == jobs[:1]
    for job in jobs:
        session.wait_for_job(job, 120)


@pytest.mark.row("D9")
def test_a_wait_ends_when_its_time_is_up(session, endless):
    began = time.monotonic()
    with pytest.raises(DeadlineError, match="RUNNING") as caught:
        session.wait_for_job(endless, timeout=3)  # enough to hear how it is
    assert 2.9 < time.monotonic() - began < 30
    assert caught.value.data["status"] == "RUNNING"


@pytest.mark.row("C15")
def test_an_abort_ends_a_running_job_and_wakes_who_waits(session, endless, deployment):
    found = []
    waiting = threading.Thread(target=lambda: found.append(session.wait_for_job(endless, 60)["status"]))
    waiting.start()
    with Session.open(deployment.kit()) as other:
        assert other.abort_job(endless) == {"job_id": endless, "status": "ABORTED"}
    waiting.join(60)
    assert found == ["FINISHED:ABORTED"]


@pytest.mark.row("C15", "D8")
def test_a_job_that_has_ended_cannot_be_aborted(session, finished):
    with pytest.raises(JobError) as caught:
        session.abort_job(finished)
    assert (caught.value.code, caught.value.data) == ("JOB_NOT_RUNNING", {"status": "FINISHED:COMPLETED"})


def test_a_running_job_can_be_neither_deleted_nor_downloaded(session, endless, tmp_path):
    for act in (session.delete_job, lambda job: session.download_job_result(job, tmp_path / "out")):
        with pytest.raises(JobError) as caught:
            act(endless)
        assert caught.value.code == "JOB_NOT_DONE"
    assert not (tmp_path / "out").exists()


def test_a_lead_cannot_delete_the_job_of_somebody_else(deployment, finished):
    with Session.open(deployment.kit("lead@nvidia.com")) as lead, pytest.raises(AuthError, match=r"admin@nvidia\.com"):
        lead.delete_job(finished)


def test_logs_of_all_sites_come_with_the_server_first(session, finished):
    answer = session.get_job_logs(finished, "all")
    assert next(iter(answer["sites"])) == "server"
    assert answer["logs"]["site-1"].splitlines()[:2] == ["round 0", "round 1"]


def test_the_model_that_is_downloaded_is_the_one_that_the_job_says(session, finished, tmp_path):
    got = session.download_job_result(finished, tmp_path)
    model = got.path / "FL_global_model.safetensors"
    assert got.path == tmp_path / finished
    assert hashlib.sha256(model.read_bytes()).hexdigest() == got.sha256 == session.get_job_meta(finished)["sha256"]
    assert got.manifest["artifacts"]["global_model"] == model.name


def test_a_session_that_was_closed_says_so(deployment):
    session = Session.open(deployment.kit())
    session.status()
    session.close()
    session.close()
    with pytest.raises(UsageError, match="closed"):
        session.list_jobs()


def test_a_secure_session_is_for_the_user_who_is_named(deployment):
    with new_secure_session("admin@nvidia.com", str(deployment.kit())) as session:
        assert session.list_jobs(limit=1) is not None
    with pytest.raises(KitError, match=r"admin@nvidia\.com"):
        new_secure_session("somebody@nvidia.com", str(deployment.kit()))


def test_a_site_kit_opens_no_session(deployment):
    with pytest.raises(KitError, match="kit of a site"):
        Session.open(deployment.kit("site-1"))


def test_importing_the_session_imports_nothing_heavy():
    heavy = ("grpc", "msgspec", "cryptography", "numpy")
    code = f"import sys, flpoc.session; print([one for one in {heavy} if one in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout == "[]\n"


def test_a_watch_goes_on_when_the_server_is_started_again(own_deployment, make_job):
    own_deployment.start("server", "site-1", "site-2")
    away = threading.Event()
    with Session.open(own_deployment.kit()) as session:
        job = session.submit_job(make_job("survivor", step="time.sleep(0.1)", rounds=12))
        seen = []
        for meta in session.watch_job(job, timeout=90, away=away.set):
            seen = meta["rounds"]
            if len(seen) >= 2 and not away.is_set():
                own_deployment.stop("server")
                own_deployment.start("server")
    assert meta["status"] == "FINISHED:COMPLETED"
    assert [one["round"] for one in seen] == list(range(12))


def test_a_watch_gives_up_on_a_server_that_does_not_come_back(own_deployment, make_job):
    own_deployment.start("server")
    with Session.open(own_deployment.kit()) as session:
        job = session.submit_job(make_job("lonely"))
        watch = session.watch_job(job)
        assert next(watch)["status"] == "SUBMITTED"
        session.grace = 0.5
        own_deployment.stop("server")
        with pytest.raises(ConnectionFailed, match="did not come back"):
            list(watch)
