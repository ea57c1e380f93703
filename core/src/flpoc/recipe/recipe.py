"""What every recipe is."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from flpoc.errors import UsageError
from flpoc.recipe.entry import RecipeEntry
from flpoc.recipe.exporting import DEFAULT_DIR, EXPORT_VARIABLE, Exported, export, export_dir
from flpoc.recipe.job import Job


class Recipe:
    """An algorithm with its parameters, ready to become a job.

    Args:
        job: The job that it makes.
    """

    #: What the catalogue says about it.
    CATALOGUE: ClassVar[RecipeEntry]

    def __init__(self, job: Job) -> None:
        self.job = job

    @property
    def name(self) -> str:
        """Name of the job."""
        return self.job.name

    def export(self, job_dir: Path | str = DEFAULT_DIR) -> Path:
        """Write the job folder JOB_DIR/NAME, which ``flpoc job submit`` takes; gives its path.

        An earlier export there is replaced; anything else is left alone, and refused.
        A script is looked for in the working directory, then beside the program.
        Modules beside it that it imports come along. No path of this machine gets into the job.

        Raises:
            FlpocError: A script is missing or does not compile, a parameter is wrong, or the folder cannot be written.
        """
        return export(self.job, Path(job_dir))

    def execute(self, env: Any = None) -> NoReturn:
        """Export, where FLPOC_EXPORT_DIR or ``--export`` on the line asks for it, and end the program.

        Raises:
            SystemExit: It was exported.
            UsageError: Nobody asked for an export: there is no environment to run in yet.
        """
        folder = export_dir()
        if folder is None:
            program = Path(sys.argv[0]).name or "job.py"
            raise UsageError(
                f"recipes are exported and submitted: `flpoc recipe export {program}`, then "
                f"`flpoc job submit -j {DEFAULT_DIR}/{self.name}`"
            )
        written = self.export(folder)
        if not os.environ.get(EXPORT_VARIABLE, "").strip():
            sys.stdout.write(f"Exported {self.name}: {written}\n")
        raise Exported(written)

    def run(self, env: Any = None) -> NoReturn:
        """The same as :meth:`execute`."""
        self.execute(env)
