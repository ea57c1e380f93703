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
        said = identity_of_kit(path)
    except FlpocError as error:
        missing = error.code == "STARTUP_KIT_MISSING"
        code = "STARTUP_KIT_PATH_MISSING" if missing else "STARTUP_KIT_INVALID"
        status = "missing" if missing else "invalid"
        return {**row, "status": status, "findings": [_finding(code, "warning", kit_id, error.message)]}
    row |= {"identity": said["name"], "org": said["org"], "role": said["role"], "project": said["project"]}
    row |= {"cert_role": said["role"], "certificate": certificate_of(path)}
    return {**row, "findings": findings_of(kit_id, row["certificate"])}


def certificate_of(folder: Path) -> dict[str, Any]:
    """Where a kit's certificate is, and how long it lasts."""
    from flpoc.provision.identity import SOON_DAYS, identity_of
    from flpoc.provision.kit_settings import STARTUP, STEM, find_kit

    path = find_kit(folder)[0] / STARTUP / f"{STEM['user']}.crt"
    found: dict[str, Any] = {"path": str(path), "expires_at": None, "days_remaining": None, "status": "unreadable"}
    try:
        ends = identity_of(path.read_bytes()).not_after
    except (OSError, FlpocError):
        return found
    left = (ends - datetime.datetime.now(datetime.UTC)).total_seconds()
    status = "expired" if left < 0 else "expiring_soon" if left <= SOON_DAYS * 86400 else "ok"
    return {
        "path": str(path),
        "expires_at": f"{ends.astimezone(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}",
        "days_remaining": int(left // 86400),
        "status": status,
    }


def findings_of(kit_id: str, certificate: dict[str, Any]) -> list[dict[str, str]]:
    """What a user should know about a kit's certificate."""
    ends = certificate["expires_at"]
    messages = {
        "expired": ("STARTUP_KIT_CERT_EXPIRED", "error", f"its certificate expired at {ends}"),
        "expiring_soon": ("STARTUP_KIT_CERT_EXPIRING_SOON", "warning", f"its certificate ends at {ends}"),
        "unreadable": ("STARTUP_KIT_CERT_UNREADABLE", "warning", f"{certificate['path']} cannot be read"),
    }
    if certificate["status"] not in messages:
        return []
    code, severity, message = messages[certificate["status"]]
    return [_finding(code, severity, kit_id, message)]


def _finding(code: str, severity: str, kit_id: str, message: str) -> dict[str, str]:
    return {"code": code, "severity": severity, "message": f"{kit_id}: {message}"}
