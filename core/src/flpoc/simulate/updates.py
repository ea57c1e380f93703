"""The updates of a round, mapped: however many there are, with a handful of open files."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from flpoc.models.header import Header, read_header
from flpoc.models.tensors import Array, TensorFile, TensorSpec, numpy_dtype

#: Above so many updates of a round they are put into one file: each file of its own takes two descriptors.
MOST_FILES = 64
_ALIGNED = 64


class PackedTensors(TensorFile):
    """One of the models in a pack; its bytes are in the map that all of them share."""

    def __init__(self, pack: Pack, header: Header, head: bytes, name: str, place: int) -> None:
        super().__init__(-1, header, head, name)
        self._pack = pack
        self._place = place

    def _flat(self, spec: TensorSpec, access: int) -> Array:
        if spec.begin == spec.end:
            return np.empty(0, numpy_dtype(spec.dtype))
        start = self._place + self.header.data_start + spec.begin
        return np.frombuffer(self._pack.mapped(access), numpy_dtype(spec.dtype), spec.elements, start)


class Pack:
    """Many model files in one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.unlink(missing_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._size = 0
        self._maps: dict[int, mmap.mmap] = {}
        self._layouts: dict[bytes, Header] = {}

    def add(self, path: Path) -> PackedTensors:
        """Take a model in; its file is deleted.

        Raises:
            IntegrityError: It is not a sound safetensors file.
        """
        with path.open("rb") as file:
            header, head = read_header(file.fileno(), where=path.name)
            # models of the same layout share what is known of it
            header = self._layouts.setdefault(head, header)
            place = self._size
            for _ in _copied(file.fileno(), self._fd, header.total_bytes, place):
                pass
        path.unlink()
        self._size = place + -(-header.total_bytes // _ALIGNED) * _ALIGNED
        return PackedTensors(self, header, head, path.name, place)

    def mapped(self, access: int) -> mmap.mmap:
        """The whole file; asked for when all are in."""
        found = self._maps.get(access)
        if found is None or len(found) < self._size:
            os.ftruncate(self._fd, self._size)
            found = self._maps[access] = mmap.mmap(self._fd, self._size, access=access)
        return found

    def close(self) -> None:
        """Let go of the file, and delete it."""
        self._path.unlink(missing_ok=True)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        for one in self._maps.values():
            with contextlib.suppress(BufferError):
                one.close()
        self._maps.clear()


def _copied(source: int, target: int, size: int, place: int) -> Iterator[int]:
    done = 0
    while done < size:
        data = os.pread(source, min(size - done, 4 << 20), done)
        done += os.pwrite(target, data, place + done)
        yield done
