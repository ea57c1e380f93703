"""``flpoc console`` with lines that nobody types: what each command does, and how a script ends."""

from __future__ import annotations

import io
import re

import pytest

from flpoc.cli.console.command import find
from flpoc.cli.console.names import ALIASES, ENTRIES, NOT_HERE, in_console
from flpoc.cli.main import main
from flpoc.session import Session

#: What users of comparable consoles type.
KNOWN_ELSEWHERE = """
    bye help ? lpwd timeout info
    submit_job list_jobs list_job get_job_meta get_job_log abort_job delete_job clone_job download_job
    download_job_components delete_workspace configure_job_log app_command
    check_status sys_info report_resources report_env report_version restart shutdown remove_client disable_client
    enable_client configure_site_log show_scopes
    show_stats show_errors reset_errors
    pwd ls cat head tail grep
    register_study add_study_site remove_study_site remove_study list_studies show_study add_study_user
    remove_study_user
    list_sessions check_session
"""


@pytest.fixture(autouse=True)
def admin(deployment, monkeypatch, tmp_path):
    """Commands are those of the project's administrator, in an empty folder."""
    monkeypatch.setenv("FLPOC_STARTUP_KIT_DIR", str(deployment.kit()))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def console(capsys):
    """Run lines in a console; gives exit status, standard output and standard error."""

    def run(*lines, words=()):
        status = main(["console", *words, *(word for line in lines for word in ("-c", line))])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.fixture
def script(capsys, monkeypatch):
    """The same with lines on standard input."""

    def run(text, *words):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        status = main(["console", *words])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


# -- scripts


def test_every_command_ends_with_the_time_it_took(console):
    status, out, err = console("lpwd", "lpwd")
    assert (status, err) == (0, "")
    assert len(re.findall(r"^Done \[\d+\.\d{3} s\]$", out, re.MULTILINE)) == 2


def test_a_script_stops_at_the_first_line_that_fails_and_ends_as_that_command(script):
    status, out, err = script("lpwd\nlist_job nothing\nlpwd\n")
    assert status == 1
    assert re.findall(r"^(\w+) \[", out, re.MULTILINE) == ["Done", "Failed"]
    assert "Code: JOB_NOT_FOUND (exit 1)" in err
    assert "line 2 failed: list_job nothing" in err


def test_a_script_may_go_on_and_still_ends_as_the_first_that_failed(script):
    status, out, _ = script("list_job nothing\nnonsense\nlpwd\n", "--keep-going")
    assert status == 1
    assert re.findall(r"^(\w+) \[", out, re.MULTILINE) == ["Failed", "Failed", "Done"]


def test_empty_lines_and_comments_are_no_commands(script):
    assert script("\n  \n# abort everything\n")[:2] == (0, "")


def test_bye_ends_a_script(script):
    status, out, _ = script("bye\nlpwd\n")
    assert (status, out) == (0, "")


@pytest.mark.parametrize(
    "line",
    [
        "abort_job ID",
        "delete_job ID",
        "shutdown all",
        "restart server",
        "disable_client site-1",
        "enable_client site-1",
    ],
)
def test_nobody_is_asked_in_a_script(console, finished, line):
    status, _, err = console(line.replace("ID", finished))
    assert status == 4, err
    assert "give -f to go on" in err


def test_formats_for_programs_are_refused(console):
    status, out, _ = console("lpwd", words=("--format", "json"))
    assert status == 4
    assert "is for people" in out


def test_the_server_is_tried_before_the_first_line(capsys, monkeypatch, own_deployment):
    monkeypatch.setenv("FLPOC_STARTUP_KIT_DIR", str(own_deployment.kit()))
    assert main(["console", "-c", "lpwd"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "nothing listens at" in said.err


def test_an_unknown_study_is_said_before_the_first_line(console):
    status, out, err = console("lpwd", words=("--study", "nosuch"))
    assert (status, out) == (1, "")
    assert "Code: STUDY_NOT_FOUND" in err
    assert "flpoc study register" in err


def test_the_kit_is_that_of_the_working_directory(console, deployment, monkeypatch):
    monkeypatch.delenv("FLPOC_STARTUP_KIT_DIR")
    for folder in (deployment.kit("lead@nvidia.com"), deployment.kit("lead@nvidia.com") / "startup"):
        monkeypatch.chdir(folder)
        assert re.search(r"user +lead@nvidia.com", console("info")[1])
    monkeypatch.chdir(deployment.kit("site-1"))
    assert console("info")[0] == 2  # no kit of a user, and none is configured


def test_another_kit_can_be_asked_for_in_the_folder_of_one(console, deployment, monkeypatch):
    monkeypatch.chdir(deployment.kit("lead@nvidia.com"))
    other = str(deployment.kit("org-admin@nvidia.com"))
    assert re.search(r"user +org-admin@nvidia.com", console("info", words=("--startup-kit", other))[1])


# -- words


def test_what_other_consoles_have_is_here_or_says_what_to_use_instead():
    assert [name for name in KNOWN_ELSEWHERE.split() if name not in {*ENTRIES, *ALIASES, *NOT_HERE}] == []


@pytest.mark.parametrize("name", NOT_HERE)
def test_what_is_not_here_is_answered_in_one_line(console, name):
    status, _, err = console(name)
    assert status == 4
    assert err == f"{name}: not in this console. Instead: {NOT_HERE[name]}\n"


@pytest.mark.parametrize("name", ENTRIES)
def test_every_command_has_help_and_an_example_of_itself(name):
    command = find(name)
    assert command.name == name
    assert command.help
    assert all(example.split()[0] in (name, "?") for example in command.examples)
    assert not {"study", "kit_id", "startup_kit"} & {one.name for one in command.params}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("lsit_jobs", "did you mean 'list_jobs'?"),
        ("flpoc job list", "here it is `list_jobs`"),
        ("study add-site cancer", "here it is `add_study_site`"),
        ("list_jobs 'x", "no closing quotation"),
        ("list_jobs --nmae x", "did you mean '--name'"),
        ("check_status clint", "did you mean 'client'?"),
        ("shutdown", "Missing argument 'TARGET'"),
        ("list_jobs \x1b[2J", "control characters"),
    ],
)
def test_a_wrong_line_says_what_is_wrong(console, line, says):
    status, out, err = console(line)
    assert status == 4
    assert says in err
    assert "\x1b" not in out + err


def test_a_dash_equals_an_underscore(console):
    assert console("list-jobs -m 1")[0] == 0


def test_help_lists_all_commands_or_those_of_a_group_or_explains_one(console):
    out = console("?")[1]
    assert [name for name in ENTRIES if f"  {name} " not in out] == []
    assert "list_jobs" not in console("? studies")[1]
    for line in ("? list_jobs", "?list_jobs", "help list_jobs", "list_jobs -h"):
        out = console(line)[1]
        assert "Usage: list_jobs [OPTIONS] [ID]" in out
        assert "--submit-token" in out


@pytest.mark.parametrize(
    ("text", "here"),
    [
        ("`flpoc job list` shows them", "`list_jobs` shows them"),
        ("flpoc job logs 12 --site all", "get_job_log 12 all"),
        ("flpoc job submit -j DIR", "submit_job DIR"),
        ("flpoc system enable-client site-1", "enable_client site-1"),
        ("--site all shows what there is", "TARGET all shows what there is"),
        ("`flpoc poc start` starts it", "`flpoc poc start` starts it"),
    ],
)
def test_advice_names_the_commands_of_the_console(text, here):
    assert in_console(text) == here


def test_the_console_asks_for_short_force_where_the_command_line_has_the_long_one(console):
    out = console("? abort_job")[1]
    assert "-f, --force" in out


# -- jobs


def test_jobs_are_listed_in_the_known_columns(console, finished):
    _, out, _ = console(f"list_jobs {finished}")
    head, _, row, *_ = out.splitlines()
    assert re.split(" {2,}", head) == ["JOB ID", "NAME", "STATUS", "SUBMIT TIME", "RUN DURATION"]
    assert row.split()[:3] == [finished, "finished", "FINISHED:COMPLETED"]
    assert console("list_jobs -n nothing")[1].startswith("No jobs.\n")


def test_only_ones_own_jobs(console, deployment, finished):
    assert finished in console(f"list_jobs -u {finished}")[1]
    other = ("--startup-kit", str(deployment.kit("lead@nvidia.com")))
    assert finished in console(f"list_jobs {finished}", words=other)[1]
    assert finished not in console(f"list_jobs -u {finished}", words=other)[1]


def test_a_detailed_list_names_the_submitter(console, finished):
    assert "admin@nvidia.com" in console(f"list_jobs -d {finished}")[1]
    assert "admin@nvidia.com" in console(f"list_job {finished[:13]}")[1]


def test_a_submitted_job_is_named(console, make_job):
    folder = make_job("typed")
    status, out, _ = console(
        f"submit_job {folder} --submit-token typed-1", f"submit_job {folder} --submit-token typed-1"
    )
    assert status == 0
    job = re.search(r"^Submitted job: (\S+)$", out, re.MULTILINE).group(1)
    assert f"Submitted before with this token: {job}" in out
    assert console(f"wait_job {job} --timeout 60")[0] == 0


def test_a_failed_job_ends_wait_with_its_status_and_shows_its_errors(console, failed):
    assert console(f"wait_job {failed}")[0] == 1
    out = console(f"show_errors {failed}")[1]
    assert "ValueError: no such column: age" in out
    assert "No errors." in console(f"show_errors {failed} server")[1]


def test_a_job_is_followed_to_its_end(console, finished):
    status, out, _ = console(f"monitor_job {finished}")
    assert status == 0
    assert "round 3 of 3" in out
    assert f"Job {finished} (finished) in study default: FINISHED:COMPLETED" in out


def test_logs_of_one_site_or_all(console, finished):
    assert "round 0" in console(f"get_job_log {finished} site-1")[1]
    assert "round 0" in console(f"get_job_log {finished} client site-1 --tail 100")[1]
    assert "== site-2 ==" in console(f"get_job_log {finished} all")[1]


def test_foreign_text_cannot_steer_a_terminal_and_stays_as_it_is(console, deployment, make_job):
    with Session.open(deployment.kit()) as session:
        job = session.submit_job(make_job("hostile", rounds=1, step='print("\\x1b[2J flpoc job list", flush=True)'))
        session.wait_for_job(job, 60)
        # logs follow beside everything else
        while "flpoc job list" not in (out := console(f"get_job_log {job} all")[1]):
            assert "hostile" in console(f"get_job_meta {job}")[1]
    assert "\\x1b[2J flpoc job list" in out
    assert "\x1b" not in out


def test_files_of_a_job_are_listed_and_some_downloaded(console, finished, tmp_path):
    assert "ledger.json" in console(f"download_job_components {finished}")[1]
    assert console(f"download_job_components {finished} ledger.json -o some")[0] == 0
    assert (tmp_path / "some" / finished / "ledger.json").is_file()
    assert not (tmp_path / "some" / finished / "FL_global_model.safetensors").exists()
    assert console(f"download_job {finished} all")[0] == 0
    assert (tmp_path / "all" / finished / "FL_global_model.safetensors").is_file()
    status, _, err = console(f"download_job {finished} all")
    assert status == 4
    assert "another DEST" in err


def test_a_running_job_shows_where_it_is_and_is_aborted(console, endless):
    assert "state.doing" in console(f"show_stats {endless}")[1]
    assert "server" not in console(f"show_stats {endless} client site-1")[1].splitlines()[2]
    assert "server, site-1, site-2: DEBUG" in console(f"configure_job_log {endless} DEBUG")[1]
    status = console("check_status server")[1]
    # a job of another test may just be coming to its end
    assert re.search(rf"JOB_ID +APP NAME\n-+  -+\n(?:\S+  \S+ *\n)*?{endless}  endless *\n", status)
    assert "running a job" in console("check_status client site-1")[1]
    assert console(f"abort_job {endless} -f")[1].startswith(f"Aborted job {endless}.")


# -- server and sites


def test_the_state_of_the_server_has_the_known_form_and_no_token(console):
    out = console("check_status server")[1]
    assert re.search(r"^Engine status: ", out)
    assert re.search(r"^JOB_ID +APP NAME$", out, re.MULTILINE)
    assert re.search(r"^Registered clients: 2\nCLIENT +LAST CONNECT TIME\n-+ +-+\nsite-1 +\d{4}-", out, re.MULTILINE)
    assert "token" not in out.lower()


def test_machines_and_versions_are_reported(console):
    status, out, _ = console("sys_info client site-1", "report_resources", "report_env server", "report_version server")
    assert status == 0
    for word in ("platform", "memory_gib", "plugins.core", "All the same."):
        assert word in out


def test_the_log_of_a_service_is_read_like_a_file(console):
    lines = console("cat server")[1].splitlines()[:-1]
    assert console("head server -n 1 log.txt")[1].splitlines()[0] == lines[0]
    assert "flpoc.site" in console("tail site-1 -n 2000 log.txt")[1]
    found = console("grep server -i -n CONNECTED")[1].splitlines()[:-1]
    assert found
    assert all(re.match(r"\d+:.*connected", line) for line in found)
    assert "(no line matches)" in console("grep server nothing.like.this")[1]
    assert console("grep server (")[0] == 4


@pytest.mark.parametrize("line", ["tail site-1 /etc/hostname", "cat server ../startup/client.key", "head site-1 x.log"])
def test_no_other_file_of_a_site_is_shown(console, line):
    status, _, err = console(line)
    assert status == 4
    assert "files of a site never leave it" in err


def test_the_connection_is_described(console, deployment):
    out = console("info", "timeout 7", "timeout")[1]
    for word in (f"localhost:{deployment.port}", "example_project", "project_admin", "default"):
        assert word in out
    assert out.count("The server is tried for 7 s.") == 2


def test_files_of_this_machine(console, tmp_path):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "hello.txt").touch()
    out = console("lpwd", "lls", "lls jobs")[1]
    assert str(tmp_path) in out
    assert "jobs/\n" in out
    assert "hello.txt\n" in out
    assert console("lls nothing")[0] == 1


# -- all examples


def lines_of_examples():
    """Every example with the words that make it real, in an order in which each finds what it needs."""
    first, last = ("register_study",), ("remove_study_user", "remove_study_site", "remove_study")
    rank = {**dict.fromkeys(first, 0), **{name: 2 + place for place, name in enumerate(last)}}
    rank |= {"abort_job": 6, "delete_job": 7, "disable_client": 8, "enable_client": 9, "restart": 10, "shutdown": 11}
    found = [(rank.get(name, 1), example) for name in ENTRIES for example in find(name).examples]
    return [example for _, example in sorted(found, key=lambda one: one[0])]


def test_every_example_works(console, own_deployment, make_job, monkeypatch, tmp_path):
    own_deployment.start("server", "site-1", "site-2")
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "hello").symlink_to(make_job("hello"))
    with Session.open(own_deployment.kit()) as session:
        ended = session.submit_job(tmp_path / "jobs" / "hello")
        session.wait_for_job(ended, 60)
        running = session.submit_job(make_job("endless", step='__import__("threading").Event().wait()'))
        next(meta for meta in session.watch_job(running, timeout=60) if meta["status"] == "RUNNING")
        session.get_job_logs(ended, "all")
    org_admin = str(own_deployment.kit("org-admin@nvidia.com"))
    for line in lines_of_examples():
        command = find(line.split()[0]) if line[0] != "?" else None
        job = running if command is not None and command.kinds.get("job_id") == "open job" else ended
        kit = org_admin if "--sites" in line else str(own_deployment.kit())
        name = "of_org" if "--sites" in line else "cancer"
        shown = line.replace(" ID", f" {job}").replace("cancer", name)
        status, _, err = console(shown, words=("--startup-kit", kit))
        assert status == 0, f"{shown}: {err}"
        if line.startswith("enable_client"):
            own_deployment.wait_until_ready(["site-1"])
