"""``python -m flpoc.site.gate FD``: the process in which what leaves a site passes its filters.

It loads installed plugins and never a job's code. It has no key, no token and no
address: all it knows is what its agent tells it over the socket *FD*, and it
ends when that socket does.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import hmac
import os
import queue
import socket
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from flpoc.errors import FlpocError, IntegrityError, PluginError
from flpoc.filtering import Departure, Filter, FilterSpec
from flpoc.models.checksums import opened, refusals, sha256_file
from flpoc.models.tensors import TensorFile, checksum_file, write_tensors
from flpoc.plugins import Plugins
from flpoc.settings import canonical_json
from flpoc.site.gate_messages import TO_GATE, Apply, Begin, Check, Checked, Passed, Stopped
from flpoc.wire.local import Wire
from flpoc.wire.trainer_messages import Beat

BEAT_EVERY = 1.0
_CHUNK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)
_MESSAGE_LIMIT = 2000


class Gate:
    """Makes filters and applies them, one update after the other."""

    def __init__(self, begin: Begin, plugins: Plugins | None = None) -> None:
        self._site = begin.site
        self._state = Path(begin.state).resolve()
        self._secret = begin.secret
        self._plugins = plugins or Plugins.of_kit(begin.plugins)
        #: The filter that is at work, for whoever reports what went wrong.
        self.at_work = ""

    def check(self, filters: tuple[FilterSpec, ...]) -> None:
        """Make every filter once."""
        for spec in filters:
            self.at_work = spec.name
            self._make(spec)
        self.at_work = ""

    def _make(self, spec: FilterSpec) -> Filter:
        made = self._plugins.create("filters", spec.name, spec.settings)
        if not isinstance(made, Filter):
            raise PluginError(f"{spec.name!r} makes {type(made).__name__}, which is no filter", code="PLUGIN_BROKEN")
        return made

    def apply(self, ask: Apply) -> Passed:
        """Let an update pass all filters; gives the file that may leave."""
        work = self._below_state(ask.work)
        current = work / "0.safetensors"
        self.at_work = ""
        # a script may still have its file open, and change it while a filter reads it
        _copy(self._below_state(ask.update), current, ask.size, ask.checksum)
        received = self._below_state(ask.received) if ask.received else None
        for place, spec in enumerate(ask.filters if _has_tensors(current) else (), 1):
            self.at_work = spec.name
            into = work / f"{place}.safetensors"
            self._pass(spec, ask, current, received, into)
            current.unlink()
            current = into
        self.at_work = ""
        if not _has_tensors(current):
            # without tensors nothing is left to filter, and a header may say a lot
            current = work / "empty.safetensors"
            write_tensors(current, {})
        return Passed(current.name, current.stat().st_size, checksum_file(current))

    def _pass(self, spec: FilterSpec, ask: Apply, current: Path, received: Path | None, into: Path) -> None:
        """Apply one filter, made anew: what it did with another update must not show in this one."""
        made = self._make(spec)
        folder = self._state / "filters" / spec.name.replace("/", "_")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        departure = Departure(
            site=self._site, job=ask.job, run=ask.run, round=ask.round, kind=ask.kind, params_type=ask.params_type,
            weight=ask.weight, folder=folder, seed=lambda: self._seed(spec, current, received),
        )  # fmt: skip
        model = TensorFile.open(received) if received is not None else None
        try:
            with TensorFile.open(current) as update:
                made.apply(update, model, into, departure)
        finally:
            if model is not None:
                model.close()
        if not os.path.lexists(into):
            raise IntegrityError("it has written nothing", hint="a filter writes what may leave to the file `into`")
        TensorFile.open(into).close()

    def _seed(self, spec: FilterSpec, update: Path, received: Path | None) -> bytes:
        """Chance that follows from all that the output depends on: two outputs never share it unless they are equal."""
        plugin = self._plugins.find("filters", spec.name).plugin
        inputs = [sha256_file(update), sha256_file(received) if received is not None else ""]
        text = canonical_json([spec.name, spec.settings, plugin.name, plugin.version, *inputs])
        return hmac.digest(self._secret, text, hashlib.sha256)

    def _below_state(self, path: str) -> Path:
        found = Path(path).resolve()
        if not found.is_relative_to(self._state):
            raise IntegrityError(f"{found.name}: not below the site's state")
        return found

    def stopped(self, error: BaseException) -> Stopped:
        """Describe what went wrong, without where this site keeps its files."""
        name = self.at_work
        file, line = _place(error, self._module(name)) if name else ("", 0)
        message = error.message if isinstance(error, FlpocError) else _said(error)
        hint = getattr(error, "hint", "")
        return Stopped(
            filter=name,
            exception=type(error).__name__,
            message=_sendable(message.replace(f"{self._state}{os.sep}", "")),
            file=file,
            line=line,
            hint=_sendable(hint) if isinstance(hint, str) else "",
            code=error.code if isinstance(error, FlpocError) else "",
            full=any(isinstance(one, OSError) and one.errno in _FULL for one in (error, error.__cause__)),
        )

    def _module(self, name: str) -> str:
        try:
            return self._plugins.find("filters", name).plugin.module
        except PluginError:
            return ""


def _has_tensors(path: Path) -> bool:
    with TensorFile.open(path) as tensors:
        return bool(tensors)


def _copy(source: Path, into: Path, size: int, checksum: str) -> None:
    """Copy a file of a job into one that only the gate knows, and check that it is the announced one."""
    import xxhash

    hasher, buffer, place = xxhash.xxh3_128(), memoryview(bytearray(_CHUNK)), 0
    with opened(source) as fd, refusals(into.name), into.open("xb", buffering=0) as file:
        while place < size and (got := os.preadv(fd, [buffer[: size - place]], place)):
            piece = buffer[:got]
            hasher.update(piece)
            place += got
            while piece:
                piece = piece[file.write(piece) :]
    if hasher.hexdigest() != checksum:
        hint = "the script must not touch its files after flare.send()"
        raise IntegrityError("the update was changed after it was sent", hint=hint)


def _place(error: BaseException, module: str) -> tuple[str, int]:
    """The innermost line of the plugin's own files in the traceback."""
    top = sys.modules.get(module.partition(".")[0])
    if top is None or not getattr(top, "__file__", None):
        return "", 0
    home = Path(str(top.__file__))
    inside = home.parent if hasattr(top, "__path__") else home
    frames = [one for one in traceback.extract_tb(error.__traceback__) if Path(one.filename).is_relative_to(inside)]
    if not frames:
        return "", 0
    return _sendable(str(Path(frames[-1].filename).relative_to(inside.parent))), frames[-1].lineno or 0


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as another:  # noqa: BLE001 - a class of a plugin may fail here, too
        return f"(its text cannot be had: {type(another).__name__})"


def _sendable(text: str) -> str:
    return text[:_MESSAGE_LIMIT].encode(errors="backslashreplace").decode()


def _read_forever(wire: Wire, asked: queue.SimpleQueue[Any]) -> None:
    """Hand on what the agent asks; when it is gone, so is the gate, whatever a filter is doing."""
    try:
        while (message := wire.receive()) is not None:
            asked.put(message)
    finally:
        os._exit(0)


def _beat_forever(wire: Wire, at_work: threading.Event) -> None:
    pause = threading.Event()
    with contextlib.suppress(OSError):  # the agent is gone: the reader ends this process
        while not pause.wait(BEAT_EVERY):
            at_work.wait()
            spent = os.times()
            wire.send(Beat(spent.user + spent.system + spent.children_user + spent.children_system, 0))


def _answer(gate: Gate, message: Any) -> Any:
    match message:
        case Check():
            gate.check(message.filters)
            return Checked()
        case Apply():
            return gate.apply(message)
    raise IntegrityError(f"{type(message).__name__} was not expected")


def serve(fd: int) -> None:
    """Answer the agent at the other end of *fd* until it goes away."""
    wire = Wire(socket.socket(fileno=fd), TO_GATE)
    begin = wire.receive()
    if not isinstance(begin, Begin):
        return
    asked: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_read_forever, args=(wire, asked), daemon=True).start()
    at_work = threading.Event()
    threading.Thread(target=_beat_forever, args=(wire, at_work), daemon=True).start()
    gate = Gate(begin)
    while True:
        message = asked.get()
        at_work.set()
        try:
            answer = _answer(gate, message)
        except BaseException as error:  # noqa: BLE001 - whatever a filter raises, also by sys.exit, is a refusal
            traceback.print_exc()
            answer = gate.stopped(error)
        with contextlib.suppress(OSError):  # see above
            wire.send(answer)
        at_work.clear()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
