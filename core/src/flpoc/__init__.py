"""flpoc: federated learning, open through plugins.

This is what a plugin imports: :class:`Component` to describe what it offers,
:data:`hookimpl` to mark its hooks, :data:`API` to name the interface it was
written for.
"""

from __future__ import annotations

import sys

import pluggy

from flpoc.components import Component, NoSettings
from flpoc.moved import Moved

#: The plugin interface of this flpoc. A plugin states its own in ``FLPOC_API``.
API = 1

#: Marks a function of a plugin's ``hooks.py`` as the implementation of a hook.
hookimpl = pluggy.HookimplMarker("flpoc")

__version__ = "0.1.0"

if not any(isinstance(one, Moved) for one in sys.meta_path):
    sys.meta_path.append(Moved())  # asked only for a module that nobody else finds

__all__ = ["API", "Component", "NoSettings", "__version__", "hookimpl"]
