"""Giving memory back between rounds."""

from __future__ import annotations

import ctypes
import gc
import sys


def give_back(*, graphics: bool) -> None:
    """Collect garbage and let the allocator return free pages; with *graphics*, PyTorch's cache on GPUs, too."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    # a script that uses it has imported it
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if graphics and cuda is not None and cuda.is_initialized():
        cuda.empty_cache()
