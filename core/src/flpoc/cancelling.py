"""What must not be left half done when whoever waits for it is cancelled.

A call is cancelled when its caller goes away, a job's preparation when the
job is dropped. Threads cannot be cancelled at all: who only stops waiting
for one clears up what it has not written yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")


async def to_the_end(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Do *work* to its end: who is cancelled meanwhile is cancelled after it.

    What the work gives, or raises, is lost in that case. Not for work that
    waits for others without a limit.
    """
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return task.result()
    if not task.cancelled():
        task.exception()  # nobody waits for it any more
    raise cancelled


async def in_thread(work: Callable[_Args, _Result], *args: _Args.args, **kwargs: _Args.kwargs) -> _Result:
    """Do *work* in a thread, as :func:`asyncio.to_thread` does, :func:`to_the_end`."""
    return await to_the_end(asyncio.to_thread(work, *args, **kwargs))
