"""What every formatter must keep, whatever it looks like."""

from __future__ import annotations

import copy
import math
import re
from typing import Any, ClassVar

import pytest

from flpoc.errors import AuthError, FlpocError, JobError
from flpoc.formatting import Formatter, Report, Table

#: Controls besides line ends and tabs, and marks that reorder text: these can steer a terminal.
_STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_HOSTILE = "\x1b[2Jgone\x07\r\u202etxt\x9b1m\x00\x7f"

_DEEP: Any = "bottom"
for _ in range(30):
    _DEEP = {"below": [_DEEP]}

_REPORTS = {
    "nothing": Report(None),
    "empty list": Report([]),
    "empty object": Report({}),
    "empty text": Report(""),
    "a word": Report("a word"),
    "a number": Report(7),
    "true": Report(True),
    "a number that JSON does not have": Report({"loss": math.nan, "all": [math.inf, -math.inf, 1e308]}),
    "a large number": Report({"n": 2**70}),
    "rows": Report([{"name": "site-1", "ready": True}, {"name": "site-2", "ready": None}]),
    "rows of several shapes": Report([{"name": "site-1"}, {"size": 3}, {}]),
    "a list of words": Report(["site-1", "site-2"]),
    "a list of everything": Report(["site-1", 2, None, ["x"], {"y": 1.5}]),
    "nested": Report({"sites": {"site-1": {"rounds": [0, 1]}}, "deep": _DEEP}),
    "other letters": Report({"n\u00e4me": "Zo\u00eb \u75c5\u9662 \U0001f9ea"}, text=("Zo\u00eb \u75c5\u9662",)),
    "half a letter": Report({"path": "/data/\udcff"}, text=("/data/\udcff",)),
    "lines": Report({"log": "one\ntwo\r\nthree\n\n"}, text=("one\ntwo\r\nthree\n\n",)),
    "quotes": Report({'"a",b;': "'c'\t\\"}, text=("\"a\",b;'c'\t\\",)),
    "text and a table": Report([1], text=("Sites:", Table(("name",), (("site-1",),), "T"), "", Table((), ()))),
    "a table with a short row": Report([1], text=(Table(("a", "b"), (("1",), ())),)),
    "a finding": Report({"job": "x"}, text=("Job x failed.",), exit_status=1, code="JOB_FAILED", hint="see its log"),
    "no success, no code": Report({"ok": False}, exit_status=3),
    "warnings": Report({"a": 1}, text=("a",), warnings=("be careful",)),
}
_ERRORS = {
    "plain": JobError("there is no job 'x'", hint="list jobs with `flpoc job list`", code="JOB_NOT_FOUND"),
    "no hint": AuthError("not for a member"),
    "no message": FlpocError(""),
    "other letters": JobError("Zo\u00eb \u75c5\u9662 \udcff", hint="\u00fc"),
    "lines": JobError("one\ntwo", hint="three\n\nfour"),
    "with data": JobError("x", data={"sites": ["a", None, math.nan], "deep": _DEEP}),
    "with a list": JobError("x", data=[1, {"y": "z"}]),
}
_hostile_table = Table((_HOSTILE,), ((_HOSTILE,),), _HOSTILE)
_SPITEFUL = {
    "data": Report({"name": _HOSTILE, "list": [_HOSTILE], "deep": {"x": {"y": _HOSTILE}}}),
    "names": Report({_HOSTILE: {_HOSTILE: 1}}),
    "rows": Report([{"name": _HOSTILE, _HOSTILE: 1}]),
    "text": Report({"a": 1}, text=(_HOSTILE, _hostile_table)),
    "a finding": Report({"a": 1}, text=(_HOSTILE,), exit_status=1, code="JOB_FAILED", hint=_HOSTILE),
}

_reports = pytest.mark.parametrize("name", _REPORTS)
_errors = pytest.mark.parametrize("name", _ERRORS)


class FormatterSuite:
    """Tests of a formatter; a subclass gives the fixture ``formatter``.

    A format that programs read overrides :meth:`read` as well.

    Attributes:
        says_text: Whether people read it: then it shows a report's ``text`` where there is one.
    """

    says_text: ClassVar[bool] = False

    @pytest.fixture
    def formatter(self) -> Formatter:
        raise NotImplementedError("a subclass of FormatterSuite gives the fixture `formatter`")

    def read(self, document: str) -> Any:
        """Read one document as its readers do; raise if it is not exactly one. Formats for people leave this."""
        return document

    # -- reports

    @_reports
    def test_every_report_becomes_text(self, formatter: Formatter, name: str) -> None:
        """Whatever a command has to say: nothing is raised, and the answer is text."""
        assert type(formatter.report(_REPORTS[name])) is str

    @_reports
    def test_a_report_is_exactly_one_document(self, formatter: Formatter, name: str) -> None:
        """Standard output can be read whole by whoever reads this format."""
        self.read(formatter.report(_REPORTS[name]))

    @_reports
    def test_the_same_report_gives_the_same_document(self, formatter: Formatter, name: str) -> None:
        """Nothing is counted, dated, or remembered from one report to the next."""
        first = formatter.report(_REPORTS[name])
        formatter.report(Report({"between": 1}))
        assert formatter.report(_REPORTS[name]) == first

    def test_people_are_shown_the_text_of_a_report(self, formatter: Formatter) -> None:
        """Lines and tables that a command wrote for people reach them."""
        if not self.says_text:
            pytest.skip("this format is for programs: it writes the data")
        report = Report({"n": 1}, text=("All is well.", Table(("name",), (("site-1",),))))
        document = formatter.report(report)
        assert "All is well." in document
        assert "site-1" in document

    def test_warnings_are_left_to_standard_error(self, formatter: Formatter) -> None:
        """The command line writes them there; standard output has the result only."""
        assert "be careful" not in formatter.report(_REPORTS["warnings"])

    @pytest.mark.parametrize("name", _SPITEFUL)
    def test_no_report_steers_a_terminal(self, formatter: Formatter, name: str) -> None:
        """Control characters of foreign strings do not come out as they went in."""
        assert _STEERS.findall(formatter.report(_SPITEFUL[name])) == []

    # -- errors

    @_errors
    def test_every_error_becomes_two_texts(self, formatter: Formatter, name: str) -> None:
        """One for standard output, one for standard error; either may be empty."""
        answer = formatter.error(_ERRORS[name])
        assert [type(text) for text in answer] == [str, str]

    @_errors
    def test_an_error_on_standard_output_is_exactly_one_document(self, formatter: Formatter, name: str) -> None:
        """A program that reads this format can also read that it failed."""
        out, _ = formatter.error(_ERRORS[name])
        if out:
            self.read(out)

    def test_an_error_says_message_code_and_hint(self, formatter: Formatter) -> None:
        """What is wrong, its stable name, and what to do."""
        error = JobError("no job is called seventeen", hint="look at the list of jobs", code="JOB_NOT_FOUND")
        said = "".join(formatter.error(error))
        assert error.message in said
        assert error.code in said
        assert error.hint in said

    def test_no_error_steers_a_terminal(self, formatter: Formatter) -> None:
        """What a server or a site says is foreign, too."""
        said = "".join(formatter.error(JobError(_HOSTILE, hint=_HOSTILE, data={_HOSTILE: _HOSTILE})))
        assert _STEERS.findall(said) == []

    # -- streams

    def test_a_record_of_a_stream_is_one_line(self, formatter: Formatter) -> None:
        """Readers take a stream line by line; a record is whole when its line is."""
        if not formatter.streams:
            pytest.skip("this format does not stream")
        lines = [
            formatter.record({"event": "round", "round": number, "text": f"one\ntwo\r\u2028{_HOSTILE}"})
            for number in (1, 2)
        ]
        assert [len(line.rstrip("\n").splitlines()) for line in lines] == [1, 1]
        assert lines[0] != lines[1]
        assert _STEERS.findall("".join(lines)) == []
        for line in lines:
            self.read(line)

    def test_the_last_line_of_a_stream_is_one_line(self, formatter: Formatter) -> None:
        """The report, or the error, that ends a stream is read like its records."""
        if not formatter.streams:
            pytest.skip("this format does not stream")
        report, error = formatter.report(_REPORTS["lines"]), formatter.error(_ERRORS["lines"])[0]
        assert len(report.rstrip("\n").splitlines()) == 1
        assert len(error.rstrip("\n").splitlines()) <= 1

    # -- and nothing else

    @_reports
    def test_it_writes_nothing_itself(
        self, formatter: Formatter, name: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """It gives text; the command line writes it, redacted, to the right stream."""
        formatter.report(_REPORTS[name])
        formatter.error(_ERRORS["plain"])
        assert capsys.readouterr() == ("", "")

    @_reports
    def test_it_leaves_what_it_is_given_as_it_is(self, formatter: Formatter, name: str) -> None:
        """Data, text and exit status are the command's, also after they were written down."""
        report = copy.deepcopy(_REPORTS[name])
        formatter.report(report)
        assert repr(report) == repr(_REPORTS[name])
