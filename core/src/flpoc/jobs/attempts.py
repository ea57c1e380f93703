"""Launching a job's processes so that any later process can find them again.

Before a process is started, its name and the hash of its token are written
to ``state/handles/``; after it, its handle. Whoever comes later, a restarted
owner or ``flpoc poc stop``, reads these files.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
import threading
from collections.abc import Callable
from pathlib import Path

import attrs

from flpoc.errors import ConfigError
from flpoc.jobs.processes import TOKEN_FILE, environment
from flpoc.jobs.shortcuts import Shortcuts
from flpoc.launching import Handle, Launcher, LaunchRequest, Mount, Needs, Network, State, Status
from flpoc.settings import parse_json, structure

log = logging.getLogger("flpoc.jobs")

#: Seconds after which a launcher that failed to say how a process is, is asked again.
LOOK_AGAIN_AFTER = 5.0
#: Below an owner's state: short names for folders of temporary files.
SHORT = "t"


@attrs.frozen
class Attempt:
    """One launch of a controller or trainer.

    Attributes:
        job: Job id.
        run: Number of the job's run.
        site: Where; ``server`` for a controller.
        number: Counts the launches of this role in this run, from 1.
        folder: The only folder it may write, absolute.
        token_hash: SHA-256 of its token, hex; empty when revoked.
        handle: What the launcher gave; None while it is being started.
    """

    job: str
    run: int
    site: str
    number: int
    folder: str
    token_hash: str
    handle: Handle | None = None

    @property
    def name(self) -> str:
        return f"{self.job}.{self.run}.{self.site}.{self.number}"

    def knows(self, token: bytes) -> bool:
        """Whether *token* is this attempt's, in constant time."""
        return bool(self.token_hash) and hmac.compare_digest(hashlib.sha256(token).hexdigest(), self.token_hash)


class Attempts:
    """The attempts of one owner: a server, or a site agent.

    Args:
        state: Its state folder.
        launcher: Starts the processes.
        launcher_name: The name of that launcher.
        hidden: What no job process may see besides the state folder: the owner's kit.
    """

    def __init__(self, state: Path, launcher: Launcher, launcher_name: str, *, hidden: tuple[Path, ...] = ()) -> None:
        self._hidden = tuple(str(path.absolute()) for path in (state, *hidden))
        self._shortcuts = Shortcuts(state / SHORT, elsewhere=not launcher.has_images)
        self._handles = state / "handles"
        self._handles.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._launcher = launcher
        self.launcher_name = launcher_name

    def recorded(self) -> list[Attempt]:
        """All attempts that were begun and not yet forgotten, in the order of their numbers."""
        found = []
        for path in sorted(self._handles.glob("*.json")):
            try:
                found.append(structure(parse_json(path.read_bytes(), str(path)), Attempt))
            except ConfigError as error:
                # power was lost while it was written, and with it the process that it was about
                log.warning("%s; it is put aside", error.message)
                path.rename(path.with_suffix(".damaged"))
        return sorted(found, key=lambda one: (one.job, one.run, one.site, one.number))

    def begin(self, job: str, run: int, site: str, number: int, runs: Path) -> Attempt:
        """Make the attempt's folder and token, and record it before anything is started."""
        folder = runs / str(number)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "tmp").mkdir(mode=0o700, exist_ok=True)
        token = secrets.token_bytes(32)
        path = folder / TOKEN_FILE
        path.unlink(missing_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(token)
        attempt = Attempt(job, run, site, number, str(folder), hashlib.sha256(token).hexdigest())
        self.record(attempt)
        return attempt

    def record(self, attempt: Attempt) -> None:
        path = self._handles / f"{attempt.name}.json"
        part = path.with_suffix(".part")
        part.write_text(json.dumps(attrs.asdict(attempt)))
        part.rename(path)

    def forget(self, attempt: Attempt) -> None:
        (self._handles / f"{attempt.name}.json").unlink(missing_ok=True)
        self._shortcuts.drop(Path(attempt.folder))

    async def adopt(self, left: list[Attempt]) -> Attempt | None:
        """Of what a former owner left of one job, keep the newest that still runs; end and forget the others."""
        import asyncio

        alive = [one for one in left if self.poll(one).running][-1:]
        for one in left:
            if one not in alive:
                await asyncio.to_thread(self.stop, one, 0.5)
                self.forget(one)
        return alive[0] if alive else None

    def launch(
        self,
        attempt: Attempt,
        argv: tuple[str, ...],
        *,
        log: Path,
        socket: Path,
        reads: tuple[Path, ...],
        env: dict[str, str],
        needs: Needs,
        project: str,
        datasets: tuple[Mount, ...] = (),
        image: str = "",
        network: Network = "agent",
    ) -> Attempt:
        """Start the process of a recorded attempt (blocking).

        Args:
            attempt: What :meth:`begin` gave.
            argv: Program and arguments.
            log: File that receives its output.
            socket: Where its owner listens.
            reads: Folders of its owner that it may read; made here, as what is not there cannot be granted.
            env: What is particular to it in its environment.
            needs: Processors, memory, graphics processors.
            project: The project's name.
            datasets: What else it may use.
            image: What it is to run in; empty: as the launcher is set.
            network: How much of the network it may reach.

        Raises:
            LaunchError: It could not be started.
        """
        folder = Path(attempt.folder)
        temporary = self._shortcuts.make(folder / "tmp")
        for path in reads:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = {"FLPOC_SOCKET": str(socket), "FLPOC_TOKEN_FILE": str(folder / TOKEN_FILE)}
        request = LaunchRequest(
            name=attempt.name,
            argv=argv,
            workdir=str(folder),
            state=str(folder.parent.parent / "launches" / str(attempt.number)),
            log=str(log),
            env={**environment(folder, needs), "TMPDIR": str(temporary), **env, **owner},
            needs=needs,
            mounts=(
                Mount(str(folder), str(folder), writable=True),
                Mount(str(temporary), str(temporary), writable=True),
                *(Mount(str(path), str(path)) for path in (socket.parent, *reads)),
                *datasets,
            ),
            hidden=self._hidden,
            image=image,
            network=network,
            labels={"project": project, "site": attempt.site, "job": attempt.job},
        )
        launched = attrs.evolve(attempt, handle=self._launcher.launch(request))
        self.record(launched)
        return launched

    def python(self, image: str = "") -> str:
        """The interpreter, as the processes find it.

        Raises:
            LaunchError: Nobody can say.
        """
        return self._launcher.python(image)

    def data_path(self, study: str, name: str, source: str) -> str:
        """Where the processes see a data set."""
        return self._launcher.data_path(study, name, source)

    def poll(self, attempt: Attempt) -> Status:
        """How its process is; one whose launch was never recorded counts as lost."""
        if attempt.handle is None:
            return Status(State.EXITED, None, "its start was interrupted")
        return self._launcher.poll(attempt.handle)

    def wait(self, attempt: Attempt, timeout: float) -> bool:
        """Wait until its process has ended (blocking); false if it still runs after *timeout* seconds."""
        return attempt.handle is None or not self._launcher.wait(attempt.handle, timeout).running

    def stop(self, attempt: Attempt, grace: float) -> None:
        """End its process and all children (blocking)."""
        if attempt.handle is not None:
            self._launcher.stop(attempt.handle, grace=grace)

    def logs(self, attempt: Attempt, tail: int) -> str:
        return self._launcher.logs(attempt.handle, tail=tail) if attempt.handle is not None else ""

    def watch(self, attempt: Attempt, ended: Callable[[Attempt, Status], None]) -> None:
        """Call *ended* in the running event loop once the process is gone."""
        import asyncio

        loop = asyncio.get_running_loop()

        def wait() -> None:
            status = self._after(attempt)
            while status.running:
                status = self._after(attempt)
            try:
                loop.call_soon_threadsafe(ended, attempt, status)
            except RuntimeError:
                return  # the owner itself has ended; the next one will look again

        threading.Thread(target=wait, name=f"watch {attempt.name}", daemon=True).start()

    def _after(self, attempt: Attempt) -> Status:
        """How its process is after an hour, or sooner once it has ended; what a launcher fails at is no end."""
        try:
            return self.poll(attempt) if attempt.handle is None else self._launcher.wait(attempt.handle, 3600.0)
        except Exception:
            log.exception("%s: cannot be watched; tried again in %g s", attempt.name, LOOK_AGAIN_AFTER)
            threading.Event().wait(LOOK_AGAIN_AFTER)
            return Status(State.RUNNING)
