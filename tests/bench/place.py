"""A place of its own for every bench: temp folder, HOME, environment; and nothing left behind."""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import procs

#: No single command takes longer, or something hangs.
COMMAND_SECONDS = 120.0


@attrs.define
class Bench:
    """What every bench is given.

    Attributes:
        quick: Smaller sizes and fewer repetitions.
        found: The figures so far, by key.
    """

    quick: bool
    found: dict[str, float] = attrs.field(factory=dict)

    def times(self, usually: int) -> int:
        return 1 if self.quick else usually


class BenchError(Exception):
    """Something could not be measured."""


class Place:
    """A temp folder with a HOME, in which commands are run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workspace = folder / "poc"
        home, temporary = folder / "home", folder / "tmp"
        home.mkdir()
        temporary.mkdir()
        self.env = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "HOME": str(home),
            "TMPDIR": str(temporary),
            "LANG": "C.UTF-8",
            "FLPOC_POC_WORKSPACE": str(self.workspace),
        }

    def run(self, *argv: str, seconds: float = COMMAND_SECONDS) -> str:
        """Run a command; gives its standard output.

        Raises:
            BenchError: It failed, or took too long.
        """
        try:
            done = subprocess.run(
                argv, env=self.env, cwd=self.folder, capture_output=True, text=True, timeout=seconds, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BenchError(f"{' '.join(argv)}: {error}") from None
        if done.returncode:
            raise BenchError(f"{' '.join(argv)}: exit status {done.returncode}\n{done.stdout}{done.stderr}".rstrip())
        return done.stdout

    def python(self, code: str) -> str:
        return self.run(sys.executable, "-c", code)

    def flpoc(self, *args: str) -> str:
        program = Path(sys.executable).with_name("flpoc")
        return self.run(str(program) if program.exists() else "flpoc", *args)

    def flpoc_json(self, *args: str) -> Any:
        return json.loads(self.flpoc(*args, "--format", "json"))["data"]


@contextmanager
def place() -> Iterator[Place]:
    """A fresh place; processes that are left in it are ended, and said.

    Raises:
        BenchError: Something was left running.
    """
    folder = Path(tempfile.mkdtemp(prefix="flpoc-bench-"))
    failed = True
    try:
        yield Place(folder)
        failed = False
    finally:
        left = procs.kill_all(folder)
        shutil.rmtree(folder, ignore_errors=failed)
        if left and not failed:
            raise BenchError(f"left running: {', '.join(left)}")


@contextmanager
def poc(where: Place, sites: int = 2) -> Iterator[Path]:
    """A proof of concept that runs; gives the folder of its admin kit."""
    prepared = where.flpoc_json("poc", "prepare", "-n", str(sites))
    try:
        where.flpoc("poc", "start")
        yield Path(prepared["prod_dir"]) / prepared["users"][0]
        where.flpoc("poc", "stop")
    finally:
        where.flpoc("poc", "clean", "--force")


def seconds_of(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


@attrs.frozen
class Took:
    """What a command took: time on the clock, and processor time of all its processes."""

    seconds: float
    cpu: float


def in_turn(acts: Sequence[Callable[[], object]], times: int) -> list[Took]:
    """Medians of several acts, done in turn, so that a busy moment hits all of them; each once before."""
    for act in acts:
        act()
    runs = [[_took(act) for act in acts] for _ in range(times)]
    return [
        Took(statistics.median(one.seconds for one in column), statistics.median(one.cpu for one in column))
        for column in zip(*runs, strict=True)
    ]


def _took(act: Callable[[], object]) -> Took:
    before = _children_cpu()
    seconds = seconds_of(act)
    return Took(seconds, _children_cpu() - before)


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
