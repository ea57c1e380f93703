"""``python -m flpoc.server.courier``: brings metrics to trackers, and events to plugins.

A child of the server, with one end of a socket as its standard input. It
keeps nothing: what it has done it says, and the server writes that down. It
ends when the server's end of the socket is closed, whatever trackers do.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flpoc.errors import FlpocError
from flpoc.plugins import Plugins
from flpoc.serving import to_stderr
from flpoc.tracking import Tracker
from flpoc.wire.courier_messages import (
    TO_COURIER,
    Close,
    Closed,
    CourierStart,
    Done,
    Listen,
    Tell,
    Track,
    Trouble,
    Write,
)
from flpoc.wire.local import Wire

#: Seconds that a write gets that has begun when the server goes.
LAST_WRITE = 0.7
#: Pause after a failure: the first, and the longest.
PAUSES = (0.5, 60.0)
_LONGEST_TEXT = 1000

Say = Callable[[Any], None]


class Lane(ABC):
    """One tracker, or one plugin that hears events, in a thread of its own."""

    def __init__(self, number: int, say: Say) -> None:
        self.number = number
        self._say = say
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._giving_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"lane {number}", daemon=True)
        self._thread.start()

    def put(self, message: Any) -> None:
        """Have a message taken, or with None the lane ended, after what came before."""
        if message is None or isinstance(message, Close):
            self._giving_up.set()
        self._inbox.put(message)

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    @property
    def over(self) -> bool:
        """Whether it has come to its end."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        self._begin()
        while (message := self._inbox.get()) is not None:
            if isinstance(message, Close):
                self._attempt(self._end)
                self._say(Closed(self.number))
                return
            if self._deliver(message):
                self._say(Done(self.number, message.upto))

    @abstractmethod
    def _begin(self) -> None: ...

    @abstractmethod
    def _deliver(self, message: Any) -> bool:
        """Take a piece; false if it was given up."""

    @abstractmethod
    def _end(self) -> None: ...

    def _attempt(self, act: Callable[[], object]) -> bool:
        """Call a plugin; what it raises is said, and false."""
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - a plugin may fail in any way, also by sys.exit
            self._say(Trouble(self.number, described(error)))
            return False
        return True


class TrackerLane(Lane):
    """A tracker, asked again until it has taken what it is given."""

    def __init__(self, plugins: Plugins, order: Track, say: Say) -> None:
        self._plugins = plugins
        self._order = order
        self._tracker: Tracker | None = None
        super().__init__(order.lane, say)

    def _made(self) -> Tracker:
        if self._tracker is None:
            tracker: Tracker = self._plugins.create("trackers", self._order.tracker, self._order.settings)
            tracker.open(self._order.job)
            self._tracker = tracker
        return self._tracker

    def _begin(self) -> None:
        self._attempt(self._made)  # what is wrong with it is better known before there is anything to write

    def _deliver(self, message: Write) -> bool:
        pause = PAUSES[0]
        while not self._attempt(lambda: self._made().write(message.metrics)):
            if self._giving_up.wait(pause):
                return False
            pause = min(2 * pause, PAUSES[1])
        return True

    def _end(self) -> None:
        self._made().close()


class ListenerLane(Lane):
    """A plugin that hears events, each once, whatever it does with it."""

    def __init__(self, plugins: Plugins, order: Listen, say: Say) -> None:
        self._plugins = plugins
        self._plugin = order.plugin
        super().__init__(order.lane, say)

    def _begin(self) -> None:
        return

    def _deliver(self, message: Tell) -> bool:
        for trouble in self._plugins.tell(message.event, only=self._plugin):
            self._say(Trouble(self.number, trouble.removeprefix(f"{self._plugin}: ")[:_LONGEST_TEXT]))
        return True

    def _end(self) -> None:
        return


def described(error: BaseException) -> str:
    """What a plugin raised, in one line, with the place."""
    try:
        text = f"{error.message}; {error.hint}" if isinstance(error, FlpocError) else f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - even saying what went wrong may go wrong
        text = type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1] if frames and not isinstance(error, FlpocError) else None
    place = f" ({Path(last.filename).name}:{last.lineno})" if last is not None else ""
    return " ".join(text.rstrip("; ").split())[:_LONGEST_TEXT] + place


def serve(wire: Wire) -> None:
    """Do what the server says until its end of the socket is closed."""
    start = wire.receive()
    if not isinstance(start, CourierStart):
        return
    plugins = Plugins.of_kit(start.plugins)
    lanes: dict[int, Lane] = {}

    def say(message: Any) -> None:
        try:
            wire.send(message)
        except OSError:
            return  # the server is gone; the next one goes on from what it was told

    while (message := wire.receive()) is not None:
        match message:
            case Track():
                lanes[message.lane] = TrackerLane(plugins, message, say)
            case Listen():
                lanes[message.lane] = ListenerLane(plugins, message, say)
            case Write() | Tell() | Close():
                lanes = {number: lane for number, lane in lanes.items() if not lane.over}
                if message.lane in lanes:
                    lanes[message.lane].put(message)
    for lane in lanes.values():
        lane.put(None)
    until = time.monotonic() + LAST_WRITE
    for lane in lanes.values():
        lane.join(max(0.0, until - time.monotonic()))


def main() -> None:
    """Run the courier; leaves without waiting for anything that a tracker still does."""
    to_stderr()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # meant for the server, which says when it is time
    sock = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    status = 0
    try:
        serve(Wire(sock, TO_COURIER))
    except Exception:  # noqa: BLE001 - said here, because nothing after this says it
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
