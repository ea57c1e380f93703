"""How a job ended, in words that are the same wherever it ran."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any, Final

from flpoc.errors import JobError
from flpoc.jobs.states import Cause, JobState, outcome

BEST_MODEL: Final = "best_FL_global_model.safetensors"
#: Adapters of frameworks by the ending of their files.
_OF_FRAMEWORKS: Final = {".pt": "pytorch", ".pth": "pytorch", ".keras": "tensorflow", ".h5": "tensorflow"}

log = logging.getLogger(__name__)


def failure(name: str, status: str, cause: Cause | None, results: Path, *, partial_allowed: bool) -> JobError | None:
    """The error for a job that did not come to a good end; None for a success."""
    code, _ = outcome(JobState(status), cause, partial_allowed)
    if not code:
        return None
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
    framework = _OF_FRAMEWORKS.get(target.suffix)
    try:
        if framework is not None:
            _as_framework(source, target, framework)
        elif target.suffix == ".npz":
            import numpy as np

            from flpoc.models.tensors import TensorFile

            with TensorFile.open(source) as model:
                arrays: dict[str, Any] = model.arrays()
                np.savez(target, **arrays)
        else:
            shutil.copyfile(source, target)
    except Exception as error:  # noqa: BLE001 - whatever a framework says to it, the results are there
        log.warning("%s is not written: %s; the model is in %s", name, error, source)


def _as_framework(source: Path, target: Path, framework: str) -> None:
    from flpoc.models.tensors import TensorFile
    from flpoc.recipe.start import installed

    with TensorFile.open(source) as model:
        installed().create("frameworks", framework).write_checkpoint(model.arrays(), target)
