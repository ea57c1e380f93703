"""What every launcher must keep about the start of a process, and what that gets."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from flpoc.errors import LaunchError, UsageError
from flpoc.launching import Handle, Launcher, LaunchRequest, State
from flpoc.testing.launcher_bench import LauncherBench, Start
from flpoc.testing.lifelines import Lifeline


class LauncherStarts(LauncherBench):
    """Starting: names, arguments, environment, folders, the log."""

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

    @pytest.mark.parametrize("name", ["a/b: c \u00eb", "../up", "long" * 75, "UPPER", "upper"])
    def test_any_text_is_a_name(self, launcher: Launcher, start: Start, folder: Path, name: str) -> None:
        others = [
            start("import time; time.sleep(600)", name=other, log=str(folder / "log")) for other in ("Upper", "a")
        ]
        handle = start("import time; time.sleep(600)", name=name, log=str(folder / "log"))
        assert handle.name == name
        assert handle not in others
        launcher.stop(handle, grace=0)
        assert [launcher.poll(one).running for one in (handle, *others)] == [False, True, True]

    def test_the_same_name_with_another_state_folder_is_another_launch(
        self, launcher: Launcher, start: Start, folder: Path
    ) -> None:
        one = start("import time; time.sleep(600)", state=str(folder / "state-1"))
        other = start("import time; time.sleep(600)", state=str(folder / "state-2"))
        assert one != other
        launcher.stop(one, grace=0)
        assert launcher.poll(other).running

    def test_its_records_are_for_their_owner_only(self, start: Start, folder: Path) -> None:
        before = os.umask(0)
        try:
            start("pass", state=str(folder / "new" / "state"))
        finally:
            os.umask(before)
        state = folder / "new" / "state"
        assert not state.exists() or stat.S_IMODE(state.stat().st_mode) == 0o700

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

    def test_a_missing_workdir_is_a_launch_error_and_is_not_made(
        self, launcher: Launcher, ask: Callable[..., LaunchRequest], folder: Path
    ) -> None:
        with pytest.raises(LaunchError) as caught:
            launcher.stop(launcher.launch(ask("pass", workdir=str(folder / "missing"))), grace=0)
        assert caught.value.hint
        assert not (folder / "missing").exists()

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

    def test_a_bare_name_is_searched_in_the_path_of_the_request(
        self, launcher: Launcher, start: Start, folder: Path
    ) -> None:
        tool = folder / "bin" / "flpoc-suite-tool"
        tool.parent.mkdir()
        tool.write_text("#!/bin/sh\necho found\n")
        tool.chmod(0o755)
        handle = start("", argv=(tool.name,), env={"PATH": f"/usr/bin:{tool.parent}"})
        launcher.wait(handle, self.patience)
        assert launcher.logs(handle).strip() == "found"

    def test_there_is_nothing_to_read_on_its_standard_input(self, launcher: Launcher, start: Start) -> None:
        handle = start("import sys; print(sys.stdin.buffer.read())")
        assert not launcher.wait(handle, self.patience).running, "it waits for input"
        assert launcher.logs(handle).strip() == "b''"

    # -- the log

    def test_a_log_is_made_with_its_folder(self, launcher: Launcher, start: Start, folder: Path) -> None:
        log = folder / "logs" / "of today" / "log"
        launcher.wait(start("print('here')", log=str(log)), self.patience)
        assert log.read_text() == "here\n"

    def test_a_log_is_appended_to(self, launcher: Launcher, start: Start, ask: Callable[..., LaunchRequest]) -> None:
        for word in ("first", "second"):
            launcher.wait(start(f"print({word!r})"), self.patience)
        assert Path(ask("").log).read_text().split() == ["first", "second"]

    def test_a_full_log_becomes_log_1_and_both_are_shown(
        self, launcher: Launcher, start: Start, ask: Callable[..., LaunchRequest]
    ) -> None:
        handle = start("for n in range(30): print(f'{n:0199}', flush=True)", log_limit=4000)
        launcher.wait(handle, self.patience)
        log = Path(ask("").log)
        kept = Path(f"{log}.1").read_text() + log.read_text()
        expected = [f"{n:0199}" for n in range(15, 30)]
        assert kept.splitlines()[-15:] == expected
        assert launcher.logs(handle, tail=15).splitlines() == expected

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
