"""What a site has for jobs, and which job has which graphics processors."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from flpoc.errors import ConfigError
from flpoc.settings import structure
from flpoc.wire.messages import Capacity

#: What a service was given to use; without it, jobs get no graphics processor unless the policy names some.
GIVEN: Final = "CUDA_VISIBLE_DEVICES"


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
    given = os.environ.get(GIVEN, "")
    return tuple(dict.fromkeys(one.strip() for one in given.split(",") if one.strip() and one.strip() != "-1"))


class GraphicsProcessors:
    """Deals graphics processors to jobs; what a job has got, it has until it is gone."""

    def __init__(self, ids: tuple[str, ...]) -> None:
        self._ids = ids
        self._held: dict[str, tuple[str, ...]] = {}
        self._freed = asyncio.Condition()

    def adopt(self, job: str, record: Path) -> None:
        """Take up what a job was given by a former agent."""
        if record.exists():
            held = json.loads(record.read_text(encoding="utf-8"))
            self._held[job] = tuple(str(one) for one in held)

    async def take(self, job: str, count: int, record: Path) -> tuple[str, ...]:
        """Give a job so many, and write down which; waits while others have them.

        Raises:
            ConfigError: There are not so many.
        """
        if job in self._held:
            return self._held[job]
        if count > len(self._ids):
            raise ConfigError(f"the job wants {count} GPUs; this site has {len(self._ids)}")
        async with self._freed:
            await self._freed.wait_for(lambda: len(self._free()) >= count)
            self._held[job] = self._free()[:count]
        if count:
            part = record.with_suffix(".part")
            part.write_text(json.dumps(self._held[job]), encoding="utf-8")
            part.rename(record)
        return self._held[job]

    async def free(self, job: str) -> None:
        """A job is gone."""
        if self._held.pop(job, ()):
            async with self._freed:
                self._freed.notify_all()

    def held_by(self) -> dict[str, list[str]]:
        """Jobs and what they have."""
        return {job: list(ids) for job, ids in self._held.items() if ids}

    @property
    def ids(self) -> tuple[str, ...]:
        return self._ids

    def _free(self) -> tuple[str, ...]:
        taken = {one for ids in self._held.values() for one in ids}
        return tuple(one for one in self._ids if one not in taken)
