"""Making kits: keys, certificates, settings and signed manifests, all at once or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import attrs

from flpoc.errors import ConfigError, KitError, PluginError, ResourceError, did_you_mean
from flpoc.provision import kit_settings as layout
from flpoc.provision.files import make_folder, remove_tree, write_new
from flpoc.provision.kit_files import local_files, manifest_of, seal, startup_files, write_files, write_key
from flpoc.provision.project_rules import check_project
from flpoc.provisioning import Authority, CertificateRequest, KitFile, Participant, Project

if TYPE_CHECKING:
    from flpoc.plugins import Plugins

CA = "ca"
_PROD = "prod_"


def provision(
    project: Project, folder: Path, *, plugins: Plugins | None = None, only: Collection[str] | None = None
) -> Path:
    """Make the kits of a project, in a new ``<folder>/<project>/prod_NN``.

    The authority is made the first time, in ``<folder>/<project>/ca``, and
    used from then on. Either the whole of it is there in the end, or nothing.

    Args:
        project: Whom to make kits for.
        folder: Where projects are kept.
        plugins: What may choose the authority and add files to kits.
        only: Names of the participants to make kits for; all, if not given.

    Returns:
        The folder ``prod_NN``, with one folder for each participant.

    Raises:
        ConfigError: The project is wrong.
        PluginError: A plugin's file does not fit, or its authority is missing.
        KitError: The authority of the project cannot be used.
    """
    check_project(project)
    chosen = _chosen(project, only)
    with staging_in(folder, project.name) as (home, staging):
        made = _build(_Job(project, authority_of(project, plugins), staging / CA), home, staging, chosen, plugins)
        return _publish(home, staging, made)


def add_kits(
    project: Project, folder: Path, names: Collection[str], *, plugins: Plugins | None = None, replace: bool = False
) -> dict[str, Path]:
    """Make the kits of some participants and put them beside the others, in the newest ``prod_NN``.

    Args:
        project: The project with them in it.
        folder: Where projects are kept.
        names: Whose kits to make.
        plugins: What may choose the authority and add files to kits.
        replace: Whether kits of these names that are there give way.

    Returns:
        The folder of each new kit.

    Raises:
        KitError: The project was never provisioned here, or a kit is there and *replace* is false.
    """
    check_project(project)
    chosen = _chosen(project, names)
    with staging_in(folder, project.name) as (home, staging):
        prod = latest_prod(home)
        if prod is None:
            raise KitError(f"{home}: nothing is provisioned here", hint="provision the whole project first")
        for one in chosen:
            if (prod / one.name).exists() and not replace:
                raise KitError(f"{prod / one.name} exists", hint="--force replaces it")
        made = _build(_Job(project, authority_of(project, plugins), staging / CA), home, staging, chosen, plugins)
        return {one.name: put_in(made / one.name, prod / one.name, staging) for one in chosen}


def latest_prod(home: Path) -> Path | None:
    """Give the newest ``prod_NN`` in the folder of a project; None if nothing was provisioned."""
    numbered = [(number, path) for path in home.glob(f"{_PROD}*") if (number := _number(path)) is not None]
    return max(numbered)[1] if numbered else None


@attrs.frozen
class _Job:
    """What all kits of one provisioning share."""

    project: Project
    authority: Authority
    ca: Path


def _chosen(project: Project, only: Collection[str] | None) -> tuple[Participant, ...]:
    if only is None:
        return project.participants
    known = {one.name for one in project.participants}
    for name in only:
        if name not in known:
            raise ConfigError(f"{name!r} is no participant of {project.name!r}", hint=did_you_mean(name, known))
    return tuple(one for one in project.participants if one.name in only)


def authority_of(project: Project, plugins: Plugins | None) -> Authority:
    """The authority that a project names.

    Raises:
        PluginError: It is not installed.
    """
    if plugins is not None:
        found: Authority = plugins.create("authorities", project.authority)
        return found
    if project.authority != "local-ca":
        raise PluginError(f"no authority {project.authority!r} without plugins", hint="'local-ca' is built in")
    from flpoc.provision.authority import LocalAuthority

    return LocalAuthority()


@contextlib.contextmanager
def staging_in(folder: Path, project: str) -> Iterator[tuple[Path, Path]]:
    """Hold the folder alone, and give the project's folder and one to build in, which is gone afterwards.

    Raises:
        ConfigError: It cannot be written to.
        ResourceError: The disk is full.
    """
    is_new = not folder.exists()
    prefix = f".{project}.new-"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _alone_in(folder):
            for left_over in folder.glob(f"{prefix}*"):  # of a provisioning that was killed: none other can be running
                remove_tree(left_over)
            staging = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))
            try:
                yield folder / project, staging
            finally:
                remove_tree(staging)
                if is_new and not any(folder.iterdir()):
                    folder.rmdir()
    except OSError as error:
        text = f"{error.filename or folder}: kits cannot be made: {error.strerror or error}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceError(text, hint="nothing was kept; make room and provision again") from error
        raise ConfigError(text, hint="nothing was kept") from error


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other process provisions into *folder*, and keep it so."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _build(job: _Job, home: Path, staging: Path, chosen: tuple[Participant, ...], plugins: Plugins | None) -> Path:
    """Make authority and kits in *staging*; returns the folder with the kits."""
    if (home / CA).exists():
        job = attrs.evolve(job, ca=home / CA)
    elif latest_prod(home) is not None:
        raise KitError(
            f"{home / CA} is missing: new kits would not fit those made before",
            hint="restore it from a backup, or provision into another folder",
        )
    job.authority.create(job.ca, job.project.name)
    root = job.authority.root(job.ca)
    added = _plugin_files(job.project, plugins)
    made = make_folder(staging / "kits")
    for one in chosen:
        _write_kit(job, one, made / one.name, root, [file for file in added if file.participant == one.name])
    return made


def _publish(home: Path, staging: Path, made: Path) -> Path:
    """Move what was made to where it belongs: authority first, since kits without one are of no use."""
    home.mkdir(mode=0o700, exist_ok=True)
    if (staging / CA).exists():
        (staging / CA).rename(home / CA)
    newest = latest_prod(home)
    number = 0 if newest is None else (_number(newest) or 0) + 1
    target = home / f"{_PROD}{number:02d}"
    made.rename(target)
    return target


def put_in(kit: Path, target: Path, staging: Path) -> Path:
    """Put a kit in its place; of an older one only startup/ is replaced: the rest belongs to its owner."""
    if not target.exists():
        kit.rename(target)
        return target
    kind, older = layout.find_kit(kit)[1], layout.find_kit(target)[1]
    if kind != older:
        raise KitError(f"{target} is the kit of a {older}, not of a {kind}", hint="choose another name")
    aside = staging / f"old-{target.name}"
    (target / layout.STARTUP).rename(aside)
    try:
        (kit / layout.STARTUP).rename(target / layout.STARTUP)
    except OSError:
        aside.rename(target / layout.STARTUP)
        raise
    return target


def _number(path: Path) -> int | None:
    digits = path.name.removeprefix(_PROD)
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 6 and path.is_dir() else None


def _write_kit(job: _Job, one: Participant, kit: Path, root: bytes, added: list[KitFile]) -> None:
    from flpoc.provision.authority import new_key

    private, public = new_key()
    certificate = job.authority.issue(job.ca, CertificateRequest(job.project.name, one, public))
    startup = startup_files(job.project, one, root, certificate)
    write_files(kit, startup, local_files(job.project, one))
    write_key(kit, one.kind, private)
    for file in added:
        _add(kit, file, startup)
    manifest = manifest_of(job.project.name, one.name, startup)
    seal(kit, manifest, job.authority.sign(job.ca, manifest))


def _plugin_files(project: Project, plugins: Plugins | None) -> list[KitFile]:
    """Ask plugins for files; one that fails stops the provisioning, for its file might protect something."""
    if plugins is None:
        return []
    answers = plugins.contributions("kit_files", project=project)
    for record in plugins.records:
        if record.reason.startswith("flpoc_kit_files:"):
            raise PluginError(
                f"{record.name}: its files for kits could not be made: {record.reason.partition(': ')[2]}",
                code="PLUGIN_BROKEN",
                hint=f"see `flpoc plugins show {record.name}`; `flpoc plugins disable {record.name}` switches it off",
            )
    known = {one.name for one in project.participants}
    for record, file in answers:
        if problem := _file_problem(file, known):
            raise PluginError(f"{record.name}: a file for a kit cannot be used: {problem}", code="PLUGIN_BROKEN")
    return [file for _, file in answers]


def _file_problem(file: Any, known: set[str]) -> str:
    if not isinstance(file, KitFile):
        return f"{type(file).__name__} is not a KitFile"
    if file.participant not in known:
        return f"there is no participant {file.participant!r}"
    path = PurePosixPath(file.path)
    parts = path.parts
    if len(parts) < 2 or parts[0] not in (layout.STARTUP, layout.LOCAL) or ".." in parts or str(path) != file.path:
        return f"{file.path!r} is not below startup/ or local/"
    if "\0" in file.path or "\\" in file.path:
        return f"{file.path!r} is not a path"
    if parts[1] in (layout.MANIFEST, layout.SIGNATURE):
        return f"{file.path!r} is written by flpoc itself"
    return ""


def _add(kit: Path, file: KitFile, startup: dict[str, bytes]) -> None:
    path = kit / file.path
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_new(path, file.content, secret=file.secret)
    except (FileExistsError, NotADirectoryError):
        raise PluginError(
            f"two files of the name {file.path!r} for the kit of {file.participant!r}", code="PLUGIN_CONFLICT"
        ) from None
    top, _, rest = file.path.partition("/")
    if top == layout.STARTUP:
        startup[rest] = file.content
