"""Somebody who has flpoc from packages, and none of this repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path

import attrs
import pytest
from machine.ports import free_port
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
#: Packages of third parties.
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("flpoc-*"))
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]


@attrs.frozen
class Stranger:
    """An environment of its own, a home, and a working folder.

    Attributes:
        folder: Where all of it is; whoever is in it works in ``here``.
    """

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "venv" / "bin" / "python"

    @property
    def here(self) -> Path:
        return self.folder / "here"

    @property
    def env(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if name == "FLPOC_POC_PORT" or not name.startswith(("FLPOC_", "PYTHON", "PIP_"))
        }
        mark = {name: value for name, value in os.environ.items() if name == "FLPOC_TESTS_RUN"}
        path = f"{self.python.parent}{os.pathsep}{os.environ['PATH']}"
        home, poc = str(self.folder / "home"), str(self.folder / "poc")
        return {**kept, **mark, "PATH": path, "HOME": home, "FLPOC_POC_WORKSPACE": poc}

    def run(self, *words: str | Path, check: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(self.python.parent / words[0]), *words[1:]],
            cwd=self.here,
            env={**self.env, **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert not check or done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done

    def install(self, *packages: str | Path) -> None:
        """Install packages with pip, which finds all that they need here, or fails."""
        words = [*PIP, "--python", str(self.python), "install", "--no-index", *map(str, packages)]
        done = subprocess.run(words, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def needed(*wanted: str) -> set[str]:
    """Everything that these requirements need, by what the packages themselves say."""
    found: set[str] = set()
    waiting = [Requirement(one) for one in wanted]
    while waiting:
        one = waiting.pop()
        for text in metadata.requires(one.name) or ():
            more = Requirement(text)
            if more.marker is None or any(more.marker.evaluate({"extra": extra}) for extra in ("", *one.extras)):
                if more.name not in found:
                    waiting.append(more)
                found.add(more.name)
    return found


def link(package: str, into: Path) -> None:
    """Give an environment a package that is installed here, without copying it."""
    files = metadata.files(package)
    assert files is not None, f"{package} does not say which files it has"
    library = Path(sysconfig.get_path("purelib"))
    for top in {file.parts[0] for file in files if file.parts[0] != ".."} - {"__pycache__"}:
        if not (into / top).exists():
            (into / top).symlink_to(library / top)


def project(sites: int, *, launcher: str = "local", plugins: Sequence[str] = ("local",), **more: str) -> str:
    """A project file with a port that is free."""
    port = free_port()
    server = {"name": "server", "type": "server", "org": "acme", "fed_learn_port": port, "default_host": "localhost"}
    admin = {"name": "admin@acme.org", "type": "admin", "org": "acme", "role": "project_admin"}
    clients = [{"name": f"site-{number}", "type": "client", "org": "acme"} for number in range(1, sites + 1)]
    found = {"api_version": 3, "name": "suite", "launcher": launcher, "plugins": list(plugins), **more}
    return json.dumps({**found, "participants": [server, *clients, admin]})


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Build a wheel of a folder, once; works on a copy, for building leaves traces."""
    built: dict[Path, Path] = {}
    places = tmp_path_factory.mktemp("wheels")

    def build(folder: Path) -> Path:
        if folder not in built:
            into = places / folder.name
            words = [*PIP, "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", str(into), str(folder)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            (built[folder],) = into.glob("*.whl")
        return built[folder]

    return build


@pytest.fixture(scope="session")
def make_stranger(wheels: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Stranger]:
    """A new environment with core, its extra for tests, and the local launcher."""

    def make() -> Stranger:
        one = Stranger(tmp_path_factory.mktemp("stranger"))
        for name in ("home", "here"):
            (one.folder / name).mkdir()
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(one.folder / "venv")], check=True)
        (library,) = (one.folder / "venv").glob("lib/python*/site-packages")
        for package in needed("flpoc[testing]", "flpoc-builtin-local") - {"flpoc"}:
            link(package, library)
        core, local = wheels(ROOT / "core"), wheels(ROOT / "plugins" / "builtin_local")
        one.install(f"flpoc[testing] @ file://{core}", local)
        return one

    return make


@pytest.fixture(scope="module")
def stranger(make_stranger: Callable[[], Stranger]) -> Iterator[Stranger]:
    """One for the tests of a module; a proof of concept that they leave is removed."""
    one = make_stranger()
    yield one
    one.run("flpoc", "poc", "clean", "--force", check=False)
