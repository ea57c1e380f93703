"""The header of a safetensors file: names, dtypes, shapes and places of its tensors.

The format (https://github.com/huggingface/safetensors): eight bytes with the
length of the header, little endian; the header, a JSON object; the tensors,
one after the other. Nothing here needs NumPy.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable
from typing import Any

import attrs

from flpoc.errors import ConfigError, IntegrityError
from flpoc.models.checksums import refusals
from flpoc.settings import parse_json

#: Bytes per element, by the name that safetensors gives the dtype.
ITEM_BYTES: dict[str, int] = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "U16": 2,
    "I16": 2,
    "F16": 2,
    "BF16": 2,
    "U32": 4,
    "I32": 4,
    "F32": 4,
    "U64": 8,
    "I64": 8,
    "F64": 8,
}

MAX_HEADER_BYTES = 32 << 20
MAX_TENSORS = 100_000
MAX_NAME = 1024
MAX_DIMENSIONS = 32

#: More brackets and commas than this many tensors can need: refused before the JSON is parsed.
_MAX_MARKS = 4_000_000
_BAD_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_METADATA = "__metadata__"


@attrs.frozen
class TensorSpec:
    """One tensor of a file.

    Attributes:
        name: Its name, unique in the file.
        dtype: As safetensors writes it: ``F32``, ``BF16``, ``I64``, ...
        shape: Lengths of its dimensions; empty for a scalar.
        begin: First byte, counted from the start of the tensors.
        end: Byte after the last.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)


@attrs.frozen
class Header:
    """What a safetensors file holds and where.

    Attributes:
        tensors: In the order of their bytes.
        data_start: Byte of the file at which the tensors start.
        data_bytes: Bytes of all tensors together.
    """

    tensors: tuple[TensorSpec, ...]
    data_start: int
    data_bytes: int

    @property
    def total_bytes(self) -> int:
        """Size of the whole file."""
        return self.data_start + self.data_bytes

    def same_layout(self, other: Header) -> str:
        """Say how *other* differs in names, dtypes or shapes; empty when it does not."""
        mine = {spec.name: spec for spec in self.tensors}
        yours = {spec.name: spec for spec in other.tensors}
        for name in sorted(mine.keys() | yours.keys()):
            if name not in yours:
                return f"tensor {name!r} is missing"
            if name not in mine:
                return f"tensor {name!r} is not expected"
            for what in ("shape", "dtype"):
                want, have = getattr(mine[name], what), getattr(yours[name], what)
                if want != have:
                    return f"tensor {name!r}: {what} is {_show(have)}, expected {_show(want)}"
        return ""


def parse_header(head: bytes, file_bytes: int, *, where: str = "model file") -> Header:
    """Read the header of a file of *file_bytes* bytes; anything doubtful is refused.

    Args:
        head: The first bytes of the file, at least the whole header.
        file_bytes: Size of the file.
        where: What messages call the file.

    Raises:
        IntegrityError: This is not a sound safetensors file; says what is wrong.
    """
    try:
        length = header_length(head, file_bytes)
        if len(head) < 8 + length:
            raise _Unsound(f"header is cut off after {len(head)} bytes")
        entries = _parse_entries(head[8 : 8 + length])
        specs = tuple(sorted((_spec(*entry) for entry in entries.items()), key=lambda s: (s.begin, s.end, s.name)))
        data_bytes = _check_cover(specs, file_bytes - 8 - length)
    except _Unsound as error:
        raise IntegrityError(f"{where}: {error}", hint="write it with flpoc or the safetensors library") from None
    return Header(specs, 8 + length, data_bytes)


def header_length(head: bytes, file_bytes: int) -> int:
    """Length of the JSON part of a header, from the first eight bytes of the file.

    Raises:
        IntegrityError: It cannot be the length of a header of such a file.
    """
    if len(head) < 8 or file_bytes < 10:
        raise _Unsound(f"too short for a safetensors file ({file_bytes} bytes)")
    length = int.from_bytes(head[:8], "little")
    if length > MAX_HEADER_BYTES:
        raise _Unsound(f"header of {length} bytes; {MAX_HEADER_BYTES} are allowed")
    if length > file_bytes - 8:
        raise _Unsound(f"header of {length} bytes in a file of {file_bytes}")
    return length


def read_header(fd: int, *, where: str = "model file") -> tuple[Header, bytes]:
    """Read and check the header of an open file; gives it parsed and as it is.

    Raises:
        IntegrityError: This is not a sound safetensors file.
    """
    head, size = read_head(fd, where=where)
    return parse_header(head, size, where=where), head


def read_head(fd: int, *, where: str = "model file") -> tuple[bytes, int]:
    """The bytes of the header of an open file, for :func:`parse_header`, and the size of the file.

    Raises:
        IntegrityError: There is no header.
    """
    with refusals(where):
        size = os.fstat(fd).st_size
        start = os.pread(fd, 8, 0)
        try:
            length = header_length(start, size)
        except IntegrityError as error:
            raise IntegrityError(f"{where}: {error}", hint="this is not a safetensors file") from None
        return bytes(os.pread(fd, 8 + length, 0)), size


def encode_header(tensors: Iterable[tuple[str, str, tuple[int, ...]]]) -> tuple[bytes, Header]:
    """Lay out tensors (name, dtype, shape) canonically; gives the first bytes of the file and the header.

    The order is by size of the element, largest first, then by name, so that
    every tensor is aligned and the same tensors always give the same bytes.

    Raises:
        IntegrityError: A name or dtype cannot be written; names it.
    """
    specs, place = [], 0
    for name, dtype, shape in sorted(tensors, key=lambda entry: (-ITEM_BYTES[entry[1]], entry[0])):
        size = math.prod(shape) * ITEM_BYTES[dtype]
        specs.append(TensorSpec(name, dtype, tuple(int(n) for n in shape), place, place + size))
        place += size
    entries = {s.name: {"dtype": s.dtype, "shape": s.shape, "data_offsets": [s.begin, s.end]} for s in specs}
    try:
        for spec in specs:
            _check_name(spec.name)
        if len(entries) != len(specs) or len(specs) > MAX_TENSORS:
            raise _Unsound(f"{len(specs)} tensors: a name is given twice or there are more than {MAX_TENSORS}")
        text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        if len(text) > MAX_HEADER_BYTES:
            raise _Unsound(f"header of {len(text)} bytes; {MAX_HEADER_BYTES} are allowed")
    except _Unsound as error:
        raise IntegrityError(f"tensors cannot be written: {error}") from None
    return len(text).to_bytes(8, "little") + text, Header(tuple(specs), 8 + len(text), place)


class _Unsound(IntegrityError):
    """Something is wrong with a header, still without the name of the file."""


def _parse_entries(text: bytes) -> dict[str, Any]:
    if sum(text.count(mark) for mark in (b"[", b"{", b",")) > _MAX_MARKS:
        raise _Unsound("header has too many values")
    try:
        data = parse_json(text.decode("utf-8"), "header")
    except (ConfigError, UnicodeDecodeError) as error:
        raise _Unsound(str(error) if isinstance(error, ConfigError) else "header is not UTF-8") from None
    if not isinstance(data, dict):
        raise _Unsound("header is not an object")
    data.pop(_METADATA, None)
    if len(data) > MAX_TENSORS:
        raise _Unsound(f"{len(data)} tensors; {MAX_TENSORS} are allowed")
    return data


def _check_name(name: str) -> None:
    if len(name) > MAX_NAME or _BAD_CHARACTERS.search(name) or name == _METADATA:
        raise _Unsound(f"tensor name {name[:60]!r} is too long, reserved or has control characters")


def _spec(name: str, entry: Any) -> TensorSpec:
    _check_name(name)
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _Unsound(f"tensor {name!r} needs exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise _Unsound(f"tensor {name!r}: unknown dtype {str(dtype)[:40]!r}")
    if not _naturals(shape) or len(shape) > MAX_DIMENSIONS:
        raise _Unsound(f"tensor {name!r}: shape {str(shape)[:60]} is not one")
    if not _naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _Unsound(f"tensor {name!r}: data_offsets {str(offsets)[:60]} are not a range")
    # zeros count as one here: (0, 2**62, 2**62) has no elements and still cannot be addressed
    if math.prod(max(n, 1) for n in shape) * ITEM_BYTES[dtype] >= 1 << 63:
        raise _Unsound(f"tensor {name!r}: shape {str(shape)[:60]} is larger than any memory")
    size = math.prod(shape) * ITEM_BYTES[dtype]
    if size != offsets[1] - offsets[0]:
        raise _Unsound(f"tensor {name!r}: shape and dtype need {size} bytes, data_offsets {offsets[1] - offsets[0]}")
    return TensorSpec(name, dtype, tuple(shape), offsets[0], offsets[1])


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 1 << 63 for n in value)


def _check_cover(specs: tuple[TensorSpec, ...], room: int) -> int:
    """Tensors, in byte order, must fill the rest of the file without holes or overlaps."""
    place = 0
    for spec in specs:
        if spec.begin != place:
            what = "leaves a hole before it" if spec.begin > place else "overlaps another"
            raise _Unsound(f"tensor {spec.name!r} {what}")
        place = spec.end
    if place != room:
        raise _Unsound(f"tensors need {place} bytes, the file has {room} for them")
    return place


def _show(value: Any) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)
