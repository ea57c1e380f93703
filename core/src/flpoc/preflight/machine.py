"""What a server or a site needs of the machine where it runs."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flpoc.errors import FlpocError
from flpoc.plugins import Plugins
from flpoc.preflight.findings import Finding
from flpoc.provision.kits import Kit

#: A server takes no more when less is left; with less than the second, somebody should look.
LEAST_FREE = 256 << 20
LITTLE_FREE = 2 << 30
_PRIVILEGED = 1024


def port(kit: Kit, state: Path) -> Finding:
    """Whether the server can listen on its port."""
    from flpoc.ports import is_free, owners, who_has

    number = kit.settings.server_port
    if is_free(number):
        return Finding("port", "ok", f"{number} is free")
    found = owners(number)
    if any(one.pid and f"(pid {one.pid})" in _owner_of(state) for one in found):
        return Finding("port", "warning", f"{number} is used by this server, which runs already (pid {found[0].pid})")
    if not found and number < _PRIVILEGED:
        hint = "choose a port from 1024 on, or let the server have it (sysctl net.ipv4.ip_unprivileged_port_start)"
        return Finding("port", "error", f"{number} cannot be bound by this user", hint)
    return Finding("port", "error", f"{number} is used by {who_has(number)}", "stop that program")


def _owner_of(state: Path) -> str:
    """Who has the lock of a state folder, as they have written it."""
    try:
        return (state / "lock").read_text(encoding="utf-8", errors="replace")[:200]
    except OSError:
        return ""


def room(kit: Kit, state: Path) -> Iterator[Finding]:
    """Whether the state folder can be made and written to, and whether there is room on its disk."""
    there = next((one for one in (state, *state.parents) if one.exists()), Path("/"))
    shown = "state/ in the kit" if state == kit.folder / "state" else str(state)
    hint = "change its owner or permissions, or name another folder when it is started: --state DIR"
    if problem := _not_writable(there, probe=there == state):
        yield Finding("state", "error", f"{there}: {problem}", hint)
    else:
        yield Finding("state", "ok", f"{shown} can be {'written to' if there == state else 'made'}")
    free = shutil.disk_usage(there).free
    text = f"{free / (1 << 30):.1f} GiB free"
    if free < LEAST_FREE:
        yield Finding(
            "disk", "error", text, f"make room: at least {LEAST_FREE >> 20} MiB, and what models and results take"
        )
    elif free < LITTLE_FREE:
        yield Finding("disk", "warning", text, "make room for models and results")
    else:
        yield Finding("disk", "ok", text)


def _not_writable(folder: Path, *, probe: bool) -> str:
    """Why nothing can be made in *folder*; empty if something can."""
    if not folder.is_dir():
        return "is not a folder"
    if not probe:
        return "" if os.access(folder, os.W_OK | os.X_OK) else "this user cannot make a folder in it"
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return f"cannot be written to: {error.strerror}"


def plugins_of(kit: Kit) -> tuple[Plugins, Finding]:
    """The plugins that the kit lists, as far as they can be loaded."""
    found = Plugins.of_kit(kit.settings.plugins)
    if found.troubles:
        hint = "install what is missing, in the environment in which this is started"
        return found, Finding("plugins", "warning", "; ".join(found.troubles), hint)
    return found, Finding("plugins", "ok", ", ".join(kit.settings.plugins) or "none are listed")


def launcher(plugins: Plugins, name: str, settings: dict[str, Any]) -> Finding:
    """Whether the launcher that starts jobs is there and takes its settings."""
    try:
        plugins.create("launchers", name, settings)
    except FlpocError as error:
        return Finding.failed("launcher", error)
    return Finding("launcher", "ok", name)


def datasets(policy: dict[str, Any]) -> Finding:
    """Whether the data that a site's policy grants is there and can be used."""
    from flpoc.site.datasets import granted

    try:
        mounts = granted(policy["datasets"])
    except FlpocError as error:
        return Finding.failed("datasets", error)
    if not mounts:
        return Finding("datasets", "ok", "none are granted")
    wrong = [problem for one in mounts.values() if (problem := _unusable(Path(one.source), writable=one.writable))]
    if wrong:
        return Finding(
            "datasets", "error", "; ".join(wrong), "correct the paths in local/policy.json, or the permissions"
        )
    return Finding("datasets", "ok", ", ".join(policy["datasets"]))


def _unusable(path: Path, *, writable: bool) -> str:
    if not os.path.exists(path):  # noqa: PTH110 - unlike pathlib's, false where we may not look
        return f"{path}: is not there, or this user may not look"
    wanted = os.R_OK | (os.X_OK if path.is_dir() else 0) | (os.W_OK if writable else 0)
    return "" if os.access(path, wanted) else f"{path}: this user may not {'change' if writable else 'read'} it"


def interpreter(policy: dict[str, Any]) -> Finding | None:
    """Whether the interpreter that the policy names can be run; None if it names none."""
    if not (named := policy["python"]):
        return None
    if found := shutil.which(named):
        return Finding("python", "ok", found)
    return Finding("python", "error", f"{named} is no program that can be run", "correct `python` in local/policy.json")
