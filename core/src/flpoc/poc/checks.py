"""What plugins find in a project before anything is made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from flpoc.errors import ConfigError
from flpoc.provisioning import Check, Project

if TYPE_CHECKING:
    from flpoc.plugins import Plugins


@attrs.frozen
class Findings:
    """What was found in a project that may be used.

    Attributes:
        checks: All findings, in the order of the plugins' names.
        warnings: Those that a user should hear of, and checks that failed themselves.
    """

    checks: tuple[Check, ...]
    warnings: tuple[str, ...]


def check_project(project: Project, plugins: Plugins) -> Findings:
    """Ask every plugin for its checks of a project.

    A check that fails itself is a warning that names its plugin: it says
    nothing about the project.

    Raises:
        ConfigError: There are errors; the message has them all, and ``data`` all findings.
    """
    answers = plugins.contributions("checks", project=project)
    checks = tuple(item for _, item in answers if isinstance(item, Check))
    failed = [
        f"The checks of plugin {record.name} could not be made: {record.reason.partition(': ')[2]}"
        for record in plugins.records
        if record.reason.startswith("flpoc_checks:")
    ]
    failed += [
        f"Plugin {record.name}: {type(item).__name__} is not a Check; it is left out"
        for record, item in answers
        if not isinstance(item, Check)
    ]
    if errors := [_said(one) for one in checks if one.status == "error"]:
        raise ConfigError(
            f"the project cannot be used: {'; '.join(errors)}",
            hint="change the project, or name a plugin whose checks you do not want in plugins.disable",
            data={"checks": [attrs.asdict(one) for one in checks]},
        )
    return Findings(checks, (*(_said(one) for one in checks if one.status == "warning"), *failed))


def _said(check: Check) -> str:
    return f"{check.component}: {check.details}" if check.details else check.component
