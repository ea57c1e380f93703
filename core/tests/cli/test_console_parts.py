"""What a console is made of: what TAB offers, the history, its one session."""

from __future__ import annotations

import signal
import stat

import pytest

from flpoc.cli.console.completing import candidates, files, jobs
from flpoc.cli.console.ending import Ended, Endings
from flpoc.cli.console.history import MOST_LINES, History
from flpoc.cli.console.job_lists import newest
from flpoc.cli.console.kept import Keeper
from flpoc.cli.console.shell import words_of
from flpoc.cli.console.targets import site_of
from flpoc.cli.formats import draw
from flpoc.cli.job_table import job_table, shortest
from flpoc.errors import UsageError

OFFERS = {
    "job": ["11-a", "12-b"],
    "ended job": ["11-a"],
    "open job": ["12-b"],
    "site": ["site-1"],
    "role": ["server", "client", "all"],
    "target": ["server", "client", "all", "site-1"],
    "service": ["server", "site-1"],
    "level": ["DEBUG", "INFO"],
    "study": ["cancer"],
    "command": ["list_jobs", "lls"],
}


def offered(before, text=""):
    return candidates(before, text, lambda kind: OFFERS.get(kind, ["wrong kind: " + kind]))


@pytest.mark.parametrize(
    ("before", "text", "wanted"),
    [
        ("", "submit", ["submit_job "]),
        ("", "?list_job", ["?list_jobs ", "?list_job "]),
        ("? ", "ll", ["lls "]),
        ("get_job_meta ", "1", ["11-a ", "12-b "]),
        ("abort_job ", "", ["12-b "]),
        ("delete_job -f ", "", ["11-a "]),
        ("get_job_log 11-a ", "s", ["server ", "site-1 "]),
        ("get_job_log 11-a client ", "", ["site-1 "]),
        ("get_job_log --tail 5 ", "", ["11-a ", "12-b "]),
        ("configure_job_log 12-b site-1 ", "", ["DEBUG ", "INFO "]),
        ("configure_site_log client site-1 ", "", ["DEBUG ", "INFO "]),
        ("check_status ", "", ["server ", "client ", "all "]),
        ("check_status client ", "", ["site-1 "]),
        ("check_status client site-2 ", "", ["site-1 "]),
        ("disable_client ", "", ["site-1 "]),
        ("tail ", "", ["server ", "site-1 "]),
        ("show_study ", "c", ["cancer "]),
        ("list_jobs ", "--re", ["--reverse "]),
        ("list_jobs -n ", "x", []),
        ("nonsense ", "x", []),
        ("lpwd ", "", []),
        ("list_jobs 'open ", "", []),
    ],
)
def test_tab_offers_what_may_follow(before, text, wanted):
    assert offered(before, text) == wanted


def test_files_are_offered_by_folder_and_quoted_where_a_shell_would(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs" / "hello").mkdir(parents=True)
    (tmp_path / "jobs" / "job.conf").touch()
    (tmp_path / "jobs" / "two words").mkdir()
    (tmp_path / ".hidden").touch()
    assert list(files("")) == ["jobs/"]
    assert list(files(".h")) == [".hidden "]
    assert list(files("jobs/")) == ["jobs/hello/", "jobs/job.conf ", "'jobs/two words'/"]
    assert list(files(f"{tmp_path}/jobs/h")) == [f"{tmp_path}/jobs/hello/"]
    assert list(files("nothing/at/all")) == []


def test_jobs_are_offered_by_their_state():
    rows = [{"job_id": "1", "status": "RUNNING"}, {"job_id": "2", "status": "FINISHED:ABORTED"}]
    assert (jobs(rows, "job"), jobs(rows, "open job"), jobs(rows, "ended job")) == (["1", "2"], ["1"], ["2"])


# -- lines


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("list_jobs -n 'two words'", ["list_jobs", "-n", "two words"]),
        ("  lpwd\t", ["lpwd"]),
        ("?", ["?"]),
        ("?x", ["?", "x"]),
        ("lls a#b", ["lls", "a#b"]),
    ],
)
def test_a_line_is_read_as_a_shell_does(line, words):
    assert words_of(line) == words


@pytest.mark.parametrize("line", ["lls 'a", "lls \\", "lls \x00", "''\x1b", "\udcff"])
def test_what_is_no_line_is_refused(line):
    with pytest.raises(UsageError):
        words_of(line)


@pytest.mark.parametrize(
    ("words", "site"),
    [
        ((), "all"),
        (("server",), "server"),
        (("client", "site-1"), "site-1"),
        (("site-1",), "site-1"),
        (("client",), "all"),
        (("all",), "all"),
    ],
)
def test_a_target_is_the_server_a_site_or_all(words, site):
    assert site_of(words) == site


@pytest.mark.parametrize("words", [("server", "site-1"), ("client", "a", "b"), ("../x",)])
def test_no_target_is_refused(words):
    with pytest.raises(UsageError):
        site_of(words)


# -- lists


def row(job, **more):
    plain = {"job_name": "hello", "status": "RUNNING", "submit_time": "2026-11-27T09:20:38.197Z", "duration_s": 2.0}
    return {"job_id": job, **plain, "submitter_name": "admin@nvidia.com", "waiting_for": "", **more}


LONG = ["11111111-2222-3333-4444-555555555555", "11111111-2999-3333-4444-555555555555"]


def test_a_wide_terminal_gets_whole_ids():
    (table,) = job_table([row(one) for one in LONG], "RUN DURATION", width=120)
    assert [cells[0] for cells in table.rows] == LONG
    assert table.rows[0][3] == "2026-11-27T09:20:38Z"


def test_a_narrow_one_gets_as_much_of_them_as_tells_them_apart():
    (table,) = job_table([row(one) for one in LONG], "RUN DURATION", width=80)
    assert [cells[0] for cells in table.rows] == ["11111111-22", "11111111-29"]


def test_what_is_waited_for_is_said_below_where_there_is_no_room_beside():
    waiting = "waiting for updates of site-1, site-2 and other sites with long names"
    table, line = job_table([row(LONG[0], waiting_for=waiting)], "RUN DURATION", width=80)
    assert max(map(len, draw(table, width=0).splitlines())) <= 80
    assert line == "11111111 waits for updates of site-1, site-2 and other sites with long names"


def test_an_id_that_begins_another_stays_whole():
    assert shortest("12345678-1", ["12345678-1", "12345678-12"]) == "12345678-1"


def test_the_newest_are_kept_in_both_orders():
    rows = [{"n": number} for number in range(4)]
    assert newest(rows, 2, reverse=False) == [{"n": 2}, {"n": 3}]
    assert newest(rows[::-1], 2, reverse=True) == [{"n": 3}, {"n": 2}]
    assert newest(rows, 0, reverse=False) == rows


# -- history


def test_lines_come_again_and_the_same_twice_is_kept_once(tmp_path):
    path = tmp_path / "new" / "console_history"
    first = History(path)
    for line in ("list_jobs", "list_jobs", "lpwd"):
        first.add(line)
    assert History(path).lines() == ["list_jobs", "lpwd"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_others_could_read_becomes_private(tmp_path):
    path = tmp_path / "console_history"
    path.write_text("lpwd\n")
    path.chmod(0o644)
    History(path).add("lls")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_long_history_is_cut_to_the_newest(tmp_path):
    path = tmp_path / "console_history"
    path.write_text("".join(f"lls {number}\n" for number in range(2 * MOST_LINES + 1)))
    assert History(path).lines()[-1] == f"lls {2 * MOST_LINES}"
    assert len(path.read_text().splitlines()) == MOST_LINES
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["console_history"]


def test_what_could_steer_a_terminal_is_not_taken_from_the_file(tmp_path):
    path = tmp_path / "console_history"
    path.write_bytes(b"lpwd\n\x1b[2Jlls\n\xff\xfe\n\nlls\n")
    assert [line for line in History(path).lines() if "lls" in line or "lpwd" in line] == ["lpwd", "lls"]
    assert all(line.isprintable() for line in History(path).lines())


def test_a_link_is_not_written_through(tmp_path):
    (tmp_path / "elsewhere").touch()
    (tmp_path / "console_history").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        History(tmp_path / "console_history").add("lpwd")
    assert (tmp_path / "elsewhere").read_text() == ""


def test_without_a_home_nothing_is_kept():
    history = History(None)
    history.add("lpwd")
    assert history.lines() == []


# -- signals


def test_signals_are_as_before_in_the_end_and_what_was_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Endings(0).watched():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
            with pytest.raises(Ended) as caught:
                signal.raise_signal(signal.SIGTERM)
        assert caught.value.exit_status == 143
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_came_at_the_wrong_moment_comes_again():
    endings = Endings(0)

    def wait():
        endings.later(KeyboardInterrupt())
        signal.pause()

    with endings.watched(), endings.waiting(), pytest.raises(KeyboardInterrupt):
        wait()


# -- the session


def test_commands_share_a_session_until_it_is_lost(deployment):
    keeper = Keeper(deployment.kit(), "default", 5.0)
    with keeper.session() as first:
        first.status()
    assert keeper.session() is first
    keeper.drop()
    with keeper.session() as second:
        assert second is not first
        second.close()
    assert keeper.session() is not second
    keeper.drop()
