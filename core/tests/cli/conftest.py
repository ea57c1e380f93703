"""A user with an empty configuration, and packages with plugins that exist only for one test."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

RUN = "import sys; from flpoc.cli.main import main; sys.exit(main())"


@pytest.fixture(autouse=True)
def user(tmp_path, monkeypatch):
    """Commands of this test read no configuration but their own."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FLPOC_CONFIG", str(tmp_path / "config.conf"))
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


@pytest.fixture
def packages(tmp_path) -> Path:
    """Where throwaway packages are installed; on the path of every command that :func:`flpoc` starts."""
    folder = tmp_path / "packages"
    folder.mkdir()
    return folder


@pytest.fixture
def install(packages) -> Callable[..., None]:
    """Install a package with one plugin: its name, and the source of its hooks."""

    def put(name: str, source: str, *, entry: str = "") -> None:
        module = f"{name.replace('-', '_')}_hooks"
        (packages / f"{module}.py").write_text(textwrap.dedent(source), encoding="utf-8")
        info = packages / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[flpoc]\n{entry or name} = {module}\n", encoding="utf-8")

    return put


@pytest.fixture
def environment(packages) -> dict[str, str]:
    # unbuffered, Python would not notice that a reader went away
    return {**os.environ, "PYTHONPATH": str(packages), "PYTHONUNBUFFERED": ""}


@pytest.fixture
def flpoc(environment) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run flpoc as a user does, in a process of its own."""

    def run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", RUN, *words],
            env={**environment, **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run
