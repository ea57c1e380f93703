"""All checks of a kit, in the order in which somebody would look for what is wrong."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from flpoc.errors import FlpocError
from flpoc.preflight import machine
from flpoc.preflight.findings import Finding
from flpoc.provision.kits import Kit, check_kit, find_kit, read_kit
from flpoc.provisioning import Kind

#: Clocks that differ by more are worth a word; certificates begin five minutes before they are made.
SKEW_SECONDS = 60.0


@attrs.frozen
class Examined:
    """What came of all checks.

    Attributes:
        folder: The kit.
        kind: Whose it is.
        findings: One for each check, in order.
    """

    folder: Path
    kind: Kind
    findings: tuple[Finding, ...]


def examine(path: Path, *, state: Path | None = None, within: float = 5.0) -> Examined:
    """Check a kit and, for a site or user, the way to its server.

    Args:
        path: The kit.
        state: Where its server or agent keeps its state, if not where it does by default.
        within: Seconds that reaching the server may take.

    Raises:
        KitError: There is no kit at *path*; code STARTUP_KIT_MISSING.
    """
    folder, kind = find_kit(path)
    return Examined(folder, kind, tuple(_findings(folder, kind, state, within)))


def _findings(folder: Path, kind: Kind, state: Path | None, within: float) -> Iterator[Finding]:
    try:
        kit = read_kit(folder)
        check_kit(folder)
    except FlpocError as error:
        # with a key that does not fit, or another's certificate, nothing that follows would say anything
        hint = error.hint or "copy the whole kit again, or have it made anew"
        yield Finding("kit", "error", error.message, hint)
        return
    yield Finding("kit", "ok", f"{kit.settings.name}, a {kind} of project {kit.settings.project}")
    certificate = _certificate(kit)
    yield certificate
    if kind != "user":
        yield from _machine(kit, state or _state_of(folder))
    if kind != "server":
        yield from _way(kit, within, usable=certificate.status != "error")


def _certificate(kit: Kit) -> Finding:
    from flpoc.provision.identity import SOON_DAYS, read_roots, verify_certificate

    try:
        who = verify_certificate(kit.certificate_pem, kit.root_pem)
    except FlpocError as error:
        return Finding.failed("certificate", error)
    ends = {"it": who.not_after, "the CA's": min(one.not_valid_after_utc for one in read_roots(kit.root_pem))}
    whose = min(ends, key=lambda key: ends[key])
    days = (ends[whose] - datetime.datetime.now(datetime.UTC)).days
    text = f"{'valid' if whose == 'it' else 'the CA is valid'} until {ends[whose]:%Y-%m-%d}, {days} days from now"
    if days <= SOON_DAYS:
        hint = (
            "have it renewed: `flpoc cert request`, or a new kit"
            if whose == "it"
            else "make a new CA, and all kits anew"
        )
        return Finding("certificate", "warning", text, hint)
    return Finding("certificate", "ok", text)


def _state_of(folder: Path) -> Path:
    """Where a service keeps its state by default; in a proof of concept that is not in the kit."""
    from flpoc.poc.workspace import STATE, is_workspace

    if len(folder.parents) > 2 and is_workspace(home := folder.parents[2]):
        return home / STATE / folder.name
    return folder / "state"


def _machine(kit: Kit, state: Path) -> Iterator[Finding]:
    if kit.kind == "server":
        yield machine.port(kit, state)
    plugins, found = machine.plugins_of(kit)
    yield found
    if kit.kind == "server":
        yield _server_policy(kit)
        yield machine.launcher(plugins, kit.settings.launcher, {})
    else:
        yield from _policy(kit, plugins)
    yield from machine.room(kit, state)


def _server_policy(kit: Kit) -> Finding:
    """What whoever runs the server has written down."""
    from flpoc.server.controllers import checkpoint_folders

    try:
        folders = checkpoint_folders(kit.policy)
    except FlpocError as error:
        return Finding.failed("policy", error)
    if missing := [folder for folder in folders if not Path(folder).is_dir()]:
        message = f"checkpoints: there is no folder {missing[0]}"
        return Finding("policy", "warning", message, "correct the paths in local/policy.json, or make the folders")
    return Finding("policy", "ok", "local/policy.json")


def _policy(kit: Kit, plugins: Any) -> Iterator[Finding]:
    """What the site's owner has written down."""
    try:
        policy = kit.policy
        if policy["filters"]:
            from flpoc.site.agent import site_filters

            site_filters(kit, plugins)
    except FlpocError as error:
        yield Finding.failed("policy", error)
        return
    yield Finding("policy", "ok", "local/policy.json")
    yield machine.datasets(policy)
    if (found := machine.interpreter(policy)) is not None:
        yield found
    yield machine.launcher(plugins, policy["launcher"] or kit.settings.launcher, policy["launcher_settings"])


# -- the way to the server


def _way(kit: Kit, within: float, *, usable: bool) -> Iterator[Finding]:
    """Whether the server can be reached and accepts us, step by step; what follows a failure is not tried."""
    from flpoc.wire.reaching import steps

    left = ["host", "connection", "server", "access", "clock"]
    for step in steps(kit, within, within):
        left = left[left.index(step.name) + 1 :]
        if step.error is not None:
            yield Finding.failed(step.name, step.error)
            break
        if step.name == "access" and kit.kind == "user":
            yield from _asked(kit, within)
            left = []
        elif step.name == "access":
            yield Finding("access", "ok", f"the server accepts the certificate of {step.said}")
            yield Finding("clock", "ok", "within the times of both certificates; a user's kit compares clocks")
            left = []
        else:
            yield Finding(step.name, "ok", _said(step.name, step.said, kit))
    for name in left:
        yield Finding(name, "skipped")


def _said(name: str, text: str, kit: Kit) -> str:
    if name == "host":
        return f"{kit.settings.server_host} is {text}" if text != kit.settings.server_host else text
    if name == "connection":
        return f"something listens at {text}"
    return f"it has the certificate of {text!r}, issued by the CA of this kit"


def _asked(kit: Kit, within: float) -> Iterator[Finding]:
    """Ask the server for its status, as every command would."""
    from flpoc.session import Session

    begun = time.time()
    try:
        with Session.open(kit, timeout=within) as session:
            status = session.status()
    except FlpocError as error:
        yield Finding.failed("access", error)
        yield Finding("clock", "skipped")
        return
    sites = ", ".join(str(one["name"]) for one in status["sites"]) or "none"
    yield Finding("access", "ok", f"{status['user']} is {status['role']}; connected sites: {sites}")
    yield _clock(status.get("time"), begun, time.time())


def _clock(theirs: object, begun: float, ended: float) -> Finding:
    """Compare the server's clock, read some time between *begun* and *ended* of ours."""
    if not isinstance(theirs, (int, float)):
        return Finding("clock", "skipped", "the server does not say what time it is")
    skew = theirs - begun if theirs < begun else max(0.0, theirs - ended)
    if abs(skew) <= SKEW_SECONDS:
        return Finding("clock", "ok", "the same as the server's, within a minute")
    text = f"the server's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this one"
    return Finding("clock", "warning", text, "set both by NTP: certificates and signatures are good for a time")
