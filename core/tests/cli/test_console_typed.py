"""``flpoc console`` in a terminal: TAB, the history, Ctrl-C and Ctrl-D, and how it ends without them."""

from __future__ import annotations

import os
import re
import signal
import stat

import pytest

pytest.importorskip("readline")


@pytest.fixture
def typed(deployment, terminal, user):
    """Open a console in a terminal and wait for its prompt."""

    def run(*words, columns=150, kit=None):
        opened = terminal("console", *words, columns=columns, FLPOC_STARTUP_KIT_DIR=str(kit or deployment.kit()))
        opened.expect("> ")
        return opened

    return run


def test_it_greets_with_server_project_user_and_study(typed, deployment):
    seen = typed().seen
    assert f"Server:  localhost:{deployment.port}, 2 sites connected" in seen
    assert "Project: example_project, study default" in seen
    assert "User:    admin@nvidia.com (project_admin @ nvidia)" in seen


def test_commands_are_answered_until_ctrl_d(typed):
    console = typed()
    assert "Registered clients: 2" in console.ask("check_status server")
    assert "Usage: list_jobs" in console.ask("? list_jobs")
    assert "did you mean 'list_jobs'?" in console.ask("lsit_jobs")
    console.type("\x04")
    assert console.end() == 0


def test_bye_ends_it(typed):
    console = typed()
    console.type("bye\n")
    assert console.end() == 0


def test_tab_completes_commands_jobs_sites_and_files(typed, finished, tmp_path, monkeypatch):
    (tmp_path / "jobs").mkdir()
    monkeypatch.chdir(tmp_path)
    console = typed()
    console.type("get_job_m\t")
    console.expect("get_job_meta ")
    console.type(f"{finished[:30]}\t\n")
    console.expect(finished)
    console.expect("Section")
    console.expect("> ")
    console.type("check_status cl\tsite-2\t\n")
    console.expect("check_status client site-2")
    console.expect("Done")
    console.expect("> ")
    console.type("lls jo\t\n")
    console.expect("lls jobs/")
    console.expect(r"\(empty\)")


def test_lines_are_kept_for_the_next_console_in_a_private_file(typed, user):
    first = typed()
    first.ask("lpwd")
    first.ask("lls")
    first.type("\x04")
    assert first.end() == 0
    kept = user / "home" / ".flpoc" / "console_history"
    assert kept.read_text() == "lpwd\nlls\n"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    second = typed()
    second.type("\x10\x10\n")  # Ctrl-P: the line before
    second.expect(re.escape(os.getcwd()))
    second.expect("> ")
    second.type("\x04")
    assert second.end() == 0
    assert kept.read_text() == "lpwd\nlls\nlpwd\n"


def test_ctrl_c_ends_the_command_that_runs_and_nothing_else(typed, endless):
    console = typed()
    console.type(f"monitor_job {endless}\n")
    console.expect("RUNNING")
    console.type("\x03")
    console.expect("The job goes on. To watch it again: monitor_job")
    console.expect(r"Cancelled \[")
    console.expect("> ")
    assert "RUNNING" in console.ask(f"list_job {endless}")


def test_ctrl_c_at_the_prompt_begins_a_new_line(typed):
    console = typed()
    console.type("abort_job everyth")
    console.expect("everyth")
    console.rest()
    console.type("\x03")
    console.expect("> ")
    assert console.ask("lpwd")


def test_ctrl_z_puts_it_aside_and_it_comes_back(typed):
    console = typed()
    console.type("half a li")
    console.expect("half a li")
    console.rest()
    # nobody but its parent can see a process that is stopped, and continue it
    os.kill(console.process.pid, signal.SIGTSTP)
    _, status = os.waitpid(console.process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    os.kill(console.process.pid, signal.SIGCONT)
    console.expect("> ")
    assert console.ask("lpwd")


def test_somebody_is_asked_before_a_job_is_ended(typed, endless):
    console = typed()
    console.type(f"abort_job {endless[:20]}\n")
    console.expect(rf"Abort job {endless} \(endless, RUNNING\) in study default\? \[y/N\] ")
    console.type("n\n")
    console.expect("Not aborted.")
    console.expect("> ")
    console.type(f"abort_job {endless[:20]}\n")
    console.expect(r"\[y/N\] ")
    console.type("y\n")
    console.expect(f"Aborted job {endless}")


def test_a_narrow_terminal_gets_short_ids_that_commands_take(typed, finished):
    console = typed(columns=80)
    listed = console.ask("list_jobs -n finished")
    assert finished not in listed
    short = re.search(rf"^{finished[:8]}\S*", listed, re.MULTILINE).group()
    assert finished in console.ask(f"get_job_meta {short}")


def test_it_works_without_readline(deployment, terminal, tmp_path):
    (tmp_path / "readline.py").write_text("raise ImportError('none here')")
    kit = str(deployment.kit())
    console = terminal("console", FLPOC_STARTUP_KIT_DIR=kit, PYTHONPATH=str(tmp_path))
    console.expect("> ")
    assert "Registered clients: 2" in console.ask("check_status server")
    console.type("\x04")
    assert console.end() == 0
    assert not (tmp_path / "home" / ".flpoc").exists()


def test_it_ends_when_nobody_types(typed):
    console = typed("--idle-timeout", "0.5")
    console.type("half a li")
    console.expect("No command for 0.5 s: the console ends.")
    assert console.end() == 0


def test_a_lost_server_is_said_and_the_next_command_connects_again(own_deployment, typed):
    own_deployment.start("server", "site-1")
    console = typed(kit=own_deployment.kit())
    assert "No jobs." in console.ask("list_jobs")
    own_deployment.stop("server")
    assert "nothing listens at" in console.ask("list_jobs")
    own_deployment.start("server")
    assert "No jobs." in console.ask("list_jobs")


def test_a_signal_ends_it_in_good_order(typed):
    console = typed()
    console.rest()
    console.process.terminate()
    console.expect("Told to end by SIGTERM")
    assert console.end() == 143


def test_a_history_that_cannot_be_written_is_said_once(typed, user):
    (user / "home").mkdir()
    (user / "home" / ".flpoc").write_text("not a folder")
    console = typed()
    assert "Lines are not kept for the next console" in console.ask("lpwd")
    assert "Lines" not in console.ask("lls")
