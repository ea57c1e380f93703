"""What a run at the server does when a disk fails, a process cannot be launched, or transfers overtake each other."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from machine.threads import Process, Processes

from flpoc.errors import FlpocError, ServiceError
from flpoc.jobs.attempts import Attempts
from flpoc.jobs.spec import JobSpec, ScriptSpec, TimeoutSpec
from flpoc.jobs.states import Cause, JobState
from flpoc.launching import Handle, Launcher, LaunchRequest, State, Status
from flpoc.models.checksums import checksum_file
from flpoc.models.tensors import write_tensors
from flpoc.server.controllers import ControllerHost
from flpoc.server.files import ServerFiles
from flpoc.server.runs import Run
from flpoc.server.store import JobRow, Store
from flpoc.server.uploads import Uploads
from flpoc.wire.controller_messages import TO_CONTROLLER, Commit, ControllerStart
from flpoc.wire.local import SOCKET_NAME
from flpoc.wire.messages import Announce, Push

JOB = str(uuid.UUID(int=7))
SPEC = JobSpec(name="job", scripts={"@default": ScriptSpec(script="train.py")}, sites=("site-1",))

Ended = list[tuple[JobState, Cause | None]]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = Store(tmp_path)
    yield found
    found.close()


def started(store: Store, folder: Path, over: asyncio.Event | None = None, spec: JobSpec = SPEC) -> tuple[Run, Ended]:
    """A run of one site, and how it ended, once it is *over*."""
    ended: Ended = []
    row = JobRow(
        id=JOB, seq=1, name="job", study="default", state="DISPATCHED", submitter="u", org="o", role="lead",
        folder="job", manifest=b"", signature=b"", certificate=b"", archive="", archive_size=0, submitted=0.0,
        started=None, finished=None, scheduled=None, schedules=1, run=1, chosen=("site-1",), joined=("site-1",),
        cause=None, partial=False, sha256="", metrics={},
    )  # fmt: skip
    files = ServerFiles(folder).job(JOB)
    files.code.mkdir(parents=True)

    def end(_: Run, state: JobState, cause: Cause | None) -> None:
        ended.append((state, cause))
        if over is not None:
            over.set()

    return Run(row, spec, store, files, tell=lambda *_: None, changed=lambda _: None, ended=end), ended


def update(folder: Path) -> tuple[bytes, Announce]:
    path = folder / "update.safetensors"
    write_tensors(path, {"w": np.ones(100_000, "float32")})
    content = path.read_bytes()
    return content, Announce(JOB, 1, 0, "train", 1, len(content), checksum_file(path), 1.0, "FULL", {}, {}, False)


class Call:
    """A call of gRPC's, as far as an upload has to do with it."""

    def __init__(self) -> None:
        self.placed = asyncio.Event()

    async def send_initial_metadata(self, _: Any) -> None:
        self.placed.set()


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    yield content[:1000]
    yield content[1000:]


def test_a_server_that_stops_does_not_reject_the_update_that_has_just_come(store: Store, tmp_path: Path) -> None:
    async def work() -> None:
        run, _ = started(store, tmp_path)
        content, announced = update(tmp_path)
        uploads = Uploads()
        assert (await uploads.announce(run, "site-1", announced)).verdict == "HAVE"
        store.close()
        start = Push(JOB, 1, 0, announced.checksum, 0)
        with pytest.raises(ServiceError):
            await uploads.take(run, "site-1", start, pieces(content), Call())
        run.pause()

    asyncio.run(work())


def test_of_several_transfers_of_one_update_only_the_newest_writes(store: Store, tmp_path: Path) -> None:
    async def standing() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    async def work() -> list[str]:
        run, _ = started(store, tmp_path)
        content, announced = update(tmp_path)
        uploads = Uploads()
        await uploads.announce(run, "site-1", announced)
        start = Push(JOB, 1, 0, announced.checksum, 0)
        call = Call()
        first = asyncio.create_task(uploads.take(run, "site-1", start, standing(), call))
        await call.placed.wait()
        others = [uploads.take(run, "site-1", start, pieces(content), Call()) for _ in range(2)]
        found = await asyncio.gather(first, *others, return_exceptions=True)
        run.pause()
        return sorted(one.code if isinstance(one, FlpocError) else getattr(one, "verdict", repr(one)) for one in found)

    assert asyncio.run(work()) == ["ALL", "SUPERSEDED", "SUPERSEDED"]


@contextlib.asynccontextmanager
async def slow_disk(store: Store) -> AsyncIterator[None]:
    """Nothing is written down as long as this lasts."""
    goes_on = threading.Event()
    standing = asyncio.create_task(store.read(lambda _: goes_on.wait(60)))
    try:
        yield
    finally:
        goes_on.set()
        await standing


@pytest.mark.parametrize("what", ["announces the next update", "sends this one"])
def test_a_connection_that_is_lost_takes_nothing_with_it(store: Store, tmp_path: Path, what: str) -> None:
    """A site's call is cancelled while the server writes: what is written then is known to the running server, too."""

    async def work() -> None:
        run, _ = started(store, tmp_path)
        await run.restore()
        content, announced = update(tmp_path)
        if what == "sends this one":
            announced = attrs.evolve(announced, inline=content)
        else:
            announced = attrs.evolve(announced, round=1)
        async with slow_disk(store):
            if what != "sends this one":
                await run.commit(Commit(0, "", 0, "", b"", {}), tmp_path)
            waits, write, settled = asyncio.Event(), store.write, run.settled

            async def noted(act: Any, **more: Any) -> Any:
                waits.set()
                return await write(act, **more)

            async def noted_too() -> None:
                waits.set()
                await settled()

            if what == "sends this one":
                store.write = noted  # type: ignore[method-assign]
            else:
                run.settled = noted_too  # type: ignore[method-assign]
            call = asyncio.create_task(Uploads().announce(run, "site-1", announced))
            await waits.wait()
            await asyncio.sleep(0.05)  # the rest of this turn: then it waits for the disk
            call.cancel()
            await asyncio.wait([call], timeout=0.1)
        await asyncio.wait([call])
        await run.settle()
        run.pause()
        assert run.lineage.committed == (-1 if what == "sends this one" else 0)
        assert list(run.round.received) == (["site-1"] if what == "sends this one" else [])

    asyncio.run(work())


class Mortal(Launcher):
    """Starts what is killed at once; the second time there is no room to start anything."""

    def __init__(self) -> None:
        self.launches = 0

    def launch(self, request: LaunchRequest) -> Handle:
        self.launches += 1
        if self.launches > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return Handle("mortal", request.name, "{}", 1)

    def poll(self, handle: Handle) -> Status:
        return Status(State.EXITED, -9)

    def stop(self, handle: Handle, *, grace: float = 10.0) -> None:
        pass

    def logs(self, handle: Handle, *, tail: int = 200) -> str:
        return ""


def test_a_controller_that_cannot_be_launched_again_fails_its_job(store: Store, tmp_path: Path) -> None:
    async def work() -> Ended:
        over = asyncio.Event()
        run, ended = started(store, tmp_path, over)
        attempts = Attempts(tmp_path, Mortal(), "mortal")
        host = ControllerHost(run, ServerFiles(tmp_path), attempts, (), project="p", plugins=())
        await host.start([])
        await asyncio.wait_for(over.wait(), 60)
        await host.end(grace=0.0)
        return ended

    [(state, cause)] = asyncio.run(work())
    assert cause is not None
    assert (state, cause.phase) == (JobState.FAILED, "starting the controller")
    assert "No space left" in cause.message


def test_a_controller_that_a_former_server_left_is_known_before_it_can_connect(store: Store, tmp_path: Path) -> None:
    async def work() -> object:
        run, _ = started(store, tmp_path)
        processes = Processes(TO_CONTROLLER)
        attempts, files, left = Attempts(tmp_path, processes, "threads"), ServerFiles(tmp_path), []
        for number in (1, 2):
            attempt = attempts.begin(JOB, 1, "server", number, run.files.runs)
            processes.of[attempt.name] = Process(TO_CONTROLLER)
            left.append(attrs.evolve(attempt, handle=Handle("threads", attempt.name, attempt.name)))
        older, process = processes.of.values()
        older.ended.set()
        process.run(files.socket_folder(JOB) / SOCKET_NAME, Path(left[1].folder) / "token")
        # what does not run any more is ended first: it takes longer than the other needs to connect
        processes.stopped = lambda name: process.connected.wait(0.5) if name == left[0].name else None
        host = ControllerHost(run, files, attempts, (), project="p", plugins=())
        await host.start(left)
        await asyncio.to_thread(process.connected.wait, 60)
        run.pause()
        await host.end(grace=0.0)
        return process.heard[0]

    assert isinstance(asyncio.run(work()), ControllerStart)


def test_a_controller_that_never_connects_fails_its_job(store: Store, tmp_path: Path) -> None:
    async def work() -> Ended:
        over = asyncio.Event()
        spec = attrs.evolve(SPEC, timeouts=TimeoutSpec(stall=0.1))
        run, ended = started(store, tmp_path, over, spec)
        await run.restore()
        await asyncio.wait_for(over.wait(), 60)
        return ended

    [(state, cause)] = asyncio.run(work())
    assert cause is not None
    assert (state, cause.site) == (JobState.FAILED, "server")
    assert "the controller makes no progress" in cause.message
