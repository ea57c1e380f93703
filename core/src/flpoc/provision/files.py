"""Files of kits: written once, for their owner only, and read without following links."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from flpoc.errors import KitError

#: No file of a kit is larger, encryption contexts of plugins included.
MAX_KIT_FILE_BYTES = 256 << 20


def make_folder(path: Path) -> Path:
    """Make a folder that only its owner can look into."""
    path.mkdir(mode=0o700, parents=True)
    return path


def write_new(
    path: Path, content: bytes, *, secret: bool = False, program: bool = False, durable: bool = False
) -> None:
    """Write a file that must not exist yet.

    Args:
        path: Where.
        content: What.
        secret: Only the owner may read it, from its first byte on.
        program: It can be executed.
        durable: It survives a power failure once this returns.
    """
    mode = 0o600 if secret else 0o755 if program else 0o644
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())


def read_guarded(path: Path) -> bytes:
    """Read a file of a kit; never through a symbolic link, never from a pipe.

    Raises:
        KitError: It is missing, a link, no regular file, too large, or cannot be read.
    """
    return _read(path, secret=False)


def read_secret(path: Path) -> bytes:
    """Read a private key; only one that nobody but its owner can read.

    Raises:
        KitError: As for any file; or others can read it, or it belongs to somebody else.
    """
    return _read(path, secret=True)


def _read(path: Path, *, secret: bool) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise KitError(f"{path} is missing", hint="copy the whole kit again, or provision it anew") from None
    except OSError as error:
        if path.is_symlink():
            raise KitError(f"{path} is a symbolic link", hint="put the file itself there") from None
        raise KitError(f"{path} cannot be read: {error.strerror or error}") from None
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        os.close(handle)
        raise KitError(f"{path} is not a regular file")
    with os.fdopen(handle, "rb") as file:
        if found.st_size > MAX_KIT_FILE_BYTES:
            raise KitError(f"{path} is larger than {MAX_KIT_FILE_BYTES} bytes")
        if secret:
            _check_private(found, path)
        return file.read()


def _check_private(found: os.stat_result, path: Path) -> None:
    if found.st_uid != os.geteuid():
        raise KitError(
            f"{path} belongs to user {found.st_uid}, this process runs as user {os.geteuid()}",
            hint=f"run as that user, or chown {os.geteuid()} {path}",
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise KitError(
            f"{path} can be read by others (mode {stat.S_IMODE(found.st_mode):04o})", hint=f"chmod 600 {path}"
        )


def files_below(folder: Path) -> list[str]:
    """List all files below *folder*, relative, sorted.

    Raises:
        KitError: Something there is a symbolic link, or neither file nor folder.
    """
    found: list[str] = []
    try:
        _collect(folder, "", found)
    except OSError as error:
        raise KitError(f"{error.filename or folder}: {error.strerror or error}") from None
    return sorted(found)


def _collect(folder: Path, prefix: str, found: list[str]) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            name = f"{prefix}{entry.name}"
            if entry.is_symlink():
                raise KitError(f"{folder / entry.name} is a symbolic link", hint="put the file itself there")
            if entry.is_dir(follow_symlinks=False):
                _collect(folder / entry.name, f"{name}/", found)
            elif entry.is_file(follow_symlinks=False):
                found.append(name)
            else:
                raise KitError(f"{folder / entry.name} is neither a file nor a folder")


def remove_tree(folder: Path) -> None:
    """Remove a folder with all that is in it; one that is gone already is fine."""
    if folder.exists():
        import shutil

        shutil.rmtree(folder)
