"""What a registered startup kit is: whose, whether it is there, how long its certificate lasts."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from flpoc.configuration import Configuration
from flpoc.errors import FlpocError


def identity_of_kit(folder: Path) -> dict[str, str]:
    """Name, organisation, role and project that a user's kit says."""
    from flpoc.provision.kits import read_user_kit

    settings = read_user_kit(folder).settings
    return {"name": settings.name, "org": settings.org, "role": settings.role, "project": settings.project}


def kit_row(configuration: Configuration, kit_id: str) -> dict[str, Any]:
    """Everything about one registered kit; what is wrong with it is a finding, not an error."""
    path = Path(configuration.kits[kit_id])
    findings: list[dict[str, str]] = []
    row: dict[str, Any] = {
        "active": "*" if configuration.active == kit_id else "",
        "id": kit_id,
        "status": "ok",
        "identity": None,
        "cert_role": None,
        "path": str(path),
        "role": None,
        "org": None,
        "project": None,
        "certificate": None,
    }
    try:
        certificate, role = certificate_of(path)
        row |= {"certificate": certificate, "cert_role": role}
        findings = findings_of(kit_id, certificate)
        said = identity_of_kit(path)
    except FlpocError as error:
        is_missing = error.code == "STARTUP_KIT_MISSING"
        code = "STARTUP_KIT_PATH_MISSING" if is_missing else "STARTUP_KIT_INVALID"
        if not findings:
            findings = [_finding(code, "warning", kit_id, error.message)]
        return {**row, "status": "missing" if is_missing else "invalid", "findings": findings}
    row |= {"identity": said["name"], "org": said["org"], "role": said["role"], "project": said["project"]}
    status = "ok" if certificate["expires_at"] else "invalid"
    return {**row, "status": status, "findings": findings}


def certificate_of(folder: Path) -> tuple[dict[str, Any], str | None]:
    """Where a kit's certificate is and how long it lasts, and the role that it gives to its owner.

    Raises:
        KitError: There is no kit.
    """
    from flpoc.provision.identity import SOON_DAYS, identity_of
    from flpoc.provision.kit_settings import STARTUP, STEM, find_kit

    path = find_kit(folder)[0] / STARTUP / f"{STEM['user']}.crt"
    found: dict[str, Any] = {"path": str(path), "expires_at": None, "days_remaining": None, "status": "unknown"}
    if not path.exists():
        return found, None
    try:
        owner = identity_of(path.read_bytes())
    except (OSError, FlpocError):
        return {**found, "status": "unreadable"}, None
    left = (owner.not_after - datetime.datetime.now(datetime.UTC)).total_seconds()
    ends = f"{owner.not_after.astimezone(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
    status = "expired" if left < 0 else "expiring_soon" if left <= SOON_DAYS * 86400 else "ok"
    return {**found, "expires_at": ends, "days_remaining": int(left // 86400), "status": status}, owner.role or None


def findings_of(kit_id: str, certificate: dict[str, Any]) -> list[dict[str, str]]:
    """What a user should know about a kit's certificate."""
    ends = certificate["expires_at"]
    messages = {
        "expired": ("STARTUP_KIT_CERT_EXPIRED", "error", f"its certificate expired at {ends}"),
        "expiring_soon": ("STARTUP_KIT_CERT_EXPIRING_SOON", "warning", f"its certificate ends at {ends}"),
        "unknown": ("STARTUP_KIT_CERT_MISSING", "warning", f"{certificate['path']} is missing"),
        "unreadable": ("STARTUP_KIT_CERT_UNREADABLE", "warning", f"{certificate['path']} cannot be read"),
    }
    if certificate["status"] not in messages:
        return []
    code, severity, message = messages[certificate["status"]]
    return [_finding(code, severity, kit_id, message)]


def _finding(code: str, severity: str, kit_id: str, message: str) -> dict[str, str]:
    return {"code": code, "severity": severity, "message": f"{kit_id}: {message}"}
