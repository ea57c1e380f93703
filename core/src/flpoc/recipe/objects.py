"""A user's own objects, written down: source file, name of the class, and the arguments that they were made with."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from flpoc.rebuilding import Rebuildable
from flpoc.recipe.bundling import runs_nothing
from flpoc.recipe.parameters import plain


@attrs.frozen
class WrittenObject:
    """An object as a job says it.

    Attributes:
        source: The file with its class, on this machine.
        root: The folder that imports of that file begin at.
        name: Name of the class.
        args: Keyword arguments that it is made with; plain JSON data.
    """

    source: Path
    root: Path
    name: str
    args: dict[str, Any]

    @property
    def ref(self) -> dict[str, Any]:
        """What the job file says: where it is below ``code/``, what it is called, and what it is made with."""
        return {"file": self.source.relative_to(self.root).as_posix(), "name": self.name, "args": self.args}


def written(parameter: str, found: Any, kind: type[Rebuildable]) -> WrittenObject:
    """Write down an object that a user made.

    Raises:
        ValueError: It is something else than *kind*, or cannot be written down; names the parameter and says why.
    """
    cls = type(found)
    if isinstance(found, type) or not isinstance(found, kind):
        what = f"the class {found.__name__}, not an object" if isinstance(found, type) else cls.__name__
        raise ValueError(f"{parameter}: {what}; wanted is an object of your own flpoc.recipe.{kind.__name__}")
    if "." in cls.__qualname__:
        raise ValueError(
            f"{parameter}: the class {cls.__name__} is made inside {cls.__qualname__.rpartition('.')[0]}: "
            "a job cannot name it; define it at the top of a module"
        )
    source = _source(parameter, cls)
    depth = cls.__module__.count(".")
    fits = source.with_suffix("").parts[-depth - 1 :] == tuple(cls.__module__.split("."))
    return WrittenObject(source, source.parents[depth if fits else 0], cls.__name__, _arguments(parameter, found))


def _source(parameter: str, cls: type) -> Path:
    """The file that a class is defined in; one that can be imported and does nothing then."""
    methods = [getattr(one, "__func__", one) for one in vars(cls).values()]
    codes = [one.__code__.co_filename for one in methods if inspect.isfunction(one)]
    # one without methods of its own is where its module is
    of_module = getattr(sys.modules.get(cls.__module__), "__file__", None) or ""
    named = next((one for one in (*codes, of_module) if one.endswith(".py")), "")
    source = Path(named).resolve()
    if not named or not source.is_file():
        raise ValueError(f"{parameter}: the class {cls.__name__} is in no file: write it into one, beside the program")
    if cls.__module__ in ("__main__", "__flpoc__") and not runs_nothing(source):
        raise ValueError(
            f"{parameter}: the class {cls.__name__} is in {source.name}, which the server would run to find it: "
            'define it in a file of its own, or let the program run below `if __name__ == "__main__":`'
        )
    return source


def _arguments(parameter: str, found: Rebuildable) -> dict[str, Any]:
    """What an object was made with, by the names of its constructor's parameters."""
    cls = type(found)
    made_with = getattr(found, "_made_with", None)
    if made_with is None:
        raise ValueError(f"{parameter}: {cls.__name__}.__new__ must call that of its base, which remembers arguments")
    given, named = made_with
    bound = inspect.signature(cls.__init__).bind(found, *given, **named)
    arguments: dict[str, Any] = {}
    for name, value in list(bound.arguments.items())[1:]:
        kind = bound.signature.parameters[name].kind
        if kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY):
            raise ValueError(f"{parameter}: {cls.__name__}: the argument {name!r} has no name that it can be given by")
        arguments |= dict(value) if kind is inspect.Parameter.VAR_KEYWORD else {name: value}
    return dict(_plain(f"{parameter}: the argument {name!r} of {cls.__name__}", arguments, name) for name in arguments)


def _plain(where: str, arguments: Mapping[str, Any], name: str) -> tuple[str, Any]:
    return name, plain(where, arguments[name])
