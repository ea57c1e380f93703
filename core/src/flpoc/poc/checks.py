"""What plugins find in a project before anything is made of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from flpoc.errors import ConfigError
from flpoc.provisioning import Check, Project

if TYPE_CHECKING:
    from flpoc.plugins import Plugins

#: Hooks that only commands ask: whoever has no others is not missed at servers and sites.
_OF_COMMANDS: Final = frozenset(
    {"authorities", "checks", "commands", "formatters", "job_templates", "kit_files", "simulators"}
)
_SAID: Final = re.compile(r"\S+ WARNING flpoc\.\w+ (plugin .+)")
_FIND_SECONDS: Final = 30.0
#: Run by an interpreter of its own; a plugin may print while its package is imported, so the answer is the last line.
_FIND: Final = """
import importlib.util, sys
missing = []
for name in sys.argv[1:]:
    try:
        found = importlib.util.find_spec(name)
    except BaseException:
        found = None
    missing += [] if found else [name]
print()
print(*missing)
"""


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
            hint="change the project, or switch off a plugin that errs: `flpoc plugins disable NAME`",
            data={"checks": [attrs.asdict(one) for one in checks]},
        )
    return Findings(checks, (*(_said(one) for one in checks if one.status == "warning"), *failed))


def not_for_services(modules: Sequence[str]) -> frozenset[str]:
    """Which private plugins a server or site could not load: without a dot, or found by PYTHONPATH alone."""
    dotless = {name for name in modules if "." not in name}
    rest = [name for name in modules if name not in dotless]
    if not rest:
        return frozenset(dotless)
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-P", "-c", _FIND, *rest],
        env=keep, cwd="/", capture_output=True, text=True, timeout=_FIND_SECONDS, check=False,
    )  # fmt: skip
    lines = done.stdout.splitlines() if done.returncode == 0 else []
    return frozenset({*dotless, *(lines[-1].split() if lines else ())})


def left_out(plugins: Plugins, names: Iterable[str]) -> list[str]:
    """Say which plugins a project cannot name; what only commands use is not missed there."""
    return [
        f"Plugin {name} is left out of the project: {_why_not(name)}. "
        "Make it an installed package (`flpoc plugins new` shows how)."
        for name in sorted(names)
        if not _OF_COMMANDS.issuperset(plugins.hooks_of(name))
    ]


def not_there(plugins: Plugins, names: Iterable[str]) -> list[str]:
    """Say which plugins a project names that server and sites could not load on this machine."""
    named = [name for name in names if name != "core"]
    installed = {one.name for one in plugins.records if one.distribution}
    missing = not_for_services([name for name in named if "." in name])
    return [
        f"Plugin {name} of the project could not be loaded here: "
        + (_why_not(name) if name in missing else "it is not installed")
        for name in named
        if name in missing or ("." not in name and name not in installed)
    ]


def _why_not(name: str) -> str:
    if "." not in name:
        return "for servers and sites a name without a dot is that of an installed package"
    return "servers and sites get no PYTHONPATH, and without it there is no such module"


def said_of_plugins(lines: Iterable[str]) -> list[str]:
    """What a service's log says of plugins that it could not load."""
    return list(dict.fromkeys(found[1] for found in map(_SAID.match, lines) if found))


def _said(check: Check) -> str:
    return f"{check.component}: {check.details}" if check.details else check.component
