"""A job process's side of its owner's socket: found by itself, and again after a break.

The address comes from ``FLPOC_SOCKET`` and the token from the file named in
``FLPOC_TOKEN_FILE``. What was asked and not answered is asked again after a
break; the owner knows every request by its key.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flpoc.errors import ConnectionFailed, FlpocError, InternalError, from_code
from flpoc.log_modes import check_mode, set_script_mode
from flpoc.wire.codec import Family
from flpoc.wire.local import Wire, connect
from flpoc.wire.trainer_messages import Beat, LocalHello, LogMode
from flpoc.wire.vocabulary import Refused

#: A job process whose owner is away for longer ends itself.
OWNER_AWAY = 600.0
BEAT_EVERY = 1.0
#: Exit code of an attempt that has been replaced by another.
FENCED_EXIT = 75


class Owner:
    """The owner of this job process: the site's agent, or the server."""

    def __init__(self, incoming: Family, hello: Callable[[bytes], LocalHello], take: Callable[[Any], None]) -> None:
        self._incoming = incoming
        self._hello = hello
        self._take = take
        self._socket = Path(os.environ["FLPOC_SOCKET"])
        self._token = Path(os.environ["FLPOC_TOKEN_FILE"]).read_bytes()
        self._outstanding: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._wire: Wire | None = None
        self._closing = threading.Event()
        self.calls = 0

    @staticmethod
    def there() -> bool:
        """Whether this process was started for a job."""
        return "FLPOC_SOCKET" in os.environ and "FLPOC_TOKEN_FILE" in os.environ

    def start(self) -> None:
        """Connect, and keep connected in the background.

        Raises:
            ConnectionFailed: The owner is not there.
        """
        self._connect(time.monotonic() + 30.0)
        threading.Thread(target=self._read_forever, name="flpoc owner", daemon=True).start()
        threading.Thread(target=self._beat_forever, name="flpoc heartbeat", daemon=True).start()

    def request(self, key: str, message: Any) -> None:
        """Ask for something, again after every break until :meth:`settle`."""
        with self._lock:
            self._outstanding[key] = message
            self._say(message)

    def settle(self, key: str) -> None:
        """The request has been answered."""
        with self._lock:
            self._outstanding.pop(key, None)

    def send(self, message: Any) -> None:
        """Say something once; it may be lost in a break."""
        with self._lock:
            self._say(message)

    def _say(self, message: Any) -> None:
        if self._wire is None:
            return
        try:
            self._wire.send(message)
        except OSError:
            self._wire = None  # the reader notices, too, and connects again

    def close(self) -> None:
        self._closing.set()
        with self._lock:
            if self._wire is not None:
                self._wire.close()
                self._wire = None

    def _connect(self, until: float) -> Wire:
        pause = 0.02
        while True:
            wire: Wire | None = None
            try:
                wire = Wire(connect(self._socket), self._incoming)
                with self._lock:
                    wire.send(self._hello(self._token))
                    for message in self._outstanding.values():
                        wire.send(message)
                    self._wire = wire
                return wire
            except OSError as error:
                if wire is not None:
                    wire.close()
                if time.monotonic() > until or self._closing.is_set():
                    raise ConnectionFailed(f"nobody answers at {self._socket}: {error}") from None
            # nothing announces that a socket file has a listener again
            self._closing.wait(pause)
            pause = min(pause * 2, 0.5)

    def _read_forever(self) -> None:
        wire = self._wire
        while not self._closing.is_set():
            try:
                if wire is None:
                    wire = self._connect(time.monotonic() + OWNER_AWAY)
                while (message := wire.receive()) is not None:
                    self._heed(message)
            except FlpocError as error:
                self._give_up(error)
            except Exception as error:  # noqa: BLE001 - without this thread the script would wait for ever
                traceback.print_exc()
                self._give_up(InternalError(f"an answer could not be taken: {type(error).__name__}: {error}"))
            if wire is not None:
                wire.close()
            wire = None

    def _heed(self, message: Any) -> None:
        if isinstance(message, Refused):
            raise from_code(message.code, message.message, message.hint)
        if isinstance(message, LogMode):
            set_script_mode(check_mode(message.mode))
            return
        self._take(message)

    def _give_up(self, error: FlpocError) -> None:
        """There is no way on for this process, whatever the job's code does just now."""
        if self._closing.is_set():
            return
        sys.stderr.write(f"flpoc: {error.message}\n")
        sys.stderr.flush()
        os._exit(FENCED_EXIT)

    def _beat_forever(self) -> None:
        while not self._closing.wait(BEAT_EVERY):
            spent = os.times()
            self.send(Beat(spent.user + spent.system + spent.children_user + spent.children_system, self.calls))
