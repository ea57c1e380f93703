"""What users get to see: cuts of logs, times, jobs by prefix, results."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flpoc.errors import FlpocError, JobError, UsageError
from flpoc.server.files import ServerFiles
from flpoc.server.logs import LOG_LIMIT, LogKeeper
from flpoc.server.store import Store
from flpoc.server.views import cut, find_job, iso, log_answer, parse_time, result_file, result_files
from flpoc.wire.requests import ReadLogs

sys.path.insert(0, str(Path(__file__).parent))
LOG = """no time yet
2026-01-01T10:00:00Z one
  follows one
2026-01-01 11:00:00,500 two
2026-99-99 99:99:99 looks like a time
2026-01-01T13:00:00+01:00 three
last"""
ELEVEN = parse_time("2026-01-01T11:00:00Z")


def test_since_keeps_lines_without_a_time_with_the_one_before() -> None:
    assert cut(LOG, ELEVEN, None, None) == (LOG[LOG.index("2026-01-01 11") :], True)


def test_since_leaves_a_log_without_times_as_it_is_and_says_so() -> None:
    assert cut("a\nb\n", ELEVEN, None, None) == ("a\nb\n", False)


def test_since_then_tail_then_bytes_from_the_beginning() -> None:
    assert cut(LOG, ELEVEN, 2, None)[0] == "2026-01-01T13:00:00+01:00 three\nlast"
    assert cut(LOG, ELEVEN, 2, 10)[0] == "2026-01-01"
    assert cut(LOG, None, 1, 2)[0] == "la"


@pytest.mark.parametrize(("tail", "kept"), [(0, ""), (1, "c\n"), (2, "b\rb\x0cb\u2028b\n" + "c\n"), (9, None)])
def test_only_a_line_feed_ends_a_line(tail: int, kept: str | None) -> None:
    text = "a\nb\rb\x0cb\u2028b\nc\n"
    assert cut(text, None, tail, None)[0] == (text if kept is None else kept)


def test_bytes_never_cut_a_character() -> None:
    assert cut("äö", None, None, 3) == ("ä", False)
    assert cut("äö", None, None, 0) == ("", False)


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31T12:00:00Z",
        "2026-01-31 12:00:00",
        "2026-01-31T12:00:00,000Z",
        "2026-01-31T13:00+01:00",
        " 2026-01-31T12:00 ",
    ],
)
def test_a_time_is_read_in_every_usual_spelling(text: str) -> None:
    assert iso(parse_time(text)) == "2026-01-31T12:00:00.000Z"


@pytest.mark.parametrize("text", ["", "now", "2026", "12:00", "2026-13-01T00:00:00Z", "x" * 10_000])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="ISO 8601"):
        parse_time(text)


def test_a_job_is_found_by_its_id_and_by_what_only_it_begins_with(tmp_path: Path) -> None:
    from test_store import insert

    store = Store(tmp_path)

    def found(job: str, study: str = "default") -> str:
        return asyncio.run(find_job(store, job, study)).id

    for seq, job in enumerate(("abc", "abd", "abd-1", "x")):
        asyncio.run(store.write(lambda db, job=job, seq=seq: insert(db, job, seq)))
    try:
        assert (found("abc"), found("abd"), found("abd-"), found("x")) == ("abc", "abd", "abd-1", "x")
        for job, code in (
            ("ab", "JOB_AMBIGUOUS"),
            ("y", "JOB_NOT_FOUND"),
            ("*", "INVALID_ARGS"),
            ("a'--", "INVALID_ARGS"),
        ):
            with pytest.raises(FlpocError) as refused:
                found(job)
            assert refused.value.code == code
        with pytest.raises(JobError, match="no job abc in study 'other'"):
            found("abc", "other")
    finally:
        store.close()


# -- logs


@pytest.fixture
def keeper(tmp_path: Path) -> LogKeeper:
    return LogKeeper(ServerFiles(tmp_path))


def test_a_log_grows_only_by_what_is_new(keeper: LogKeeper) -> None:
    assert keeper.append("j", "a", 0, b"one ") == 4
    assert keeper.append("j", "a", 0, b"one two ") == 8
    assert keeper.append("j", "a", 2, b"e tw") == 8  # known already
    assert keeper.append("j", "a", 20, b"later") == 8  # a hole is not filled
    assert keeper.append("j", "a", -3, b"xxxxxxxxxxxxxxxx") == 8
    assert (keeper.have("j", "a"), keeper.have("j", "b"), keeper.read("j", "a")) == (8, 0, "one two ")
    keeper.append("j", "server", 0, b"x")
    assert keeper.sites("j") == ["server", "a"]


def test_a_log_at_its_limit_takes_no_more(keeper: LogKeeper, tmp_path: Path) -> None:
    keeper.append("j", "a", 0, b"x")
    os.truncate(tmp_path / "jobs" / "j" / "logs" / "a.log", LOG_LIMIT)
    assert keeper.append("j", "a", LOG_LIMIT, b"more") == LOG_LIMIT


def ask(keeper: LogKeeper, **how: Any) -> dict[str, Any]:
    row: Any = SimpleNamespace(id="j", chosen=("a", "b"))
    return log_answer(row, ReadLogs("j", **how), keeper)


def test_all_logs_are_answered_server_first_and_missing_ones_named(keeper: LogKeeper) -> None:
    keeper.append("j", "a", 0, b"1\n2\n3")
    keeper.append("j", "server", 0, b"s\n")
    answer = ask(keeper, site="all", tail=2)
    assert list(answer["logs"].items()) == [("server", "s\n"), ("a", "2\n3")]
    assert answer["sites"]["a"] == {"available": True, "lines": 2, "bytes": 3, "logs_truncated": True}
    assert not answer["sites"]["b"]["available"]
    assert answer["logs_truncated"]


@pytest.mark.parametrize("site", ["../../other/logs/server", "..", "/etc/passwd", "a/b", "", "a\0", "a.log"])
def test_the_name_of_a_site_leads_to_no_other_file(keeper: LogKeeper, site: str) -> None:
    keeper.append("other", "server", 0, b"secret")
    keeper.append("j", "a", 0, b"mine")
    with pytest.raises(UsageError, match="not the name of a site"):
        ask(keeper, site=site)


@pytest.mark.parametrize("how", [{"tail": -1}, {"max_bytes": -1}, {"since": "yesterday"}])
def test_bounds_without_sense_are_refused(keeper: LogKeeper, how: dict[str, Any]) -> None:
    keeper.append("j", "server", 0, b"x")
    with pytest.raises(UsageError):
        ask(keeper, **how)


# -- results


def test_only_results_are_results(tmp_path: Path) -> None:
    files = ServerFiles(tmp_path).job("j")
    for path in (
        "results/m.bin",
        "results/x.part",
        "results/.hidden",
        "logs/a.log",
        "logs/a.txt",
        "secret",
        "results/d/x",
    ):
        (files.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (files.folder / path).write_text("abc")
    (files.results / "link").symlink_to(files.folder / "secret")
    (files.results / "folder").symlink_to(files.folder)
    assert [one["path"] for one in result_files(files)] == ["d/x", "m.bin", "logs/a.log"]
    assert result_file(files, "m.bin").read_text() == "abc"
    assert result_file(files, "logs/a.log").read_text() == "abc"
    for name in (
        "", ".", "..", "../secret", "logs/../secret", "logs/../../j/secret", "/etc/passwd", "link", ".hidden", "x.part",
        "logs", "logs/", "logs/a.txt", "d", "d/", "d//x", "d/../m.bin",
        "folder/secret", "results/m.bin", "m.bin/", "m.bin\0", "x" * 300, "ä" * 200,
        "//m.bin",
    ):  # fmt: skip
        with pytest.raises(JobError, match="no result"):
            result_file(files, name)
