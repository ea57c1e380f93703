"""Objects that a job process builds again: from their class and the arguments that they were made with."""

from __future__ import annotations

from abc import ABC
from typing import Any, Self


class Rebuildable(ABC):
    """Remembers what it was made with.

    A recipe that is given such an object writes its class and these arguments into the job; the object itself never
    travels. So the arguments are plain JSON data, and what is done to the object afterwards is not known to the job.
    """

    _made_with: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        made = super().__new__(cls)
        made._made_with = (args, kwargs)
        return made
