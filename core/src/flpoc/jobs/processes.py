"""What the processes of jobs have in common, wherever they run: their environment, and how their ends are called."""

from __future__ import annotations

import os
import signal
import site
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flpoc.launching import Needs

#: The variable that says which graphics processors a process sees.
GPUS = "CUDA_VISIBLE_DEVICES"
TOKEN_FILE = "token"  # noqa: S105 - the name of a file


def signal_name(code: int | None) -> str:
    """``SIGKILL`` for -9; empty for what is not the end by a signal."""
    if code is None or code >= 0:
        return ""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def environment(folder: Path, needs: Needs) -> dict[str, str]:
    """The environment of a job process, before what is particular to it.

    Its home is its own folder: what libraries keep there they find empty and
    may fill. Numeric libraries are held to the processors that were asked for: their
    results depend on the number of threads.
    """
    threads = str(max(1, int(needs.cpus)))
    libraries = ("OMP", "OPENBLAS", "MKL", "NUMEXPR")
    return {
        "PATH": program_path(),
        "HOME": str(folder),
        "TMPDIR": str(folder / "tmp"),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "PYTHONUNBUFFERED": "1",
        "PYTHONHASHSEED": "0",
        **{f"{library}_NUM_THREADS": threads for library in libraries},
        "VECLIB_MAXIMUM_THREADS": threads,
        **_gpus(needs),
        **_user_packages(),
        # keeps a model's pages from being held back by the allocator once freed
        "MALLOC_ARENA_MAX": "2",
    }


def program_path() -> str:
    """Where programs are looked for: beside this interpreter, then where this process looks."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def _user_packages() -> dict[str, str]:
    """Where ``pip install --user`` has put packages: with another home they would not be found."""
    if site.ENABLE_USER_SITE and Path(site.getusersitepackages()).is_dir():
        return {"PYTHONUSERBASE": site.getuserbase()}
    return {}


def _gpus(needs: Needs) -> dict[str, str]:
    """The graphics processors that were asked for, else those that the owner was given."""
    if needs.gpus:
        return {GPUS: ",".join(needs.gpus)}
    return {GPUS: os.environ[GPUS]} if GPUS in os.environ else {}
