"""Keeping the memory of chunks instead of fetching it anew from the kernel for each."""

from __future__ import annotations

import ctypes

from flpoc.wire.options import CHUNK_BYTES

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_KEPT_BYTES = 16 << 20


def keep_chunk_memory() -> None:
    """Tell the C library that pieces of the size of a chunk come and go all the time.

    By default glibc maps and unmaps every such piece: a page fault for each
    4 KiB that is forwarded. Where there is no ``mallopt`` nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    # chunks are made in threads that read files: an arena for each thread would keep as much again
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_MMAP_THRESHOLD, 4 * CHUNK_BYTES)
    mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
