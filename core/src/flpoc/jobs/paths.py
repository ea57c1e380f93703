"""Names of files that mean the same single file everywhere, and how much of them there may be."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

import attrs

from flpoc.errors import IntegrityError, ResourceError

_BAD_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\\]")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])( *\.|\Z)", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:")


@attrs.frozen
class FileEntry:
    """A file of a job: path below the job folder, size in bytes, SHA-256 in hex."""

    path: str
    size: int
    sha256: str


@attrs.frozen
class Limits:
    """What a job's files may take.

    Attributes:
        files: How many there may be.
        total: Bytes of all together.
        depth: Folders and name in a path.
        path: Bytes of a path.
        name: Bytes of one name in it.
        ratio: How many times larger than its packed form a file may be.
        directory: Bytes of the archive's table of contents.
    """

    files: int = 10_000
    total: int = 1 << 30
    depth: int = 32
    path: int = 4096
    name: int = 255
    ratio: int = 100
    directory: int = 8 << 20


def check_paths(paths: Iterable[str], limits: Limits | None = None) -> None:
    """Refuse paths that do not mean the same single file everywhere.

    Raises:
        IntegrityError: A path leaves the folder, cannot be a name on some
            system, or means the same file as another.
        ResourceError: A path is too long or too deep, or there are too many.
    """
    limits = limits or Limits()
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for path in paths:
        _check_path(path, limits)
        key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
        if key in files:
            raise IntegrityError(f"{path!r} and {files[key]!r} are the same file on some systems", hint="rename one")
        files[key] = path
        parts = key.split("/")
        folders.update({"/".join(parts[:count]): path for count in range(1, len(parts))})
    if both := files.keys() & folders.keys():
        raise IntegrityError(f"{files[min(both)]!r} is both a file and a folder")
    if len(files) > limits.files:
        raise ResourceError(f"{len(files)} files; {limits.files} are allowed", hint="leave out what is not needed")


def _check_path(path: str, limits: Limits) -> None:
    shown = repr(path if len(path) <= 100 else path[:100] + "...")
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        raise IntegrityError(f"{shown} is not UTF-8", hint="rename it") from None
    parts = path.split("/")
    if size > limits.path or any(len(part.encode()) > limits.name for part in parts):
        most = f"a path may have {limits.path} bytes, a name {limits.name}"
        raise ResourceError(f"{shown} is too long: {most}", hint="shorten its names")
    if len(parts) > limits.depth:
        most = f"{limits.depth} are allowed"
        raise ResourceError(f"{shown} is {len(parts)} levels deep; {most}", hint="use fewer folders in each other")
    if any(part in ("", ".", "..") for part in parts) or _DRIVE.match(path):
        raise IntegrityError(f"{shown} is not a path below the folder", hint="name a file in it")
    if _BAD_CHARACTERS.search(path):
        raise IntegrityError(f"{shown} has control characters or a backslash", hint="rename it")
    if any(part[-1] in ". " or _RESERVED.match(part) for part in parts):
        raise IntegrityError(f"{shown} cannot be a file name on every system", hint="rename it")


def below_code(_: Any, attribute: Any, value: str) -> None:
    """A validator: the value is a path below ``code/``, or empty."""
    parts = value.split("/")
    if value and ("\0" in value or "\\" in value or "" in parts or "." in parts or ".." in parts):
        raise ValueError(f"{attribute.name}: {value[:80]!r} is not a path below code/")
