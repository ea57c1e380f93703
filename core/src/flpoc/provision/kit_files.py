"""The files of one kit: what they say, and how they get there.

Whoever issues a certificate can say what a kit is to hold without having its
private key: the same project, participant and certificate give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flpoc.provision import kit_settings as layout
from flpoc.provision import rights
from flpoc.provision.files import make_folder, write_new
from flpoc.provision.project_studies import REGISTRY, studies_document
from flpoc.provisioning import Kind, Participant, Project

_START = "start.sh"
_SCRIPT = """#!/bin/sh
# Starts this {kind}; any further words are handed on to it.
exec python3 -m flpoc.{module} "$(dirname "$0")/.." "$@"
"""


def startup_files(project: Project, one: Participant, root: bytes, certificate: bytes) -> dict[str, bytes]:
    """What ``startup/`` holds besides key, manifest and files of plugins."""
    settings = layout.settings_document(layout.settings_of(project, one))
    files = {
        layout.SETTINGS_FILE[one.kind]: as_json(settings),
        layout.ROOT: root,
        f"{layout.STEM[one.kind]}.crt": certificate,
    }
    if one.kind != "user":
        files[_START] = _SCRIPT.format(kind=one.kind, module=one.kind).encode()
    return files


def local_files(project: Project, one: Participant) -> dict[str, bytes]:
    """What ``local/`` holds until its owner changes it."""
    if one.kind == "user":
        return {}
    # written out, so that the owner sees what holds and can change it
    files = {rights.AUTHORIZATION: as_json({"format": layout.FORMAT, "permissions": rights.DEFAULT})}
    if one.kind == "server" and project.studies:
        files[REGISTRY] = as_json({"format": layout.FORMAT, "studies": studies_document(project.studies)})
    if one.kind == "site":
        files[layout.POLICY] = as_json(layout.default_policy(project.launcher))
    if one.kind == "server":
        files[layout.POLICY] = as_json(layout.default_server_policy())
    return files


def manifest_of(project: str, name: str, files: Mapping[str, bytes]) -> bytes:
    """The manifest of ``startup/``, for the authority to sign.

    The private key is not in it: it is checked against the certificate, and
    so a kit can be vouched for by somebody who has never seen its key.
    """
    return as_json(
        {
            "format": layout.FORMAT,
            "project": project,
            "participant": name,
            "files": {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())},
        }
    )


def write_files(kit: Path, startup: Mapping[str, bytes], local: Mapping[str, bytes]) -> None:
    """Make the folders of a kit, and its files but for those of :func:`write_key` and :func:`seal`."""
    for folder in (kit, *(kit / name for name in (layout.STARTUP, layout.LOCAL, layout.TRANSFER))):
        make_folder(folder)
    for name, content in startup.items():
        write_new(kit / layout.STARTUP / name, content, program=name == _START)
    for name, content in local.items():
        write_new(kit / layout.LOCAL / name, content)


def write_key(kit: Path, kind: Kind, key: bytes) -> None:
    """Write the owner's private key into a kit."""
    write_new(kit / layout.STARTUP / f"{layout.STEM[kind]}.key", key, secret=True)


def seal(kit: Path, manifest: bytes, signature: bytes) -> None:
    """Write the manifest of a kit, signed by the authority: nothing in ``startup/`` can be changed from now on."""
    write_new(kit / layout.STARTUP / layout.MANIFEST, manifest)
    write_new(kit / layout.STARTUP / layout.SIGNATURE, signature)


def as_json(data: Mapping[str, Any]) -> bytes:
    """JSON as kits have it: for people to read, and the same each time."""
    return json.dumps(data, indent=2, ensure_ascii=False).encode() + b"\n"
