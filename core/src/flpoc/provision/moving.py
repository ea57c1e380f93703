"""Giving the server of kits that are made another port; keys, certificates and ``local/`` stay as they are."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from flpoc.errors import KitError
from flpoc.provision import kit_settings as layout
from flpoc.provision.building import CA, authority_of, staging_in
from flpoc.provision.files import files_below, read_guarded, write_new
from flpoc.provision.kit_files import as_json, manifest_of
from flpoc.provisioning import Project

if TYPE_CHECKING:
    from flpoc.plugins import Plugins


def move_kits(project: Project, folder: Path, prod: Path, *, plugins: Plugins | None = None) -> None:
    """Write the port of *project* into all kits of its participants, and have the authority sign them again.

    A kit whose files are not those that it was made with is refused before
    any is changed. After a kill in between, the same call does the rest.

    Args:
        project: The project with its new port.
        folder: Where projects are kept.
        prod: The folder with the kits.
        plugins: What may choose the authority.

    Raises:
        KitError: A kit is not as it was made, or the authority cannot be used.
        ConfigError: They cannot be written to.
    """
    authority, ca = authority_of(project, plugins), folder / project.name / CA
    with staging_in(folder, project.name) as (_, staging):
        ready: list[tuple[Path, Path]] = []
        for one in project.participants:
            startup = prod / one.name / layout.STARTUP
            name = layout.SETTINGS_FILE[one.kind]
            files = _files(startup, {name, layout.MANIFEST, layout.SIGNATURE, f"{layout.STEM[one.kind]}.key"})
            before = layout.parse_settings(read_guarded(startup / name), startup / name)
            after = attrs.evolve(before, server_port=layout.settings_of(project, one).server_port)
            files[name] = as_json(layout.settings_document(after))
            manifest = manifest_of(project.name, one.name, files)
            changed = {
                name: files[name], layout.MANIFEST: manifest, layout.SIGNATURE: authority.sign(ca, manifest),
            }  # fmt: skip
            for file, content in changed.items():
                write_new(staging / f"{one.name}.{file}", content)
                ready.append((staging / f"{one.name}.{file}", startup / file))
        for new, place in ready:
            new.replace(place)


def _files(startup: Path, besides: Collection[str]) -> dict[str, bytes]:
    """What a kit's ``startup/`` holds *besides* these; each as the kit's manifest says."""
    from flpoc.settings import parse_json

    path = startup / layout.MANIFEST
    hashes = parse_json(read_guarded(path), str(path))["files"]
    files = {name: read_guarded(startup / name) for name in files_below(startup) if name not in besides}
    for name, content in files.items():
        if hashes.get(name) != hashlib.sha256(content).hexdigest():
            raise KitError(f"{startup / name} was changed after the kit was made", hint="copy the whole kit again")
    return files
