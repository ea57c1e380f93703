"""A job that is dropped, or taken up again, at any moment: nothing of it is left, and the next one has its trainer."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from machine.threads import ARCHIVE, Process, Processes, Turns, moments, until

from flpoc.jobs.attempts import Attempt
from flpoc.jobs.signing import sign_job
from flpoc.jobs.spec import JobSpec, ScriptSpec, SignedJob
from flpoc.launching import Handle
from flpoc.models.tensors import write_tensors
from flpoc.plugins import Plugins
from flpoc.provision.building import provision
from flpoc.provision.kits import Kit, load_kit
from flpoc.provision.project_file import sample_project
from flpoc.site import departures, jobs
from flpoc.site.agent import Agent
from flpoc.site.files import SiteFiles
from flpoc.site.jobs import SiteJob
from flpoc.wire.local import SOCKET_NAME
from flpoc.wire.messages import JobWant
from flpoc.wire.trainer_messages import TO_TRAINER, Submit, TrainerStart

LEAD = "lead@nvidia.com"


@attrs.frozen
class Site:
    """A site that is told what to do by a test, not by a server."""

    agent: Agent
    processes: Processes
    signed: SignedJob

    def want(self, job: str, phase: Any = "run") -> None:
        self.agent._wanted(JobWant(job, 1, phase, "a" * 64, len(ARCHIVE), self.signed if phase == "run" else None))

    def job(self, job: str) -> SiteJob:
        return self.agent._jobs[job, 1]

    def has_trainer(self, job: str) -> bool:
        return self.processes.heard(job, TrainerStart)

    def left(self) -> dict[str, Any]:
        """What there still is of jobs."""
        state = self.agent.state
        files = [path.name for folder in ("jobs", "handles", "sockets") for path in (state / folder).glob("*")]
        found = {"jobs": list(self.agent._jobs), "files": files, "processes": self.processes.alive}
        return {what: one for what, one in {**found, "held": self.agent.resources._held}.items() if one}

    def leave(self, job: str, *running: bool) -> list[Process]:
        """Make what an agent leaves of a job when it is killed: with so many attempts at a trainer."""
        files, attempts, made = SiteFiles(self.agent.state / "jobs" / f"{job}.1"), self.agent.attempts, []
        files.job.mkdir(parents=True)
        jobs._keep(files.signed, self.signed)
        for number, runs in enumerate(running, 1):
            attempt: Attempt = attempts.begin(job, 1, "site-1", number, files.runs)
            attempts.record(attrs.evolve(attempt, handle=Handle("local", attempt.name, attempt.name)))
            process = self.processes.of[attempt.name] = Process(TO_TRAINER)
            made.append(process)
            if runs:
                process.run(self.agent.state / "sockets" / f"{job}.1" / SOCKET_NAME, Path(attempt.folder) / "token")
            else:
                process.ended.set()
        return made


@pytest.fixture(scope="module")
def prod(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return provision(sample_project(["site-1"]), tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def kit(prod: Path) -> Kit:
    return load_kit(prod / "site-1")


@pytest.fixture(scope="module")
def signed(prod: Path) -> SignedJob:
    startup = prod / LEAD / "startup"
    keys = {"key_pem": (startup / "client.key").read_bytes(), "certificate_pem": (startup / "client.crt").read_bytes()}
    spec = JobSpec("demo", {"@default": ScriptSpec("t.py")})
    return sign_job(spec, "demo", [], project="example_project", submitter=LEAD, **keys)


@pytest.fixture
def at_site(kit: Kit, signed: SignedJob, tmp_path: Path) -> Callable[[str, Callable[[Site], Awaitable[Any]]], Any]:
    """Let something be done with a site whose state is in a folder of this name."""
    plugins = Plugins.of_kit(kit.settings.plugins)

    async def fetch(_: bytes) -> AsyncIterator[bytes]:
        yield ARCHIVE

    def run(state: str, work: Callable[[Site], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            agent, processes = Agent(kit, plugins, tmp_path / state), Processes(TO_TRAINER)
            agent.attempts._launcher = processes
            agent.fetch = fetch  # type: ignore[method-assign]
            try:
                return await work(Site(agent, processes, signed))
            finally:
                await agent.stop()
                for one in processes.of.values():
                    one.ended.set()

        with asyncio.Runner(loop_factory=Turns) as runner:
            return runner.run(main())

    return run


async def dropped_after(turns: int, site: Site, begin: Callable[[], Any]) -> bool:
    """Drop job a after so many turns of the loop, and see what is left; says whether its trainer was there before."""
    done = asyncio.Event()

    def drop() -> None:
        site.want("job-a", "drop")
        done.set()

    loop = asyncio.get_running_loop()
    assert isinstance(loop, Turns)
    if (found := begin()) is not None:
        await found
    loop.after(turns, drop)
    await until(lambda: done.is_set() or site.has_trainer("job-a"))
    there = not done.is_set()
    await done.wait() if not there else drop()
    loop.after(-1, drop)
    await until(lambda: not site.left(), lambda: f"dropped after {turns} turns: {site.left()}")
    return there


def test_a_job_dropped_at_any_moment_is_gone_and_leaves_the_next_one_its_trainer(at_site: Any) -> None:
    async def work(site: Site, turns: int) -> bool:
        there = await dropped_after(turns, site, lambda: site.want("job-a"))
        site.want("job-b")
        await until(lambda: site.has_trainer("job-b"), lambda: f"nobody hears job b: job a was dropped after {turns}")
        return there

    assert any(at_site(str(turns), lambda site, turns=turns: work(site, turns)) for turns in moments())


@pytest.mark.parametrize("step", ["_keep", "unpack"])
def test_a_job_dropped_while_its_files_are_written_leaves_none(
    at_site: Any, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    begun, goes_on, write = threading.Event(), threading.Event(), getattr(jobs, step)

    def slow(*args: Any) -> None:
        begun.set()
        goes_on.wait(60)
        write(*args)

    monkeypatch.setattr(jobs, step, slow)

    async def work(site: Site) -> None:
        site.want("job-a")
        await asyncio.to_thread(begun.wait, 60)
        site.want("job-a", "drop")
        await asyncio.sleep(0.1)  # as long as the site could take to delete them too early
        goes_on.set()
        await until(lambda: not site.left(), lambda: f"dropped during {step}: {site.left()}")
        await asyncio.sleep(0.1)
        assert not site.left()

    at_site("state", work)


@pytest.mark.parametrize("disk", ["slow", "full"])
def test_a_job_dropped_while_an_answer_is_taken_leaves_no_file(
    at_site: Any, monkeypatch: pytest.MonkeyPatch, disk: str
) -> None:
    begun, goes_on, put = threading.Event(), threading.Event(), departures._put

    def slow(*args: Any) -> None:
        begun.set()
        if disk == "full":
            raise OSError(errno.ENOSPC, "no space left")
        goes_on.wait(60)
        put(*args)

    monkeypatch.setattr(departures, "_put", slow)

    async def work(site: Site) -> None:
        site.want("job-a")
        await until(lambda: site.has_trainer("job-a"), lambda: "there is no trainer")
        job = site.job("job-a")
        folder = next(job.files.runs.glob("*"))
        write_tensors(folder / "answer", {"w": np.ones(2)})
        size = (folder / "answer").stat().st_size
        submit = Submit(0, "train", "answer", size, "0" * 32, 1.0, "FULL", {}, {}, False)
        attempt = Attempt("job-a", 1, "site-1", 1, str(folder), "0" * 64, None)
        taking = asyncio.create_task(job.departures.take(attempt, submit))
        await asyncio.to_thread(begun.wait, 60)
        site.want("job-a", "drop")
        await asyncio.sleep(0.1)  # as long as the site could take to delete them too early
        goes_on.set()
        await until(lambda: not site.left(), lambda: f"dropped while an answer was taken: {site.left()}")
        assert await taking is (disk == "slow")
        assert not await job.departures.take(attempt, attrs.evolve(submit, round=1))
        await asyncio.sleep(0.1)
        assert not site.left()

    at_site("state", work)


def test_a_job_dropped_at_any_moment_while_its_trainer_is_met_again_is_gone(at_site: Any) -> None:
    async def work(site: Site, turns: int) -> bool:
        site.leave("job-a", False, True)
        return await dropped_after(turns, site, site.agent._restore)

    assert any(at_site(str(turns), lambda site, turns=turns: work(site, turns)) for turns in moments())


def test_a_trainer_that_a_former_agent_left_is_known_before_it_can_connect(at_site: Any) -> None:
    async def work(site: Site) -> Any:
        _, process = site.leave("job-a", False, True)
        # what does not run any more is ended first: it takes longer than the other needs to connect
        site.processes.stopped = lambda name: process.connected.wait(0.5) if name.endswith(".1") else None
        await site.agent._restore()
        await asyncio.to_thread(process.connected.wait, 60)
        return process.heard[0]

    assert isinstance(at_site("state", work), TrainerStart)


def test_a_trainer_that_could_not_be_met_at_first_is_met_although_the_server_has_said_its_word(
    at_site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "AGAIN_LATER", 0.01)

    async def work(site: Site) -> None:
        site.leave("job-a", True)
        adopt, begun, told = site.agent.attempts.adopt, asyncio.Event(), asyncio.Event()

        async def no_room(left: list[Attempt]) -> Attempt | None:
            site.agent.attempts.adopt = adopt  # type: ignore[method-assign]
            begun.set()
            await told.wait()
            raise OSError(errno.ENOSPC, "no space left")

        site.agent.attempts.adopt = no_room  # type: ignore[method-assign]
        await site.agent._restore()
        await begun.wait()
        site.want("job-a")
        await asyncio.sleep(0.1)  # as long as the site makes something of it
        told.set()
        await until(lambda: site.has_trainer("job-a"), lambda: "the trainer is not met")

    at_site("state", work)
