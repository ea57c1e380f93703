"""The controllers of running jobs: their processes, sockets and messages."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flpoc.cancelling import in_thread
from flpoc.errors import ConfigError, FlpocError
from flpoc.jobs.archive import unpack
from flpoc.jobs.attempts import Attempt, Attempts
from flpoc.jobs.paths import FileEntry
from flpoc.jobs.processes import signal_name
from flpoc.jobs.states import Cause
from flpoc.launching import Mount, Needs, Status
from flpoc.server.files import ServerFiles
from flpoc.server.runs import Run
from flpoc.wire.controller_messages import FROM_CONTROLLER, Assign, Commit
from flpoc.wire.local import SOCKET_NAME, Link, listen
from flpoc.wire.trainer_messages import Beat, Failed, LocalHello, LogMode, Over
from flpoc.wire.vocabulary import Finished, Refused

log = logging.getLogger("flpoc.server")

#: Launches of a controller for the same round before the job is given up.
LAUNCHES = 3


def checkpoint_folders(policy: Mapping[str, Any]) -> tuple[str, ...]:
    """The folders of ``checkpoints`` in the server's policy, whose files jobs may start from.

    Raises:
        ConfigError: An entry is no absolute path.
    """
    folders = policy.get("checkpoints", [])
    for place, folder in enumerate(folders):
        if not isinstance(folder, str) or not Path(folder).is_absolute():
            where = f"local/policy.json: checkpoints[{place}]"
            raise ConfigError(f"{where}: {folder!r} is not an absolute path", hint="begin it with /")
    return tuple(folders)


class ControllerHost:
    """Runs the controller of one job, again if it is killed."""

    def __init__(
        self,
        run: Run,
        files: ServerFiles,
        attempts: Attempts,
        entries: tuple[FileEntry, ...],
        *,
        project: str,
        plugins: tuple[str, ...],
        checkpoints: tuple[str, ...] = (),
    ) -> None:
        self.run = run
        self._files = files
        self._attempts = attempts
        self._entries = entries
        self._project = project
        self._plugins = plugins
        self._checkpoints = checkpoints
        self._attempt: Attempt | None = None
        self._link: Link | None = None
        self._socket: asyncio.AbstractServer | None = None
        self._launches: list[int] = []
        self._cpu = 0.0
        self._stopping = False
        self._log_mode = ""
        self._launching: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self.connected = asyncio.Event()
        self._log = run.files.log("server")

    async def start(self, left: list[Attempt]) -> None:
        """Adopt what a former server left running, unpack the job, listen, and launch if nothing runs."""
        async with self._starting:
            await self._start(left)

    async def _start(self, left: list[Attempt]) -> None:
        # before it can connect: whom nobody knows is sent away; and before anything fails: then it is ended
        self._attempt = await self._attempts.adopt(left)
        self._log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.run.files.code.exists():
            archive = self._files.archive(self.run.row.archive)
            await in_thread(unpack, archive, self.run.files.code, self._entries)
        if self._stopping:
            return
        self._socket = await listen(self._files.socket_folder(self.run.id), self._serve)
        if self._attempt is not None:
            self._attempts.watch(self._attempt, self._process_ended)
        else:
            await self._launch()

    async def _launch(self) -> None:
        # a launch that has begun is seen to its end, so that there is a handle to stop it by
        self._launching = asyncio.create_task(self._launch_now())
        await asyncio.shield(self._launching)

    async def _launch_now(self) -> None:
        if self._stopping:
            return
        number = 1 + max((int(p.name) for p in self.run.files.runs.glob("*") if p.name.isdigit()), default=0)
        self._launches.append(self.run.next_round)
        try:
            attempt = self._attempts.begin(self.run.id, self.run.row.run, "server", number, self.run.files.runs)
        except OSError as error:
            self.run.fail(Cause(site="server", phase="starting the controller", message=str(error)))
            return
        self._attempt = attempt  # its process may connect before the launcher returns
        self._cpu = 0.0
        try:
            self._attempt = await asyncio.to_thread(
                self._attempts.launch,
                attempt,
                (await asyncio.to_thread(self._attempts.python), "-m", "flpoc.runner.controller"),
                log=self._log,
                socket=self._files.socket_folder(self.run.id) / SOCKET_NAME,
                reads=self.run.files.read_by_controller,
                env={"FLPOC_CODE": str(self.run.files.code / "code")},
                needs=Needs(),
                project=self._project,
                datasets=tuple(Mount(path, path) for path in self._checkpoints if Path(path).is_dir()),
            )
        except (FlpocError, OSError) as error:
            self._attempts.forget(attempt)
            message = error.message if isinstance(error, FlpocError) else str(error)
            hint = getattr(error, "hint", "")
            self.run.fail(Cause(site="server", phase="starting the controller", message=message, hint=hint))
            return
        if self._stopping:
            return  # the job was ended while this was being launched: whoever ended it waits, and stops it
        self._attempts.watch(self._attempt, self._process_ended)

    def _process_ended(self, attempt: Attempt, status: Status) -> None:
        self._attempts.forget(attempt)
        if attempt is not self._attempt or self.run.over or self._stopping:
            return
        round_number = self.run.next_round
        killed = status.code is None or status.code < 0
        if killed and self._launches.count(round_number) < LAUNCHES:
            log.warning("job %s: the controller was lost (%s); launching it again", self.run.id, status.code)
            self._launching = asyncio.create_task(self._launch_now())
            return
        self.run.fail(self._cause(attempt, status))

    def _cause(self, attempt: Attempt, status: Status) -> Cause:
        code = status.code
        return Cause(
            site="server",
            phase="aggregating",
            round=self.run.next_round,
            message="the controller ended before the job did" + (f" ({status.reason})" if status.reason else ""),
            exit_code=code if code is not None and code >= 0 else None,
            signal=signal_name(code),
            peak_rss=status.peak_rss,
            log_tail=tuple(self._attempts.logs(attempt, 40).splitlines()[-40:]),
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(reader, writer, FROM_CONTROLLER)
        try:
            hello = await link.hello()
            attempt = self._attempt
            if not isinstance(hello, LocalHello) or attempt is None or not attempt.knows(hello.token):
                link.send(Refused("FENCED", "this attempt has been replaced"))
                return
            if self._link is not None:
                self._link.close()  # one process of an attempt speaks for it
            self._link = link
            await self.run.controller_connected(link)
            link.send(self.run.controller_start(self.run.files.code / "code", self._plugins, self._checkpoints))
            if self._log_mode:
                link.send(LogMode(self._log_mode))
            self.connected.set()
            async for message in link.messages():
                await self._take(message, Path(attempt.folder))
        except FlpocError as error:
            log.warning("job %s: controller: %s", self.run.id, error.message)
            self.run.fail(Cause(site="server", phase="aggregating", round=self.run.next_round, message=error.message))
        finally:
            self.run.controller_gone(link)
            link.close()

    async def _take(self, message: Any, folder: Path) -> None:
        moved = True
        match message:
            case Assign():
                await self.run.assign(message, folder)
            case Commit():
                await self.run.commit(message, folder)
            case Finished():
                await self.run.finish(message)
            case Failed():
                self.run.fail(
                    Cause(
                        site="server",
                        phase=message.phase or "aggregating",
                        round=message.round,
                        exception=message.exception,
                        message=message.message,
                        file=message.file,
                        line=message.line,
                        hint=message.hint,
                        log_tail=tuple(self._attempts.logs(self._attempt, 40).splitlines()) if self._attempt else (),
                    )
                )
            case Beat():
                moved = message.cpu > self._cpu + 0.01

        if moved:
            self._cpu = message.cpu if isinstance(message, Beat) else self._cpu
            self.run.controller_moved()

    def set_log_mode(self, mode: str) -> None:
        """Have the controller log as *mode* says, also one that is launched later."""
        self._log_mode = mode
        if self._link is not None:
            self._link.send(LogMode(mode))

    async def end(self, *, grace: float) -> None:
        """Let the controller end, insist after *grace* seconds, close the socket."""
        self._stopping = True
        if self._link is not None:
            self._link.send(Over())
        async with self._starting:
            if self._launching is not None:
                await asyncio.wait([self._launching])
        if self._attempt is not None:
            await asyncio.to_thread(self._settle, self._attempt, grace)
            self._attempts.forget(self._attempt)
        await self.close()
        with contextlib.suppress(OSError):
            self._files.socket_folder(self.run.id).rmdir()

    def _settle(self, attempt: Attempt, grace: float) -> None:
        if not self._attempts.wait(attempt, grace):
            self._attempts.stop(attempt, grace)

    async def close(self) -> None:
        """Close the socket only; the controller goes on and reconnects to the next server.

        The folder stays: a confined process was granted this one, not another of its name.
        """
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            with contextlib.suppress(OSError):
                (self._files.socket_folder(self.run.id) / SOCKET_NAME).unlink()
