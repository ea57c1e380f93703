"""The demo, as `make demo` runs it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.numpy import load_file

DEMO = Path(__file__).resolve().parents[1] / "docs" / "examples" / "digits" / "demo.sh"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A user of this interpreter's flpoc, whose home and temporary folder are empty."""
    for name in ("home", "temporary"):
        (tmp_path / name).mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLPOC_STARTUP", "FLPOC_POC_W"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PATH": path, "HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "temporary")}


@pytest.fixture
def demo(tmp_path: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """The running demo, in a process group of its own, like one started at a terminal."""
    with subprocess.Popen(
        [str(DEMO), "results"],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        yield process
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)


def port_of(output: str) -> int:
    found = re.search(r"Server: +\S+ on port (\d+)", output)
    assert found, output
    return int(found.group(1))


def assert_nothing_is_left(tmp_path: Path, output: str) -> None:
    # processes are looked for after every test, see conftest.py
    assert list((tmp_path / "temporary").iterdir()) == []
    assert list((tmp_path / "home").iterdir()) == []
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port_of(output))) != 0


def test_the_demo_trains_a_model_that_can_be_used_and_leaves_nothing_else(demo, tmp_path):
    output = demo.communicate(timeout=120)[0]
    assert demo.returncode == 0, output
    rounds = re.findall(r"^round (\d+) of 20 .*accuracy=(0\.\d+)", output, re.MULTILINE)
    assert [number for number, _ in rounds] == [str(number) for number in range(1, 21)]
    accuracy = re.search(r"^accuracy (0\.\d+) on \d+ images", output, re.MULTILINE)
    assert accuracy
    assert float(accuracy.group(1)) >= 0.92
    [model] = (tmp_path / "results").glob("*/FL_global_model.safetensors")
    assert {name: value.shape for name, value in load_file(model).items()} == {"weight": (64, 10), "bias": (10,)}
    assert str(model.parent) in output.splitlines()[-1]
    assert_nothing_is_left(tmp_path, output)


def test_a_demo_that_is_interrupted_cleans_up(demo, tmp_path):
    seen = []
    for line in demo.stdout:
        seen.append(line)
        if line.startswith("round 1 of"):
            break
    os.killpg(demo.pid, signal.SIGINT)
    output = "".join([*seen, demo.communicate(timeout=120)[0]])
    assert demo.returncode == 130, output
    assert_nothing_is_left(tmp_path, output)
