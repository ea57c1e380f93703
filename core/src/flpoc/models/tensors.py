"""Models as safetensors files: mapped for reading, written from where the arrays are.

flpoc reads and writes the format itself: the library's NumPy loader turns a
mapped file into anonymous memory and does not know bfloat16. Little endian
only.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
import xxhash

from flpoc.errors import IntegrityError, UsageError
from flpoc.models.checksums import Written, called, checksum_file, opened, refusal, refusals, sha256_file
from flpoc.models.header import ITEM_BYTES, Header, TensorSpec, encode_header, parse_header, read_header

__all__ = [
    "BFLOAT16",
    "Header",
    "TensorFile",
    "TensorSpec",
    "TensorWriter",
    "Written",
    "checksum_file",
    "dtype_name",
    "narrow",
    "numpy_dtype",
    "parse_header",
    "read_header",
    "sha256_file",
    "widen",
    "write_tensors",
]

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
#: Dtype and shape of tensors, by name.
Layout: TypeAlias = Mapping[str, tuple[str, tuple[int, ...]]]

#: NumPy has no bfloat16: its bits, under a name that tells them from whole numbers.
BFLOAT16 = np.dtype([("bfloat16", "<u2")])

_NUMPY: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "BF16": BFLOAT16,
    "F8_E4M3": np.dtype([("float8_e4m3", "u1")]),
    "F8_E5M2": np.dtype([("float8_e5m2", "u1")]),
}
_NAMES = {dtype: name for name, dtype in _NUMPY.items()}
#: What the ``ml_dtypes`` package calls its types.
_FOREIGN = {"bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"}
_CHUNK = 4 << 20
_BLOCK = 1 << 16
#: Smaller files are written at once anyway; deleting one whose room was taken before can wait for the disk.
_WORTH_TAKING = 1 << 18


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy dtype for the safetensors name of one (``F32``); bfloat16 and float8 are opaque.

    Raises:
        UsageError: There is none of this name.
    """
    return _NUMPY[_known(name)]


def _known(name: object) -> str:
    if isinstance(name, str) and name in _NUMPY:
        return name
    try:
        meant = "" if name is None else dtype_name(np.dtype(name))  # type: ignore[call-overload]  # it may be anything
    except TypeError:
        meant = ""
    hint = f"name it {meant!r}: `dtype_name` gives that name" if meant else f"there are {', '.join(_NUMPY)}"
    raise UsageError(f"{name!r} is not the name of a tensor's dtype", hint=hint)


def dtype_name(dtype: np.dtype[Any]) -> str:
    """The safetensors name of a NumPy dtype, or empty if it has none."""
    return _NAMES.get(dtype) or _NAMES.get(dtype.newbyteorder("<")) or _FOREIGN.get(dtype.name, "")


def widen(array: Array) -> Array:
    """Bfloat16 as float32; exact."""
    return (array.view("<u2").astype("<u4") << np.uint32(16)).view("<f4")


def narrow(array: Array) -> Array:
    """float32 as bfloat16, rounded to the nearest, ties to even; NaN stays NaN."""
    bits = np.ascontiguousarray(array, dtype="<f4").view("<u4")
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    is_nan = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
    quiet = (bits >> np.uint32(16)) | np.uint32(0x40)  # dropping low bits alone could make an infinity of it
    return np.where(is_nan, quiet, rounded).astype("<u2").view(BFLOAT16).reshape(np.shape(array))


class TensorFile(Mapping[str, Array]):
    """The tensors of a file, by name; nothing is in memory until it is read.

    Arrays stay usable after :meth:`close`, until they are dropped themselves.
    """

    def __init__(self, fd: int, header: Header, head: bytes, name: str) -> None:
        self.header = header
        #: The first bytes of the file as they were checked: length and header.
        self.head = head
        self._name = name
        self._fd = fd
        self._specs = {spec.name: spec for spec in header.tensors}
        self._maps: dict[int, mmap.mmap] = {}

    @classmethod
    def open(cls, path_or_fd: Path | str | int) -> TensorFile:
        """Open a file and check its header; a given descriptor may be closed afterwards.

        Raises:
            IntegrityError: It is not a sound safetensors file, or a link.
        """
        name = called(path_or_fd)
        with opened(path_or_fd) as fd:
            header, head = read_header(fd, where=name)
            return cls(os.dup(fd), header, head, name)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tensors, in the order of their bytes."""
        return tuple(self._specs)

    def spec(self, name: str) -> TensorSpec:
        """Dtype, shape and place of a tensor."""
        return self._specs[name]

    def __getitem__(self, name: str) -> Array:
        return self._flat(self._specs[name], mmap.ACCESS_READ).reshape(self._specs[name].shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)

    def block(self, name: str, start: int, stop: int) -> Array:
        """Elements *start* to *stop* of a tensor, flat and read-only."""
        return self._flat(self._specs[name], mmap.ACCESS_READ)[start:stop]

    def arrays(self, writable: bool = True) -> dict[str, Array]:
        """All tensors; writable ones are copied page by page when they are changed, the file never is."""
        access = mmap.ACCESS_COPY if writable else mmap.ACCESS_READ
        return {name: self._flat(spec, access).reshape(spec.shape) for name, spec in self._specs.items()}

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        for mapped in self._maps.values():
            with contextlib.suppress(BufferError):  # an array still looks into it: unmapped when that goes
                mapped.close()
        self._maps.clear()

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()

    def _flat(self, spec: TensorSpec, access: int) -> Array:
        mapped = self._maps.get(access)
        if mapped is None:
            mapped = self._maps[access] = self._map(access)
        dtype = _NUMPY[spec.dtype]
        if spec.begin == spec.end:
            return np.empty(0, dtype)
        return np.frombuffer(mapped, dtype, spec.elements, self.header.data_start + spec.begin)

    def _map(self, access: int) -> mmap.mmap:
        if self._fd < 0:
            raise UsageError(f"{self._name}: the file is closed")
        try:
            return mmap.mmap(self._fd, self.header.total_bytes, access=access)
        except OSError as error:
            raise refusal(error, self._name) from error
        except ValueError:
            raise IntegrityError(f"{self._name}: the file became shorter while it was open") from None


class TensorWriter:
    """Writes a file of a known layout, block by block.

    The room is taken at once, so that a full disk is told before anything is
    written. Left by an exception, or never finished, a file that it created
    is removed.
    """

    def __init__(self, path_or_fd: Path | str | int, layout: Header | Layout) -> None:
        """Take the room for *layout*: a header, or dtype and shape by name, such as ``{"w": ("F32", (3, 4))}``.

        Raises:
            UsageError: A dtype is not the name of one.
            IntegrityError: The file exists already, or the layout cannot be written.
            ResourceError: The disk is full.
        """
        if isinstance(layout, Header):
            layout = {spec.name: (spec.dtype, spec.shape) for spec in layout.tensors}
        head, self.header = encode_header((name, _known(dtype), shape) for name, (dtype, shape) in layout.items())
        self._specs = {spec.name: spec for spec in self.header.tensors}
        self._target = path_or_fd
        self._hasher = xxhash.xxh3_128()
        self._hashed = 0
        self._data_written = -len(head)
        self._in_order = True
        with refusals(path_or_fd):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._fd = os.dup(path_or_fd) if isinstance(path_or_fd, int) else os.open(path_or_fd, flags, 0o600)
        try:
            with refusals(path_or_fd):
                _take_room(self._fd, self.header.total_bytes)
            self._put(0, memoryview(head))
        except BaseException:
            self.discard()
            raise

    def write_block(self, name: str, start: int, array: Array) -> None:
        """Write elements of a tensor, from element *start* on.

        Raises:
            UsageError: The tensor has another dtype, or fewer elements.
            ResourceError: The disk is full.
        """
        spec = self._specs[name]
        if dtype_name(array.dtype) != spec.dtype:
            raise UsageError(f"tensor {name!r} is {spec.dtype}, not {array.dtype}")
        if not 0 <= start <= start + array.size <= spec.elements:
            raise UsageError(f"tensor {name!r} has {spec.elements} elements: no room for {array.size} at {start}")
        place = self.header.data_start + spec.begin + start * ITEM_BYTES[spec.dtype]
        for piece in _pieces(array):
            self._put(place, piece)
            place += len(piece)

    def finish(self) -> Written:
        """Close the file and say what was written; it is not synced yet.

        Raises:
            UsageError: Something has not been written.
        """
        try:
            if self._data_written < self.header.data_bytes:
                raise UsageError(f"{self._data_written} bytes of {self.header.data_bytes} are written")
            start = self._hashed if self._in_order else 0
            hasher = self._hasher if self._in_order else xxhash.xxh3_128()
            checksum = checksum_file(self._fd, start, hasher) if start < self.header.total_bytes else hasher.hexdigest()
        except BaseException:
            self.discard()
            raise
        os.close(self._fd)
        self._fd = -1
        return Written(self.header.total_bytes, checksum)

    def discard(self) -> None:
        """Close the file and remove it, if it was created here and is not finished."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            if not isinstance(self._target, int):
                Path(self._target).unlink(missing_ok=True)

    def __enter__(self) -> TensorWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.discard()

    def _put(self, place: int, piece: memoryview) -> None:
        if place < self._hashed:
            self._in_order = False
        elif place == self._hashed and self._in_order:
            self._hasher.update(piece)
            self._hashed += len(piece)
        self._data_written += len(piece)
        with refusals(self._target):
            while piece:
                done = os.pwrite(self._fd, piece, place)
                piece, place = piece[done:], place + done


def write_tensors(
    path_or_fd: Path | str | int,
    arrays: Mapping[str, Any],
    *,
    progress: Callable[[int], None] | None = None,
) -> Written:
    """Write named arrays as a safetensors file; the same arrays give the same bytes.

    Args:
        path_or_fd: A file to create (mode 0600), or an open, empty one (readable and writable).
        arrays: Arrays, or numbers and lists that NumPy makes arrays of.
        progress: Called with the number of bytes of tensors written so far.

    Raises:
        IntegrityError: A value is no array of numbers (names the tensor), or the file exists.
        ResourceError: The disk is full; nothing is left.
    """
    found = {name: _as_array(name, value) for name, value in arrays.items()}
    layout = {name: (dtype_name(array.dtype), array.shape) for name, array in found.items()}
    with TensorWriter(path_or_fd, layout) as writer:
        for spec in writer.header.tensors:
            writer.write_block(spec.name, 0, found[spec.name])
            if progress is not None:
                progress(spec.end)
        return writer.finish()


def _as_array(name: Any, value: Any) -> Array:
    hint = "params must be numbers or arrays of numbers"
    if not isinstance(name, str):
        raise IntegrityError(f"tensor name {name!r} is not text", hint="name every parameter with a string")
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise IntegrityError(f"tensor {name!r} cannot be made an array: {error}", hint=hint) from None
    if not dtype_name(array.dtype):
        raise IntegrityError(f"tensor {name!r} has dtype {array.dtype}, which cannot be written", hint=hint)
    return array


def _pieces(array: Array) -> Iterator[memoryview]:
    """The array's bytes in C order, little endian, in pieces; whole arrays are never copied."""
    name = dtype_name(array.dtype)
    if array.dtype.kind == "V":
        array = array.view(f"<u{ITEM_BYTES[name]}")
        dtype = array.dtype
    else:
        dtype = _NUMPY[name]
    if array.flags.c_contiguous and array.dtype == dtype:
        whole = array.reshape(-1).view(np.uint8).data
        for start in range(0, len(whole), _CHUNK):
            yield whole[start : start + _CHUNK]
        return
    walk = np.nditer(
        array,
        flags=["external_loop", "buffered", "zerosize_ok"],
        order="C",
        op_dtypes=[dtype],
        casting="equiv",
        buffersize=_BLOCK,
    )
    for piece in walk:
        yield np.ascontiguousarray(piece).view(np.uint8).data


def _take_room(fd: int, size: int) -> None:
    if size >= _WORTH_TAKING:
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
    os.ftruncate(fd, size)
