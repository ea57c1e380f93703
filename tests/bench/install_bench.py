"""What an installation is made of: packages, megabytes, seconds."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from figures import Figure
from place import Bench, Measurement, Place, place, seconds_of

ROOT = Path(__file__).resolve().parents[2]
#: Distributions that a fresh environment has before anything is installed.
_BEFORE = ("pip", "setuptools", "wheel")
INSTALL_SECONDS = 600.0


def install(bench: Bench) -> Iterator[Figure]:
    """Core and the local launcher."""
    del bench
    yield from installed([str(ROOT / "core"), str(ROOT / "plugins" / "builtin_local")])


def installed(wanted: Sequence[str]) -> Iterator[Figure]:
    """Packages, size and time of an installation into a fresh environment."""
    with place() as where:
        environment = where.folder / "venv"
        where.run(sys.executable, "-m", "venv", str(environment))
        before = _bytes(environment)
        where.env |= _pip_environment()
        took = seconds_of(lambda: _pip(where, "install", "--quiet", *wanted))
        size = (_bytes(environment) - before) / 1e6
        listed = json.loads(_pip(where, "list", "--format", "json"))
        names = [one["name"] for one in listed if one["name"] not in _BEFORE]
    yield Figure("install.packages", len(names), " ".join(names))
    yield Figure("install.size", size, "files, compiled Python included")
    yield Figure("install.time", took, "wheels from the configured index or cache")


def _pip(where: Place, *args: str) -> str:
    python = where.folder / "venv" / "bin" / "python"
    return where.run(str(python), "-m", "pip", "--disable-pip-version-check", *args, seconds=INSTALL_SECONDS)


def _pip_environment() -> dict[str, str]:
    """The caller's own pip settings, proxies and cache: the bench has a HOME of its own."""
    kept = [key for key in os.environ if key.startswith("PIP_") or key.lower().endswith("_proxy")]
    found = {key: os.environ[key] for key in kept}
    files = (Path.home() / ".config" / "pip" / "pip.conf", Path.home() / ".pip" / "pip.conf")
    if config := next((str(one) for one in files if one.is_file()), ""):
        found.setdefault("PIP_CONFIG_FILE", config)
    found.setdefault("PIP_CACHE_DIR", str(Path.home() / ".cache" / "pip"))
    return found


def _bytes(folder: Path) -> int:
    return sum(one.lstat().st_size for one in folder.rglob("*") if one.is_file() and not one.is_symlink())


KEYS = ("install.packages", "install.size", "install.time")
BENCHES: Mapping[str, Measurement] = {"install": Measurement(install, KEYS)}
