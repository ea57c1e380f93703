"""Job processes that are threads, and an event loop that counts its turns: for tests of what happens at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from flpoc.launching import Handle, Launcher, LaunchRequest, State, Status
from flpoc.wire.codec import Family
from flpoc.wire.local import Wire, connect
from flpoc.wire.trainer_messages import LocalHello

#: More turns of the loop than a job takes until its process is there, and after which none is tried any more.
MOST_TURNS = 200
#: A zip archive without files.
ARCHIVE = b"PK\x05\x06" + bytes(18)


@attrs.define
class Process:
    """A job process, as far as its owner sees it: it connects, says who it is, and hears what it is told."""

    hears: Family

    ended: threading.Event = attrs.field(factory=threading.Event)
    connected: threading.Event = attrs.field(factory=threading.Event)
    heard: list[Any] = attrs.field(factory=list)

    def run(self, socket: Path, token: Path) -> None:
        threading.Thread(target=self._run, args=(socket, token), daemon=True).start()

    def _run(self, socket: Path, token: Path) -> None:
        while not self.ended.is_set():
            with contextlib.suppress(OSError):
                wire = Wire(connect(socket), self.hears)
                threading.Thread(target=self._close, args=(wire,), daemon=True).start()
                wire.send(LocalHello(token.read_bytes(), -1, -1))
                while (message := wire.receive()) is not None:
                    self.heard.append(message)
                    self.connected.set()
                return
            self.ended.wait(0.01)

    def _close(self, wire: Wire) -> None:
        self.ended.wait()
        wire.close()


class Processes(Launcher):
    """Launches nothing but threads."""

    def __init__(self, hears: Family) -> None:
        self._hears = hears
        self.of: dict[str, Process] = {}
        self.stopped: Callable[[str], object] = lambda _: None

    def heard(self, job: str, kind: type) -> bool:
        """Whether a process of a job has heard a message of this kind."""
        messages = [message for name, one in self.of.items() if name.startswith(job) for message in one.heard]
        return any(isinstance(message, kind) for message in messages)

    @property
    def alive(self) -> list[str]:
        return [name for name, one in self.of.items() if not one.ended.is_set()]

    def launch(self, request: LaunchRequest) -> Handle:
        process = self.of[request.name] = Process(self._hears)
        process.run(Path(request.env["FLPOC_SOCKET"]), Path(request.env["FLPOC_TOKEN_FILE"]))
        return Handle("local", request.name, request.name)

    def poll(self, handle: Handle) -> Status:
        ended = self.of[handle.ref].ended.is_set()
        return Status(State.EXITED, -15) if ended else Status(State.RUNNING)

    def wait(self, handle: Handle, timeout: float) -> Status:
        self.of[handle.ref].ended.wait(timeout)
        return self.poll(handle)

    def stop(self, handle: Handle, *, grace: float = 10.0) -> None:
        self.stopped(handle.name)
        self.of[handle.ref].ended.set()

    def logs(self, handle: Handle, *, tail: int = 200) -> str:
        return ""


class Turns(asyncio.SelectorEventLoop):
    """An event loop that has something done after so many of its turns."""

    left, act = -1, staticmethod(lambda: None)

    def after(self, turns: int, act: Callable[[], Any]) -> None:
        self.left, self.act = turns, act  # type: ignore[assignment]

    def _run_once(self) -> None:
        super()._run_once()  # type: ignore[misc]
        self.left -= 1
        if self.left == 0:
            self.act()


async def until(true: Callable[[], bool], what: Callable[[], object] = lambda: "") -> None:
    """Wait for what nobody announces."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, what()
        await asyncio.sleep(0.002)
