"""``python -m flpoc.recipe.program RESULT ENTRY PROGRAM ARGS``: runs a program that makes a recipe, and exports that.

The recipe is the one that the program runs, or the one that it leaves in a
variable; with an entry, what that variable holds, or what the function of
this name gives. What came of it is written to the file RESULT, as JSON.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flpoc.errors import FlpocError, did_you_mean
from flpoc.recipe.exporting import EXPORT_VARIABLE, Exported
from flpoc.recipe.spec import Recipe


def main() -> int:
    result, entry, program, *args = sys.argv[1:]
    sys.argv = [program, *args]
    sys.path.insert(0, str(Path(program).resolve().parent))  # as where Python runs it itself
    try:
        said = {"folder": str(_exported(program, entry))}
    except FlpocError as error:
        if not error.code.startswith(("RECIPE_", "OUTPUT_", "DISK_")):
            return _report(error, program)
        said = {"code": error.code, "message": error.message, "hint": error.hint}
    except Exception as error:  # noqa: BLE001 - whatever the program raises
        return _report(error, program)
    Path(result).write_text(json.dumps(said), encoding="utf-8")
    return 0


def _report(error: Exception, program: str) -> int:
    """Print what went wrong as Python does, from the program's own frame on."""
    own = error.__traceback__
    while own is not None and own.tb_frame.f_code.co_filename != program:
        own = own.tb_next
    traceback.print_exception(type(error), error, own)
    return 1


def _exported(program: str, entry: str) -> Path:
    try:
        # for an entry the program is a module: it is not to run what it runs as a program
        names = runpy.run_path(program, run_name="__flpoc__" if entry else "__main__")
        recipe = _named(names, entry, program) if entry else _only(names, program)
    except Exported as done:
        return done.folder
    except SystemExit as end:
        if end.code in (None, 0):
            raise _nothing(program) from None
        raise
    return recipe.export(os.environ[EXPORT_VARIABLE])


def _named(names: Mapping[str, Any], entry: str, program: str) -> Recipe:
    if entry not in names:
        known = [name for name, value in names.items() if isinstance(value, Recipe) or _makes(value, program)]
        raise FlpocError(f"{program} has no {entry!r}", code="RECIPE_ENTRY_NOT_FOUND", hint=did_you_mean(entry, known))
    found = names[entry]
    if callable(found) and not isinstance(found, Recipe):
        found = found()
    if not isinstance(found, Recipe):
        raise FlpocError(
            f"{program}: {entry} is {type(found).__name__}, no recipe",
            code="RECIPE_ENTRY_NOT_FOUND",
            hint="name a variable with a recipe, or a function that gives one",
        )
    return found


def _makes(value: Any, program: str) -> bool:
    """Whether it is a function of the program itself."""
    return getattr(getattr(value, "__code__", None), "co_filename", "") == program


def _only(names: Mapping[str, Any], program: str) -> Recipe:
    """The recipe that a program has made and not run."""
    found = {id(value): (name, value) for name, value in names.items() if isinstance(value, Recipe)}
    if not found:
        raise _nothing(program)
    if len(found) > 1:
        called = ", ".join(name for name, _ in found.values())
        raise FlpocError(
            f"{program} makes several recipes, and runs none: {called}",
            code="RECIPE_ENTRY_AMBIGUOUS",
            hint=f"name one: --entry {next(iter(found.values()))[0]}",
        )
    return next(iter(found.values()))[1]


def _nothing(program: str) -> FlpocError:
    return FlpocError(
        f"{program} ended without a recipe",
        code="RECIPE_ENTRY_NOT_FOUND",
        hint="let it call recipe.execute(), or name what makes the recipe: --entry SYMBOL",
    )


if __name__ == "__main__":
    sys.exit(main())
