"""Commands beside a system that runs: places for results, tokens, Ctrl-C, and jobs whose processes are gone."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flpoc.session import Session

from .conftest import RUN, User, interrupted, snapshot

# -- where results go


@pytest.mark.row("C8")
def test_results_never_replace_what_no_download_made(running, finished):
    place = running.here / "mine"
    (place / finished).mkdir(parents=True)
    (place / finished / "thesis.txt").write_text("three years")
    before = snapshot(place)
    running.run("job", "download", finished, "-o", str(place)).refused("INVALID_ARGS", "exists already", "--force")
    assert snapshot(place) == before
    done = running.run("job", "download", finished, "-o", str(place), "--force")
    assert Path(done.data["path"]).is_dir()
    kept = re.search(r"is kept in (\S+)", done.err)
    assert kept is not None
    assert (Path(kept[1]) / "thesis.txt").read_text() == "three years"


@pytest.mark.row("C8")
@pytest.mark.parametrize("force", [(), ("--force",)])
def test_results_go_through_no_link(running, finished, tmp_path, force):
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "letter.txt").write_text("dear")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / finished).symlink_to(tmp_path / "target")
    before = snapshot(tmp_path)
    running.run("job", "download", finished, "-o", str(tmp_path / "out"), *force).refused("INVALID_ARGS")
    assert snapshot(tmp_path) == before


@pytest.mark.row("C8")
def test_the_home_folder_is_a_place_like_any_other(running, finished):
    (running.home / "letter.txt").write_text("dear")
    before = snapshot(running.home)
    done = running.run("job", "download", finished, "-o", str(running.home), "--force")
    after = snapshot(running.home)
    assert {name: after[name] for name in before} == before
    assert Path(done.data["path"]).parent == running.home


@pytest.mark.row("C8")
@pytest.mark.parametrize("place", ["/proc", "/dev/null", "file", "/proc/1/x/y", "a" * 5000])
def test_a_place_that_cannot_be_written_is_named(running, finished, place):
    (running.here / "file").write_text("x")
    done = running.run("job", "download", finished, "-o", place)
    assert done.document["error_code"] in ("OUTPUT_DIR_NOT_WRITABLE", "INVALID_ARGS", "FILE_FAILED")
    assert done.document["hint"]
    assert (running.here / "file").read_text() == "x"


# -- tokens and ids


@pytest.mark.row("C9")
def test_one_token_at_once_is_one_job(running):
    folder = str(running.job("token", sites=["site-9"], min_clients=1))
    words = ("job", "submit", "-j", folder, "--submit-token", "at-once")
    with ThreadPoolExecutor(4) as pool:
        # processes of their own: the quick way runs one command after the other
        answers = list(pool.map(lambda _: running.run(*words, stdin=subprocess.DEVNULL).data, range(4)))
    assert len({one["job_id"] for one in answers}) == 1
    assert sorted(one["existing"] for one in answers) == [False, True, True, True]
    assert len(running.run("job", "list", "--submit-token", "at-once").data) == 1
    assert running.run("job", "abort", answers[0]["job_id"], "--force").code == 0


@pytest.mark.row("C10")
def test_a_token_belongs_to_what_was_submitted_with_it(running):
    one = str(running.job("first", sites=["site-9"], min_clients=1))
    two = str(running.job("second", sites=["site-9"], min_clients=1))
    job = running.run("job", "submit", "-j", one, "--submit-token", "mine").data["job_id"]
    found = running.run("job", "submit", "-j", two, "--submit-token", "mine").refused("SUBMIT_TOKEN_CONFLICT", job)
    assert found["data"]["existing_job_id"] == job
    assert running.run("job", "abort", job, "--force").code == 0
    assert running.run("job", "delete", job, "--force").code == 0
    gone = running.run("job", "submit", "-j", one, "--submit-token", "mine").refused("SUBMIT_TOKEN_JOB_DELETED")
    assert gone["data"]["job_id"] == job


@pytest.mark.row("C10")
@pytest.mark.parametrize("token", ["a b", "a/b", "x" * 129, "\u00e9", "a\nb"])
def test_what_cannot_be_a_token_is_refused(running, token):
    folder = running.here / "first"
    found = running.run("job", "submit", "-j", str(folder), "--submit-token", token).refused("INVALID_ARGS")
    assert "1 to 128 characters" in found["message"]


@pytest.mark.row("C6")
def test_the_beginning_of_an_id_must_fit_one_job(running):
    folder = running.job("many", sites=["site-9"], min_clients=1)
    by_letter: dict[str, list[str]] = {}
    with Session.open(running.workspace / "example_project" / "prod_00" / "admin@nvidia.com") as session:
        while max(map(len, by_letter.values()), default=0) < 2:  # after seventeen, as there are sixteen digits
            job = session.submit_job(folder)
            by_letter.setdefault(job[0], []).append(job)
    several = next(jobs for jobs in by_letter.values() if len(jobs) > 1)
    for command in ("meta", "wait", "abort", "delete", "logs", "download"):
        force = ["--force"] if command in ("abort", "delete") else []
        found = running.run("job", command, *force, several[0][0]).refused("JOB_AMBIGUOUS")
        assert all(job in json.dumps(found) for job in several)
    assert running.run("job", "meta", several[0][:12]).data["job_id"] == several[0]
    with Session.open(running.workspace / "example_project" / "prod_00" / "admin@nvidia.com") as session:
        for job in (one for jobs in by_letter.values() for one in jobs):
            session.abort_job(job)


# -- Ctrl-C


@pytest.mark.row("C11")
@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.6])
def test_an_interrupted_submission_leaves_nothing_and_can_be_repeated(running, tmp_path, seconds):
    folder = running.job(f"large-{seconds}", sites=["site-9"], min_clients=1)
    (folder / "code" / "data.bin").write_bytes(os.urandom(64 << 20))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    words = ("job", "submit", "-j", str(folder), "--submit-token", f"large-{seconds}")
    code, out, _ = interrupted(running, *words, after=seconds, env={"TMPDIR": str(temporary)})
    if code == 130:
        assert out == ""
        assert list(temporary.iterdir()) == []
    (folder / "code" / "data.bin").unlink()
    again = running.run(*words)
    if again.code:  # the first one had arrived whole
        again.refused("SUBMIT_TOKEN_CONFLICT")
    job = running.run("job", "list", "--submit-token", f"large-{seconds}").data[0]["job_id"]
    assert running.run("job", "abort", job, "--force").code == 0


@pytest.mark.row("C11")
@pytest.mark.parametrize("seconds", [0.1, 0.2, 0.3])
def test_an_interrupted_download_leaves_nothing_and_can_be_repeated(running, finished, tmp_path, seconds):
    code, out, _ = interrupted(running, "job", "download", finished, "-o", str(tmp_path), after=seconds)
    assert code == 0 or out == ""
    left = [one.name for one in tmp_path.iterdir()]
    assert left in ([], [finished])
    assert running.run("job", "download", finished, "-o", str(tmp_path), "--force").code == 0
    assert [one.name for one in tmp_path.iterdir()] == [finished]


@pytest.mark.row("C11")
@pytest.mark.parametrize("words", [("wait",), ("monitor",), ("monitor", "--format", "jsonl")], ids=" ".join)
def test_who_only_looks_may_be_interrupted_at_any_time(running, endless, words):
    job = endless()
    code, _, _ = interrupted(running, "job", words[0], job, *words[1:], after=1.0, text=True)
    assert code == 130
    assert running.run("job", "meta", job).data["status"] == "RUNNING"
    assert running.run("job", "abort", job, "--force").code == 0


# -- jobs that cannot go on


def processes_of(user: User, *, services: bool = False) -> list[int]:
    """Everything that runs for this user: by its words, or by where it works."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace")
                where = os.readlink(entry / "cwd")
            except OSError:
                continue
            if str(user.workspace) in words + where and (services or "flpoc.runner" in words):
                found.append(int(entry.name))
    return found


def kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.row("C15")
def test_a_job_without_any_process_can_be_aborted(user):
    """Server, sites and job are killed at once; only the server is started again."""
    user.prepare(2)
    assert user.run("poc", "start").code == 0
    job = user.run("job", "submit", "-j", str(user.job("lost", "__import__('time').sleep(600)"))).data["job_id"]
    until = time.monotonic() + 60
    while user.run("job", "meta", job).data["status"] != "RUNNING":
        assert time.monotonic() < until
    kill(processes_of(user, services=True))
    assert user.run("poc", "start", "-p", "server").data["status"] == "running"
    assert user.run("job", "meta", job).data["status"] in ("RUNNING", "DISPATCHED")
    assert user.run("job", "abort", job, "--force").data["job_id"] == job
    found = user.run("job", "abort", job, "--force").refused("JOB_NOT_RUNNING", "FINISHED:ABORTED")
    assert found["hint"]
    assert user.run("poc", "start").data["ready"]
    until = time.monotonic() + 60
    while processes_of(user):
        assert time.monotonic() < until, "a process of the aborted job lives"
        time.sleep(0.1)
    other = user.run("job", "submit", "-j", str(user.job("next"))).data["job_id"]
    assert user.run("job", "wait", other, "--timeout", "60").data["status"] == "FINISHED:COMPLETED"


@pytest.mark.row("C15", "D8")
def test_a_finished_job_cannot_be_aborted_and_says_how_it_ended(running, finished):
    for _ in range(2):
        running.run("job", "abort", finished, "--force").refused("JOB_NOT_RUNNING", "FINISHED:COMPLETED")


# -- what is shown


@pytest.mark.row("C12")
@pytest.mark.parametrize("words", ["job list", "job meta JOB", "job logs JOB --site all", "--format json job list"])
def test_a_reader_that_stops_reading_is_no_failure(running, finished, words):
    line = words.replace("JOB", finished)
    text = f'flpoc() {{ "{sys.executable}" -c "{RUN}" "$@"; }}\nflpoc {line} | head -c 1; flpoc {line} | true'
    done = subprocess.run(
        ["bash", "-c", text], env=running.environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert not re.search("Traceback|Broken", done.stderr)


@pytest.mark.row("C12")
@pytest.mark.parametrize("columns", ["1", "20", "40", "500"])
@pytest.mark.parametrize("command", ["list", "meta", "logs", "monitor"])
def test_any_width_will_do(running, finished, command, columns):
    more = {"list": [], "logs": [finished, "--site", "all"]}.get(command, [finished])
    words = ("job", command, *more)
    done = running.run(*words, text=True, env={"COLUMNS": columns})
    assert (done.code, "Traceback" in done.err) == (0, False)
    # narrow tables fold ids over lines
    assert finished[:8] in done.out.replace("\n", "").replace(" ", "") or command in ("logs", "monitor")


@pytest.fixture
def kit_of(running: User) -> Callable[[str], str]:
    return lambda name: str(running.workspace / "example_project" / "prod_00" / name)


@pytest.mark.row("D14")
def test_who_may_not_submit_is_told_so_in_one_message(running, kit_of):
    words = ("job", "submit", "-j", str(running.here / "first"), "--startup-kit", kit_of("org-admin@nvidia.com"))
    if not (running.here / "first").exists():
        running.job("first", sites=["site-9"], min_clients=1)
    found = running.run(*words).refused("AUTH_FAILED", "org_admin")
    assert str(running.workspace / "state") not in json.dumps(found)
    assert "/tmp/flpoc" not in json.dumps(found)
    assert found["message"].count("AUTH") == 0
    assert "lead" in found["message"] + found["hint"]


@pytest.mark.row("C13", "D16")
@pytest.mark.parametrize("name", ["site-1", "server"])
def test_the_kit_of_a_service_opens_no_session(running, kit_of, name):
    done = running.run("job", "list", "--startup-kit", kit_of(name))
    assert done.document["error_code"] in ("INVALID_KIT", "STARTUP_KIT_MISSING")
    assert "kit of a" in done.document["message"]
