"""Errors cross processes by their code and stay what they were."""

from __future__ import annotations

import logging
import sys

import pytest

from flpoc import errors
from flpoc.errors import EXIT_STATUS, FlpocError, JobError, did_you_mean, from_code
from flpoc.log_modes import Utc

KINDS = FlpocError.__subclasses__()


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_that_crossed_a_process_is_of_the_same_kind(kind: type[FlpocError]) -> None:
    one = kind("what", hint="do", data={"a": 1})
    again = from_code(one.code, one.message, one.hint, one.data)
    assert type(again) is kind
    assert (again.message, again.hint, again.code, again.data) == ("what", "do", one.code, {"a": 1})
    assert again.exit_status == one.exit_status


def test_every_kind_is_drawn_in_the_tree_and_has_a_code_of_its_own() -> None:
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in KINDS)
    assert len({kind.default_code for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("code", ["JOB_NOT_FOUND", "JOB_SOMETHING_NEW", "SUBMIT_TOKEN_CONFLICT"])
def test_codes_of_jobs_are_errors_of_jobs(code: str) -> None:
    assert isinstance(from_code(code, "m"), JobError)


def test_an_unknown_code_ends_with_1_and_keeps_its_name() -> None:
    assert (from_code("WHAT", "m").code, from_code("WHAT", "m").exit_status) == ("WHAT", 1)
    assert set(EXIT_STATUS.values()) == {2, 3, 4, 5}


def test_what_a_peer_sent_cannot_forge_a_line_of_the_log() -> None:
    try:
        raise ValueError("x\n2026-01-01T00:00:00.000Z INFO forged\x1b[2J")
    except ValueError:
        record = logging.LogRecord("n", 20, "f", 1, "%s", ("a\n2026 forged\r\x1b[2J",), sys.exc_info())
    lines = Utc("%(asctime)s %(message)s").format(record).split("\n")
    assert lines[0].endswith(r"a\x0a2026 forged\x0d\x1b[2J")
    assert all(line.startswith("    ") for line in lines[1:])
    assert not any("\x1b" in line for line in lines)


@pytest.mark.parametrize(
    ("word", "known", "says"),
    [("lokal", ["local"], "'local'"), ("nope", ["core"], "known: core"), ("site-7", ["site-2"], "known: site-2")],
)
def test_only_what_may_have_been_meant_is_proposed(word: str, known: list[str], says: str) -> None:
    assert says in did_you_mean(word, known)
