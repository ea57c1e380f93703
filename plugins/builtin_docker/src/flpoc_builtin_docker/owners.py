"""As whom a container runs, and that this user may use what it is given: never root, also where the caller is."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from flpoc.errors import LaunchError
from flpoc.launching import LaunchRequest
from flpoc_builtin_docker.settings import DockerSettings

#: Who runs in the containers of a caller who is root.
_INSTEAD_OF_ROOT = 10000


def user_of(settings: DockerSettings) -> str:
    """``UID:GID`` of what runs in a container: the caller's, or another where the caller is root."""
    if settings.user:
        return settings.user
    if os.getuid() == 0:
        return f"{_INSTEAD_OF_ROOT}:{_INSTEAD_OF_ROOT}"
    return f"{os.getuid()}:{os.getgid()}"


def hand_over(request: LaunchRequest, settings: DockerSettings) -> None:
    """Where the caller is root: give what root owns of the folders that a container changes to the container's user.

    Of a folder that the container sees elsewhere than it lies, which is a data set, only the folder itself.
    Folders that it only reads stay as they are.

    Raises:
        LaunchError: It could not read one of them, or one cannot be given.
    """
    if settings.user or os.getuid() != 0:
        return
    for one in request.mounts:
        if not one.writable and not _readable(Path(one.source)):
            raise LaunchError(
                f"{request.name}: {one.source} is root's alone, and containers run as user {_INSTEAD_OF_ROOT}",
                hint="start flpoc as a user of group docker, or in a container; or set `user` of the launcher",
            )
    owned = [request.workdir, *(one.source for one in request.mounts if one.writable and one.source == one.target)]
    data = [one.source for one in request.mounts if one.writable and one.source != one.target]
    try:
        for folder in owned:
            _give_all(folder)
        for folder in data:
            _give(folder)
    except OSError as error:
        raise LaunchError(
            f"{request.name}: {error.filename} cannot be given to user {_INSTEAD_OF_ROOT}: {error.strerror}",
            hint="start flpoc as a user of group docker, or choose a folder of this machine's own disks",
        ) from error


def _readable(path: Path) -> bool:
    try:
        found = path.stat()
    except OSError:
        return True  # the engine says what is wrong with it
    wanted = 0o005 if stat.S_ISDIR(found.st_mode) else 0o004
    return found.st_uid == _INSTEAD_OF_ROOT or found.st_mode & wanted == wanted


def _give_all(folder: str) -> None:
    """Without following links, and without leaving the file system."""
    device = Path(folder).stat().st_dev
    _give(folder)
    for _, folders, files, here in os.fwalk(folder):
        for name in files:
            _give(name, here)
        folders[:] = [name for name in folders if _device(name, here) == device]
        for name in folders:
            _give(name, here)


def _give(name: str, parent: int | None = None) -> None:
    try:
        if os.stat(name, dir_fd=parent, follow_symlinks=False).st_uid == 0:
            os.chown(name, _INSTEAD_OF_ROOT, _INSTEAD_OF_ROOT, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return  # whoever works in it has just removed it


def _device(name: str, parent: int) -> int:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False).st_dev
    except FileNotFoundError:
        return -1
