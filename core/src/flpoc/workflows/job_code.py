"""Making what a job brings as code: in the controller, the process that is there for the job alone."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any, TypeVar

from flpoc.errors import JobError
from flpoc.jobs.code import CodeRef

T = TypeVar("T")


def made_from_code(code: Path, ref: CodeRef, wanted: type[T], what: str) -> T:
    """Make the object that *ref* names, from the job's own code.

    The file is run as a module; it may import what lies beside it and what lies at the top of ``code/``.

    Args:
        code: The job's ``code/``.
        ref: File, class and arguments.
        wanted: What the object must be.
        what: What messages call it (``aggregator``).

    Raises:
        JobError: The file or the class is missing, is something else, or fails while it is made; then the traceback
            is that of its own code.
    """
    path = code / ref.file
    if not path.is_file():
        raise JobError(f"{what}: code/{ref.file} is not in the job", hint="add the file to the job's code")
    for folder in (str(code), str(path.parent)):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    try:
        kind = getattr(_module(path), ref.name, None)
    except Exception as error:
        raise _failed(error, f"{what}: code/{ref.file} cannot be imported") from error
    if kind is None:
        raise JobError(f"{what}: code/{ref.file} has no class {ref.name!r}", hint="name a class that it defines")
    if not (isinstance(kind, type) and issubclass(kind, wanted)):
        raise JobError(
            f"{what}: {ref.name!r} of code/{ref.file} is no {wanted.__name__}",
            hint=f"let it inherit from flpoc.recipe.{wanted.__name__}",
        )
    try:
        return kind(**ref.args)
    except Exception as error:
        raise _failed(error, f"{what}: {ref.name!r} of code/{ref.file} cannot be made") from error


def _failed(error: Exception, text: str) -> JobError:
    hint = getattr(error, "hint", "")
    found = JobError(f"{text}: {type(error).__name__}: {error}", hint=hint if isinstance(hint, str) else "")
    return found.with_traceback(error.__traceback__)


def _module(path: Path) -> Any:
    """Run a file as a module of its own name, anew: another job of this process may have had one of that name."""
    name = path.stem
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) not in (None, str(path)):
        name = f"flpoc job code {path}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
