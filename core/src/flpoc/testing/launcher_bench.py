"""Where launchers are tested: what their tests share, and what is cleared up behind each."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from flpoc.launching import Handle, Launcher, LaunchRequest, Mount, Status
from flpoc.testing.later import NOT_MADE, later_process
from flpoc.testing.lifelines import HOLD, Lifeline

Start = Callable[..., Handle]


class LauncherBench:
    """Attributes and fixtures of the tests of a launcher; see :class:`flpoc.testing.LauncherSuite`."""

    knows_exit_codes: ClassVar[bool] = True
    runs_on_host: ClassVar[bool] = True
    python: ClassVar[str] = sys.executable
    engine_env: ClassVar[frozenset[str]] = frozenset()
    patience: ClassVar[float] = 20.0
    at_once: ClassVar[float] = 1.0
    maker: ClassVar[str] = ""

    @pytest.fixture(autouse=True)
    def time_limit(self) -> Iterator[None]:
        """Fail a test that hangs, and then whatever hangs while it is cleared up."""
        seconds = 5 * self.patience

        def over(*_: object) -> None:
            pytest.fail(f"not done after {seconds:g} s: the launcher hangs")

        try:
            before = signal.signal(signal.SIGALRM, over)
        except ValueError:  # not in the main thread: whoever runs tests there has limits of their own
            yield
            return
        # not again at once: it must not strike pytest itself, while that writes down the first time
        signal.setitimer(signal.ITIMER_REAL, seconds, max(seconds, 30.0))
        yield
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

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
        """Make a request for a piece of Python; more keywords are fields of the request."""

        def make(code: str, *arguments: str, name: str = "suite.site-1.1", **more: Any) -> LaunchRequest:
            usual = {
                "argv": (self.python, "-c", HOLD + code if "say(" in code else code, *arguments),
                "workdir": str(folder),
                "state": str(folder / "state"),
                "log": str(folder / f"{name}.log"),
                "mounts": (Mount(str(folder), str(folder), True),),
            }
            return LaunchRequest(name=name, **{**usual, **more})

        return make

    @pytest.fixture
    def start(self, launcher: Launcher, ask: Callable[..., LaunchRequest], folder: Path) -> Iterator[Start]:
        """Launch a piece of Python; whatever becomes of the test, all of it is stopped after it."""
        started = []

        def launch(code: str, *arguments: str, **more: Any) -> Handle:
            handle = launcher.launch(ask(code, *arguments, **more))
            started.append(handle)
            return handle

        with contextlib.ExitStack() as last:
            last.callback(_end_all_in, folder)
            yield launch
            for handle in started:
                last.callback(launcher.stop, handle, grace=0)

    def elsewhere(self, launcher: Launcher, code: str, **data: Any) -> str:
        """Run *code* in another process, which has ``launcher`` and the dict ``ask``, and give what it printed."""
        call = later_process(launcher, self.maker, code, data)
        done = subprocess.run(**call, timeout=self.patience, check=False)
        self.made_elsewhere(done)
        assert done.returncode == 0, f"another process with this launcher failed:\n{done.stderr}"
        return str(done.stdout)

    def made_elsewhere(self, done: subprocess.CompletedProcess[str]) -> None:
        """Fail, in few words, when the other process could not even make the launcher."""
        if done.returncode == NOT_MADE:
            why = done.stderr.strip().splitlines()[-1]
            pytest.fail(f"the same launcher cannot be made in another process: {why}; set `maker`", pytrace=False)

    def settled(self, launcher: Launcher, handle: Handle) -> Status:
        """Ask ``poll``, and nothing else, until it says that the process has ended."""
        end = time.monotonic() + self.patience
        while (status := launcher.poll(handle)).running and time.monotonic() < end:
            time.sleep(0.02)  # poll is what is tested here, and it tells nobody when to come back
        return status


def _end_all_in(folder: Path) -> None:
    """Kill what a wrong launcher has left: processes of this host that work in the test's own folder."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if (entry / "cwd").readlink().is_relative_to(folder):
                    os.kill(int(entry.name), signal.SIGKILL)
