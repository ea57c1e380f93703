"""What every launcher must keep, whatever engine is behind it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest

from flpoc.errors import LaunchError, UsageError
from flpoc.launching import Handle, Launcher, LaunchRequest, Mount, State, Status
from flpoc.testing.later import later_process
from flpoc.testing.lifelines import HOLD, Lifeline

Start = Callable[..., Handle]

#: What may stand in a handle that is damaged, forged, or made by another launcher.
_NONSENSE = ("", "nonsense", "{}", "[]", "null", "7", '{"pid": -1}', '{"pid": 1}', "\x00", "[" * 5000)


class LauncherSuite:
    """Tests of a launcher; a subclass gives the fixture ``launcher``.

    Attributes:
        knows_exit_codes: Whether ``Status.code`` is known after the end.
        python: The interpreter, as the launched process finds it.
        engine_env: Names that the engine itself puts into every environment.
        patience: Seconds after which something that should happen counts as not happening.
        maker: Python that makes the same launcher in another process, as ``launcher``. Needed only if
            the class is not made from nothing, or from one attrs object with settings.
    """

    knows_exit_codes: ClassVar[bool] = True
    python: ClassVar[str] = sys.executable
    engine_env: ClassVar[frozenset[str]] = frozenset()
    patience: ClassVar[float] = 20.0
    maker: ClassVar[str] = ""

    @pytest.fixture
    def launcher(self) -> Launcher:
        raise NotImplementedError("a subclass of LauncherSuite gives the fixture `launcher`")

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """Where launched processes work; mounted for them. A subclass may choose another place."""
        return tmp_path

    @pytest.fixture
    def life(self, folder: Path) -> Iterator[Lifeline]:
        line = Lifeline(folder / "life")
        yield line
        line.close()

    @pytest.fixture
    def ask(self, folder: Path) -> Callable[..., LaunchRequest]:
        """Make a request for a piece of Python; what is started under it is stopped after the test."""

        def make(code: str, *arguments: str, name: str = "suite.site-1.1", **more: Any) -> LaunchRequest:
            argv = (self.python, "-c", HOLD + code if "say(" in code else code, *arguments)
            more = {"argv": argv, "workdir": str(folder), "mounts": (Mount(str(folder), str(folder), True),), **more}
            return LaunchRequest(name=name, state=str(folder / "state"), log=str(folder / f"{name}.log"), **more)

        return make

    @pytest.fixture
    def start(self, launcher: Launcher, ask: Callable[..., LaunchRequest]) -> Iterator[Start]:
        started = []

        def launch(code: str, *arguments: str, **more: Any) -> Handle:
            handle = launcher.launch(ask(code, *arguments, **more))
            started.append(handle)
            return handle

        yield launch
        for handle in started:
            launcher.stop(handle, grace=0)

    def elsewhere(self, launcher: Launcher, code: str, **data: Any) -> str:
        """Run *code* in another process, which has ``launcher`` and the dict ``ask``, and give what it printed."""
        call = later_process(launcher, self.maker, code, data)
        return subprocess.run(**call, timeout=self.patience, check=True).stdout  # type: ignore[no-any-return]

    def settled(self, launcher: Launcher, handle: Handle) -> Status:
        """Ask ``poll``, and nothing else, until it says that the process has ended."""
        end = time.monotonic() + self.patience
        while (status := launcher.poll(handle)).running and time.monotonic() < end:
            time.sleep(0.02)  # poll is what is tested here, and it tells nobody when to come back
        return status

    # -- launching

    def test_what_it_launches_runs(self, launcher: Launcher, start: Start, life: Lifeline) -> None:
        handle = start("say('here'); time.sleep(600)", str(life.path))
        assert launcher.poll(handle).state is State.RUNNING
        assert life.hear(self.patience) == "here"

    def test_launching_what_runs_gives_the_handle_of_what_runs(self, start: Start, life: Lifeline) -> None:
        first = start("say('here'); time.sleep(600)", str(life.path))
        second = start("say('here'); time.sleep(600)", str(life.path))
        assert second == first
        assert life.hear(self.patience) == "here"
        assert life.hear(0.2) == ""

    def test_another_process_that_launches_what_runs_gets_the_same_handle(
        self, launcher: Launcher, start: Start, ask: Callable[..., LaunchRequest], life: Lifeline
    ) -> None:
        code = "say('here'); time.sleep(600)"
        first = start(code, str(life.path))
        request = ask(code, str(life.path))
        launch = "print(json.dumps(plain(launcher.launch(structure(ask['request'], LaunchRequest)))))"
        second = Handle(**json.loads(self.elsewhere(launcher, launch, request=request)))
        if second != first:
            launcher.stop(second, grace=0)
        assert second == first

    def test_a_name_can_be_launched_again_after_its_end(self, launcher: Launcher, start: Start, life: Lifeline) -> None:
        first = start("pass")
        assert not launcher.wait(first, self.patience).running
        second = start("say('again'); time.sleep(600)", str(life.path))
        assert life.hear(self.patience) == "again"
        assert launcher.poll(second).running

    def test_a_program_that_does_not_exist_is_a_launch_error_with_a_hint(
        self, launcher: Launcher, ask: Callable[..., LaunchRequest]
    ) -> None:
        with pytest.raises(LaunchError) as caught:
            launcher.stop(launcher.launch(ask("", argv=("/no/such/program-of-flpoc",))), grace=0)
        assert "program-of-flpoc" in caught.value.message
        assert caught.value.hint

    def test_a_relative_path_is_refused(self, launcher: Launcher, ask: Callable[..., LaunchRequest]) -> None:
        with pytest.raises(UsageError):
            launcher.stop(launcher.launch(ask("pass", workdir="relative")), grace=0)

    # -- what the process gets

    def test_the_environment_is_exactly_the_one_asked_for(
        self, launcher: Launcher, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FLPOC_SUITE_LEAK", "1")
        env = {"GREETING": "two words=1; $HOME", "EMPTY": "", "NAME": "zo\u00eb"}
        handle = start("print(open('/proc/self/environ', 'rb').read().hex())", env=env)
        launcher.wait(handle, self.patience)
        block = bytes.fromhex(launcher.logs(handle).strip()).decode()
        found = dict(pair.split("=", 1) for pair in block.split("\0") if pair)
        assert {key: value for key, value in found.items() if key not in self.engine_env} == env

    def test_it_starts_in_its_workdir(self, launcher: Launcher, start: Start, folder: Path) -> None:
        (folder / "my work").mkdir()
        handle = start("import os; print(os.getcwd())", workdir=str(folder / "my work"))
        launcher.wait(handle, self.patience)
        assert launcher.logs(handle).strip() == str(folder / "my work")

    def test_arguments_arrive_as_they_are(self, launcher: Launcher, start: Start) -> None:
        arguments = ("", "a b", "$HOME", "`id`", "; exit 3", "it's", '"', "*", "line\nline", "zo\u00eb", "--x=1")
        handle = start("import json, sys; print(json.dumps(sys.argv[1:]))", *arguments)
        launcher.wait(handle, self.patience)
        assert json.loads(launcher.logs(handle)) == list(arguments)

    # -- the log

    def test_output_and_errors_are_in_the_log(
        self, launcher: Launcher, start: Start, ask: Callable[..., LaunchRequest]
    ) -> None:
        handle = start("import sys; print('to out', flush=True); print('to err', file=sys.stderr)")
        launcher.wait(handle, self.patience)
        assert Path(ask("").log).read_text().splitlines() == ["to out", "to err"]
        assert launcher.logs(handle).splitlines() == ["to out", "to err"]

    def test_of_a_long_log_twice_its_limit_is_kept_at_most_and_that_is_the_end(
        self, launcher: Launcher, start: Start, folder: Path
    ) -> None:
        handle = start("for n in range(3000): print('line', n)", log_limit=4000)
        launcher.wait(handle, self.patience)
        assert sum(path.stat().st_size for path in folder.glob("*.log*")) <= 2 * 4000
        assert launcher.logs(handle, tail=2).split() == ["line", "2998", "line", "2999"]

    def test_logs_gives_as_many_lines_as_asked_for(self, launcher: Launcher, start: Start) -> None:
        handle = start("for n in range(1000): print(n)")
        launcher.wait(handle, self.patience)
        assert launcher.logs(handle, tail=3).split() == ["997", "998", "999"]
        assert len(launcher.logs(handle).splitlines()) == 200

    def test_logs_are_empty_when_nothing_was_written(self, launcher: Launcher, start: Start) -> None:
        handle = start("pass")
        launcher.wait(handle, self.patience)
        assert launcher.logs(handle) == ""

    def test_logs_survive_bytes_that_are_no_text(self, launcher: Launcher, start: Start) -> None:
        handle = start("import os; os.write(1, b'a\\xff\\xfeb\\n')")
        launcher.wait(handle, self.patience)
        assert launcher.logs(handle).startswith("a")

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

    # -- waiting

    def test_wait_returns_when_it_has_ended(self, launcher: Launcher, start: Start) -> None:
        handle = start("import time; time.sleep(0.3)")
        began = time.monotonic()
        assert launcher.wait(handle, self.patience).state is State.EXITED
        assert time.monotonic() - began < self.patience

    def test_wait_returns_when_its_time_is_over(self, launcher: Launcher, start: Start) -> None:
        handle = start("import time; time.sleep(600)")
        began = time.monotonic()
        assert launcher.wait(handle, 0.2).state is State.RUNNING
        assert 0.15 < time.monotonic() - began < self.patience

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
        handle = Handle(**json.loads(done.stdout))
        try:
            assert life.hear(self.patience) == "here"
            assert not life.ended(0.2)
            assert launcher.poll(handle).state is State.RUNNING
        finally:
            launcher.stop(handle, grace=0)

    # -- stopping

    def test_stop_asks_first(self, launcher: Launcher, start: Start, life: Lifeline) -> None:
        code = "signal.signal(signal.SIGTERM, lambda *_: (say('saved'), sys.exit(0))); say('here'); time.sleep(600)"
        handle = start(code, str(life.path))
        assert life.hear(self.patience) == "here"
        launcher.stop(handle, grace=self.patience)
        assert life.hear(0) == "saved"
        assert launcher.poll(handle).code == (0 if self.knows_exit_codes else None)

    def test_stop_insists(self, launcher: Launcher, start: Start, life: Lifeline) -> None:
        code = "signal.signal(signal.SIGTERM, signal.SIG_IGN); say('here')\nwhile True: time.sleep(600)"
        handle = start(code, str(life.path))
        life.hear(self.patience)
        launcher.stop(handle, grace=0.1)
        assert life.ended(0)
        assert launcher.poll(handle).state is State.EXITED

    def test_stop_ends_children(self, launcher: Launcher, start: Start, life: Lifeline) -> None:
        code = "who = 'parent' if os.fork() else 'child'; say(who); time.sleep(600)"
        handle = start(code, str(life.path))
        assert {life.hear(self.patience), life.hear(self.patience)} == {"parent", "child"}
        launcher.stop(handle, grace=5)
        assert life.ended(0)

    def test_stop_ends_children_that_ignore_it(self, launcher: Launcher, start: Start, life: Lifeline) -> None:
        code = (
            "child = not os.fork()\n"
            "if child: signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "say('here'); time.sleep(600)"
        )
        handle = start(code, str(life.path))
        assert (life.hear(self.patience), life.hear(self.patience)) == ("here", "here")
        launcher.stop(handle, grace=0.2)
        assert life.ended(0)

    def test_stop_ends_grandchildren_with_a_session_of_their_own(
        self, launcher: Launcher, start: Start, life: Lifeline
    ) -> None:
        code = (
            "if not os.fork():\n    os.setsid()\n    if os.fork(): os._exit(0)\n    say('grandchild')\ntime.sleep(600)"
        )
        handle = start(code, str(life.path))
        assert life.hear(self.patience) == "grandchild"
        launcher.stop(handle, grace=5)
        assert life.ended(0)

    def test_stop_ends_a_paused_process(self, launcher: Launcher, start: Start, life: Lifeline) -> None:
        code = (
            "parent = os.getpid()\n"
            "if not os.fork():\n"
            "    os.kill(parent, signal.SIGSTOP)\n"
            "    while open(f'/proc/{parent}/stat').read().rpartition(')')[2].split()[0] != 'T': time.sleep(0.01)\n"
            "    say('paused')\n"
            "time.sleep(600)"
        )
        handle = start(code, str(life.path))
        assert life.hear(self.patience) == "paused"
        launcher.stop(handle, grace=0.5)
        assert life.ended(0)
        assert launcher.poll(handle).state is State.EXITED

    def test_stopping_twice_is_fine(self, launcher: Launcher, start: Start, life: Lifeline) -> None:
        handle = start("say('here'); time.sleep(600)", str(life.path))
        life.hear(self.patience)
        launcher.stop(handle, grace=5)
        status = launcher.poll(handle)
        launcher.stop(handle, grace=5)
        assert launcher.poll(handle) == status

    def test_stopping_one_leaves_the_others_alone(self, launcher: Launcher, start: Start) -> None:
        one = start("import time; time.sleep(600)", name="suite.site-1.1")
        other = start("import time; time.sleep(600)", name="suite.site-2.1")
        launcher.stop(one, grace=5)
        assert launcher.poll(other).state is State.RUNNING
