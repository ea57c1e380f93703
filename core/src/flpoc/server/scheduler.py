"""Which waiting job starts, with whom, and what the others wait for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from flpoc.errors import did_you_mean
from flpoc.jobs.spec import DEFAULT_SITE, JobSpec
from flpoc.wire.messages import Capacity, Hello


@attrs.frozen
class Decision:
    """What to do with a submitted job.

    Attributes:
        sites: Sites to start with, in site order; empty when it does not start.
        waiting: Whom or what it waits for.
        never: Why it can never run; empty when it can.
        without: Sites that it starts without, since they lack something for good, and what.
    """

    sites: tuple[str, ...] = ()
    waiting: str = ""
    never: str = ""
    without: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class Load:
    """What the running jobs take of one site."""

    cpus: float = 0.0
    memory_gib: float = 0.0
    gpus: int = 0
    jobs: int = 0


def load_of(running: Iterable[tuple[JobSpec, Iterable[str]]]) -> dict[str, Load]:
    """What running jobs take of each site; each is a job and the sites that work for it."""
    found: dict[str, Load] = {}
    for spec, sites in running:
        for site in sites:
            script, load = spec.script_for(site), found.get(site, Load())
            found[site] = Load(
                load.cpus + script.cpus,
                load.memory_gib + (script.memory_gib or 0.0),
                load.gpus + script.gpus,
                load.jobs + 1,
            )
    return found


def decide(
    spec: JobSpec,
    connected: Mapping[str, Hello],
    known: frozenset[str],
    active: int,
    limit: int,
    *,
    load: Mapping[str, Load] | None = None,
    foreign: Iterable[str] = (),
) -> Decision:
    """Say whether a job can start now.

    Args:
        spec: The job.
        connected: Connected sites of its study, and what they offer.
        known: Sites that ever connected; empty if that is not known.
        active: How many jobs run.
        limit: How many may run at once.
        load: What the running jobs take of each site.
        foreign: Sites that the job names and that are not in its study.
    """
    if strangers := sorted(foreign):
        return Decision(never=f"{', '.join(strangers)}: not in study {spec.study!r}")
    if active >= limit:
        return Decision(waiting=f"{active} jobs are running, {limit} at most")
    wanted = spec.sites or tuple(site for site in sorted(connected) if _has_script(spec, site))
    here = [site for site in wanted if site in connected]
    absent = [site for site in wanted if site not in connected]
    for site in spec.mandatory_sites:
        if site not in connected:
            return Decision(waiting=f"waiting for {_describe(site, known)} (mandatory)")
    if len(here) < spec.least:
        who = ", ".join(_describe(site, known) for site in absent)
        count = f"{len(here)} of {spec.least} sites are connected"
        return Decision(waiting=f"waiting for {who}" if who else count)
    missing = {site: lack for site in here if (lack := _lacks(spec, site, connected[site]))}
    able = tuple(site for site in here if site not in missing)
    if len(able) >= spec.least and not any(site in missing for site in spec.mandatory_sites):
        decision = _with_room(spec, able, connected, load or {})
        return attrs.evolve(decision, without=missing) if decision.sites else decision
    site = next((site for site in spec.mandatory_sites if site in missing), next(iter(missing)))
    if site not in spec.mandatory_sites and _may_still_come(spec, able, absent):
        return Decision(waiting=f"waiting for other sites: {missing[site]}")
    return Decision(never=missing[site])


def _with_room(
    spec: JobSpec, able: tuple[str, ...], connected: Mapping[str, Hello], load: Mapping[str, Load]
) -> Decision:
    """Start with the sites that have room now, if they are enough; else wait for those that have not."""
    full = {site: why for site in able if (why := _full(spec, site, connected[site].capacity, load.get(site, Load())))}
    free = tuple(site for site in able if site not in full)
    # named sites are all expected: the job waits until each of them has room
    enough = not full if spec.sites else len(free) >= spec.least
    if enough and not any(site in full for site in spec.mandatory_sites):
        return Decision(sites=free)
    return Decision(waiting=f"waiting for resources: {'; '.join(full.values())}")


def _full(spec: JobSpec, site: str, capacity: Capacity, load: Load) -> str:
    """Why there is no room for a job at a site now; empty if there is."""
    script = spec.script_for(site)
    if capacity.jobs is not None and load.jobs >= capacity.jobs:
        return f"{site} runs {load.jobs} jobs, {capacity.jobs} at most"
    wants = (
        ("GPUs", script.gpus, capacity.gpus, load.gpus),
        ("processors", script.cpus, capacity.cpus, load.cpus),
        ("GiB of memory", script.memory_gib or 0.0, capacity.memory_gib, load.memory_gib),
    )
    for what, wanted, there, used in wants:
        if wanted and there is not None and used + wanted > there:
            return f"{used:g} of {there:g} {what} of {site} are in use, {wanted:g} wanted"
    return ""


def _may_still_come(spec: JobSpec, able: tuple[str, ...], absent: list[str]) -> bool:
    """Whether sites that are not connected may make up for those that lack something."""
    if spec.sites:
        return len(able) + len(absent) >= spec.least
    return bool(able)


def _has_script(spec: JobSpec, site: str) -> bool:
    return site in spec.scripts or DEFAULT_SITE in spec.scripts


def _describe(site: str, known: frozenset[str]) -> str:
    return f"{site} ({'disconnected' if site in known else 'never connected'})"


def _lacks(spec: JobSpec, site: str, hello: Hello) -> str:
    """What a site lacks for good, in words; empty if nothing."""
    script = spec.script_for(site)
    framework = (f"frameworks/{script.framework}",) if script.framework else ()
    needed = (*spec.plugins, *framework, *(f"filters/{one.name}" for one in spec.filters))
    plugin = next((plugin for plugin in needed if plugin not in hello.plugins), "")
    if plugin:
        return f"{plugin} is not installed, or not allowed, at {site}{_guess(plugin, hello)}"
    capacity = hello.capacity
    wants = (
        ("GPU", script.gpus, capacity.gpus),
        ("processor", script.cpus, capacity.cpus),
        ("GiB of memory", script.memory_gib or 0.0, capacity.memory_gib),
    )
    for what, wanted, there in wants:
        if wanted and there is not None and wanted > there:
            plural = "" if there == 1 or what.endswith("memory") else "s"
            return f"{site} has {there:g} {what}{plural}, the job wants {wanted:g}"
    return ""


def _guess(plugin: str, hello: Hello) -> str:
    """What was probably meant, to be said after the reason; empty if nothing is alike."""
    kind, _, name = plugin.partition("/")
    there = [one.removeprefix(f"{kind}/") for one in hello.plugins if one.startswith(f"{kind}/")]
    guess = did_you_mean(name, there, " ")
    return f"; {guess}" if guess.strip() else ""
