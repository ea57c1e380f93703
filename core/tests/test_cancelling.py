"""Work in threads is done to its end, whoever is cancelled meanwhile."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from flpoc.cancelling import in_thread


def test_what_the_work_gives_or_raises_comes_back() -> None:
    async def main() -> None:
        assert await in_thread(divmod, 7, 2) == (3, 1)
        assert await in_thread(int, "f", base=16) == 15
        with pytest.raises(ZeroDivisionError):
            await in_thread(divmod, 1, 0)

    asyncio.run(main())


@pytest.mark.parametrize("fails", [False, True])
def test_who_is_cancelled_is_cancelled_when_the_work_is_done(tmp_path: Path, fails: bool) -> None:
    begun, goes_on, file = threading.Event(), threading.Event(), tmp_path / "folder" / "file"

    def write() -> None:
        begun.set()
        goes_on.wait(10)
        file.parent.mkdir()
        file.touch()
        if fails:
            raise ValueError("nobody hears it")

    async def main() -> None:
        problems: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
        task = asyncio.create_task(in_thread(write))
        await asyncio.to_thread(begun.wait, 10)
        for _ in range(3):  # once is no more than thrice
            task.cancel()
            assert not (await asyncio.wait([task], timeout=0.02))[0]
        assert not file.exists()
        goes_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert file.exists()
        assert not problems

    asyncio.run(main())


def test_a_time_limit_is_kept_after_the_work() -> None:
    done = threading.Event()

    def work() -> None:
        threading.Event().wait(0.1)
        done.set()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await in_thread(work)
        assert done.is_set()

    asyncio.run(main())
