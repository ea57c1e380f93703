"""What an installation of core and the local launcher is made of."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from figures import Figure
from place import Bench, Place, place, seconds_of

ROOT = Path(__file__).resolve().parents[2]
#: Distributions that a fresh environment has before anything is installed.
_BEFORE = ("pip", "setuptools", "wheel")
INSTALL_SECONDS = 600.0


def install(bench: Bench) -> Iterator[Figure]:
    """Packages, size and time of an installation into a fresh environment."""
    del bench
    with place() as where:
        environment = where.folder / "venv"
        where.run(sys.executable, "-m", "venv", str(environment))
        before = _bytes(environment)
        where.env |= _pip_environment()
        ours = (str(ROOT / "core"), str(ROOT / "plugins" / "builtin_local"))
        took = seconds_of(lambda: _pip(where, "install", "--quiet", *ours))
        size = (_bytes(environment) - before) / 1e6
        listed = json.loads(_pip(where, "list", "--format", "json"))
        names = [one["name"] for one in listed if one["name"] not in _BEFORE]
    yield Figure("install.packages", "install: packages", len(names), "", "<= 22", " ".join(names))
    yield Figure("install.size", "install: size without pip", size, "MB", "<= 135", "files, compiled Python included")
    yield Figure("install.time", "install: time", took, "s", "", "wheels from the configured index or cache")


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


BENCHES = {"install": install}
