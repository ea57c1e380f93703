"""Where no engine can be had, tests that need one say so loudly; where CI counts on them, they fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TEST = "plugins/builtin_docker/tests/test_diagnoses.py"


def run_without_engine(folder: Path, **more: str) -> str:
    """What a run of tests says where there is no program to start or install an engine."""
    argv = [sys.executable, "-m", "pytest", TEST, "-k", "a_missing_image", "-p", "no:cacheprovider", "-n", "0"]
    env = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("PYTEST")}
    done = subprocess.run(
        [*argv, "--basetemp", str(folder / "t")],
        cwd=ROOT, env={**env, "PATH": str(folder), **more}, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == (1 if "CI" in more else 0), done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(240)
def test_in_ci_they_fail(tmp_path: Path) -> None:
    said = run_without_engine(tmp_path, CI="true")
    assert "no Docker engine, and CI is set: there is no dockerd, and it cannot be installed" in said
    assert "1 error" in said


def test_elsewhere_the_summary_ends_with_what_was_not_tested(tmp_path: Path) -> None:
    said = run_without_engine(tmp_path)
    assert "!!! 1 tests were not run !!!" in said
    assert "NO DOCKER ENGINE, NOTHING THAT NEEDS ONE IS TESTED: there is no dockerd" in said
