"""Core's formats keep what every format must, and the suite notices when one does not."""

from __future__ import annotations

import inspect
import json
import sys
from typing import Any

import pytest

from flpoc.cli.formats import JsonFormatter, JsonLinesFormatter, TextFormatter
from flpoc.errors import FlpocError
from flpoc.formatting import Formatter, Report
from flpoc.testing import FormatterSuite


def strict_json(document: str) -> Any:
    def refuse(word: str) -> Any:
        raise ValueError(word)

    return json.loads(document, parse_constant=refuse)


class TestText(FormatterSuite):
    says_text = True

    @pytest.fixture
    def formatter(self) -> Formatter:
        return TextFormatter()


class TestJson(FormatterSuite):
    @pytest.fixture
    def formatter(self) -> Formatter:
        return JsonFormatter()

    def read(self, document: str) -> Any:
        return strict_json(document)


class TestJsonLines(TestJson):
    @pytest.fixture
    def formatter(self) -> Formatter:
        return JsonLinesFormatter()


class RaisesOnNothing(JsonFormatter):
    def report(self, report: Report) -> str:
        return super().report(report) if report.data is not None else report.data["nothing"]


class GivesBytes(JsonFormatter):
    def report(self, report: Report) -> str:
        return super().report(report).encode()  # type: ignore[return-value]


class WritesTwoDocuments(JsonFormatter):
    def report(self, report: Report) -> str:
        return "".join(super(WritesTwoDocuments, self).report(Report(one)) + "\n" for one in (report.data, "done"))


class WritesNaN(JsonFormatter):
    def report(self, report: Report) -> str:
        return json.dumps(report.data, default=str)


class Counts(JsonFormatter):
    count = 0

    def report(self, report: Report) -> str:
        self.count += 1
        return json.dumps({"number": self.count})


class IgnoresText(TextFormatter):
    def report(self, report: Report) -> str:
        return super().report(Report(report.data))


class PrintsWarnings(TextFormatter):
    def report(self, report: Report) -> str:
        return "\n".join([super().report(report), *report.warnings])


class TrustsData(JsonFormatter):
    def report(self, report: Report) -> str:
        return str(report.data).replace("\\x1b", "\x1b")


class TrustsNames(TextFormatter):
    def report(self, report: Report) -> str:
        return "\n".join(report.data) if isinstance(report.data, dict) else ""


class GivesOneText(JsonFormatter):
    def error(self, error: FlpocError) -> tuple[str, str]:
        return super().error(error)[0]  # type: ignore[return-value]


class RaisesOnAList(JsonFormatter):
    def error(self, error: FlpocError) -> tuple[str, str]:
        return super().error(FlpocError(error.message, data={**(error.data or {})}))


class WritesErrorsForPeople(JsonFormatter):
    def error(self, error: FlpocError) -> tuple[str, str]:
        return f"Error: {error.message}", ""


class SaysTheMessageOnly(TextFormatter):
    def error(self, error: FlpocError) -> tuple[str, str]:
        return "", error.message


class TrustsErrors(JsonFormatter):
    def error(self, error: FlpocError) -> tuple[str, str]:
        return "", f"{error.message} {error.code} {error.hint}"


class SpreadsRecords(JsonLinesFormatter):
    def record(self, record: dict[str, Any]) -> str:
        return json.dumps(record, indent=2)


class LosesRecords(JsonLinesFormatter):
    def record(self, record: dict[str, Any]) -> str:
        return "{}"


class SpreadsTheLast(JsonLinesFormatter):
    def report(self, report: Report) -> str:
        return json.dumps(report.data, indent=2)


class Prints(JsonFormatter):
    def report(self, report: Report) -> str:
        sys.stdout.write("here it comes\n")
        return super().report(report)


class TakesTheData(JsonFormatter):
    def report(self, report: Report) -> str:
        if isinstance(report.data, dict):
            report.data.pop("a", None)
        return super().report(report)


_CAUGHT: list[tuple[type[Formatter], str, tuple[str, ...]]] = [
    (RaisesOnNothing, "test_every_report_becomes_text", ("nothing",)),
    (GivesBytes, "test_every_report_becomes_text", ("a word",)),
    (WritesTwoDocuments, "test_a_report_is_exactly_one_document", ("rows",)),
    (WritesNaN, "test_a_report_is_exactly_one_document", ("a number that JSON does not have",)),
    (Counts, "test_the_same_report_gives_the_same_document", ("a word",)),
    (IgnoresText, "test_people_are_shown_the_text_of_a_report", ()),
    (PrintsWarnings, "test_warnings_are_left_to_standard_error", ()),
    (TrustsData, "test_no_report_steers_a_terminal", ("data",)),
    (TrustsNames, "test_no_report_steers_a_terminal", ("names",)),
    (GivesOneText, "test_every_error_becomes_two_texts", ("plain",)),
    (RaisesOnAList, "test_every_error_becomes_two_texts", ("with a list",)),
    (WritesErrorsForPeople, "test_an_error_on_standard_output_is_exactly_one_document", ("plain",)),
    (SaysTheMessageOnly, "test_an_error_says_message_code_and_hint", ()),
    (TrustsErrors, "test_no_error_steers_a_terminal", ()),
    (SpreadsRecords, "test_a_record_of_a_stream_is_one_line", ()),
    (LosesRecords, "test_a_record_of_a_stream_is_one_line", ()),
    (SpreadsTheLast, "test_the_last_line_of_a_stream_is_one_line", ()),
    (Prints, "test_it_writes_nothing_itself", ("a word",)),
    (TakesTheData, "test_it_leaves_what_it_is_given_as_it_is", ("warnings",)),
]


class _Json(FormatterSuite):
    says_text = True

    def read(self, document: str) -> Any:
        return strict_json(document)


@pytest.mark.parametrize(("wrong", "promise", "arguments"), _CAUGHT, ids=lambda value: getattr(value, "__name__", None))
def test_the_suite_catches(
    wrong: type[Formatter], promise: str, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    test = getattr(_Json(), promise)
    more = (capsys,) if "capsys" in inspect.signature(test).parameters else ()
    with pytest.raises((AssertionError, TypeError, ValueError)):
        test(wrong(), *arguments, *more)


def test_every_promise_of_the_suite_has_one_that_breaks_it() -> None:
    promises = {name for name in dir(FormatterSuite) if name.startswith("test_")}
    assert promises == {promise for _, promise, _ in _CAUGHT}
