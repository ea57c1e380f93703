"""A simulated job that fails says why, as a real one does, and leaves no process."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flpoc.errors import UsageError
from flpoc_builtin_local.keeper import children

WAYS = {"own": {"workers": 2}, "shared": {"workers": 1}}
ways = pytest.mark.parametrize("how", WAYS.values(), ids=WAYS)
IF_SECOND = 'if site == "site-2" and number == 1: '

_WRONG = "site-2 (sending its update, round 2): not the tensors of the model that was sent: "
CASES = {
    "raises": ('raise ValueError("bad label")', "site-2 (training, round 2): ValueError: bad label"),
    "exits": ("sys.exit(3)", "site-2 (training, round 2): ended with exit code 3"),
    "ends": ("sys.exit()", "site-2 (training, round 2): the script ended before round 2 was answered"),
    "leaves": ("os._exit(4)", "site-2 (training, round 2): ended with exit code 4"),
    "wrong type": (
        "flare.send({'w': 1})",
        "site-2 (training, round 2): UsageError: flare.send() takes an FLModel, not dict",
    ),
    "wrong keys": (
        "params['v'] = np.ones(1)",
        _WRONG + "tensor 'v' is not expected",
    ),
    "wrong shape": (
        "params = {'w': np.zeros(5)}",
        _WRONG + "tensor 'w': shape is [5], expected [50]",
    ),
    "not a number": (
        "params['w'][7] = np.nan",
        "server (aggregating, round 2): IntegrityError: site-2: tensor 'w' holds NaN or infinity (element 7 of 50)",
    ),
}


@ways
@pytest.mark.parametrize(("body", "says"), CASES.values(), ids=CASES)
def test_the_first_cause_is_told_in_ten_lines(simulation, how, body, says):
    outcome = simulation.run(IF_SECOND + body, sites=2, how=how)
    assert outcome.state == "FINISHED:FAILED"
    assert outcome.cause.lines()[0] == says
    assert len(outcome.cause.lines()) <= 10
    assert outcome.summary()["rounds"] == 1


@pytest.mark.parametrize("name", ["raises", "exits", "ends", "wrong type", "wrong keys", "wrong shape", "not a number"])
def test_the_first_cause_is_the_same_in_this_process(simulation, name):
    body, says = CASES[name]
    outcome = simulation.run(IF_SECOND + body, sites=2, how={"in_process": True})
    assert outcome.cause.lines()[0] == says


@pytest.mark.parametrize("how", [*WAYS.values(), {"in_process": True}], ids=[*WAYS, "here"])
def test_a_script_that_does_not_begin_fails_as_at_a_server(simulation, how):
    script = "import flpoc.client as flare\nflare.receive()\n"
    outcome = simulation.run(script=script, sites=2, how=how)
    said = "site-1 (training): UsageError: flare.init() has not been called"
    assert outcome.cause.lines()[0].replace("site-2", "site-1") == said
    assert outcome.cause.line == 2


@pytest.mark.parametrize("how", [*WAYS.values(), {"in_process": True}], ids=[*WAYS, "here"])
def test_a_script_of_another_rank_does_not_talk_as_at_a_server(simulation, how):
    script = "import flpoc.client as flare\nflare.init(rank=1)\nassert flare.receive() is None\nflare.is_running()\n"
    outcome = simulation.run(script=script, sites=2, how=how)
    assert "UsageError: flare.is_running() is for rank 0; this is rank 1" in outcome.cause.lines()[0]


@ways
def test_a_script_that_ends_after_an_answer_is_told_of_the_job_and_not_of_a_round_it_has_answered(simulation, how):
    outcome = simulation.run("flare.send(flare.FLModel(params=params)); sys.exit()", sites=2, how=how)
    if how == WAYS["own"]:
        assert "the script ended before" in outcome.cause.message
        assert "round 1" not in outcome.cause.message
    else:
        assert outcome.cause is None


@ways
def test_a_script_that_is_killed_is_started_three_times_for_a_task(simulation, how):
    body = IF_SECOND + "print('killed', flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    outcome = simulation.run(body, sites=2, how=how)
    assert outcome.cause.signal == "SIGKILL"
    assert outcome.cause.peak_rss > 1 << 20
    # a script that was there before the task is launched three times besides
    assert outcome.cause.log_tail == ("killed",) * (4 if how["workers"] == 2 else 3)
    once = f"if not os.path.exists({str(simulation.folder / 'once')!r}): open({str(simulation.folder / 'once')!r}, 'w')"
    again = f"{once}; os.kill(os.getpid(), signal.SIGKILL)"
    assert simulation.sha256(simulation.run(again, sites=2, how=how)) == simulation.sha256(
        simulation.run(sites=2, how=how)
    )


@ways
def test_a_script_that_makes_no_progress_is_lost(simulation, how):
    outcome = simulation.run(IF_SECOND + "time.sleep(1000)", sites=2, how=how, timeouts={"stall": 1.0})
    [line] = outcome.cause.lines()
    assert re.fullmatch(r"site-2 \(training, round 2\): no progress for \d+ s \(stall\)", line), line


@ways
def test_a_round_is_closed_without_those_that_are_late(simulation, how):
    body = 'if site == "site-2" and number == 0: time.sleep(1000)'
    wide = {"workers": 3} if how["workers"] == 2 else {"workers": 2}
    late = {"round_deadline": 10.0, "stall": 60.0}  # in which the others are there, also on a busy machine
    outcome = simulation.run(body, sites=3, how=wide, rounds=1, quorum=2, timeouts=late)
    assert outcome.state == "FINISHED:COMPLETED"
    assert simulation.ledger(outcome)[0, "site-2"] == ("late", "round_deadline")


def test_a_job_goes_on_with_enough_sites(simulation):
    outcome = simulation.run(IF_SECOND + "raise ValueError('no')", quorum=2)
    assert outcome.state == "FINISHED:COMPLETED"
    found = simulation.ledger(outcome)
    assert [found[number, "site-2"][0] for number in (0, 1, 2)] == ["trained", "failed", "failed"]
    assert found[2, "site-2"][1] == "no"


@ways
def test_a_failure_of_the_jobs_own_aggregator_has_its_place(simulation, how):
    outcome = simulation.run("params = {'w': np.full(50, np.inf)}", sites=2, how=how)
    assert (outcome.cause.site, outcome.cause.exception) == ("server", "IntegrityError")


# -- nothing is left behind

_CALLER = """
import sys
from pathlib import Path
from flpoc.simulate import run
run(Path(sys.argv[1]), sites=["site-1", "site-2"], workspace=sys.argv[2], workers=int(sys.argv[3]))
"""
_HANGS = "open(sys.argv[1] + site, 'w').write(f'{os.getpid()} {os.getppid()}'); os.mkfifo(site); open(site)"


@pytest.fixture
def hanging(simulation):
    """A program that simulates a job whose scripts wait for ever; its workers' and its engine's process ids."""
    begun = []

    def start(workers: int) -> tuple[subprocess.Popen[bytes], list[int], int]:
        marks = simulation.folder / "marks"
        marks.mkdir()
        os.mkfifo(marks / "site-1")
        folder = simulation.write(_HANGS, args=[f"{marks}/"])
        words = [sys.executable, "-c", _CALLER, str(folder), str(simulation.root), str(workers)]
        program = subprocess.Popen(words, start_new_session=True, stderr=subprocess.PIPE)
        begun.append(program)
        worker, engine = map(int, (marks / "site-1").read_text().split())
        return program, [worker], engine

    yield start
    for program in begun:
        program.kill()
        program.communicate()


def ended(pid: int) -> bool:
    """Wait until a process has ended."""
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            ready = select.poll()
            ready.register(handle, select.POLLIN)
            return bool(ready.poll(60_000))
        finally:
            os.close(handle)
    return True


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupt_ends_all(simulation, hanging, workers):
    program, pids, engine = hanging(workers)
    program.send_signal(signal.SIGINT)
    _, said = program.communicate(timeout=60)
    assert b"KeyboardInterrupt" in said
    assert all(map(ended, [*pids, engine]))
    assert [path.name for path in simulation.root.iterdir()] in ([], ["test.failed"])


@pytest.mark.parametrize("workers", [1, 2])
def test_when_the_program_is_killed_all_ends(simulation, hanging, workers):
    program, pids, engine = hanging(workers)
    program.kill()
    program.wait()
    assert all(map(ended, [*pids, engine]))


@pytest.mark.parametrize("workers", [1, 2])
def test_when_the_engine_is_killed_its_workers_end(simulation, hanging, workers):
    program, pids, engine = hanging(workers)
    os.kill(engine, signal.SIGKILL)
    assert all(map(ended, pids))
    _, said = program.communicate(timeout=60)
    assert b"the simulation ended with -9" in said
    assert list(simulation.root.glob(".test.*.part"))
    # what it has left is deleted by the next
    assert simulation.run(sites=2).state == "FINISHED:COMPLETED"
    assert [path.name for path in simulation.root.iterdir()] == ["test"]


def test_results_say_what_there_was_when_it_failed(simulation):
    outcome = simulation.run(IF_SECOND + "raise ValueError('no')", sites=2)
    rounds = (outcome.results / "round_metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in rounds] == [0]
    assert Path(outcome.results / "logs" / "site-2.log").read_text().endswith("ValueError: no\n")


def test_an_order_that_is_refused_leaves_no_process(simulation):
    before = set(children(os.getpid()))  # those of other tests, dead or alive
    with pytest.raises(UsageError, match="is not a list"):
        simulation.run(how={"gpus": "0,[1"})
    assert set(children(os.getpid())) <= before
