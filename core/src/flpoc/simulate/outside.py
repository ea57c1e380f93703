"""A script that a program of the job's choice runs, such as ``torchrun``: a process of its own beside a worker."""

from __future__ import annotations

import ctypes
import secrets
import shutil
import signal
import socket
import subprocess
import threading
from typing import Any

from flpoc.jobs.processes import TOKEN_FILE, program_path
from flpoc.simulate.messages import Stage
from flpoc.wire.local import SOCKET_NAME, Wire, bound
from flpoc.wire.trainer_messages import FROM_TRAINER, Failed, Give, LocalHello, Logged, Over, Submit, Taken
from flpoc.wire.vocabulary import Refused

_PR_SET_PDEATHSIG = 1


class Relay:
    """Stands between such a script, which connects to its owner as in a real run, and that owner.

    Args:
        owner: Whom it answers; see :class:`flpoc.simulate.staging.SimulatedOwner`.
        stage: The site and its script.
    """

    def __init__(self, owner: Any, stage: Stage) -> None:
        self._owner = owner
        self._stage = stage
        self._lock = threading.Lock()
        self._wire: Wire | None = None
        self._task: Give | None = None
        self._over = False
        self._token = secrets.token_bytes(32)

    def take(self, message: Any) -> None:
        """Pass on what the owner says."""
        with self._lock:
            match message:
                case Give():
                    self._task = message
                case Taken() if self._task is not None and self._task.round == message.round:
                    self._task = None
                case Over():
                    self._over = True
            self._say(message)

    def _say(self, message: Any) -> None:
        if self._wire is None:
            return
        try:
            self._wire.send(message)
        except OSError:
            self._wire = None  # it comes again, or has ended

    def run(self, environ: dict[str, str]) -> int:
        """Run the program to its end; gives its exit code, negative for a signal."""
        folder = self._owner.folder
        token = folder / TOKEN_FILE
        token.unlink(missing_ok=True)
        token.touch(mode=0o600, exist_ok=False)
        token.write_bytes(self._token)
        program, *more = self._stage.command
        words = [shutil.which(program, path=program_path()) or program, *more, self._stage.script, *self._stage.args]
        place = {"FLPOC_SOCKET": str(folder / SOCKET_NAME), "FLPOC_TOKEN_FILE": str(token)}
        with bound(folder) as sock:
            listener = threading.Thread(target=self._listen, args=(sock,), name="flpoc script", daemon=True)
            listener.start()
            library = ctypes.CDLL(None)
            process = subprocess.Popen(
                words, cwd=folder, env={**environ, **place},
                preexec_fn=lambda: library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0),  # noqa: PLW1509 - one call
            )  # fmt: skip
            code = process.wait()
            with self._lock:
                wire = self._wire
            if wire is None:
                sock.shutdown(socket.SHUT_RDWR)
            listener.join()
        return code

    def _listen(self, sock: socket.socket) -> None:
        """Serve the script's connection until it ends; another time only if it could not say who it is."""
        while True:
            try:
                connection, _ = sock.accept()
            except OSError:
                return
            wire = Wire(connection, FROM_TRAINER)
            hello = wire.receive()
            if not isinstance(hello, LocalHello) or not secrets.compare_digest(hello.token, self._token):
                wire.send(Refused("FENCED", "this is another script's"))
                wire.close()
                continue
            self._owner.calls += 1  # it takes part
            with self._lock:
                self._wire = wire
                wire.send(self._stage.start)
                if self._task is not None and self._task.round > hello.received:
                    self._say(self._task)
                if self._over:
                    self._say(Over())
            self._hear(wire)
            wire.close()
            return

    def _hear(self, wire: Wire) -> None:
        while (message := wire.receive()) is not None:
            self._owner.calls += 1
            match message:
                case Submit():
                    self._owner.request("", message)
                case Failed() | Logged():
                    self._owner.send(message)
