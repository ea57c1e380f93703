"""The gate of one job at a site, as its agent sees it: started when it is needed, and again if it is killed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flpoc.errors import ConfigError, IntegrityError, PluginError, from_code
from flpoc.filtering import FilterSpec
from flpoc.jobs.processes import environment, signal_name
from flpoc.jobs.states import Cause
from flpoc.launching import Needs
from flpoc.models.handover import sync
from flpoc.site.gate_messages import FROM_GATE, Apply, Begin, Check, Passed, Stopped
from flpoc.wire.local import Link
from flpoc.wire.messages import Announce
from flpoc.wire.trainer_messages import Beat

log = logging.getLogger("flpoc.site")

#: Launches of a gate for the same update before the site gives up.
LAUNCHES = 3
#: Phase of a cause: a filter is no code of the job.
PHASE = "filtering"
_SECRET_BYTES = 32


class RefusedError(Exception):
    """Nothing of an update may leave, and why."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause.message)
        self.cause = cause


class DiskFullError(Exception):
    """There was no room for what a filter writes; it may be tried again."""


class GateHost:
    """Has updates of one job filtered, in a process of its own."""

    def __init__(
        self, *, site: str, plugins: tuple[str, ...], filters: tuple[FilterSpec, ...], state: Path, folder: Path,
        moved: Callable[[], None],
    ) -> None:  # fmt: skip
        self.filters = filters
        self._site = site
        self._plugins = plugins
        self._state = state
        self._folder = folder
        self._moved = moved
        self._process: asyncio.subprocess.Process | None = None
        self._link: Link | None = None
        self._cpu = 0.0
        self._turn = asyncio.Lock()

    async def check(self) -> None:
        """See whether all filters can be made, before anything is trained.

        Raises:
            FlpocError: One cannot; says which and why.
        """
        try:
            answer = await self._ask(lambda: Check(self.filters))
        except RefusedError as error:
            ending = error.cause.signal or f"exit code {error.cause.exit_code}"
            raise PluginError(f"{error.cause.message}: {ending}", code="PLUGIN_BROKEN") from None
        if isinstance(answer, Stopped):
            raise from_code(answer.code or "PLUGIN_BROKEN", _told(answer), answer.hint)

    async def apply(self, entry: Announce, update: Path, received: Path | None) -> tuple[Path, Passed]:
        """Let an update pass; gives the folder and what in it may leave. If this is cancelled, the gate is ended.

        Raises:
            RefusedError: Nothing may leave.
            DiskFullError: There was no room for it.
        """
        work = self._folder / f"work.{entry.round}"

        def ask() -> Apply:
            # what a killed gate left is not what this one makes
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(mode=0o700, parents=True)
            return Apply(
                job=entry.job, run=entry.run, round=entry.round, kind=entry.kind, params_type=entry.params_type,
                weight=entry.weight, filters=self.filters, update=str(update), size=entry.size,
                checksum=entry.checksum, received=str(received) if received is not None else "", work=str(work),
            )  # fmt: skip

        answer = await self._ask(ask, entry.round)
        if isinstance(answer, Passed):
            return work, answer
        assert isinstance(answer, Stopped)
        if answer.full:
            raise DiskFullError(_told(answer))
        raise RefusedError(
            Cause(
                site=self._site,
                phase=PHASE,
                round=entry.round,
                exception=answer.exception,
                message=_told(answer),
                file=answer.file,
                line=answer.line,
                hint=answer.hint,
            )
        )

    async def stop(self) -> None:
        """End the process, whatever it does."""
        process, self._process = self._process, None
        link, self._link = self._link, None
        if link is not None:
            link.close()
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    # -- the process

    async def _ask(self, message: Callable[[], Any], round_number: int | None = None) -> Any:
        """Ask, and ask another gate if this one is killed meanwhile."""
        async with self._turn:
            code: int | None = None
            for _ in range(LAUNCHES):
                question = await asyncio.to_thread(message)
                try:
                    link = await self._started()
                    link.send(question)
                    answer = await self._answer(link)
                except BaseException:
                    await asyncio.shield(self.stop())
                    raise
                if answer is not None:
                    return answer
                code = await self._lost()
                log.warning("the gate of a job was lost (%s)", signal_name(code) or f"exit code {code}")
            raise RefusedError(self._lost_for_good(round_number, code))

    def _lost_for_good(self, round_number: int | None, code: int | None) -> Cause:
        return Cause(
            site=self._site, phase=PHASE, round=round_number, signal=signal_name(code),
            exit_code=code if code is not None and code >= 0 else None,
            message=f"the gate ended {LAUNCHES} times",
            hint="a filter ends its process, or needs too much memory: the log of the site's agent says more",
        )  # fmt: skip

    async def _answer(self, link: Link) -> Any:
        try:
            async for message in link.messages():
                if not isinstance(message, Beat):
                    return message
                if message.cpu > self._cpu + 0.01:
                    self._cpu = message.cpu
                    self._moved()
        except IntegrityError as error:
            log.warning("the gate of a job: %s", error.message)
        return None

    async def _lost(self) -> int | None:
        process = self._process
        await self.stop()
        return process.returncode if process is not None else None

    async def _started(self) -> Link:
        if self._link is not None and self._process is not None and self._process.returncode is None:
            return self._link
        await self.stop()
        secret = await asyncio.to_thread(site_secret, self._state)
        (self._folder / "tmp").mkdir(mode=0o700, parents=True, exist_ok=True)
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as unused:
            unused.callback(ours.close)
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "flpoc.site.gate", str(theirs.fileno()),
                pass_fds=[theirs.fileno()], cwd=self._folder, env=_environment(self._folder), start_new_session=True,
                stdin=asyncio.subprocess.DEVNULL, stdout=2,
            )  # fmt: skip
            unused.pop_all()
        self._cpu = 0.0
        self._link = Link(*await asyncio.open_connection(sock=ours), FROM_GATE)
        self._link.send(Begin(self._site, self._plugins, str(self._state), secret))
        return self._link


def _environment(folder: Path) -> dict[str, str]:
    """What the gate is told by its environment: where libraries are, and nothing of the agent's own."""
    passed = ("PYTHONPATH", "LD_LIBRARY_PATH")
    return {
        **environment(folder, Needs()),
        **{name: os.environ[name] for name in passed if name in os.environ},
    }


def _told(answer: Stopped) -> str:
    return f"filter {answer.filter!r}: {answer.message}" if answer.filter else answer.message


def site_secret(state: Path) -> bytes:
    """The secret of a site from which its filters get their chance; made when it is first asked for (blocking).

    Raises:
        ConfigError: The file is damaged: with another secret, what was noised once would be noised differently.
    """
    path = state / "gate.secret"
    if not path.exists():
        part = state / f"gate.secret.{secrets.token_hex(8)}"
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_SECRET_BYTES))
        sync(part)
        with contextlib.suppress(FileExistsError):  # another job of this site was faster
            os.link(part, path)
        part.unlink()
        sync(path)
    found = path.read_bytes()
    if len(found) != _SECRET_BYTES:
        raise ConfigError(f"{path}: is damaged", hint="restore it, or remove it when no job runs")
    return found
