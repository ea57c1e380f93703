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
from figures import Figure

#: No single command takes longer, or something hangs.
COMMAND_SECONDS = 120.0


@attrs.define
class Bench:
    """What every bench is given.

    Attributes:
        quick: Smaller sizes and fewer repetitions.
        programs: Where the subject's interpreter and commands are.
        found: The figures so far, by key.
    """

    quick: bool
    programs: Path = Path(sys.executable).parent
    found: dict[str, float] = attrs.field(factory=dict)

    def times(self, usually: int) -> int:
        return 1 if self.quick else usually


class BenchError(Exception):
    """Something could not be measured."""


@attrs.frozen
class Measurement:
    """A bench, and the rows that it promises to fill."""

    run: Callable[[Bench], Iterator[Figure]]
    keys: Sequence[str]


class Place:
    """A temp folder with a HOME, in which commands are run."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self.programs = programs
        self.workspace = folder / "poc"
        home, temporary = folder / "home", folder / "tmp"
        home.mkdir()
        temporary.mkdir()
        self.env = {
            "PATH": os.pathsep.join([str(programs), os.environ.get("PATH", os.defpath)]),
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
        return self.run(str(self.programs / "python"), "-c", code)

    def program(self, name: str) -> str:
        """A command of the subject; of the search path where it has none of its own."""
        own = self.programs / name
        return str(own) if own.exists() else name

    def flpoc(self, *args: str) -> str:
        return self.run(self.program("flpoc"), *args)

    def flpoc_json(self, *args: str) -> Any:
        return json.loads(self.flpoc(*args, "--format", "json"))["data"]


@contextmanager
def place(programs: Path = Path(sys.executable).parent) -> Iterator[Place]:
    """A fresh place; processes that are left in it are ended, and said.

    Raises:
        BenchError: Something was left running.
    """
    folder = Path(tempfile.mkdtemp(prefix="flpoc-bench-"))
    failed = True
    try:
        yield Place(folder, programs)
        failed = False
    except Exception as error:
        for line in _last_errors(folder):
            error.add_note(line)
        raise
    finally:
        left = procs.kill_all(folder)
        shutil.rmtree(folder, ignore_errors=failed)
        if left and not failed:
            raise BenchError(f"left running: {', '.join(left)}")


def _last_errors(folder: Path, most: int = 10) -> list[str]:
    """What the logs of a place say of errors; nothing of them is left later."""
    return [
        f"{log.relative_to(folder)}: {line[:300]}"
        for log in sorted(folder.rglob("*.log"))
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines()
        if " ERROR " in line
    ][-most:]


@contextmanager
def poc(where: Place, sites: int = 2, *prepare: str) -> Iterator[Path]:
    """A proof of concept that runs; gives the folder of its admin kit."""
    prepared = where.flpoc_json("poc", "prepare", "-n", str(sites), *prepare)
    try:
        where.flpoc("poc", "start", "--timeout", "120")
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
