"""Work in threads that writes files.

A thread cannot be cancelled: whoever waits for it can, and then clears up
what the thread has not written yet. :func:`in_thread` lets them wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")


async def in_thread(work: Callable[_Args, _Result], *args: _Args.args, **kwargs: _Args.kwargs) -> _Result:
    """Do *work* in a thread, to its end: who is cancelled meanwhile is cancelled after it.

    So that nothing is written any more once the waiting has ended, as with
    :func:`asyncio.to_thread` it might be. What the work gives, or raises, is
    lost in that case.
    """
    task = asyncio.create_task(asyncio.to_thread(work, *args, **kwargs))
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        task.exception()  # nobody waits for it any more
        raise cancelled
    return task.result()
