"""Giving memory back between rounds."""

from __future__ import annotations

import ctypes
import gc


def give_back() -> None:
    """Collect garbage and let the allocator return free pages."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
