"""Whether a job's components are installed, and its settings of them are right."""

from __future__ import annotations

from flpoc.errors import FlpocError, JobError, PluginError
from flpoc.jobs.spec import JobSpec
from flpoc.plugins import Plugins, singular


def check_components(plugins: Plugins, spec: JobSpec) -> None:
    """Check what a job's controller and trackers will be made of.

    Raises:
        JobError: One is missing, or its settings are wrong.
    """
    chosen = (
        ("workflows", spec.workflow, spec.workflow_settings),
        ("aggregators", spec.aggregator, spec.aggregator_settings),
    )
    for kind, name, settings in chosen:
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
