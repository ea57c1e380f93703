"""Classes of a job's own code, named by file, class and arguments.

What a recipe is given as an object travels like this. It is loaded where the
job's code is run: in the controller, which holds no keys.
"""

from __future__ import annotations

from typing import Any

import attrs

from flpoc.jobs.paths import below_code


def _python_file(_: Any, attribute: Any, value: str) -> None:
    if not value.endswith(".py"):
        raise ValueError(f"{attribute.name}: {value[:80]!r} is not a Python file below code/")


def _class_name(_: Any, attribute: Any, value: str) -> None:
    if not value.isidentifier():
        raise ValueError(f"{attribute.name}: {value[:80]!r} is not the name of a class")


def _keywords(_: Any, attribute: Any, value: dict[str, Any]) -> None:
    for name in value:
        if not name.isidentifier():
            raise ValueError(f"{attribute.name}: {name[:80]!r} is not the name of an argument")


@attrs.frozen
class CodeRef:
    """A class of the job's code.

    Attributes:
        file: Its source file, a path below ``code/``.
        name: Name of the class.
        args: Keyword arguments that it is made with; plain JSON data.
    """

    file: str = attrs.field(validator=[below_code, _python_file])
    name: str = attrs.field(validator=_class_name)
    args: dict[str, Any] = attrs.field(factory=dict, validator=_keywords)
