"""The updates of a round, mapped: however many there are, with a handful of open files."""

from __future__ import annotations

import contextlib
import mmap
import os
from pathlib import Path

import numpy as np

from flpoc.models.header import parse_header, read_head
from flpoc.models.tensors import Array, TensorFile, TensorSpec, numpy_dtype

#: Above so many updates of a round they are put into one file: each file of its own takes two descriptors.
MOST_FILES = 64
_ALIGNED = 64


class PackedTensors(TensorFile):
    """One of the models in a pack; its bytes are in the map that all of them share."""

    __slots__ = ("_pack", "_place")

    def __init__(self, pack: Pack, layout: TensorFile, place: int) -> None:
        # all that is not the place is shared: there may be tens of thousands
        self.__dict__ = layout.__dict__
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
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        path.unlink()  # gone with the last who looks into it
        self._size = 0
        self._maps: dict[int, mmap.mmap] = {}
        self._layouts: dict[bytes, TensorFile] = {}

    def add(self, path: Path) -> PackedTensors:
        """Take a model in; its file is deleted.

        Raises:
            IntegrityError: It is not a sound safetensors file.
        """
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            head, size = read_head(fd, where=path.name)
            layout = self._layouts.get(head)
            if layout is None or layout.header.total_bytes != size:
                header = parse_header(head, size, where=path.name)
                layout = self._layouts[head] = TensorFile(-1, header, head, "an update")
            place = self._size
            _copy(fd, self._fd, size, place)
        finally:
            os.close(fd)
        path.unlink()
        self._size = place + -(-size // _ALIGNED) * _ALIGNED
        return PackedTensors(self, layout, place)

    def mapped(self, access: int) -> mmap.mmap:
        """The whole file; asked for when all are in."""
        found = self._maps.get(access)
        if found is None or len(found) < self._size:
            os.ftruncate(self._fd, self._size)
            found = self._maps[access] = mmap.mmap(self._fd, self._size, access=access)
        return found

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        for one in self._maps.values():
            with contextlib.suppress(BufferError):
                one.close()
        self._maps.clear()


def _copy(source: int, target: int, size: int, place: int) -> None:
    done = 0
    while done < size:
        data = os.pread(source, min(size - done, 4 << 20), done)
        done += os.pwrite(target, data, place + done)


class RoundFiles:
    """The files of a round's updates.

    Args:
        folder: Where answers go.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._many = False
        self._pack: Pack | None = None
        self._files: list[Path] = []

    def expect(self, count: int) -> None:
        """So many may come."""
        self._many = self._many or count > MOST_FILES

    def take(self, name: str) -> TensorFile:
        """Open an update.

        Raises:
            IntegrityError: It is not a sound safetensors file.
        """
        path = self._folder / name
        if self._many:
            self._pack = self._pack or Pack(self._folder / "pack")
            return self._pack.add(path)
        self._files.append(path)
        return TensorFile.open(path)

    def close(self) -> None:
        """Delete them."""
        if self._pack is not None:
            self._pack.close()
        for path in self._files:
            path.unlink(missing_ok=True)
        self._files.clear()
