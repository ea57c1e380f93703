"""YAML says what JSON says."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from flpoc_formats.as_yaml import YamlFormatter

from flpoc.errors import JobError
from flpoc.formatting import Formatter, Report, envelope
from flpoc.testing import FormatterSuite


class TestYaml(FormatterSuite):
    @pytest.fixture
    def formatter(self) -> Formatter:
        return YamlFormatter()

    def read(self, document: str) -> Any:
        [found] = yaml.safe_load_all(document)
        return found


#: Words that YAML takes for something else when they stand without quotes.
WORDS = ["no", "~", "1.0", "0x1f", "2026-11-27", "2026-11-27T10:00:00Z", "a: b", "- a", "#", "", " ", "=", "<<", "&a"]
#: Text that is hard to give back as it was.
TEXTS = ["one\ntwo", "one\n\n\n", "\n one", "a\tb\n", "x \ny", "\r\n", "y" * 300]
TEXTS += ["Zo\u00eb \u75c5\u9662", "\x1b[2J", "\udcff"]


@pytest.mark.parametrize(
    "data",
    [WORDS, TEXTS, dict.fromkeys([*WORDS, *TEXTS], 1), {"deep": [[], {}, [[1.5, None, True]]], "big": 2**70}],
    ids=["words", "texts", "keys", "structure"],
)
def test_what_is_read_is_what_was_said(data: Any) -> None:
    assert yaml.safe_load(YamlFormatter().report(Report(data))) == envelope(Report(data))


def test_an_error_is_what_json_says() -> None:
    error = JobError("no such job", hint="list them", code="JOB_NOT_FOUND", data={"job": "x", "loss": float("nan")})
    said, beside = YamlFormatter().error(error)
    assert beside == ""
    assert yaml.safe_load(said) == json.loads(json.dumps(envelope(error)))


def test_what_is_there_twice_is_written_twice() -> None:
    site = {"name": "site-1"}
    assert "&" not in YamlFormatter().report(Report([site, site]))


def test_a_log_is_a_block_that_people_can_read() -> None:
    assert "|-\n    one\n    two: 2" in YamlFormatter().report(Report({"log": "one\ntwo: 2"}))
