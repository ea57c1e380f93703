"""What every launcher must keep about the end of a process, and about handles."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable

import attrs
import pytest

from flpoc.launching import Handle, Launcher, LaunchRequest, State
from flpoc.testing.later import later_process
from flpoc.testing.launcher_bench import LauncherBench, Start
from flpoc.testing.lifelines import Lifeline

#: What may stand in a handle that is damaged, forged, or made by another launcher.
_NONSENSE = ("", "nonsense", "{}", "[]", "null", "7", '{"pid": -1}', '{"pid": 1}', "\x00", "[" * 5000)


class LauncherEnds(LauncherBench):
    """Ending: exit codes, waiting, handles in later processes."""

    # -- how it ended

    def test_success_is_code_0(self, launcher: Launcher, start: Start) -> None:
        status = launcher.wait(start("pass"), self.patience)
        assert status.state is State.EXITED
        assert status.code == (0 if self.knows_exit_codes else None)

    def test_a_failure_keeps_its_exit_code(self, launcher: Launcher, start: Start) -> None:
        status = launcher.wait(start("raise SystemExit(7)"), self.patience)
        assert status.state is State.EXITED
        assert status.code == (7 if self.knows_exit_codes else None)

    def test_the_end_by_a_signal_is_its_negative_number(self, launcher: Launcher, start: Start) -> None:
        # not SIGKILL: the first process of a container cannot send it to itself
        code = "import os, signal; signal.signal(signal.SIGUSR1, lambda *_: os.abort()); os.kill(os.getpid(), 10)"
        status = launcher.wait(start(code), self.patience)
        assert status.code == (-signal.SIGABRT if self.knows_exit_codes else None)

    def test_a_process_that_was_stopped_has_not_succeeded(
        self, launcher: Launcher, start: Start, life: Lifeline
    ) -> None:
        handle = start("say('here'); time.sleep(600)", str(life.path))
        life.hear(self.patience)
        launcher.stop(handle, grace=self.patience)
        assert launcher.poll(handle).code != 0

    def test_a_zombie_does_not_look_alive(self, launcher: Launcher, start: Start, life: Lifeline) -> None:
        handle = start("say('bye')", str(life.path))
        assert life.ended(self.patience)
        assert self.settled(launcher, handle).state is State.EXITED

    def test_the_end_stays_known(self, launcher: Launcher, start: Start) -> None:
        handle = start("raise SystemExit(7)")
        status = launcher.wait(handle, self.patience)
        assert launcher.poll(handle) == status
        assert launcher.wait(handle, 0) == status

    def test_memory_use_is_in_bytes_or_unknown(self, launcher: Launcher, start: Start) -> None:
        status = launcher.wait(start("b = bytearray(64 << 20); b[::4096] = bytes(len(b[::4096]))"), self.patience)
        assert status.peak_rss is None or 64 << 20 <= status.peak_rss < 1 << 40

    def test_what_it_leaves_behind_is_ended(self, launcher: Launcher, start: Start, life: Lifeline) -> None:
        code = (
            "heard, tell = os.pipe()\n"
            "if not os.fork(): os.setsid(); say('child'); os.write(tell, b'.'); time.sleep(600)\n"
            "os.read(heard, 1)"
        )
        handle = start(code, str(life.path))
        assert life.hear(self.patience) == "child"
        assert not self.settled(launcher, handle).running
        assert life.ended(self.patience)

    # -- waiting

    def test_poll_answers_at_once(self, launcher: Launcher, start: Start) -> None:
        handle = start("import time; time.sleep(600)")
        fastest = min(_seconds(launcher.poll, handle) for _ in range(3))
        launcher.stop(handle, grace=0)
        fastest_after = min(_seconds(launcher.poll, handle) for _ in range(3))
        assert max(fastest, fastest_after) < self.at_once

    def test_wait_returns_when_it_has_ended(self, launcher: Launcher, start: Start) -> None:
        handle = start("import time; time.sleep(0.3)")
        began = time.monotonic()
        assert launcher.wait(handle, self.patience).state is State.EXITED
        assert time.monotonic() - began < self.patience

    def test_wait_returns_when_its_time_is_over(self, launcher: Launcher, start: Start) -> None:
        handle = start("import time; time.sleep(600)")
        began = time.monotonic()
        assert launcher.wait(handle, 0.5).state is State.RUNNING
        assert 0.45 < time.monotonic() - began < self.patience

    # -- handles

    def test_a_handle_survives_json(self, launcher: Launcher, start: Start) -> None:
        handle = start("import time; time.sleep(600)")
        again = Handle(**json.loads(json.dumps(attrs.asdict(handle))))
        assert again == handle
        assert launcher.poll(again).state is State.RUNNING

    def test_a_handle_says_who_made_it_and_for_what(self, start: Start) -> None:
        handle = start("pass", name="job-1.site-2.3")
        assert (bool(handle.launcher), handle.name) == (True, "job-1.site-2.3")

    @pytest.mark.parametrize("ref", _NONSENSE, ids=range(len(_NONSENSE)))
    def test_nonsense_in_a_handle_has_ended_and_nobody_knows_how(
        self, launcher: Launcher, start: Start, ref: str
    ) -> None:
        handle = attrs.evolve(start("pass"), ref=ref, pid=0)
        assert launcher.poll(handle).state is State.EXITED
        assert launcher.poll(handle).code is None
        assert launcher.wait(handle, 0.1).state is State.EXITED
        assert launcher.logs(handle) == ""
        launcher.stop(handle, grace=0)

    @pytest.mark.parametrize("change", [{"launcher": "another"}, {"name": "suite.site-1.2"}], ids=["launcher", "name"])
    def test_a_handle_with_another_launcher_or_name_leads_nowhere(
        self, launcher: Launcher, start: Start, change: dict[str, str], life: Lifeline
    ) -> None:
        right = start("say('here'); print('private', flush=True); time.sleep(600)", str(life.path))
        assert life.hear(self.patience) == "here"
        forged = Handle(**{**attrs.asdict(right), **change})
        assert launcher.poll(forged) == attrs.evolve(launcher.poll(forged), state=State.EXITED, code=None)
        assert launcher.logs(forged) == ""
        launcher.stop(forged, grace=0)
        assert launcher.poll(right).running

    def test_a_later_process_finds_it_again(self, launcher: Launcher, start: Start) -> None:
        handle = start("import time; time.sleep(600)")
        code = "print(launcher.poll(Handle(**ask['handle'])).state.value)"
        assert self.elsewhere(launcher, code, handle=handle).strip() == "running"

    def test_a_later_process_knows_how_it_ended(self, launcher: Launcher, start: Start) -> None:
        handle = start("raise SystemExit(7)")
        launcher.wait(handle, self.patience)
        code = "print(launcher.poll(Handle(**ask['handle'])).code)"
        assert self.elsewhere(launcher, code, handle=handle).strip() == ("7" if self.knows_exit_codes else "None")

    def test_a_later_process_stops_it(self, launcher: Launcher, start: Start, life: Lifeline) -> None:
        handle = start("say('here'); time.sleep(600)", str(life.path))
        life.hear(self.patience)
        self.elsewhere(launcher, "launcher.stop(Handle(**ask['handle']), grace=5)", handle=handle)
        assert life.ended(0)
        assert launcher.poll(handle).state is State.EXITED

    def test_it_survives_the_death_of_its_launcher(
        self, launcher: Launcher, ask: Callable[..., LaunchRequest], life: Lifeline
    ) -> None:
        request = ask("say('here'); time.sleep(600)", str(life.path))
        code = (
            "import os, signal\n"
            "print(json.dumps(plain(launcher.launch(structure(ask['request'], LaunchRequest)))), flush=True)\n"
            "os.killpg(0, signal.SIGKILL)"
        )
        call = later_process(launcher, self.maker, code, {"request": request})
        done = subprocess.run(**call, start_new_session=True, timeout=self.patience, check=False)
        self.made_elsewhere(done)
        handle = Handle(**json.loads(done.stdout))
        try:
            assert life.hear(self.patience) == "here"
            assert not life.ended(0.2)
            assert launcher.poll(handle).state is State.RUNNING
        finally:
            launcher.stop(handle, grace=0)


def _seconds(act: Callable[[Handle], object], handle: Handle) -> float:
    began = time.monotonic()
    act(handle)
    return time.monotonic() - began
