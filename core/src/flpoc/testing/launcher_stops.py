"""What every launcher must keep when it stops a process, and of what that has launched in turn."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flpoc.launching import KEEPER_MARK, Handle, Launcher, LaunchRequest, State
from flpoc.testing.later import later_process
from flpoc.testing.launcher_bench import LauncherBench, Start
from flpoc.testing.lifelines import HOLD, Lifeline


class LauncherStops(LauncherBench):
    """Stopping: who is asked, who is killed, and who is spared."""

    # -- stopping

    def test_stop_asks_first(self, launcher: Launcher, start: Start, life: Lifeline) -> None:
        code = "signal.signal(signal.SIGTERM, lambda *_: (say('saved'), sys.exit(0))); say('here'); rest()"
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

    def test_stop_wakes_a_paused_process_so_that_it_can_save(
        self, launcher: Launcher, start: Start, life: Lifeline
    ) -> None:
        code = (
            "signal.signal(signal.SIGTERM, lambda *_: (say('saved'), os._exit(0)))\n"
            "parent = os.getpid()\n"
            "if not os.fork():\n"
            "    signal.signal(signal.SIGTERM, signal.SIG_DFL); os.kill(parent, signal.SIGSTOP)\n"
            "    while open(f'/proc/{parent}/stat').read().rpartition(')')[2].split()[0] != 'T': time.sleep(0.01)\n"
            "    say('paused')\n"
            "rest()"
        )
        handle = start(code, str(life.path))
        assert life.hear(self.patience) == "paused"
        launcher.stop(handle, grace=self.patience)
        assert life.hear(0) == "saved"

    def test_without_grace_stop_does_not_wait(self, launcher: Launcher, start: Start, life: Lifeline) -> None:
        code = "signal.signal(signal.SIGTERM, signal.SIG_IGN); say('here')\nwhile True: time.sleep(600)"
        handle = start(code, str(life.path))
        life.hear(self.patience)
        began = time.monotonic()
        launcher.stop(handle, grace=0)
        assert time.monotonic() - began < min(8.0, self.patience)
        assert life.ended(0)

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

    # -- keepers: what needs processes of this host

    def test_when_its_keeper_is_killed_stop_ends_what_is_left(
        self, launcher: Launcher, start: Start, life: Lifeline
    ) -> None:
        """Only for launchers whose keeper, the parent of what they launch, carries the mark."""
        code = "who = 'child' if not os.fork() else f'parent of {os.getppid()}'; say(who); time.sleep(600)"
        handle = start(code, str(life.path))
        heard = {life.hear(self.patience), life.hear(self.patience)}
        keeper = next(int(line.split()[-1]) for line in heard if line.startswith("parent"))
        if not self.runs_on_host or not _has_the_mark(keeper):
            pytest.skip("what it launches has no keeper on this host")
        os.kill(keeper, signal.SIGKILL)
        self.settled(launcher, handle)
        launcher.stop(handle, grace=0)
        assert life.ended(0), "something is left"
        status = launcher.poll(handle)
        assert (status.state, status.code) == (State.EXITED, None)

    @pytest.mark.parametrize("by", ["end", "stop"])
    def test_what_it_launches_through_another_launcher_goes_on(
        self, launcher: Launcher, start: Start, life: Lifeline, folder: Path, by: str
    ) -> None:
        """A process below it that carries the mark of keepers is no leftover, nor is what that keeps."""
        if not self.runs_on_host:
            pytest.skip("what it launches cannot launch processes of this host")
        files = [folder / "held", folder / "go"]
        for file in files:
            os.mkfifo(file)
        held, go = (os.open(file, os.O_RDWR) for file in files)
        keeper = HOLD + "held = open(sys.argv[2]); os.fork(); say('kept'); held.read(); say('still here')"
        code = (
            "import subprocess, sys\n"
            "argv = [sys.executable, '-c', *sys.argv[2:]]\n"
            "subprocess.Popen(argv, start_new_session=True)\n"
            "open(sys.argv[1]).readline()"
        )
        try:
            handle = start(code, str(files[1]), keeper, str(life.path), str(files[0]), KEEPER_MARK, "another launch")
            assert (life.hear(self.patience), life.hear(self.patience)) == ("kept", "kept")
            if by == "end":
                os.write(go, b"\n")
            else:
                launcher.stop(handle, grace=5)
            assert not self.settled(launcher, handle).running
        finally:
            os.close(held)
            os.close(go)
        heard = [life.hear(self.patience), life.hear(self.patience)]
        assert heard == ["still here"] * 2, "a launch of another launcher was ended, too"

    def test_what_it_launches_through_itself_goes_on(
        self, launcher: Launcher, start: Start, ask: Callable[..., LaunchRequest], life: Lifeline, folder: Path
    ) -> None:
        if not self.runs_on_host:
            pytest.skip("what it launches cannot launch processes of this host")
        inner = ask("say('here'); time.sleep(600)", str(life.path), name="inner")
        code = "print(json.dumps(plain(launcher.launch(structure(ask['request'], LaunchRequest)))))"
        call = later_process(launcher, self.maker, code, {"request": inner})
        (folder / "input").write_text(call["input"])
        program, option, text = call["args"]
        text = f"import sys\nsys.stdin = open({str(folder / 'input')!r})\n{text}"
        outer = start("", argv=(program, option, text), env={"PYTHONPATH": call["env"]["PYTHONPATH"]}, name="outer")
        assert life.hear(self.patience) == "here"
        assert not self.settled(launcher, outer).running
        handle = Handle(**json.loads(launcher.logs(outer)))
        try:
            assert not life.ended(0.3)
            assert launcher.poll(handle).running
        finally:
            launcher.stop(handle, grace=0)


def _has_the_mark(pid: int) -> bool:
    try:
        return os.fsencode(KEEPER_MARK) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
