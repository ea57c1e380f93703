"""How results and errors are written down."""

from __future__ import annotations

import json

import pytest

from flpoc.cli.formats import JsonFormatter, JsonLinesFormatter, TextFormatter, draw
from flpoc.errors import JobError
from flpoc.formatting import Report, Table

TABLE = Table(("name", "state"), (("site-1", "running"), ("a-much-longer-name", "ok")))


def test_columns_are_aligned():
    assert draw(TABLE, width=0).splitlines() == [
        "name                state",
        "------------------  -------",
        "site-1              running",
        "a-much-longer-name  ok",
    ]


def test_wide_letters_keep_columns_aligned():
    drawn = draw(Table(("name", "x"), (("病院", "1"), ("abcd", "2"))), width=0).splitlines()
    assert drawn[2:] == ["病院  1", "abcd  2"]


@pytest.mark.row("C12")
def test_a_table_survives_a_terminal_of_20_columns():
    drawn = draw(TABLE, width=20).splitlines()
    assert drawn == ["name: site-1", "state: running", "", "name: a-much-longer-name", "state: ok"]


def test_control_characters_of_foreign_strings_are_made_visible():
    hostile = "\x1b[2Jx\r\n\u202etxt\x9b1m"
    cell = draw(Table(("name",), ((hostile,),)), width=0)
    said = TextFormatter().report(Report(None, text=(hostile,)))
    failed = "".join(TextFormatter().error(JobError(hostile, hint=hostile)))
    for text in (cell, said, failed):
        assert not any(bad in text for bad in ("\x1b", "\r", "\u202e", "\x9b"))
        assert "\\x1b[2J" in text
    assert len(cell.splitlines()) == 3


def test_lines_of_a_log_stay_lines():
    assert TextFormatter().report(Report(None, text=("one\ntwo\tthree\r\nfour",))) == "one\ntwo\tthree\nfour"


def test_data_without_text_is_made_readable():
    said = TextFormatter().report(Report({"job_id": "abc", "sites": ["a", "b"], "ready": True, "note": None}))
    assert said.splitlines() == ["job_id: abc", "sites:  a, b", "ready:  yes", "note:   -"]
    assert "name  n" in TextFormatter().report(Report([{"name": "a", "n": 1}]))


def test_a_success_has_the_documented_fields():
    said = json.loads(JsonFormatter().report(Report({"a": 1})))
    assert said == {"schema_version": "1", "status": "ok", "exit_code": 0, "data": {"a": 1}}


def test_a_report_may_say_ok_and_still_not_be_a_success():
    said = json.loads(JsonFormatter().report(Report({"overall": "failed"}, exit_status=1)))
    assert (said["status"], said["exit_code"]) == ("ok", 1)


def test_a_report_with_a_code_is_an_error_with_the_result_in_its_data():
    report = Report({"job_id": "x"}, text=("Job x failed.",), exit_status=1, code="JOB_FAILED", hint="see its log")
    assert json.loads(JsonFormatter().report(report)) == {
        "schema_version": "1",
        "status": "error",
        "exit_code": 1,
        "error_code": "JOB_FAILED",
        "message": "Job x failed.",
        "hint": "see its log",
        "data": {"job_id": "x"},
    }


def test_numbers_that_json_does_not_have_become_null():
    said = json.loads(JsonFormatter().report(Report({"loss": float("nan"), "all": [float("inf")]})))
    assert said["data"] == {"loss": None, "all": [None]}


@pytest.mark.parametrize("formatter", [JsonFormatter(), JsonLinesFormatter()])
def test_a_document_is_one_line_of_ascii(formatter):
    said = formatter.report(Report({"name": "Zoë\n\x9b"}))
    assert said.isascii()
    assert "\n" not in said
    assert json.loads(said)


def test_the_last_line_of_a_stream_says_so_also_when_it_failed():
    done = json.loads(JsonLinesFormatter().report(Report({"status": "FAILED"}, exit_status=1, code="JOB_FAILED")))
    assert (done["event"], done["terminal"], done["status"], done["error_code"]) == (
        "terminal",
        True,
        "FAILED",
        "JOB_FAILED",
    )
    failed = json.loads(JsonLinesFormatter().error(JobError("gone"))[0])
    assert (failed["event"], failed["terminal"], failed["status"]) == ("terminal", True, "error")


def test_a_narrow_terminal_gets_the_widest_column_folded():
    table = Table(("name", "offers"), (("core", "aggregator mean, authority local-ca, formatter txt"), ("x", "-")))
    assert draw(table, 36).splitlines() == [
        "name  offers",
        "----  ------------------------------",
        "core  aggregator mean, authority",
        "      local-ca, formatter txt",
        "x     -",
    ]


def test_a_word_that_does_not_fit_is_never_cut():
    table = Table(("name", "sha"), (("core", "a" * 64),))
    assert "a" * 64 in draw(table, 40)
