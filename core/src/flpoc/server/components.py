"""Whether a job's components are installed, its settings of them are right, and the sites that it names are there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from flpoc.errors import FlpocError, JobError, PluginError, known_names
from flpoc.jobs.spec import DEFAULT_SITE, JobSpec
from flpoc.plugins import Plugins, singular
from flpoc.settings import sites_in


def check_components(plugins: Plugins, spec: JobSpec) -> None:
    """Check what a job's controller and trackers will be made of.

    Raises:
        JobError: One is missing, or its settings are wrong.
    """
    for kind, name, settings in _chosen(spec):
        try:
            plugins.check(kind, name, settings)
        except PluginError as error:
            raise JobError(f"{singular(kind)}: {error.message} at the server", hint=error.hint) from None
        except FlpocError as error:
            raise JobError(error.message, hint=error.hint) from None
    for one in spec.tracking:
        try:
            plugins.check("trackers", one.name, one.settings)
        except FlpocError as error:
            raise JobError(f"tracking: {error.message} at the server", hint=error.hint) from None


def _chosen(spec: JobSpec) -> Iterator[tuple[str, str, dict[str, Any]]]:
    yield "workflows", spec.workflow, spec.workflow_settings
    yield "aggregators", spec.aggregator, spec.aggregator_settings


def strange_sites(plugins: Plugins, spec: JobSpec, there: Iterable[str], why: str) -> list[str]:
    """Sentences about sites for which a job says something, and that are not there: names are easily misspelt.

    Args:
        plugins: The installed ones.
        spec: A job whose components are right.
        there: All sites that are known.
        why: How it is with one that is not: ``is not simulated``.
    """
    named: dict[str, Iterable[str]] = {"scripts": [site for site in spec.scripts if site != DEFAULT_SITE]}
    for kind, name, given in _chosen(spec):
        settings = plugins.check(kind, name, given)
        named |= sites_in(settings, f"{singular(kind)}_settings") if attrs.has(type(settings)) else {}
    known = sorted(there)
    return [
        f"{where}: {site!r} {why}: {known_names(site, known)}"
        for where, sites in named.items() for site in sites if site not in known
    ]  # fmt: skip
