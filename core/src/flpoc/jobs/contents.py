"""What of a job folder is sent: the files below ``code/``."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from flpoc.errors import IntegrityError, ResourceError, UsageError
from flpoc.jobs.archive import pack
from flpoc.jobs.paths import FileEntry, Limits, check_paths
from flpoc.models.checksums import opened, refusals, sha256_file

CODE = "code"

_NOT_SENT = ("__pycache__", ".git", ".venv", ".env")
_SECRET_SUFFIXES = (".key", ".pem")


def collect_files(folder: Path, *, limits: Limits | None = None) -> tuple[tuple[FileEntry, ...], tuple[str, ...]]:
    """List the files below ``code/`` with size and SHA-256, sorted by path.

    Returns:
        The files, and a line for people for what is left out.

    Raises:
        UsageError: There is a link, a device or a private key, or no ``code/``.
        IntegrityError: A name cannot be used on every system, or a file changes all the time.
        ResourceError: There is more than a job may have; names the limit.
    """
    limits = limits or Limits()
    found, left_out = list_files(folder / CODE, limits)
    paths = [f"{CODE}/{path}" for path in found]
    check_paths(paths, limits)
    notices = (f"not sent: {', '.join(f'{CODE}/{path}' for path in left_out)}",) if left_out else ()
    return tuple(_entry(folder, path) for path in paths), notices


def list_files(code: Path, limits: Limits) -> tuple[list[str], list[str]]:
    """List what of a folder belongs to a job's code, and what is left out; both sorted, relative.

    Raises:
        UsageError: There is a link, a device or a private key, or no such folder.
        ResourceError: There is more than a job may have; names the limit.
    """
    if code.is_symlink() or not code.is_dir():
        raise UsageError(f"{code}: {'a link' if code.is_symlink() else 'no such folder'}", hint="put the scripts there")
    left_out: list[str] = []
    found: list[str] = []
    total = 0
    with refusals(code):
        for entry in _walk(code, left_out):
            found.append(Path(entry.path).relative_to(code).as_posix())
            total += entry.stat(follow_symlinks=False).st_size
            if len(found) > limits.files:
                raise ResourceError(f"{code}: more than {limits.files} files", hint="leave out what is not needed")
            if total > limits.total:
                raise ResourceError(
                    f"{code}: more than {limits.total} bytes",
                    hint="data belongs to the sites; start from a model with initial_model",
                )
    return sorted(found), sorted(left_out)


def collect_and_pack(folder: Path, target: Path) -> tuple[tuple[FileEntry, ...], tuple[str, ...]]:
    """List and pack the files below ``code/``; once more if one changes meanwhile.

    Raises:
        IntegrityError: Files change all the time.
    """
    try:
        files, notices = collect_files(folder)
        pack(folder, files, target)
    except IntegrityError:
        files, notices = collect_files(folder)
        pack(folder, files, target)
    return files, notices


def _walk(folder: Path, left_out: list[str]) -> Iterator[os.DirEntry[str]]:
    """All regular files below *folder*; what is none is refused, what nobody needs is left out."""
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.name in _NOT_SENT or entry.name.endswith(".pyc"):
                    left_out.append(Path(entry.path).relative_to(folder).as_posix())
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    _refuse_secret(entry)
                    yield entry
                else:
                    what = _kind(entry.stat(follow_symlinks=False).st_mode)
                    raise UsageError(f"{entry.path}: {what} cannot be sent", hint="replace it by the file itself")


def _kind(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "a link"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a pipe" if stat.S_ISFIFO(mode) else "a device"


def _refuse_secret(entry: os.DirEntry[str]) -> None:
    if not entry.name.lower().endswith(_SECRET_SUFFIXES):
        return
    with opened(entry.path) as fd:
        if b"PRIVATE KEY-----" in os.pread(fd, 1 << 16, 0):
            raise UsageError(f"{entry.path}: a private key is not sent", hint="move it out of the job folder")


def _entry(folder: Path, path: str) -> FileEntry:
    """Size and SHA-256 of a file that holds still; one change is forgiven."""
    for _ in range(2):
        with opened(folder / path) as fd:
            before = os.fstat(fd)
            sha256 = sha256_file(fd)
            after = os.fstat(fd)
        if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
            return FileEntry(path, after.st_size, sha256)
    raise IntegrityError(f"{path}: changes while it is read", hint="submit again when nothing writes there")
