"""States of jobs, and causes of failures for people."""

from __future__ import annotations

import itertools

import pytest

from flpoc.errors import JobError
from flpoc.jobs.states import MAX_LINES, TRANSITIONS, Cause, JobState, check_transition, outcome
from flpoc.settings import parse_json, plain, structure


def test_the_values_are_what_users_read() -> None:
    assert [state.value for state in JobState] == [
        "SUBMITTED",
        "DISPATCHED",
        "RUNNING",
        "FINISHED:COMPLETED",
        "FINISHED:COMPLETED_PARTIAL",
        "FINISHED:ABORTED",
        "FINISHED:FAILED",
        "FINISHED:CAN_NOT_SCHEDULE",
    ]


def test_what_is_finished_is_terminal() -> None:
    assert [state for state in JobState if state.terminal] == [s for s in JobState if s.value.startswith("FINISHED:")]


def test_every_state_has_its_transitions() -> None:
    assert set(TRANSITIONS) == set(JobState)


@pytest.mark.parametrize(("old", "new"), list(itertools.product(JobState, JobState)))
def test_only_what_the_table_says_is_allowed(old: JobState, new: JobState) -> None:
    if new in TRANSITIONS[old]:
        check_transition(old, new)
        return
    with pytest.raises(JobError) as refusal:
        check_transition(old, new)
    assert refusal.value.code == ("JOB_NOT_RUNNING" if old.terminal else "JOB_INVALID")
    assert refusal.value.data == {"status": old.value}


def test_every_job_that_has_not_ended_can_be_aborted() -> None:
    for state in JobState:
        assert (JobState.ABORTED in TRANSITIONS[state]) == (not state.terminal)


def test_only_failed_and_aborted_jobs_can_be_resumed() -> None:
    again = {state for state in JobState if state.terminal and TRANSITIONS[state]}
    assert again == {JobState.FAILED, JobState.ABORTED}
    assert all(TRANSITIONS[state] == {JobState.SUBMITTED} for state in again)


def test_a_job_can_reach_every_end() -> None:
    reached = {JobState.SUBMITTED}
    while more := {new for old in reached for new in TRANSITIONS[old]} - reached:
        reached |= more
    assert reached == set(JobState)


OWN = Cause("site-1", "training", 0, "ValueError", "bad", "code/train.py", 7)
FOREIGN = Cause("site-1", "joining", message="did not join")


@pytest.mark.parametrize(
    ("state", "cause", "partial", "expected"),
    [
        (JobState.COMPLETED, None, False, ("", 0)),
        (JobState.COMPLETED_PARTIAL, None, False, ("JOB_PARTIAL", 1)),
        (JobState.COMPLETED_PARTIAL, None, True, ("", 0)),
        (JobState.FAILED, OWN, False, ("JOB_FINISHED_EXCEPTION", 1)),
        (JobState.FAILED, Cause("site-1", exit_code=3), False, ("JOB_FINISHED_EXCEPTION", 1)),
        (JobState.FAILED, Cause("site-1", signal="SIGSEGV"), True, ("JOB_FINISHED_EXCEPTION", 1)),
        (JobState.FAILED, FOREIGN, False, ("JOB_FAILED", 1)),
        (JobState.FAILED, None, True, ("JOB_FAILED", 1)),
        (JobState.CAN_NOT_SCHEDULE, FOREIGN, False, ("JOB_FAILED", 1)),
        (JobState.ABORTED, OWN, True, ("JOB_ABORTED", 1)),
        (JobState.RUNNING, None, False, ("JOB_NOT_DONE", 4)),
    ],
)
def test_the_outcome_of_a_job(state: JobState, cause: Cause | None, partial: bool, expected: tuple[str, int]) -> None:
    assert outcome(state, cause, partial) == expected


def test_a_cause_says_where_what_and_which_line() -> None:
    assert OWN.lines() == ["site-1 (training, round 1): ValueError: bad", "  at code/train.py:7"]


def test_a_long_log_is_cut_to_ten_lines_and_the_hint_stays() -> None:
    cause = Cause("site-1", "training", 2, "E", "m", "f.py", 1, 1, log_tail=tuple(map(str, range(40))), hint="do it")
    lines = cause.lines()
    assert len(lines) == MAX_LINES == 10
    assert lines[-2:] == ["  | 39", "Hint: do it"]


def test_being_killed_is_explained() -> None:
    lines = Cause("site-2", "training", 0, signal="SIGKILL", peak_rss=3 << 29).lines()
    assert lines[0] == "site-2 (training, round 1): killed, probably out of memory (peak RSS 1.5 GiB)"
    assert "memory" in lines[-1]


def test_an_unknown_signal_is_named() -> None:
    assert Cause("site-2", signal="SIGUSR1").lines() == ["site-2: ended by SIGUSR1"]


def test_an_exit_code_is_said() -> None:
    assert Cause("site-2", "training", exit_code=3).lines() == ["site-2 (training): ended with exit code 3"]


def test_a_cause_cannot_play_with_the_terminal() -> None:
    evil = Cause("site-1", message="a\x1b[2J\nb\u202e" + "x" * 1000, log_tail=("\x1b]0;title\x07",))
    lines = evil.lines()
    assert all(line.isprintable() and len(line) <= 300 for line in lines)


def test_a_cause_survives_being_stored() -> None:
    cause = Cause("site-1", "training", 1, "E", "m", "f.py", 3, None, "SIGKILL", 5, ("a", "b"), "h")
    assert structure(plain(cause), Cause) == cause


def test_the_state_of_a_stored_job_is_read_by_its_value() -> None:
    assert JobState(parse_json('"FINISHED:ABORTED"', "state")) is JobState.ABORTED
