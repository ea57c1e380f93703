"""For every promise of a launcher: one that breaks it, and the test of the suite that notices."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import attrs
import pytest

from flpoc.errors import LaunchError
from flpoc.launching import Handle, LaunchRequest, State, Status
from flpoc_builtin_local.keeper import children
from flpoc_builtin_local.launcher import LocalLauncher
from flpoc_builtin_local.settings import LocalSettings

RUN_SUITES = """
import pytest
from flpoc.testing import LauncherSuite
import test_launcher_suite as wrong

def suite(kind, seconds):
    class Suite(LauncherSuite):
        patience = seconds
        at_once = wrong.AT_ONCE

        @pytest.fixture
        def launcher(self):
            return kind()

    return Suite

TestCorrect = suite(wrong.Correct, 20.0)
for kind in wrong.WRONG:
    globals()["Test" + kind.__name__] = suite(kind, 1.5)  # what never comes is waited for
"""


AT_ONCE = 0.3


class Correct(LocalLauncher):
    """Changes nothing: the suite must find nothing."""


class _Starts(LocalLauncher):
    """Changes the request before it is launched."""

    def change(self, request: LaunchRequest) -> LaunchRequest:
        raise NotImplementedError

    def launch(self, request: LaunchRequest) -> Handle:
        return super().launch(self.change(request))


class _Says(LocalLauncher):
    """Changes what is said about a process that has ended."""

    def change(self, status: Status) -> Status:
        raise NotImplementedError

    def poll(self, handle: Handle) -> Status:
        status = super().poll(handle)
        return status if status.running else self.change(status)

    def wait(self, handle: Handle, timeout: float) -> Status:
        super().wait(handle, timeout)
        return self.poll(handle)


class SaysEndedAtOnce(LocalLauncher):
    caught_by = "test_what_it_launches_runs"

    def poll(self, handle: Handle) -> Status:
        return Status(State.EXITED, 0)


class StartsANameTwice(_Starts):
    caught_by = "test_launching_what_runs_gives_the_handle_of_what_runs"

    def change(self, request: LaunchRequest) -> LaunchRequest:
        return attrs.evolve(request, state=f"{request.state}-{time.monotonic_ns()}")


class KnowsNamesOfItsOwnProcessOnly(_Starts):
    caught_by = "test_another_process_that_launches_what_runs_gets_the_same_handle"

    def change(self, request: LaunchRequest) -> LaunchRequest:
        return attrs.evolve(request, state=f"{request.state}-{os.getpid()}")


class UsesUpNames(LocalLauncher):
    caught_by = "test_a_name_can_be_launched_again_after_its_end"

    def launch(self, request: LaunchRequest) -> Handle:
        used = Path(request.state) / "used.json"
        if used.exists():
            return Handle(**json.loads(used.read_text()))
        handle = super().launch(request)
        used.write_text(json.dumps(attrs.asdict(handle)))
        return handle


class ShortensNames(_Starts):
    caught_by = "test_any_text_is_a_name"

    def change(self, request: LaunchRequest) -> LaunchRequest:
        return attrs.evolve(request, name=request.name.casefold()[:5])

    def launch(self, request: LaunchRequest) -> Handle:
        return attrs.evolve(super().launch(request), name=request.name)

    def poll(self, handle: Handle) -> Status:
        return super().poll(attrs.evolve(handle, name=handle.name.casefold()[:5]))

    def stop(self, handle: Handle, *, grace: float = 10.0) -> None:
        super().stop(attrs.evolve(handle, name=handle.name.casefold()[:5]), grace=grace)


class HasOneNameForAll(_Starts):
    caught_by = "test_the_same_name_with_another_state_folder_is_another_launch"

    def change(self, request: LaunchRequest) -> LaunchRequest:
        return attrs.evolve(request, state=str(Path(request.workdir) / "everywhere"))


class ShowsItsRecords(LocalLauncher):
    caught_by = "test_its_records_are_for_their_owner_only"

    def launch(self, request: LaunchRequest) -> Handle:
        Path(request.state).mkdir(mode=0o755, parents=True, exist_ok=True)
        return super().launch(request)


class RaisesWhatPythonRaises(LocalLauncher):
    caught_by = "test_a_program_that_does_not_exist_is_a_launch_error_with_a_hint"

    def launch(self, request: LaunchRequest) -> Handle:
        try:
            return super().launch(request)
        except LaunchError as error:
            raise FileNotFoundError(error.message) from None


class TakesRelativePaths(_Starts):
    caught_by = "test_a_relative_path_is_refused"

    def change(self, request: LaunchRequest) -> LaunchRequest:
        return attrs.evolve(request, workdir="/")


class MakesTheWorkdir(LocalLauncher):
    caught_by = "test_a_missing_workdir_is_a_launch_error_and_is_not_made"

    def launch(self, request: LaunchRequest) -> Handle:
        Path(request.workdir).mkdir(parents=True, exist_ok=True)
        return super().launch(request)


class SearchesItsOwnPath(_Starts):
    caught_by = "test_a_bare_name_is_searched_in_the_path_of_the_request"

    def change(self, request: LaunchRequest) -> LaunchRequest:
        return attrs.evolve(request, env={**request.env, "PATH": os.defpath})


class LeavesTheInputOpen(_Starts):
    caught_by = "test_there_is_nothing_to_read_on_its_standard_input"

    def change(self, request: LaunchRequest) -> LaunchRequest:
        return attrs.evolve(request, argv=("/bin/sh", "-c", '/bin/sleep 60 | "$@"', "sh", *request.argv))


class NeedsTheFolderOfTheLog(LocalLauncher):
    caught_by = "test_a_log_is_made_with_its_folder"

    def launch(self, request: LaunchRequest) -> Handle:
        if not Path(request.log).parent.is_dir():
            raise LaunchError("there is no folder for the log", hint="make it")
        return super().launch(request)


class BeginsLogsAnew(LocalLauncher):
    caught_by = "test_a_log_is_appended_to"

    def launch(self, request: LaunchRequest) -> Handle:
        Path(request.log).unlink(missing_ok=True)
        return super().launch(request)


class ShowsTheLastFileOnly(LocalLauncher):
    caught_by = "test_a_full_log_becomes_log_1_and_both_are_shown"

    def logs(self, handle: Handle, *, tail: int = 200) -> str:
        return "".join(Path(json.loads(handle.ref)["log"]).read_text().splitlines(keepends=True)[-tail:])


class InheritsTheEnvironment(_Starts):
    caught_by = "test_the_environment_is_exactly_the_one_asked_for"

    def change(self, request: LaunchRequest) -> LaunchRequest:
        return attrs.evolve(request, env={**os.environ, **request.env})


class IgnoresTheWorkdir(_Starts):
    caught_by = "test_it_starts_in_its_workdir"

    def change(self, request: LaunchRequest) -> LaunchRequest:
        return attrs.evolve(request, workdir="/")


class UsesAShell(_Starts):
    caught_by = "test_arguments_arrive_as_they_are"

    def change(self, request: LaunchRequest) -> LaunchRequest:
        return attrs.evolve(request, argv=("/bin/sh", "-c", "exec " + " ".join(f'"{word}"' for word in request.argv)))


class LosesErrors(_Starts):
    caught_by = "test_output_and_errors_are_in_the_log"

    def change(self, request: LaunchRequest) -> LaunchRequest:
        return attrs.evolve(request, argv=("/bin/sh", "-c", 'exec "$@" 2>/dev/null', "sh", *request.argv))


class NeverRotates(_Starts):
    caught_by = "test_of_a_long_log_twice_its_limit_is_kept_at_most_and_that_is_the_end"

    def change(self, request: LaunchRequest) -> LaunchRequest:
        return attrs.evolve(request, log_limit=1 << 40)


class GivesTheWholeLog(LocalLauncher):
    caught_by = "test_logs_gives_as_many_lines_as_asked_for"

    def logs(self, handle: Handle, *, tail: int = 200) -> str:
        return super().logs(handle, tail=1 << 20)


class ApologisesForEmptyLogs(LocalLauncher):
    caught_by = "test_logs_are_empty_when_nothing_was_written"

    def logs(self, handle: Handle, *, tail: int = 200) -> str:
        return super().logs(handle, tail=tail) or "(no output)"


class ReadsLogsStrictly(LocalLauncher):
    caught_by = "test_logs_survive_bytes_that_are_no_text"

    def logs(self, handle: Handle, *, tail: int = 200) -> str:
        return Path(json.loads(handle.ref)["log"]).read_text(encoding="utf-8")


class FailsOnSuccess(_Says):
    caught_by = "test_success_is_code_0"

    def change(self, status: Status) -> Status:
        return attrs.evolve(status, code=status.code or None)


class CallsEverythingSuccess(_Says):
    caught_by = "test_a_failure_keeps_its_exit_code"

    def change(self, status: Status) -> Status:
        return attrs.evolve(status, code=0)


class CountsSignalsLikeAShell(_Says):
    caught_by = "test_the_end_by_a_signal_is_its_negative_number"

    def change(self, status: Status) -> Status:
        return attrs.evolve(status, code=128 - status.code if status.code and status.code < 0 else status.code)


class CallsAStopSuccess(_Says):
    caught_by = "test_a_process_that_was_stopped_has_not_succeeded"

    def change(self, status: Status) -> Status:
        return attrs.evolve(status, code=0 if status.code == -signal.SIGTERM else status.code)


class _Plain(LocalLauncher):
    """Starts processes without a keeper."""

    def launch(self, request: LaunchRequest) -> Handle:
        log = Path(request.log).open("ab")  # noqa: SIM115 - left open, with the process: that is the mistake
        process = subprocess.Popen(request.argv, cwd=request.workdir, env=request.env, stdout=log, stderr=log)
        self.last = process
        return Handle("plain", request.name, str(process.pid), process.pid)

    def poll(self, handle: Handle) -> Status:
        try:
            os.kill(int(handle.ref), 0)
        except OSError:
            return Status(State.EXITED)
        return Status(State.RUNNING)

    def stop(self, handle: Handle, *, grace: float = 10.0) -> None:
        if int(handle.ref) == self.last.pid:
            self.last.kill()
            self.last.wait()


class TakesZombiesForLiving(_Plain):
    caught_by = "test_a_zombie_does_not_look_alive"


class ForgetsTheEnd(LocalLauncher):
    caught_by = "test_the_end_stays_known"

    def poll(self, handle: Handle) -> Status:
        status = super().poll(handle)
        if not status.running:
            for record in Path(json.loads(handle.ref)["stem"]).parent.glob("*.exit"):
                record.unlink()
        return status


class CountsMemoryInKilobytes(_Says):
    caught_by = "test_memory_use_is_in_bytes_or_unknown"

    def change(self, status: Status) -> Status:
        return attrs.evolve(status, peak_rss=(status.peak_rss or 0) >> 10)


class LeavesOrphans(_Plain):
    caught_by = "test_what_it_leaves_behind_is_ended"

    def poll(self, handle: Handle) -> Status:
        return Status(State.RUNNING if self.last.poll() is None else State.EXITED)


class AsksASlowEngine(LocalLauncher):
    caught_by = "test_poll_answers_at_once"

    def poll(self, handle: Handle) -> Status:
        time.sleep(AT_ONCE + 0.05)
        return super().poll(handle)


class WaitsForTheWholeTime(LocalLauncher):
    caught_by = "test_wait_returns_when_it_has_ended"

    def wait(self, handle: Handle, timeout: float) -> Status:
        time.sleep(timeout)
        return self.poll(handle)


class DoesNotWait(LocalLauncher):
    caught_by = "test_wait_returns_when_its_time_is_over"

    def wait(self, handle: Handle, timeout: float) -> Status:
        return self.poll(handle)


class PutsObjectsIntoHandles(LocalLauncher):
    caught_by = "test_a_handle_survives_json"

    def launch(self, request: LaunchRequest) -> Handle:
        return attrs.evolve(super().launch(request), name=("launch", request.name))  # type: ignore[arg-type]


class HidesTheName(LocalLauncher):
    caught_by = "test_a_handle_says_who_made_it_and_for_what"

    def launch(self, request: LaunchRequest) -> Handle:
        return attrs.evolve(super().launch(request), name="process")


class BelievesHandles(LocalLauncher):
    caught_by = "test_nonsense_in_a_handle_has_ended_and_nobody_knows_how"

    def poll(self, handle: Handle) -> Status:
        return Status(State.RUNNING) if json.loads(handle.ref)["child"][0] < 0 else super().poll(handle)


class TakesAnyHandle(LocalLauncher):
    caught_by = "test_a_handle_with_another_launcher_or_name_leads_nowhere"

    def poll(self, handle: Handle) -> Status:
        return super().poll(self.true(handle))

    def stop(self, handle: Handle, *, grace: float = 10.0) -> None:
        super().stop(self.true(handle), grace=grace)

    def true(self, handle: Handle) -> Handle:
        return attrs.evolve(handle, launcher="local", name=json.loads(handle.ref)["name"])


class _Remembers(LocalLauncher):
    """Keeps in memory what another process would need."""

    def __init__(self, settings: LocalSettings | None = None) -> None:
        super().__init__(settings)
        self.mine: set[str] = set()

    def launch(self, request: LaunchRequest) -> Handle:
        handle = super().launch(request)
        self.mine.add(handle.ref)
        return handle


class FindsOnlyItsOwn(_Remembers):
    caught_by = "test_a_later_process_finds_it_again"

    def poll(self, handle: Handle) -> Status:
        return super().poll(handle) if handle.ref in self.mine else Status(State.EXITED)


class RemembersCodesInMemory(FindsOnlyItsOwn):
    caught_by = "test_a_later_process_knows_how_it_ended"


class StopsOnlyItsOwn(_Remembers):
    caught_by = "test_a_later_process_stops_it"

    def stop(self, handle: Handle, *, grace: float = 10.0) -> None:
        if handle.ref in self.mine:
            super().stop(handle, grace=grace)


class DiesTogether(_Plain):
    caught_by = "test_it_survives_the_death_of_its_launcher"

    def stop(self, handle: Handle, *, grace: float = 10.0) -> None:
        """What was started elsewhere is gone with its group."""


class KillsWithoutAsking(LocalLauncher):
    caught_by = "test_stop_asks_first"

    def stop(self, handle: Handle, *, grace: float = 10.0) -> None:
        if self.poll(handle).running:
            os.kill(handle.pid, signal.SIGKILL)
        super().stop(handle, grace=grace)


class _Stops(LocalLauncher):
    """Stops in a wrong way when it is asked with patience, and properly for the end of the test."""

    def badly(self, handle: Handle, grace: float) -> None:
        raise NotImplementedError

    def stop(self, handle: Handle, *, grace: float = 10.0) -> None:
        if grace:
            self.badly(handle, grace)
        else:
            super().stop(handle, grace=0)


class OnlyAsks(_Stops):
    caught_by = "test_stop_insists"

    def badly(self, handle: Handle, grace: float) -> None:
        os.kill(handle.pid, signal.SIGTERM)


class _WithoutAKeeper(_Stops):
    """Stops like a launcher that knows one process only: its keeper cannot help."""

    def kill(self, pid: int) -> None:
        raise NotImplementedError

    def badly(self, handle: Handle, grace: float) -> None:
        keeper = json.loads(handle.ref)["keeper"][0]
        os.kill(keeper, signal.SIGSTOP)
        self.kill(handle.pid)


class ForgetsChildren(_WithoutAKeeper):
    caught_by = "test_stop_ends_children"

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)


class TrustsChildren(_WithoutAKeeper):
    caught_by = "test_stop_ends_children_that_ignore_it"

    def kill(self, pid: int) -> None:
        os.killpg(pid, signal.SIGTERM)


class EndsTheGroupOnly(_WithoutAKeeper):
    caught_by = "test_stop_ends_grandchildren_with_a_session_of_their_own"

    def kill(self, pid: int) -> None:
        os.killpg(pid, signal.SIGKILL)


class WakesNobody(_Stops):
    caught_by = "test_stop_ends_a_paused_process"

    def badly(self, handle: Handle, grace: float) -> None:
        os.killpg(handle.pid, signal.SIGTERM)
        self.wait(handle, grace)


class AsksWhoCannotHear(LocalLauncher):
    caught_by = "test_stop_wakes_a_paused_process_so_that_it_can_save"

    def stop(self, handle: Handle, *, grace: float = 10.0) -> None:
        if grace:
            os.killpg(handle.pid, signal.SIGTERM)
            self.wait(handle, 0.2)
            os.killpg(handle.pid, signal.SIGKILL)
        super().stop(handle, grace=0)


class AlwaysHasPatience(LocalLauncher):
    caught_by = "test_without_grace_stop_does_not_wait"

    def stop(self, handle: Handle, *, grace: float = 10.0) -> None:
        super().stop(handle, grace=grace or 2.0)


class StopsWhatIsKeptOnly(LocalLauncher):
    caught_by = "test_when_its_keeper_is_killed_stop_ends_what_is_left"

    def stop(self, handle: Handle, *, grace: float = 10.0) -> None:
        if self.poll(handle).running:
            super().stop(handle, grace=grace)


class SparesNobody(LocalLauncher):
    caught_by = "test_what_it_launches_through_another_launcher_goes_on"

    def stop(self, handle: Handle, *, grace: float = 10.0) -> None:
        below = children(handle.pid)
        super().stop(handle, grace=grace)
        for pid in below:
            os.kill(pid, signal.SIGKILL)


class EndsWhatWasLaunchedBeside(LocalLauncher):
    caught_by = "test_what_it_launches_through_itself_goes_on"

    def poll(self, handle: Handle) -> Status:
        status = super().poll(handle)
        for record in Path(json.loads(handle.ref)["stem"]).parent.glob("local-*.json"):
            name = json.loads(record.read_text())["name"]
            if name != handle.name and not status.running:
                super().stop(Handle("local", name, record.read_text()), grace=0)
        return status


class StopsOnlyTheLiving(LocalLauncher):
    caught_by = "test_stopping_twice_is_fine"

    def stop(self, handle: Handle, *, grace: float = 10.0) -> None:
        if grace and not self.poll(handle).running:
            raise ProcessLookupError(handle.pid)
        super().stop(handle, grace=grace)


class StopsAll(_Remembers):
    caught_by = "test_stopping_one_leaves_the_others_alone"

    def stop(self, handle: Handle, *, grace: float = 10.0) -> None:
        for ref in self.mine:
            super().stop(attrs.evolve(handle, ref=ref, name=json.loads(ref)["name"]), grace=grace)


WRONG = tuple(kind for kind in list(globals().values()) if isinstance(kind, type) and "caught_by" in vars(kind))


def run(folder: Path, *chosen: str) -> dict[str, str]:
    """Run tests of the suites, and say how each went: passed, failed, error or skipped."""
    file, report = folder / "test_launchers.py", folder / "report.xml"
    file.write_text(RUN_SUITES)
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", "-c", os.devnull]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])}
    done = subprocess.run(
        [*argv, f"--rootdir={folder}", f"--basetemp={folder / 'tmp'}", *(f"{file}::{one}" for one in chosen)],
        env=env, cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: dict[str, str] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name', '').partition('[')[0]}"
        outcome = case[0].tag if len(case) else "passed"
        found[name] = outcome if found.get(name, "passed") == "passed" else found[name]
    return found


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    chosen = [f"Test{kind.__name__}::{kind.caught_by}" for kind in WRONG]
    return run(tmp_path_factory.mktemp("wrong"), *chosen)


@pytest.mark.parametrize("kind", WRONG, ids=lambda kind: kind.__name__)
def test_a_launcher_that_breaks_a_promise_is_caught(kind: type[LocalLauncher], outcomes: dict[str, str]) -> None:
    assert outcomes[f"Test{kind.__name__}::{kind.caught_by}"] == "failure"


def test_a_correct_launcher_passes_and_every_test_has_a_launcher_that_fails_it(tmp_path: Path) -> None:
    outcomes = run(tmp_path, "TestCorrect")
    assert {name for name, outcome in outcomes.items() if outcome != "passed"} == set()
    assert {name.partition("::")[2] for name in outcomes} == {kind.caught_by for kind in WRONG}


ODD = """
import attrs
import pytest
from flpoc.testing import LauncherSuite
from flpoc_builtin_local.launcher import LocalLauncher

class Impatient(LocalLauncher):
    def __init__(self, patience):
        super().__init__()
        self._settings = patience

class NeverReturns(LocalLauncher):
    def wait(self, handle, timeout):
        return super().wait(handle, 3600)

class TestImpatient(LauncherSuite):
    @pytest.fixture
    def launcher(self):
        return Impatient(3)

class TestNeverReturns(LauncherSuite):
    patience = 0.3

    @pytest.fixture
    def launcher(self):
        return NeverReturns()
"""


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("odd")
    (folder / "test_odd.py").write_text(ODD)
    chosen = (
        "TestImpatient::test_a_later_process_finds_it_again",
        "TestNeverReturns::test_wait_returns_when_its_time_is_over",
    )
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, f"--rootdir={folder}"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(folder), *sys.path]))}
    done = subprocess.run(
        [*argv, f"--basetemp={folder / 'tmp'}", *(f"test_odd.py::{one}" for one in chosen)],
        env=env, cwd=folder, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    return done.stdout


def test_a_launcher_that_cannot_be_made_again_is_told_in_one_line(odd: str) -> None:
    assert "the same launcher cannot be made in another process: TypeError: " in odd
    assert "set `maker`" in odd


def test_a_launcher_that_hangs_fails_in_time(odd: str) -> None:
    assert "not done after 1.5 s: the launcher hangs" in odd
