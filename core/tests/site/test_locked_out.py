"""A submitter who is locked out just while a site is busy with their job."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from flpoc.jobs.signing import sign_job
from flpoc.jobs.spec import JobSpec, ScriptSpec, SignedJob
from flpoc.jobs.statements import Revoked, SignedStatement, new_list, sign_statement, written_now
from flpoc.plugins import Plugins
from flpoc.provision.building import provision
from flpoc.provision.identity import identity_of
from flpoc.provision.kits import load_kit
from flpoc.provision.project_file import sample_project
from flpoc.site.agent import Agent
from flpoc.site.jobs import SiteJob
from flpoc.wire.messages import Announce, JobReport, JobWant, Revocation

LEAD = "lead@nvidia.com"


@pytest.fixture(scope="module")
def prod(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return provision(sample_project(["site-1"]), tmp_path_factory.mktemp("project"))


def keys(prod: Path, user: str) -> dict[str, bytes]:
    startup = prod / user / "startup"
    return {"key_pem": (startup / "client.key").read_bytes(), "certificate_pem": (startup / "client.crt").read_bytes()}


@pytest.fixture
def job(prod: Path) -> SignedJob:
    spec = JobSpec("demo", {"@default": ScriptSpec("t.py")})
    return sign_job(spec, "demo", [], project="example_project", submitter=LEAD, **keys(prod, LEAD))


@pytest.fixture
def lock_out(prod: Path) -> SignedStatement:
    """The list that locks the lead out."""
    serial = f"{identity_of(keys(prod, LEAD)['certificate_pem']).serial:x}"
    made = new_list(None, "example_project", serial, Revoked(LEAD, written_now(), "left"))
    return sign_statement(made, **keys(prod, "admin@nvidia.com"))


def with_agent(prod: Path, state: Path, work: Callable[[Agent], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        kit = load_kit(prod / "site-1")
        agent = Agent(kit, Plugins.of_kit(kit.settings.plugins), state)
        try:
            return await asyncio.wait_for(work(agent), 60)
        finally:
            await agent.stop()

    return asyncio.run(run())


def begun(agent: Agent, signed: SignedJob) -> SiteJob:
    """A job that this site is told to take part in, by a server that is not there any more."""
    found = SiteJob(agent, "job-1", 1, agent.state / "jobs" / "job-1.1", [])
    agent._jobs["job-1", 1] = found
    found.want(JobWant("job-1", 1, "run", "a" * 64, 10, signed))
    return found


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - nobody announces it
        await asyncio.sleep(0.01)


@pytest.mark.row("K7")
def test_a_list_that_comes_between_consent_and_the_job_is_heeded(
    prod: Path, tmp_path: Path, job: SignedJob, lock_out: SignedStatement
) -> None:
    async def work(agent: Agent) -> JobReport:
        ask = agent.consents.ask

        async def slowly(*asked: Any) -> Any:
            manifest = await ask(*asked)
            await agent._revoke(Revocation(lock_out))
            return manifest

        agent.consents.ask = slowly  # type: ignore[method-assign]
        found = begun(agent, job)
        await until(lambda: found.report.phase == "failed")
        return found.report

    report = with_agent(prod, tmp_path, work)
    assert f"the certificate of {LEAD} was revoked at" in report.cause.message
    assert not (tmp_path / "jobs" / "job-1.1" / "archive.part").exists(), "nothing of it was fetched"


@pytest.mark.row("K7")
def test_nothing_of_a_job_leaves_a_site_once_its_submitter_is_locked_out(
    prod: Path, tmp_path: Path, job: SignedJob, lock_out: SignedStatement
) -> None:
    said: list[Any] = []

    async def work(agent: Agent) -> None:
        agent.send = said.append  # type: ignore[method-assign]
        found = begun(agent, job)
        await until(found.files.signed.exists)
        update = Announce(
            job="job-1", run=1, round=0, kind="train", attempt=1, size=1 << 20, checksum="0" * 32, weight=1.0,
            params_type="FULL", metrics={}, meta={}, evaluates=False,
        )  # fmt: skip
        found.outgoing.announce(update)
        await agent._revoke(Revocation(lock_out))
        assert found.report.phase == "failed"
        found.outgoing.announce(update)
        found.connected()

    with_agent(prod, tmp_path, work)
    assert [type(one) for one in said] == [Announce, JobReport, JobReport]
    assert said[1].cause.phase == "revoked"


def test_a_job_that_is_over_is_left_to_its_end(
    prod: Path, tmp_path: Path, job: SignedJob, lock_out: SignedStatement
) -> None:
    async def work(agent: Agent) -> None:
        found = begun(agent, job)
        await until(found.files.signed.exists)
        found.want(JobWant("job-1", 1, "finish"))
        await agent._revoke(Revocation(lock_out))
        assert found.report.phase == "preparing"
        found.want(JobWant("job-1", 1, "drop"))
        await until(lambda: not found.files.folder.exists())

    with_agent(prod, tmp_path, work)
