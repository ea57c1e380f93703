"""Removing a proof of concept: all of it, or nothing."""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from flpoc.errors import ConfigError, UsageError
from flpoc.formatting import Report
from flpoc.poc import workspace as places
from flpoc.poc.consoles import end_consoles
from flpoc.poc.preparing import services_of
from flpoc.poc.services import some
from flpoc.poc.workspace import Marker, foreign_entries, is_workspace, locked

if TYPE_CHECKING:
    from flpoc.configuration import Configuration
    from flpoc.plugins import Plugins


def clean(folder: Path, *, plugins: Plugins, configuration: Configuration, force: bool = False) -> Report:
    """Remove a workspace and the registrations of its kits.

    What flpoc did not make stays where it is. The workspace stays the
    configured one.

    Args:
        folder: The workspace.
        plugins: What is installed.
        configuration: Where its kits are registered; it is saved.
        force: Stop what runs in it first.

    Raises:
        UsageError: It is no workspace of a proof of concept, or it runs and *force* is not given.
    """
    from shlex import quote

    folder = folder.resolve()
    if not is_workspace(folder):
        if not places.set_aside_of(folder):
            raise UsageError(f"{folder} is not a POC workspace", hint=places.PREPARE)
        stopped, kept = [], []  # an earlier clean was interrupted: finish it
    else:
        with locked(folder):
            stopped = _stop(folder, plugins, force)
            kept = _set_aside(folder)
    unregistered, warnings = _unregister(folder, configuration)
    if configuration.active in unregistered and (left := sorted(set(configuration.kits) - set(unregistered))):
        warnings.append(f"The active kit was in this workspace; choose another: `flpoc config use {quote(left[0])}`")
    warnings += _delete(folder)
    data = {
        "workspace": str(folder),
        "status": "removed",
        "stopped": stopped,
        "kept": kept,
        "unregistered": unregistered,
    }
    text = [f"Stopped: {some(stopped)}"] if stopped else []
    text.append(f"Removed: {folder}")
    if kept:
        text.append(f"Left as it is, since flpoc did not make it: {', '.join(kept)}")
    return Report(data=data, text=text, warnings=warnings)


def _stop(folder: Path, plugins: Plugins, force: bool) -> list[str]:
    services = services_of(folder, plugins)
    running = sorted(services.running())
    jobs = services.running_jobs()
    if (running or jobs) and not force:
        raise UsageError(
            f"the POC in {folder} runs: {', '.join(running or jobs)}",
            hint="stop it with `flpoc poc stop`, or give --force",
        )
    services.stop_all()
    end_consoles(folder)
    return running


def _set_aside(folder: Path) -> list[str]:
    """Take the workspace away in one step; where strangers' files are in it, entry by entry and the marker last."""
    try:
        marker = places.read_marker(folder)
    except ConfigError:
        marker = Marker((places.PROJECT_FILE, places.DATA, places.STATE))
    strangers = foreign_entries(folder, marker)
    name = f"{places.OLD}{folder.name}-{secrets.token_hex(4)}"
    if not strangers:
        with contextlib.suppress(OSError):  # a mount point, or a parent that cannot be written to
            folder.rename(folder.parent / name)
            return []
    aside = folder / name
    aside.mkdir(mode=0o700)
    for entry in (*marker.entries, *places.unfinished(folder, marker), places.MARKER, places.LOCK):
        if (folder / entry).exists():
            (folder / entry).rename(aside / entry)
    return strangers


def _unregister(folder: Path, configuration: Configuration) -> tuple[list[str], list[str]]:
    """Forget the kits that were registered below the workspace."""
    below = [key for key, value in configuration.kits.items() if Path(value).resolve().is_relative_to(folder)]
    if not below:
        return [], []
    kept = {key: value for key, value in configuration.kits.items() if key not in below}
    active = "" if configuration.active in below else configuration.active
    try:
        attrs.evolve(configuration, kits=kept, active=active).save()
    except ConfigError as error:
        return [], [f"The kits of this workspace are still registered: {error.message}"]
    return sorted(below), []


def _delete(folder: Path) -> list[str]:
    warnings = []
    for one in places.set_aside_of(folder):
        try:
            places.delete(one)
        except OSError as error:
            warnings.append(f"{one} could not be deleted completely: {error}")
    with contextlib.suppress(OSError):  # it is a mount point, or something of the user's is in it
        folder.rmdir()
    return warnings
