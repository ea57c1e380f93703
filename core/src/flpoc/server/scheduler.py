"""Which waiting job starts, with whom, and what the others wait for."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from flpoc.errors import did_you_mean
from flpoc.jobs.spec import DEFAULT_SITE, JobSpec
from flpoc.wire.messages import Hello


@attrs.frozen
class Decision:
    """What to do with a submitted job.

    Attributes:
        sites: Sites to start with, in site order; empty when it does not start.
        waiting: Whom or what it waits for.
        never: Why it can never run; empty when it can.
    """

    sites: tuple[str, ...] = ()
    waiting: str = ""
    never: str = ""


def decide(spec: JobSpec, connected: Mapping[str, Hello], known: frozenset[str], active: int, limit: int) -> Decision:
    """Say whether a job can start now.

    Args:
        spec: The job.
        connected: Connected sites and what they offer.
        known: Sites that ever connected; empty if that is not known.
        active: How many jobs run.
        limit: How many may run at once.
    """
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
    missing = {site: lack for site in here if (lack := _lacks(spec, connected[site]))}
    able = tuple(site for site in here if site not in missing)
    if len(able) >= spec.least and not any(site in missing for site in spec.mandatory_sites):
        return Decision(sites=able)
    site = next((site for site in spec.mandatory_sites if site in missing), next(iter(missing)))
    reason = f"{missing[site]} is not installed, or not allowed, at {site}{_guess(missing[site], connected[site])}"
    if site not in spec.mandatory_sites and _may_still_come(spec, able, absent):
        return Decision(waiting=f"waiting for other sites: {reason}")
    return Decision(never=reason)


def _may_still_come(spec: JobSpec, able: tuple[str, ...], absent: list[str]) -> bool:
    """Whether sites that are not connected may make up for those that lack something."""
    if spec.sites:
        return len(able) + len(absent) >= spec.least
    return bool(able)


def _has_script(spec: JobSpec, site: str) -> bool:
    return site in spec.scripts or DEFAULT_SITE in spec.scripts


def _describe(site: str, known: frozenset[str]) -> str:
    return f"{site} ({'disconnected' if site in known else 'never connected'})"


def _lacks(spec: JobSpec, hello: Hello) -> str:
    needed = (*spec.plugins, *(f"filters/{one.name}" for one in spec.filters))
    return next((plugin for plugin in needed if plugin not in hello.plugins), "")


def _guess(plugin: str, hello: Hello) -> str:
    """What was probably meant, to be said after the reason; empty if nothing is alike."""
    kind, _, name = plugin.partition("/")
    there = [one.removeprefix(f"{kind}/") for one in hello.plugins if one.startswith(f"{kind}/")]
    guess = did_you_mean(name, there, " ")
    return f"; {guess}" if guess.strip() else ""
