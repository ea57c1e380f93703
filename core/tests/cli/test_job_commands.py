"""``flpoc job``: what each command says to people and to programs."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import time

import pytest

from flpoc.cli.call import Call
from flpoc.cli.main import main
from flpoc.session import Session

RUN = "import sys; from flpoc.cli.main import main; sys.exit(main())"
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture(autouse=True)
def admin(deployment, monkeypatch):
    """Commands are those of the project's administrator."""
    monkeypatch.setenv("FLPOC_STARTUP_KIT_DIR", str(deployment.kit()))


@pytest.fixture
def text(capsys):
    """Run a command; gives its exit status, standard output and standard error."""

    def run(*words):
        status = main(["job", *words])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.fixture
def document(text):
    """Run a command with ``--format json``; gives the document."""

    def run(*words):
        status, out, _ = text(*words, "--format", "json")
        found = json.loads(out)
        assert found["exit_code"] == status
        return found

    return run


@pytest.mark.row("D10")
def test_an_empty_list_says_so(text):
    assert text("list", "-n", "nothing-has-this-name") == (0, "No jobs.\n", "")


@pytest.mark.row("D10")
def test_an_empty_list_is_empty_data(document):
    assert document("list", "-n", "nothing-has-this-name")["data"] == []


def test_a_list_has_the_documented_fields(document, finished):
    row = document("list", "-i", finished)["data"][0]
    assert row["job_id"] == finished
    assert (row["job_name"], row["status"], row["study"]) == ("finished", "FINISHED:COMPLETED", "default")
    assert ISO.fullmatch(row["submit_time"])
    assert isinstance(row["duration_s"], float)


def test_a_list_of_jobs_takes_little_time_and_imports(finished, deployment):
    code = (
        "import sys; from flpoc.cli.main import main; main(['job', 'list']);"
        "print([m for m in ('cryptography', 'numpy', 'pyhocon', 'yaml', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_submission_gives_the_id_of_a_job_that_runs(document, make_job):
    data = document("submit", "-j", str(make_job("submitted")))["data"]
    assert document("wait", data["job_id"], "--timeout", "60")["data"]["status"] == "FINISHED:COMPLETED"


@pytest.mark.row("J1")
def test_a_folder_without_a_job_is_refused(document, tmp_path):
    found = document("submit", "-j", str(tmp_path))
    assert (found["error_code"], found["exit_code"]) == ("INVALID_ARGS", 4)


def test_a_relative_folder_is_found_in_the_kits_transfer_folder(document, deployment, make_job):
    import shutil

    shutil.copytree(make_job("transferred"), deployment.kit() / "transfer" / "transferred", dirs_exist_ok=True)
    assert document("submit", "-j", "transferred")["data"]["job_name"] == "transferred"


@pytest.mark.row("D11")
def test_the_meta_of_a_job_names_its_submitter_in_words(text, finished):
    _, out, _ = text("meta", finished)
    assert "admin@nvidia.com (project_admin @ nvidia)" in out
    assert re.search(r"Deployment +site-1 +joined", out)


@pytest.mark.row("D11")
def test_the_meta_of_a_job_has_the_documented_fields(document, finished):
    data = document("meta", finished)["data"]
    wanted = {
        "job_id", "name", "study", "status", "submitter_name", "submitter_org", "submitter_role", "min_clients",
        "mandatory_clients", "byoc", "deploy_map", "resource_spec", "job_deploy_detail", "schedule_count",
        "last_schedule_time", "job_folder_name", "submit_time", "start_time", "duration_s",
    }  # fmt: skip
    assert wanted <= set(data)


def test_a_job_that_waits_says_for_whom(text, document, make_job):
    folder = make_job("waiting", lines='mandatory_sites = ["site-3"]')
    job = document("submit", "-j", str(folder))["data"]["job_id"]
    try:
        assert document("wait", job, "--timeout", "3")["error_code"] == "TIMEOUT"
        assert "site-3" in text("list", "-i", job)[1]
        assert "site-3" in text("meta", job)[1]
    finally:
        assert text("abort", job, "--force")[0] == 0
    assert document("meta", job)["data"]["status"] == "FINISHED:ABORTED"


def test_a_failed_job_shows_its_first_cause_in_ten_lines(text, failed):
    status, out, err = text("wait", failed)
    lines = out.splitlines()
    assert status == 1
    assert "JOB_FINISHED_EXCEPTION" in err
    assert "ValueError: no such column: age" in lines[1]
    assert "train.py:" in lines[2]
    assert len(lines) <= 11


def test_a_failed_job_is_an_error_with_its_cause_for_programs(document, failed):
    found = document("wait", failed)
    assert (found["status"], found["error_code"], found["exit_code"]) == ("error", "JOB_FINISHED_EXCEPTION", 1)
    assert found["data"]["cause"]["message"] == "no such column: age"


@pytest.mark.row("D9")
def test_a_wait_ends_in_time_with_its_own_status(document, endless):
    began = time.monotonic()
    found = document("wait", endless, "--timeout", "3")  # enough to hear how it is
    assert time.monotonic() - began < 30
    assert (found["error_code"], found["exit_code"]) == ("TIMEOUT", 3)
    assert found["data"]["job_status"] == "RUNNING"


def test_a_monitor_streams_one_object_a_line_and_ends_with_a_terminal_one(text, document, make_job):
    job = document("submit", "-j", str(make_job("streamed", rounds=4)))["data"]["job_id"]
    status, out, _ = text("monitor", job, "--format", "jsonl", "--interval", "0.01")
    records = [json.loads(line) for line in out.splitlines()]
    *steps, last = records
    assert status == 0
    assert {one["event"] for one in steps} == {"progress"}
    assert not any(one["terminal"] for one in steps)
    assert [one["elapsed_s"] for one in steps] == sorted(one["elapsed_s"] for one in steps)
    assert (last["event"], last["terminal"], last["status"]) == ("terminal", True, "COMPLETED")
    assert last["job_status"] == "FINISHED:COMPLETED"
    assert last["metrics"]["accuracy"] == pytest.approx(0.9)


def test_a_monitor_tells_people_every_round(text, finished):
    status, out, _ = text("monitor", finished)
    assert status == 0
    assert [line.split("  ")[0] for line in out.splitlines() if line.startswith("round")] == [
        "round 1 of 3",
        "round 2 of 3",
        "round 3 of 3",
    ]


def test_a_monitor_that_runs_out_of_time_ends_with_a_terminal_object(text, endless):
    status, out, _ = text("monitor", endless, "--format", "jsonl", "--timeout", "0.5")
    last = json.loads(out.splitlines()[-1])
    assert status == 3
    assert (last["status"], last["error_code"], last["timeout_seconds"]) == ("TIMEOUT", "TIMEOUT", 0.5)


@pytest.mark.row("C15", "D8")
def test_aborting_what_has_ended_tells_its_true_state(document, finished):
    found = document("abort", finished, "--force")
    assert (found["error_code"], found["data"]) == ("JOB_NOT_RUNNING", {"status": "FINISHED:COMPLETED"})


@pytest.mark.parametrize("command", ["abort", "delete"])
def test_nothing_is_done_where_nobody_can_be_asked(document, finished, command, monkeypatch):
    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        assert document(command, finished)["error_code"] == "INVALID_ARGS"
    assert document("meta", finished)["data"]["status"] == "FINISHED:COMPLETED"


def test_a_question_names_job_and_study_and_no_is_no(finished, document):
    ours, theirs = pty.openpty()
    try:
        os.write(ours, b"n\n")
        words = [sys.executable, "-c", RUN, "job", "delete", finished[:13]]
        done = subprocess.run(words, stdin=theirs, capture_output=True, text=True, timeout=60, check=False)
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 0
    assert f"Delete job {finished} (finished, FINISHED:COMPLETED) in study default? [y/N]" in done.stderr
    assert document("meta", finished)["data"]["job_id"] == finished


def test_a_deleted_job_is_gone(document, make_job):
    job = document("submit", "-j", str(make_job("deleted")))["data"]["job_id"]
    document("wait", job)
    assert document("delete", job, "--force")["data"]["job_id"] == job
    assert document("meta", job)["error_code"] == "JOB_NOT_FOUND"


@pytest.mark.row("D13")
def test_logs_of_all_sites_have_headings(text, finished):
    _, out, _ = text("logs", finished, "--site", "all")
    assert [line for line in out.splitlines() if line.startswith("==")] == [
        "== server ==",
        "== site-1 ==",
        "== site-2 ==",
    ]


def test_a_tail_is_the_last_lines(document, finished):
    data = document("logs", finished, "--site", "site-1", "--tail", "1")["data"]
    assert data["sites"]["site-1"]["lines"] == 1
    assert len(data["sites"]["site-1"]["records"]) == 1
    assert data["filters"]["tail"] == 1


def test_the_log_of_an_unknown_site_is_not_found(document, finished):
    assert document("logs", finished, "--site", "site-9")["error_code"] == "LOG_NOT_FOUND"


def test_a_time_that_is_none_is_refused(document, finished):
    assert document("logs", finished, "--since", "yesterday")["error_code"] == "INVALID_ARGS"


@pytest.mark.row("D12")
def test_a_download_says_what_it_found(document, finished, tmp_path):
    data = document("download", finished, "-o", str(tmp_path))["data"]
    assert data["download_path"] == data["path"] == str(tmp_path / finished)
    assert data["artifact_discovery"] == "completed"
    assert data["missing_artifacts"] == []
    assert data["artifacts"]["global_model"].endswith("FL_global_model.safetensors")
    assert sorted(data["artifacts"]["client_logs"]) == ["site-1", "site-2"]


def test_two_kits_at_once_are_refused(document, deployment):
    assert document("list", "--kit-id", "a", "--startup-kit", str(deployment.kit()))["error_code"] == "INVALID_ARGS"


@pytest.mark.row("D16")
def test_without_a_kit_nobody_is_asked(document, monkeypatch):
    monkeypatch.delenv("FLPOC_STARTUP_KIT_DIR")
    found = document("list")
    assert (found["error_code"], found["exit_code"]) == ("STARTUP_KIT_MISSING", 2)
    assert "--startup-kit" in found["hint"]


@pytest.mark.row("C11")
def test_a_monitor_can_be_interrupted(deployment, endless):
    """Ctrl-C ends the watching, not the job."""
    import signal

    words = [sys.executable, "-c", RUN, "job", "monitor", endless]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        assert endless in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert "Traceback" not in process.stderr.read()
    with Session.open(deployment.kit()) as session:
        assert session.get_job_status(endless) == "RUNNING"


def test_who_interrupts_a_submission_is_told_where_to_look(text, make_job, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "submit", interrupted)
    monkeypatch.setattr(Call, "note_if_watched", Call.note)
    status, _, said = text("submit", "-j", str(make_job("interrupted")))
    assert (status, said.split("\n")[1]) == (130, "The server may have taken the job; `flpoc job list` shows it.")


def test_a_folder_whose_name_is_no_text_is_refused(text, make_job, tmp_path):
    odd = tmp_path / os.fsdecode(b"\xffjob")
    shutil.copytree(make_job("odd"), odd)
    status, _, said = text("submit", "-j", str(odd))
    assert status == 4
    assert "the name of the folder is not UTF-8\nHint: give the folder another name" in said


def test_a_narrow_terminal_gets_a_line_a_job_with_ids_that_commands_take(terminal, text, finished):
    listed = terminal("job", "list", "-n", "finished", columns=80)
    assert listed.end() == 0
    head, rule, job = listed.seen.splitlines()
    assert head.split() == ["JOB", "ID", "NAME", "STATUS", "SUBMIT", "TIME", "DURATION"]
    assert len(rule) <= 80
    assert finished in text("meta", job.split()[0])[1]
