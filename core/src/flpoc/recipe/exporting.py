"""From a recipe to a job folder: where to, and all of it or nothing."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flpoc.errors import MAKE_ROOM, ConfigError, FlpocError, ResourceError, UsageError, disk_is_full

if TYPE_CHECKING:
    import argparse

    from flpoc.recipe.job import Job

#: Says where to, to a program that makes a recipe: it exports instead of running.
EXPORT_VARIABLE: Final = "FLPOC_EXPORT_DIR"
DEFAULT_DIR: Final = "./fl_job"
#: What an exported folder has; one that has more was changed, and is not replaced.
_EXPORTED: Final = {"job.conf", "code"}


class Exported(SystemExit):
    """Ends, as a success, a program whose recipe was exported.

    Attributes:
        folder: The job folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(0)
        self.folder = folder


def export_dir(environ: Mapping[str, str] = os.environ, argv: Sequence[str] | None = None) -> Path | None:
    """Say where a recipe is to be exported to: by FLPOC_EXPORT_DIR, or by ``--export`` on the line; None if nowhere.

    Raises:
        UsageError: ``--export-dir`` names no folder.
    """
    if named := environ.get(EXPORT_VARIABLE, "").strip():
        return Path(named)
    words = list(sys.argv[1:] if argv is None else argv)
    if "--export" not in words:
        return None
    found = DEFAULT_DIR
    for at, word in enumerate(words):
        if word.startswith("--export-dir="):
            found = word.partition("=")[2]
        elif word == "--export-dir":
            found = words[at + 1] if at + 1 < len(words) else ""
    if not found or found.startswith("--"):
        raise UsageError("--export-dir requires a value", hint=f"without it, the folder is {DEFAULT_DIR}")
    return Path(found)


def add_export_options(parser: argparse.ArgumentParser) -> None:
    """Let a program's own parser know ``--export`` and ``--export-dir DIR``.

    The recipe itself looks for them on the line when it is run.
    """
    parser.add_argument("--export", action="store_true", help="write the recipe's job folder instead of running it")
    where = f"where the job folder is written (default: {DEFAULT_DIR})"
    parser.add_argument("--export-dir", metavar="DIR", default=DEFAULT_DIR, help=where)


def export(job: Job, parent: Path) -> Path:
    """Write *job* as the folder PARENT/NAME: checked, and all of it or nothing. An earlier export there is replaced.

    Raises:
        FlpocError: It cannot be written, is no job that could be submitted, or something else stands there.
    """
    target = parent / job.name
    _refuse_foreign(target)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{job.name}.", dir=parent) as beside:
            made = Path(beside) / "new"
            made.mkdir()
            job.write(made)
            _check(made, target)
            _put(made, target, Path(beside) / "old")
    except OSError as error:
        why = f"{target} cannot be written: {error.strerror or error}"
        if disk_is_full(error):
            raise ResourceError(why, code="DISK_FULL", hint=MAKE_ROOM) from error
        raise FlpocError(why, code="OUTPUT_DIR_NOT_WRITABLE", hint="choose another folder") from error
    return target.resolve()


def _put(made: Path, target: Path, aside: Path) -> None:
    """Put a folder in its place; what stood there is back if that fails."""
    replaced = target.exists()
    if replaced:
        target.rename(aside)
    try:
        made.rename(target)
    except OSError:
        if replaced:
            aside.rename(target)
        raise


def _refuse_foreign(target: Path) -> None:
    if not os.path.lexists(target):
        return
    is_ours = target.is_dir() and not target.is_symlink() and (target / "job.conf").is_file()
    if not is_ours or {one.name for one in target.iterdir()} - _EXPORTED:
        raise FlpocError(
            f"{target} exists, and is not as an export left it",
            code="RECIPE_EXPORT_FAILED",
            hint="export to another folder, or move it away",
        )


def _check(made: Path, target: Path) -> None:
    """Refuse what could not be submitted, in the words of the job's own check."""
    from flpoc.jobs.folder import read_job

    try:
        read_job(made)
    except ConfigError as error:
        message = error.message.replace(f"{made}{os.sep}", "").removeprefix("job.conf: ")
        raise FlpocError(
            f"{target.name}: {message}", code="RECIPE_EXPORT_FAILED", hint="correct the parameters of the recipe"
        ) from None
