"""What a site has for jobs, and which job has what of it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from flpoc.errors import ConfigError, IntegrityError
from flpoc.jobs.processes import GPUS
from flpoc.jobs.spec import ScriptSpec
from flpoc.settings import parse_json, structure
from flpoc.wire.messages import Capacity

log = logging.getLogger("flpoc.site")


@attrs.frozen
class ResourcePolicy:
    """What the site's policy gives to jobs.

    Attributes:
        cpus: Processors for all jobs together; None: as many as they ask for.
        memory_gib: Main memory for all jobs together; None: as much as they ask for.
        gpus: Ids of graphics processors, in the order in which they are dealt; None: those that the agent was given.
    """

    cpus: float | None = None
    memory_gib: float | None = None
    gpus: tuple[str, ...] | None = None


def resource_policy(found: Mapping[str, Any]) -> ResourcePolicy:
    """Read ``resources`` of the site's policy.

    Raises:
        ConfigError: It is wrong.
    """
    where = "local/policy.json: resources"
    policy = structure(dict(found), ResourcePolicy, where=where)
    for key in ("cpus", "memory_gib"):
        value = getattr(policy, key)
        if value is not None and not 0 < value < 1e9:
            raise ConfigError(f"{where}.{key}: {value:g} is not greater than 0")
    if policy.gpus is not None and len(set(policy.gpus)) != len(policy.gpus):
        raise ConfigError(f"{where}.gpus: one is named twice")
    return policy


def capacity_of(policy: ResourcePolicy, max_jobs: int) -> Capacity:
    """What the server is told of it."""
    return Capacity(policy.cpus, policy.memory_gib, len(gpus_of(policy)), max_jobs or None)


def gpus_of(policy: ResourcePolicy) -> tuple[str, ...]:
    """Ids of the graphics processors that jobs may have."""
    if policy.gpus is not None:
        return policy.gpus
    given = os.environ.get(GPUS, "")
    return tuple(dict.fromkeys(one.strip() for one in given.split(",") if one.strip() and one.strip() != "-1"))


@attrs.frozen
class Share:
    """What one job has of a site.

    Attributes:
        cpus: Processors.
        memory_gib: Main memory.
        gpus: Ids of graphics processors; nobody else has them.
    """

    cpus: float = 0.0
    memory_gib: float = 0.0
    gpus: tuple[str, ...] = ()


class Resources:
    """Gives jobs what they want of this site; what a job has got, it has until it is gone.

    The server starts jobs where it believes that there is room; that no more is given than there is, is seen to here.
    """

    def __init__(self, policy: ResourcePolicy, max_jobs: int) -> None:
        self.capacity = capacity_of(policy, max_jobs)
        self.gpus = gpus_of(policy)
        #: Whether jobs see only what they were given: where nobody says which there are, they see what the agent sees.
        self.exact = policy.gpus is not None
        self._held: dict[str, Share] = {}
        self._freed = asyncio.Condition()

    def adopt(self, job: str, record: Path) -> None:
        """Take up what a job was given by a former agent.

        Raises:
            IntegrityError: Nobody knows what it has.
        """
        if record.exists():
            try:
                self._held[job] = structure(parse_json(record.read_bytes(), str(record)), Share, where=str(record))
            except (OSError, ConfigError) as error:
                raise IntegrityError(f"{record} is damaged: {error}") from None

    async def take(self, job: str, script: ScriptSpec, record: Path) -> Share:
        """Give a job what its script wants, and write that down; waits while others have it.

        Raises:
            ConfigError: There is not so much.
        """
        wanted = Share(script.cpus, script.memory_gib or 0.0)
        if job not in self._held:
            if why := self._beyond(wanted, script.gpus):
                raise ConfigError(why, hint="resources in the site's local/policy.json decides")
            async with self._freed:
                if why := self._full(wanted, script.gpus):
                    log.info("job %s: waits: %s", job, why)
                await self._freed.wait_for(lambda: not self._full(wanted, script.gpus))
                self._held[job] = attrs.evolve(wanted, gpus=self._free_gpus()[: script.gpus])
        part = record.with_suffix(".part")
        part.write_text(json.dumps(attrs.asdict(self._held[job])), encoding="utf-8")
        part.rename(record)
        return self._held[job]

    async def free(self, job: str) -> None:
        """A job is gone."""
        if self._held.pop(job, None) is not None:
            async with self._freed:
                self._freed.notify_all()

    def held_by(self) -> dict[str, list[str]]:
        """Jobs and the graphics processors that they have."""
        return {job: list(share.gpus) for job, share in self._held.items() if share.gpus}

    def _beyond(self, wanted: Share, gpus: int) -> str:
        """Why there will never be room for it; empty if there may be."""
        for what, number, there in self._sums(wanted, gpus):
            if number and there is not None and number > there:
                return f"the job wants {number:g} {what}; this site gives {there:g}"
        return ""

    def _full(self, wanted: Share, gpus: int) -> str:
        """Why there is no room for it now; empty if there is."""
        held = self._held.values()
        if self.capacity.jobs is not None and len(held) >= self.capacity.jobs:
            return f"{len(held)} jobs are here, {self.capacity.jobs} at most"
        used = Share(sum(one.cpus for one in held), sum(one.memory_gib for one in held))
        taken = len(self.gpus) - len(self._free_gpus())
        for (what, number, there), (_, have, _) in zip(self._sums(wanted, gpus), self._sums(used, taken), strict=True):
            if number and there is not None and have + number > there:
                return f"{have:g} of {there:g} {what} are in use, {number:g} wanted"
        return ""

    def _sums(self, share: Share, gpus: int) -> tuple[tuple[str, float, float | None], ...]:
        there = self.capacity
        return (
            ("GPUs", gpus, there.gpus),
            ("processors", share.cpus, there.cpus),
            ("GiB of memory", share.memory_gib, there.memory_gib),
        )

    def _free_gpus(self) -> tuple[str, ...]:
        taken = {one for share in self._held.values() for one in share.gpus}
        return tuple(one for one in self.gpus if one not in taken)
