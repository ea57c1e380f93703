"""flpoc: federated learning, open through plugins.

This is what a plugin imports: :class:`Component` to describe what it offers,
:data:`hookimpl` to mark its hooks, :data:`API` to name the interface it was
written for.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from flpoc.moved import Moved

if TYPE_CHECKING:
    import pluggy

    from flpoc.components import Component, NoSettings

    hookimpl: pluggy.HookimplMarker

#: The plugin interface of this flpoc. A plugin states its own in ``FLPOC_API``.
API = 1

__version__ = "0.1.0"

if not any(isinstance(one, Moved) for one in sys.meta_path):
    sys.meta_path.append(Moved())  # asked only for a module that nobody else finds

__all__ = ["API", "Component", "NoSettings", "__version__", "hookimpl"]


def __getattr__(name: str) -> Any:
    """What only plugins need is imported for those who ask: a command may be done in less time."""
    if name == "hookimpl":
        from pluggy import HookimplMarker

        #: Marks a function of a plugin's ``hooks.py`` as the implementation of a hook.
        value: Any = HookimplMarker("flpoc")
    elif name in ("Component", "NoSettings"):
        from flpoc import components

        value = getattr(components, name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value
