"""A job that is aborted at any moment: nothing of it is left at the server, and the next one has its controller."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from machine.threads import ARCHIVE, Processes, Turns, moments, until

from flpoc.audit.log import AuditLog
from flpoc.audit.records import Principal
from flpoc.errors import IntegrityError
from flpoc.jobs.archive import unpack
from flpoc.jobs.signing import sign_job, verify_job
from flpoc.jobs.spec import JobSpec, ScriptSpec, SignedJob
from flpoc.jobs.states import JobState
from flpoc.plugins import Plugins
from flpoc.provision.building import provision
from flpoc.provision.identity import identity_of
from flpoc.provision.kits import Kit, load_kit
from flpoc.provision.project_file import sample_project
from flpoc.server import submissions
from flpoc.server.operator_service import OperatorService
from flpoc.server.peers import Door
from flpoc.server.service import Server
from flpoc.server.site_service import SiteService
from flpoc.server.sites import SiteSession
from flpoc.server.submissions import Coming, Submissions
from flpoc.wire.asks_of_operators import BlockSite
from flpoc.wire.codec import encode
from flpoc.wire.controller_messages import TO_CONTROLLER, Assign, ControllerStart
from flpoc.wire.messages import PROTOCOL, Hello, JobReport, JobWant
from flpoc.wire.requests import SubmitJob

LEAD = "lead@nvidia.com"
SHA256 = hashlib.sha256(ARCHIVE).hexdigest()
JOB_A, JOB_B = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))


@attrs.frozen
class Place:
    """A server with one site that only listens."""

    server: Server
    processes: Processes
    site: SiteSession
    signed: SignedJob

    async def submit(self, job: str) -> None:
        values = {
            "id": job, "name": "demo", "study": "default", "state": JobState.SUBMITTED.value, "submitter": LEAD,
            "org": "nvidia", "role": "lead", "folder": "demo", "manifest": self.signed.manifest,
            "signature": self.signed.signature, "certificate": self.signed.certificate, "archive": SHA256,
            "archive_size": len(ARCHIVE), "submitted": 0.0, "seq": int(job[-1]),
        }  # fmt: skip
        query = f"INSERT INTO jobs ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})"
        await self.server.store.write(lambda db: db.execute(query, tuple(values.values())))
        self.server.queue.wake()

    async def abort(self, job: str) -> None:
        row = await self.server.store.job(job)
        assert row is not None
        await self.server.abort(row)

    def has_controller(self, job: str) -> bool:
        return self.processes.heard(job, ControllerStart)

    def left(self) -> dict[str, Any]:
        """What there still is of jobs that run."""
        state = self.server.files.state
        files = [str(one) for what in ("handles/*", "sockets/*", "jobs/*/run") for one in state.glob(what)]
        found = {"runs": list(self.server.runs), "hosts": list(self.server._hosts), "files": files}
        return {what: one for what, one in {**found, "processes": self.processes.alive}.items() if one}


@pytest.fixture(scope="module")
def prod(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return provision(sample_project(["site-1"]), tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def kit(prod: Path) -> Kit:
    return load_kit(prod / "server")


@pytest.fixture(scope="module")
def signed(prod: Path) -> SignedJob:
    startup = prod / LEAD / "startup"
    keys = {"key_pem": (startup / "client.key").read_bytes(), "certificate_pem": (startup / "client.crt").read_bytes()}
    spec = JobSpec("demo", {"@default": ScriptSpec("t.py")})
    return sign_job(spec, "demo", [], project="example_project", submitter=LEAD, **keys)


@pytest.fixture
def at_server(kit: Kit, signed: SignedJob, tmp_path: Path) -> Callable[[str, Callable[[Place], Awaitable[Any]]], Any]:
    """Let something be done with a server whose state is in a folder of this name."""
    plugins = Plugins.of_kit(kit.settings.plugins)

    def run(state: str, work: Callable[[Place], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            (tmp_path / state / "archives").mkdir(parents=True)
            server, processes = Server(kit, plugins, tmp_path / state), Processes(TO_CONTROLLER)
            server.attempts._launcher = processes
            await server.restore()
            server.files.archive(SHA256).write_bytes(ARCHIVE)
            site = server.sites.attach("site-1", "nvidia", 1, Hello(PROTOCOL, "1", 1, {}))
            try:
                return await work(Place(server, processes, site, signed))
            finally:
                await server.stop()
                for one in processes.of.values():
                    one.ended.set()

        with asyncio.Runner(loop_factory=Turns) as runner:
            return runner.run(main())

    return run


def test_a_site_that_connects_while_a_round_begins_is_told_of_it_last(at_server: Any) -> None:
    async def work(place: Place) -> list[JobWant]:
        server, told = place.server, []
        await place.submit(JOB_B)
        await until(lambda: place.has_controller(JOB_B))
        hello = Hello(PROTOCOL, "1", 1, {}, (JobReport(JOB_A, 1, "joined"),))
        session = server.sites.attach("site-1", "nvidia", 1, hello)
        look_up, run = server.store.job, server.runs[JOB_B]

        async def hear() -> None:
            while (message := await session.outgoing()) is not None:
                told.append(message)

        async def meanwhile(job: str) -> Any:
            """What another connection of the site has said is heeded, and the controller opens a round."""
            if not run.started:
                run.site_reports("site-1", JobReport(JOB_B, 1, "joined"))
                await run.assign(Assign(0, "train", ("site-1",), False), server.files.state)
                await asyncio.sleep(0.05)
            return await look_up(job)

        server.store.job = meanwhile  # type: ignore[method-assign]
        audit = AuditLog(server.files.state)
        hearing = asyncio.create_task(hear())
        await SiteService(server, Door(server.kit.settings.project, audit))._read(nothing(), session, hello)
        await hearing
        audit.close()
        return [one for one in told if isinstance(one, JobWant) and one.job == JOB_B]

    wants = at_server("state", work)
    assert wants[0].signed is not None, "it does not have the job yet"
    assert wants[-1].task is not None, "what was wanted before the round began comes last"


async def nothing() -> AsyncIterator[bytes]:
    for one in ():
        yield one


@attrs.frozen
class Caller:
    """What gRPC says about the connection of a user."""

    certificate: bytes

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_pem_cert": [self.certificate]}

    def peer(self) -> str:
        return "ipv4:192.0.2.1:5000"


async def gone_during(write: Any, before: threading.Event, call: Any) -> None:
    """Have the caller go away while the server waits for the disk, and see the call end after that."""
    task = asyncio.ensure_future(call)
    await asyncio.to_thread(write.wait, 60)
    task.cancel()
    await asyncio.sleep(0.05)  # as long as the server could take to leave it undone
    before.set()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("step", ["unpack", "insert", "refuse"])
def test_a_submitter_who_goes_away_leaves_the_whole_job_or_nothing(
    at_server: Any, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def slow(*args: Any) -> None:
        if step != "insert":
            begun.set()
            goes_on.wait(60)
        unpack(*args)
        if step == "refuse":
            raise IntegrityError("a file is not the signed one")

    monkeypatch.setattr(submissions, "unpack", slow)

    async def archive() -> AsyncIterator[bytes]:
        yield ARCHIVE

    async def work(place: Place) -> None:
        server, audit = place.server, AuditLog(place.server.files.state)
        server.files.archive(SHA256).unlink()
        who, ask = identity_of(place.signed.certificate), SubmitJob(place.signed, SHA256, len(ARCHIVE), "default")
        manifest, _ = verify_job(place.signed, root_pem=server.kit.root_pem, project=server.kit.settings.project)
        coming = Coming(who, Principal.of(who), ask, manifest, "")
        write = server.store.write

        async def slow_write(act: Any, **more: Any) -> Any:
            def later(db: Any) -> Any:
                begun.set()
                goes_on.wait(60)
                return act(db)

            return await write(later if step == "insert" else act, **more)

        server.store.write = slow_write  # type: ignore[method-assign]
        taken = Submissions(server, Door(server.kit.settings.project, audit))._keep(coming, archive())
        await gone_during(begun, goes_on, taken)
        rows, folders = await server.store.jobs(), list((server.files.state / "jobs").glob("*"))
        audit.close()
        if step == "refuse":
            assert (rows, folders, server.files.archive(SHA256).exists()) == ([], [], False)
            return
        assert [row.id for row in rows] == [folder.name for folder in folders]
        assert server.files.archive(SHA256).exists()
        await until(lambda: place.has_controller(rows[0].id), lambda: "the job does not begin")

    at_server("state", work)


def test_a_site_is_kept_out_although_whoever_wants_it_goes_away(at_server: Any) -> None:
    async def work(place: Place) -> None:
        server, audit = place.server, AuditLog(place.server.files.state)
        begun, goes_on, write = threading.Event(), threading.Event(), server.store.write

        async def slow_write(act: Any, **more: Any) -> Any:
            def later(db: Any) -> Any:
                begun.set()
                goes_on.wait(60)
                return act(db)

            return await write(later, **more)

        server.store.write = slow_write  # type: ignore[method-assign]
        service = OperatorService(server, Door(server.kit.settings.project, audit))
        answer = service._answering("Disable")
        call = answer(encode(BlockSite("site-1")), Caller(place.signed.certificate))
        await gone_during(begun, goes_on, call)
        assert server.blocked.get("site-1") is not None
        async with asyncio.timeout(60):
            while await place.site.outgoing() is not None:
                pass  # its stream ends
        audit.close()

    at_server("state", work)


def test_a_job_aborted_at_any_moment_is_gone_and_the_next_one_has_its_controller(at_server: Any) -> None:
    async def work(place: Place, turns: int) -> bool:
        loop, aborting = asyncio.get_running_loop(), asyncio.Event()
        assert isinstance(loop, Turns)
        await place.submit(JOB_A)
        loop.after(turns, aborting.set)
        await until(lambda: aborting.is_set() or place.has_controller(JOB_A))
        there = not aborting.is_set()
        await place.abort(JOB_A)
        await until(lambda: not place.left(), lambda: f"aborted after {turns} turns: {place.left()}")
        await place.submit(JOB_B)
        await until(lambda: place.has_controller(JOB_B), lambda: f"no controller: job a was aborted after {turns}")
        return there

    assert any(at_server(str(turns), lambda place, turns=turns: work(place, turns)) for turns in moments())
