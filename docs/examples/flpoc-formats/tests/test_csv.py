"""CSV has headings, rows of one width, and no formulas."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from flpoc_formats.as_csv import CsvFormatter

from flpoc.errors import JobError
from flpoc.formatting import Formatter, Report
from flpoc.testing import FormatterSuite


def read(document: str) -> list[list[str]]:
    rows = list(csv.reader(io.StringIO(document, newline=""), strict=True))
    if len({len(row) for row in rows}) != 1:
        raise ValueError("there are no headings, or rows of different widths")
    return rows


def rows(data: Any) -> list[list[str]]:
    return read(CsvFormatter().report(Report(data)))


class TestCsv(FormatterSuite):
    @pytest.fixture
    def formatter(self) -> Formatter:
        return CsvFormatter()

    def read(self, document: str) -> Any:
        return read(document)


def test_a_list_of_objects_has_a_column_for_every_key() -> None:
    assert rows([{"name": "a,b", "size": 1}, {"name": 'c"', "ready": True, "left": None}]) == [
        ["name", "size", "ready", "left"],
        ["a,b", "1", "", ""],
        ['c"', "", "true", ""],
    ]


def test_an_object_has_a_line_for_every_key_and_inner_ones_their_path() -> None:
    assert rows({"status": "running", "ports": {"a": 1, "b": {"c": [1, "x"]}}, "none": {}}) == [
        ["key", "value"],
        ["status", "running"],
        ["ports.a", "1"],
        ["ports.b.c", '[1, "x"]'],
        ["none", "{}"],
    ]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (["a", 1, None], [["value"], ["a"], ["1"], [""]]),
        (7, [["value"], ["7"]]),
        ([], [["value"]]),
        (None, [["value"]]),
        ([{}], [["value"], ["{}"]]),
        ([{"a": 1}, 2], [["value"], ['{"a": 1}'], ["2"]]),
    ],
)
def test_anything_else_is_a_column_of_values(data: Any, found: list[list[str]]) -> None:
    assert rows(data) == found


def test_an_error_is_read_like_an_object() -> None:
    said, beside = CsvFormatter().error(JobError("no such job", hint="list them", data={"job": "x"}))
    assert beside == ""
    assert dict(read(said)) == {
        "key": "value",
        "schema_version": "1",
        "status": "error",
        "exit_code": "1",
        "error_code": "JOB_INVALID",
        "message": "no such job",
        "hint": "list them",
        "data.job": "x",
    }


def test_a_report_that_is_no_success_is_read_like_an_error() -> None:
    report = Report({"job_id": "x"}, text=("The job failed.",), exit_status=1, code="JOB_FAILED")
    found = dict(read(CsvFormatter().report(report)))
    assert (found["error_code"], found["message"], found["data.job_id"]) == ("JOB_FAILED", "The job failed.", "x")


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "  =1", "\t=1", "\n=1", "=cmd|' /C calc'!A0", "\uff1d1", "\u3000=1", "=a,b"]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_text_is_taken_for_a_formula(text: str) -> None:
    for found in (rows([{text: text}]), rows({text: text}), rows([text])):
        assert all(cell.startswith("'") for row in found for cell in row if text.strip() in cell)
    said = read(CsvFormatter().error(JobError(text, hint=text, data={text: text}))[0])
    assert ["message", f"'{text}"] in said
    assert ["hint", f"'{text}"] in said


def test_numbers_stay_numbers() -> None:
    assert rows([{"loss": -0.5, "change": -3}])[1] == ["-0.5", "-3"]


def test_text_that_is_no_formula_stays_as_it_is() -> None:
    assert rows(["a=b", "a-1", "me@example.org", "'quoted'", "one\ntwo"])[1:] == [
        ["a=b"],
        ["a-1"],
        ["me@example.org"],
        ["'quoted'"],
        ["one\ntwo"],
    ]
