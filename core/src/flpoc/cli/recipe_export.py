"""``flpoc recipe export``: runs a program that makes a recipe, which then writes its job folder and ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import deque
from pathlib import Path
from shlex import quote
from typing import Any, Final

import click

from flpoc.cli.call import Call
from flpoc.cli.command import Command
from flpoc.cli.options import option
from flpoc.errors import FlpocError, UsageError
from flpoc.formatting import Report

_DIR: Final = "./fl_job"
#: So many of the last lines of a program that failed are told to programs.
_TAIL: Final = 40


@click.command(
    "export",
    cls=Command,
    examples=("flpoc recipe export job.py", "flpoc recipe export job.py --export-dir jobs -- --epochs 3"),
    mutating=True,
    idempotent=True,
)
@click.argument("program", metavar="JOB.PY", type=click.Path(path_type=Path))
@click.argument("args", nargs=-1)
@option("--export-dir", metavar="DIR", default=_DIR, show_default=True, help="The job is written to DIR/NAME.")
@option("--entry", metavar="SYMBOL", default="", help="The recipe, or the function that gives it, if JOB.PY runs none.")
@click.pass_obj
def export_recipe(call: Call, program: Path, args: tuple[str, ...], export_dir: str, entry: str) -> Report:
    """Write the job folder of the recipe that a program makes, without running the recipe.

    JOB.PY runs in a process of its own, with the words after -- as its
    arguments, until it runs its recipe: `recipe.execute()` or `recipe.run()`.
    One that only makes a recipe will do, too. An earlier export is replaced.
    """
    if not program.is_file():
        what = "not a file" if program.exists() else "no such file"
        raise UsageError(f"{program}: {what}", hint="give the program that makes the recipe")
    parent = Path(export_dir).expanduser().absolute()
    folder = _run(call, program, args, _symbol(entry, program), parent)
    files = sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file())
    step = f"flpoc job submit -j {quote(os.path.relpath(folder))}"
    data = {"name": folder.name, "job_folder": str(folder), "files": files, "next_step": step}
    text = (f"Exported {folder.name}: {folder}", *(f"  {one}" for one in files), f"Next: {step}")
    return Report(data=data, text=text)


def _symbol(entry: str, program: Path) -> str:
    """``job:recipe``, as other tools write it, is ``recipe`` in job.py."""
    module, colon, symbol = entry.rpartition(":")
    if colon and module not in (program.stem, program.name):
        raise UsageError(f"--entry: {module!r} is not {program.name}", hint=f"--entry {symbol or 'SYMBOL'}")
    if entry and not symbol.isidentifier():
        raise UsageError(f"--entry: {entry!r} is no name", hint="name a variable or a function of the program")
    return symbol


def _run(call: Call, program: Path, args: tuple[str, ...], entry: str, parent: Path) -> Path:
    """Run the program in a process of its own; gives the folder that it has exported."""
    last: deque[str] = deque(maxlen=_TAIL)
    with tempfile.TemporaryDirectory(prefix="flpoc-export-") as temporary:
        result = Path(temporary) / "result.json"
        # -P: the working directory must not stand before what is installed; the program puts its own folder there
        argv = [sys.executable, "-P", "-u", "-m", "flpoc.recipe.program", str(result), entry, str(program), *args]
        environment = {**os.environ, "FLPOC_EXPORT_DIR": str(parent)}
        with subprocess.Popen(
            argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as child:
            assert child.stdout is not None
            for line in child.stdout:
                last.append(line.rstrip("\n"))
                call.note(line.rstrip("\n"))
        if not result.is_file():
            raise _failed(program, child.returncode, list(last))
        said: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    if "folder" not in said:
        raise FlpocError(said["message"], code=said["code"], hint=said["hint"])
    return Path(said["folder"])


def _failed(program: Path, status: int, last: list[str]) -> FlpocError:
    ended = f"it was ended by signal {-status}" if status < 0 else f"it ended with {status}"
    why = next((line.strip() for line in reversed(last) if line.strip()), ended)
    return FlpocError(
        f"{program}: {why}",
        code="RECIPE_EXPORT_FAILED",
        hint="correct the program; what it printed is on standard error",
        data={"exit_code": status, "output": last},
    )
