"""How a job ended, in words that are the same wherever it ran."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any, Final

import attrs

from flpoc.errors import FlpocError, JobError
from flpoc.jobs.states import Cause, JobState, outcome

BEST_MODEL: Final = "best_FL_global_model.safetensors"

log = logging.getLogger(__name__)


def failure(name: str, status: str, cause: Cause | None, results: Path, *, partial_allowed: bool) -> JobError | None:
    """The error for a job that did not come to a good end; None for a success."""
    code, _ = outcome(JobState(status), cause, partial_allowed)
    if not code:
        return None
    if cause is not None and cause.exception:
        # what was raised, and where, is said; what else was printed differs from place to place
        cause = attrs.evolve(cause, log_tail=())
    text = "\n".join(cause.lines()) if cause is not None else f"{name}: {status}"
    return JobError(text, code=code, data={"status": status, "result": str(results)}, hint=f"logs are in {results}")


def name_best_model(results: Path, name: str) -> None:
    """Give the best model its other name, too: in the form of its framework if the ending says so.

    What cannot be written so is a warning: the model itself is there.
    """
    source = results / BEST_MODEL
    if not name or name == BEST_MODEL or not source.is_file():
        return
    target = results / name
    try:
        if target.suffix.lower() in ("", ".safetensors"):
            shutil.copyfile(source, target)
        else:
            _write_as(source, target)
    except FlpocError as error:
        log.warning("%s is not written: %s; the model is in %s", name, error.message, source)


def _write_as(source: Path, target: Path) -> None:
    from flpoc.models.tensors import TensorFile

    with TensorFile.open(source) as model:
        arrays: dict[str, Any] = model.arrays()
        target.unlink(missing_ok=True)
        if target.suffix.lower() == ".npz":
            import numpy as np

            np.savez(target, **arrays)
            return
        from flpoc.recipe.start import installed
        from flpoc.training import framework_for_file

        framework_for_file(installed(), target).write_checkpoint(arrays, target)
