"""What a Python interpreter is made of: the folders without which it cannot start or import."""

from __future__ import annotations

import ast
import os
import site
import sys
from collections.abc import Iterator
from pathlib import Path

_PACKAGES = ("site-packages", "dist-packages")
#: Of a prefix that also is somebody's home: what belongs to the interpreter.
_PARTS = ("bin", "lib", "lib64", "pyvenv.cfg")


def folders_of(program: Path) -> Iterator[Path]:
    """Files and folders of an interpreter, or of a program that was installed beside one.

    The program's own files decide, not this process: a job may run in another
    environment than its agent.
    """
    yield program
    for prefix in dict.fromkeys(_prefixes(program)):
        packages = list(_package_folders(prefix))
        if packages or (prefix / "pyvenv.cfg").exists():
            yield from _of_prefix(prefix)
        for folder in packages:
            yield from _linked_from(folder)
    if program.parent == Path(sys.executable).parent:  # what this process imports from, however it came to be
        for folder in map(Path, sys.path):
            if folder.name in _PACKAGES:
                yield folder
                yield from _linked_from(folder)
    if site.ENABLE_USER_SITE:
        yield from _of_prefix(Path(site.getuserbase()))
        yield from _linked_from(Path(site.getusersitepackages()))


def _package_folders(prefix: Path) -> Iterator[Path]:
    for library in ("lib", "lib64"):
        for name in _names(prefix / library):
            if name.startswith("python3"):
                for kind in _PACKAGES:
                    if (folder := prefix / library / name / kind).is_dir():
                        yield folder


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - names only
    except OSError:
        return []


def _prefixes(program: Path) -> Iterator[Path]:
    """The environment that the program is in, and the installation that it was made from."""
    environment = program.parent.parent
    yield environment
    try:
        lines = (environment / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    for line in lines:
        key, _, value = line.partition("=")
        if key.strip() == "home" and value.strip():
            base = Path(value.strip())
            yield base.parent
            if (python := base / "python3").exists():
                yield python.resolve().parent.parent
    if program.exists():
        yield program.resolve().parent.parent


def _of_prefix(prefix: Path) -> Iterator[Path]:
    """All of it; only the interpreter's own parts where other things of a person may be."""
    user_base = Path(site.getuserbase())
    homes = (Path(os.path.expanduser("~")), user_base)  # noqa: PTH111 - pathlib's raises where there is no home
    if prefix == prefix.parent or any(home.is_relative_to(prefix) for home in homes):
        yield from (prefix / part for part in _PARTS)
    else:
        yield prefix


def _linked_from(packages: Path) -> Iterator[Path]:
    """Folders elsewhere that a folder of packages imports from: editable installs and the like."""
    for name in _names(packages):
        if name.endswith(".pth"):
            lines = map(str.strip, _text(packages / name).splitlines())
            yield from (packages / line for line in lines if line and not line.startswith(("import ", "import\t", "#")))
        elif name.startswith("__editable__") and name.endswith("_finder.py"):
            yield from map(Path, _mapping(_text(packages / name)))


def _mapping(code: str) -> list[str]:
    """The folders in the ``MAPPING`` of a finder that setuptools writes for an editable install."""
    try:
        for node in ast.parse(code).body:
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            if isinstance(target, ast.Name) and target.id == "MAPPING":
                found = ast.literal_eval(node.value)  # type: ignore[attr-defined]
                return [value for value in found.values() if isinstance(value, str)]
    except (SyntaxError, ValueError, AttributeError):
        return []
    return []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
