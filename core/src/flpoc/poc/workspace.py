"""The workspace of a proof of concept: one folder with everything in it.

    project.yml                      the project that was prepared
    data/                            for the sites' data
    <project>/prod_NN/<participant>/ the startup kits
    <project>/ca/                    the project's authority
    state/<participant>/             what a server or site keeps
    state/poc/handles/               where the running services are found again

A marker file says which entries flpoc made, so that nothing else is ever
removed, and a lock lets one command at a time change things.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from flpoc.configuration import DEFAULT_WORKSPACE, WORKSPACE_VARIABLE
from flpoc.errors import ConfigError, UsageError
from flpoc.provisioning import Participant, Project

if TYPE_CHECKING:
    from flpoc.configuration import Configuration

PROJECT_FILE: Final = "project.yml"
MARKER: Final = ".flpoc-poc.json"
LOCK: Final = ".flpoc-poc.lock"
DATA: Final = "data"
STATE: Final = "state"
#: Under which name, and in which study, jobs are granted the data folder.
POC_DATA: Final = "poc"
DEFAULT_STUDY: Final = "default"
#: In the folder of states: what commands keep there themselves.
OWN_STATE: Final = "poc"
FORMAT: Final = 1
#: Folders with these beginnings are being made or removed; what is in them can always be deleted.
NEW, OLD = ".flpoc-new-", ".flpoc-old-"

PREPARE: Final = "`flpoc poc prepare` makes one; `flpoc poc config` shows which workspace is used"


@attrs.frozen
class Marker:
    """What the marker file says.

    Attributes:
        entries: Names of what flpoc made in the workspace.
        launcher_settings: Settings of the project's launcher.
    """

    entries: tuple[str, ...] = ()
    launcher_settings: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class Workspace:
    """A prepared workspace.

    Attributes:
        folder: Where it is, absolute.
        project: What was prepared.
        prod: The newest folder of startup kits.
        marker: What was made, and how services are launched.
    """

    folder: Path
    project: Project
    prod: Path
    marker: Marker

    @property
    def state(self) -> Path:
        return self.folder / STATE

    @property
    def services(self) -> tuple[Participant, ...]:
        """Who has a process: the server first, then the sites."""
        return (self.project.server, *self.project.sites)

    def kit(self, name: str) -> Path:
        return self.prod / name

    @property
    def admin_kit(self) -> Path | None:
        """The kit that commands of this package use; None in a project without users."""
        users = sorted(self.project.users, key=lambda user: user.role != "project_admin")
        return self.kit(users[0].name) if users else None

    @property
    def address(self) -> str:
        """Where users and sites find the server, ``host:port``."""
        from flpoc.provision.names import join_address, split_address

        server = self.project.server
        host, port = split_address(server.connect_to or server.name, self.project.port, "connect_to")
        return join_address(host, port)


def is_workspace(folder: Path) -> bool:
    """Whether `flpoc poc prepare` made this folder."""
    return os.path.isfile(folder / MARKER)  # noqa: PTH113 - unlike pathlib's, false where we may not look


def workspace_of(kit: Path) -> Path | None:
    """The workspace that a kit lies in; None if it is in none."""
    return next((one for one in kit.parents if is_workspace(one)), None)


def open_workspace(folder: Path) -> Workspace:
    """Read a prepared workspace.

    Raises:
        UsageError: Nothing is prepared there, or it was damaged since.
    """
    from flpoc.provision.building import latest_prod
    from flpoc.provision.project_file import read_project

    folder = folder.resolve()
    if not is_workspace(folder):
        raise UsageError(f"{folder} is not a POC workspace: {PROJECT_FILE} is missing", hint=PREPARE)
    try:
        marker = read_marker(folder)
        project, _ = read_project(folder / PROJECT_FILE)
    except ConfigError as error:
        raise UsageError(error.message, hint="`flpoc poc prepare --force` makes the workspace anew") from None
    prod = latest_prod(folder / project.name)
    if prod is None:
        raise UsageError(
            f"{folder / project.name}: the startup kits are missing",
            hint="`flpoc poc prepare --force` makes the workspace anew",
        )
    return Workspace(folder, project, prod, marker)


def user_kit(folder: Path, name: str) -> Path | None:
    """The kit of the user *name* in the workspace; None if nobody has this name, or it is no user's.

    Raises:
        UsageError: Nothing is prepared there, or it was damaged since.
    """
    workspace = open_workspace(folder)
    return workspace.kit(name) if any(user.name == name for user in workspace.project.users) else None


def read_marker(folder: Path) -> Marker:
    """Read the marker of a workspace.

    Raises:
        ConfigError: It cannot be read, or another version of flpoc wrote it.
    """
    path = folder / MARKER
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != FORMAT:
            raise ConfigError(f"{path}: format {found['format']!r}, wanted is {FORMAT}")
        entries = tuple(str(name) for name in found["entries"] if Path(str(name)).name == name)
        return Marker(entries, dict(found["launcher_settings"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} cannot be read: {type(error).__name__}: {error}") from None


def write_marker(folder: Path, marker: Marker) -> None:
    """Write the marker, all of it or nothing."""
    document = {
        "format": FORMAT,
        "entries": sorted(marker.entries),
        "launcher_settings": dict(marker.launcher_settings),
    }
    part = folder / f"{NEW}{secrets.token_hex(4)}.json"
    part.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    part.replace(folder / MARKER)


def foreign_entries(folder: Path, marker: Marker | None) -> list[str]:
    """Name what is in the folder and was not made by flpoc."""
    entries = marker.entries if marker else ()
    own = {MARKER, LOCK, *entries, *(unfinished(folder, marker) if marker else ())}
    return sorted(one.name for one in folder.iterdir() if one.name not in own and not one.name.startswith((NEW, OLD)))


def unfinished(folder: Path, marker: Marker) -> list[str]:
    """Name what was being written beside an entry when a command was killed: ``.project.yml.x``, ``.PROJECT.new-x``."""
    beside = tuple(f".{entry}." for entry in marker.entries)
    return [one.name for one in folder.iterdir() if one.name.startswith(beside)]


def make_workspace_folder(folder: Path) -> Path:
    """Make the folder of a workspace, for its owner only.

    Raises:
        UsageError: It belongs to somebody else, is no folder, or cannot be made; or its name is no text.
    """
    if any("\ud800" <= letter <= "\udfff" for letter in str(folder.absolute())):  # bytes that are no letters
        raise UsageError(f"{folder}: the path of the workspace is not UTF-8", hint="choose a folder with another name")
    try:
        if _is_default(folder):
            _make_private(DEFAULT_WORKSPACE.parent)
        folder.parent.mkdir(parents=True, exist_ok=True)
        return _make_private(folder.resolve())
    except OSError as error:
        raise UsageError(
            f"{folder}: the workspace cannot be made: {error.strerror or error}",
            hint=f"choose another with `flpoc poc config -pw DIR`, or the variable {WORKSPACE_VARIABLE}",
        ) from None


def _is_default(folder: Path) -> bool:
    """Whether it lies in the default place: in a folder that everybody can write to, where another may come first."""
    return folder.is_relative_to(DEFAULT_WORKSPACE.parent)


def _make_private(folder: Path) -> Path:
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    check_owner(folder)
    if stat.S_IMODE(folder.lstat().st_mode) & 0o077:
        folder.chmod(0o700)
    return folder


def check_owner(folder: Path) -> None:
    """Refuse a folder that belongs to another user, or is a link or a file.

    Raises:
        UsageError: It is so.
    """
    found = folder.lstat()
    hint = f"choose another workspace with `flpoc poc config -pw DIR`, or the variable {WORKSPACE_VARIABLE}"
    if not stat.S_ISDIR(found.st_mode):
        raise UsageError(f"{folder} is not a folder", hint=hint)
    if found.st_uid != os.geteuid():
        raise UsageError(f"{folder} belongs to user {found.st_uid}, you are user {os.geteuid()}", hint=hint)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Let no other command change this workspace meanwhile; gives the descriptor of the lock.

    Raises:
        UsageError: The workspace is not there, or was removed while this waited.
    """
    handle = _open_lock(folder)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not _is_at(handle, folder / LOCK):
            raise UsageError(f"{folder} was removed by another command", hint=PREPARE)
        yield handle
    finally:
        os.close(handle)


def _open_lock(folder: Path) -> int:
    try:
        if _is_default(folder):
            check_owner(DEFAULT_WORKSPACE.parent)
        check_owner(folder)
        return os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError:
        raise UsageError(f"{folder} is not a POC workspace: there is no such folder", hint=PREPARE) from None
    except OSError as error:
        raise UsageError(f"{folder / LOCK} cannot be opened: {error.strerror or error}", hint=PREPARE) from None


def _is_at(handle: int, path: Path) -> bool:
    try:
        there = path.stat()
    except OSError:
        return False
    mine = os.fstat(handle)
    return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)


def other_ports(configuration: Configuration, folder: Path) -> dict[int, Path]:
    """Say which ports belong to the other proofs of concept of this user, by their registered kits."""
    from flpoc.errors import FlpocError
    from flpoc.provision.kits import read_user_kit

    found: dict[int, Path] = {}
    seen: set[Path] = set()
    for text in configuration.kits.values():
        kit = Path(text)
        home = workspace_of(kit)
        if home is None or home in seen or home.resolve() == folder:
            continue
        seen.add(home)
        with contextlib.suppress(FlpocError):  # a kit that cannot be read has no port to respect
            found[read_user_kit(kit).settings.server_port] = home
    return found


def set_aside_of(folder: Path) -> list[Path]:
    """What commands set aside of this workspace, in it or beside it, and had no time to delete."""
    found = [one for one in folder.iterdir() if one.name.startswith((NEW, OLD))] if folder.is_dir() else []
    if folder.parent.is_dir():
        found += folder.parent.glob(f"{OLD}{glob.escape(folder.name)}-*")
    return found


def remove_set_aside(folder: Path) -> None:
    """Delete what commands set aside of this workspace."""
    for one in set_aside_of(folder):
        delete(one)


def delete(path: Path) -> None:
    """Delete a file or folder, also one with folders that cannot be written to.

    Raises:
        OSError: Something in it cannot be deleted.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, onerror=_insist)
    else:
        path.unlink(missing_ok=True)


def _insist(function: Callable[..., Any], path: str, error: Sequence[Any]) -> None:
    if isinstance(error[1], FileNotFoundError):
        return
    Path(path).parent.chmod(0o700)
    if function in (os.scandir, os.open, os.rmdir, os.lstat) and Path(path).is_dir():
        Path(path).chmod(0o700)
        shutil.rmtree(path)
    else:
        Path(path).unlink(missing_ok=True)
