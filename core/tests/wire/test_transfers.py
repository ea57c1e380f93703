"""Files in chunks: every byte arrives, or it is clear why not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import xxhash

from flpoc.errors import IntegrityError, ResourceError
from flpoc.wire.options import CHUNK_BYTES
from flpoc.wire.transfers import Incoming, read_chunks, write_whole

DATA = os.urandom(2 * CHUNK_BYTES + 12345)
SUM = xxhash.xxh3_128_hexdigest(DATA)


async def receive(folder: Path, data: bytes = DATA, *, size: int = len(DATA), checksum: str = SUM, step: int = 300_001):
    incoming = Incoming(folder / "in" / "x.part", size, checksum)
    try:
        have = await incoming.begin()
        for start in range(have, len(data), step):
            await incoming.write(data[start : start + step])
        await incoming.finish(folder / "x")
    finally:
        await incoming.close()
    return have


@pytest.mark.parametrize("there", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, len(DATA) - 1, len(DATA)])
def test_a_transfer_goes_on_from_any_byte(tmp_path: Path, there: int) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.part").write_bytes(DATA[:there])
    assert asyncio.run(receive(tmp_path)) == there
    assert (tmp_path / "x").read_bytes() == DATA
    assert not (tmp_path / "in" / "x.part").exists()


def test_a_part_that_is_longer_than_the_file_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.part").write_bytes(DATA + b"x")
    assert asyncio.run(receive(tmp_path)) == 0
    assert (tmp_path / "x").read_bytes() == DATA


def test_a_part_damaged_on_disk_is_noticed_because_it_is_hashed_again(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.part").write_bytes(bytes([DATA[0] ^ 1]) + DATA[1:1000])
    with pytest.raises(IntegrityError, match="checksum"):
        asyncio.run(receive(tmp_path))
    assert not (tmp_path / "in" / "x.part").exists()
    assert not (tmp_path / "x").exists()


@pytest.mark.row("W10")
def test_one_byte_too_many_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="more than the announced"):
        asyncio.run(receive(tmp_path, DATA + b"x"))
    assert not (tmp_path / "x").exists()


def test_missing_bytes_are_said_and_what_came_stays(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="bytes arrived"):
        asyncio.run(receive(tmp_path, DATA[:-1]))
    assert (tmp_path / "in" / "x.part").read_bytes() == DATA[:-1]
    assert asyncio.run(receive(tmp_path)) == len(DATA) - 1


def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    asyncio.run(receive(tmp_path, b"", size=0, checksum=xxhash.xxh3_128_hexdigest(b"")))
    assert (tmp_path / "x").read_bytes() == b""


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_part_that_is_not_a_regular_file_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "in").mkdir()
    part = tmp_path / "in" / "x.part"
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    {"link": lambda: part.symlink_to(victim), "pipe": lambda: os.mkfifo(part), "folder": part.mkdir}[kind]()
    with pytest.raises(IntegrityError):
        asyncio.run(asyncio.wait_for(receive(tmp_path), 10))
    assert victim.read_bytes() == b"precious"


FULL = """
import asyncio, resource, sys
from pathlib import Path
from flpoc.errors import ResourceError
from flpoc.wire.transfers import Incoming
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
async def main():
    incoming = Incoming(Path(sys.argv[1]), 1_000_000, "0" * 32)
    await incoming.begin()
    try:
        for _ in range(10):
            await incoming.write(b"a" * 60_000)
    except ResourceError as error:
        print(error.code)
    finally:
        await incoming.close()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    again = Incoming(Path(sys.argv[1]), 1_000_000, "0" * 32)
    print(await again.begin())
    await again.close()
asyncio.run(main())
"""


@pytest.mark.row("P5")
def test_a_full_disk_keeps_what_came_and_the_transfer_goes_on_from_there(tmp_path: Path) -> None:
    words = [sys.executable, "-c", FULL, str(tmp_path / "x.part")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["DISK_FULL", "100000"], done.stderr


def test_a_cancelled_transfer_writes_nothing_after_it_was_closed(tmp_path: Path, monkeypatch) -> None:
    """Otherwise its thread would write into whatever file got its number next."""
    gate, began = threading.Event(), threading.Event()
    real = os.pwrite
    handles = []

    def slow(handle, data, offset):
        handles.append(handle)
        began.set()
        gate.wait(60)
        return real(handle, data, offset)

    async def main() -> None:
        incoming = Incoming(tmp_path / "x.part", 10, "0" * 32)
        await incoming.begin()
        monkeypatch.setattr(os, "pwrite", slow)
        await incoming.write(b"12345")
        writer = asyncio.create_task(incoming.write(b"67890"))
        await asyncio.to_thread(began.wait, 60)
        writer.cancel()
        await asyncio.wait([writer])
        closing = asyncio.create_task(incoming.close())
        await asyncio.wait([closing], timeout=0.05)
        assert not closing.done()
        os.fstat(handles[0])  # still open
        gate.set()
        await closing
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(handles[0])

    asyncio.run(main())
    assert (tmp_path / "x.part").read_bytes() == b"12345"


async def collect(path: Path, offset: int, size: int) -> bytes:
    return b"".join([chunk async for chunk in read_chunks(path, offset, size)])


@pytest.mark.parametrize("offset", [0, 1, CHUNK_BYTES, len(DATA) - 1, len(DATA)])
def test_a_file_is_read_from_any_byte(tmp_path: Path, offset: int) -> None:
    (tmp_path / "x").write_bytes(DATA)
    assert asyncio.run(collect(tmp_path / "x", offset, len(DATA))) == DATA[offset:]


@pytest.mark.parametrize("offset", [-1, len(DATA) + 1])
def test_a_byte_that_is_not_there_cannot_be_asked_for(tmp_path: Path, offset: int) -> None:
    (tmp_path / "x").write_bytes(DATA)
    with pytest.raises(IntegrityError, match="was asked for"):
        asyncio.run(collect(tmp_path / "x", offset, len(DATA)))


def test_a_file_unlinked_while_it_is_read_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(DATA)

    async def main() -> bytes:
        parts = []
        async for chunk in read_chunks(path, 0, len(DATA)):
            path.unlink(missing_ok=True)
            parts.append(chunk)
        return b"".join(parts)

    assert asyncio.run(main()) == DATA


def test_a_file_that_is_gone_or_shorter_is_said_by_its_own_name_only(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"123")
    (tmp_path / "link").symlink_to(tmp_path / "short")
    for name in ("gone", "short", "link"):
        with pytest.raises(IntegrityError, match=name) as refused:
            asyncio.run(collect(tmp_path / name, 0, 10))
        assert str(tmp_path) not in refused.value.message


def test_reading_that_is_given_up_leaves_no_file_open(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(DATA)

    async def main() -> None:
        chunks = read_chunks(tmp_path / "x", 0, len(DATA))
        await anext(chunks)
        await chunks.aclose()
        await asyncio.to_thread(lambda: None)

    def still_open() -> list[str]:
        """Of all files that this process has open, and may just be closing, those of this test."""
        found = []
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):
                found.append(os.readlink(f"/proc/self/fd/{number}"))
        return [one for one in found if one.startswith(str(tmp_path))]

    with (tmp_path / "x").open():
        assert still_open() == [str(tmp_path / "x")]
    asyncio.run(main())
    assert still_open() == []


def test_a_small_file_with_another_checksum_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError):
        write_whole(tmp_path / "in" / "x", b"abc", "0" * 32)
    assert not (tmp_path / "in").exists()
    write_whole(tmp_path / "in" / "x", b"abc", xxhash.xxh3_128_hexdigest(b"abc"))
    assert os.listdir(tmp_path / "in") == ["x"]


def test_a_small_file_that_comes_twice_at_once_is_there(tmp_path: Path) -> None:
    checksum = xxhash.xxh3_128_hexdigest(b"abc")
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(write_whole, tmp_path / "x", b"abc", checksum) for _ in range(64)]:
            done.result()
    assert os.listdir(tmp_path) == ["x"]


def test_a_small_file_on_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    code = """
import resource, sys, xxhash
from pathlib import Path
from flpoc.errors import ResourceError
from flpoc.wire.transfers import write_whole
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_whole(Path(sys.argv[1]), b"a" * 5000, xxhash.xxh3_128_hexdigest(b"a" * 5000))
except ResourceError:
    print("refused")
"""
    words = [sys.executable, "-c", code, str(tmp_path / "x")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "refused"
    assert os.listdir(tmp_path) == []
    assert ResourceError.default_code == "RESOURCE_EXHAUSTED"
