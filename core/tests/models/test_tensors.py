"""Safetensors files: read and written by us and by the library, and the same to both."""

from __future__ import annotations

import errno
import json
import os
import resource
import struct
import subprocess
import sys
import textwrap
import tracemalloc
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import safetensors.numpy
import xxhash

from flpoc.errors import IntegrityError, ResourceError, UsageError
from flpoc.models.header import MAX_HEADER_BYTES, encode_header
from flpoc.models.tensors import (
    BFLOAT16,
    TensorFile,
    TensorWriter,
    checksum_file,
    narrow,
    parse_header,
    sha256_file,
    widen,
    write_tensors,
)

PLAIN = ["?", "u1", "i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8"]


def some(dtype: str, shape: tuple[int, ...] = (3, 5)) -> Any:
    return (np.random.default_rng(3).standard_normal(shape) * 50).astype(dtype)


def model() -> dict[str, Any]:
    return {
        **{f"t{np.dtype(code).name}": some(code) for code in PLAIN},
        "scalar": np.array(2.5, dtype="<f4"),
        "empty": np.zeros((0, 4), dtype="<f8"),
        "größe": some("<f4", (7,)),
    }


def raw(entries: Any, data: bytes = b"", length: int | None = None) -> bytes:
    head = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(head) if length is None else length) + head + data


def same(ours: Any, theirs: Any) -> bool:
    return ours.dtype == theirs.dtype and ours.shape == theirs.shape and bool(np.array_equal(ours, theirs))


def test_the_library_reads_what_we_write(tmp_path: Path) -> None:
    write_tensors(tmp_path / "m", model())
    found = safetensors.numpy.load_file(tmp_path / "m")
    assert found.keys() == model().keys()
    assert all(same(found[name], array) for name, array in model().items())


def test_we_read_what_the_library_writes(tmp_path: Path) -> None:
    safetensors.numpy.save_file(model(), tmp_path / "m", metadata={"format": "pt"})
    with TensorFile.open(tmp_path / "m") as found:
        assert set(found) == set(model())
        assert all(same(found[name], array) for name, array in model().items())


def test_the_library_accepts_our_bfloat16(tmp_path: Path) -> None:
    bits = np.arange(6, dtype="<u2").reshape(2, 3)
    write_tensors(tmp_path / "m", {"half": bits.view(BFLOAT16)})
    [(name, found)] = safetensors.deserialize((tmp_path / "m").read_bytes())
    assert (name, found["dtype"], found["shape"]) == ("half", "BF16", [2, 3])
    assert bytes(found["data"]) == bits.tobytes()


def test_a_bfloat16_file_of_another_writer_is_read_bit_by_bit(tmp_path: Path) -> None:
    bits = np.array([0x3F80, 0xC000, 0x7FC0, 0x0001], dtype="<u2")
    (tmp_path / "m").write_bytes(raw({"h": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}}, bits.tobytes()))
    with TensorFile.open(tmp_path / "m") as found:
        assert found["h"].dtype == BFLOAT16
        assert found["h"].view("<u2").tolist() == bits.tolist()
        assert widen(found["h"])[:2].tolist() == [1.0, -2.0]


@pytest.mark.parametrize("name", ["F8_E4M3", "F8_E5M2"])
def test_float8_is_carried_as_it_is(tmp_path: Path, name: str) -> None:
    (tmp_path / "m").write_bytes(
        raw({"q": {"dtype": name, "shape": [2, 2], "data_offsets": [0, 4]}}, b"\x00\x38\x7f\xff")
    )
    with TensorFile.open(tmp_path / "m") as found:
        write_tensors(tmp_path / "again", found)
    with TensorFile.open(tmp_path / "again") as again:
        assert again.spec("q").dtype == name
        assert again["q"].tobytes() == b"\x00\x38\x7f\xff"


def test_the_same_tensors_give_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    first = write_tensors(tmp_path / "a", model())
    second = write_tensors(tmp_path / "b", dict(reversed(model().items())))
    assert first == second
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tensors_are_ordered_by_size_of_element_then_name_and_aligned(tmp_path: Path) -> None:
    write_tensors(tmp_path / "m", {"b": some("<f4"), "a": some("<f4"), "z": some("<f8"), "c": some("?")})
    with TensorFile.open(tmp_path / "m") as found:
        assert found.names == ("z", "a", "b", "c")
        assert found.header.data_start % 8 == 0
        assert all(found[name].flags.aligned for name in found)


def test_the_checksum_is_that_of_the_file(tmp_path: Path) -> None:
    written = write_tensors(tmp_path / "m", model())
    content = (tmp_path / "m").read_bytes()
    assert written.size == len(content)
    assert written.checksum == xxhash.xxh3_128(content).hexdigest() == checksum_file(tmp_path / "m")
    assert checksum_file(tmp_path / "m", 100, xxhash.xxh3_128(content[:100])) == written.checksum


def test_sha256_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert sha256_file(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    "array",
    [
        some("<f4", (40, 30)).T,
        some("<f4", (40, 30))[::3, 1::2],
        np.broadcast_to(np.float32(3), (5, 4)),
        some("<f4", (40, 30)).astype(">f4"),
        some("<f8", (70000, 2))[:, 1],
        narrow(some("<f4", (6, 4))).T,
        np.asfortranarray(some("<i8")),
    ],
    ids=["transposed", "strided", "broadcast", "big endian", "long column", "bfloat16", "fortran"],
)
def test_arrays_need_not_be_contiguous(tmp_path: Path, array: Any) -> None:
    write_tensors(tmp_path / "m", {"w": array})
    with TensorFile.open(tmp_path / "m") as found:
        assert found["w"].shape == array.shape
        assert found["w"].tolist() == array.tolist()


def test_numbers_and_lists_become_arrays(tmp_path: Path) -> None:
    write_tensors(tmp_path / "m", {"f": 1.5, "i": 3, "l": [[1.0, 2.0], [3.0, 4.0]], "b": True})
    with TensorFile.open(tmp_path / "m") as found:
        assert {name: found.spec(name).dtype for name in found} == {"f": "F64", "i": "I64", "l": "F64", "b": "BOOL"}
        assert found["l"].tolist() == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    "value", [None, "text", {"a": 1}, [[1], [2, 3]], np.array([None]), 1j, np.array(["x"])], ids=repr
)
def test_what_is_no_array_of_numbers_is_refused_by_name(tmp_path: Path, value: Any) -> None:
    with pytest.raises(IntegrityError, match=r"layer\.odd"):
        write_tensors(tmp_path / "m", {"fine": 1.0, "layer.odd": value})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a\nb", "x" * 1025, "__metadata__", "\ud800"])
def test_names_that_cannot_be_read_back_are_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(IntegrityError, match="tensor name"):
        write_tensors(tmp_path / "m", {name: 1.0})
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_private_and_never_overwritten(tmp_path: Path) -> None:
    write_tensors(tmp_path / "m", {"a": 1.0})
    assert (tmp_path / "m").stat().st_mode & 0o777 == 0o600
    before = (tmp_path / "m").read_bytes()
    with pytest.raises(IntegrityError, match="exists"):
        write_tensors(tmp_path / "m", {"a": 2.0})
    assert (tmp_path / "m").read_bytes() == before


def test_links_are_neither_written_through_nor_read_through(tmp_path: Path) -> None:
    write_tensors(tmp_path / "m", {"a": 1.0})
    (tmp_path / "link").symlink_to(tmp_path / "m")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(IntegrityError):
        TensorFile.open(tmp_path / "link")
    with pytest.raises(IntegrityError):
        write_tensors(tmp_path / "dangling", {"a": 1.0})
    assert not (tmp_path / "nowhere").exists()


def test_a_pipe_is_refused_without_waiting_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(IntegrityError, match="not a regular file"):
        TensorFile.open(tmp_path / "pipe")


@pytest.mark.row("P5")
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ResourceError, match="No space left"):
        write_tensors(tmp_path / "m", {"a": np.zeros(1 << 16)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [np.float32, np.dtype("f4"), "float32"], ids=["type", "dtype", "name"])
def test_a_layout_of_numpy_types_is_refused_with_the_right_name(tmp_path: Path, dtype: Any) -> None:
    with pytest.raises(UsageError) as refusal:
        TensorWriter(tmp_path / "m", {"w": (dtype, (3, 4))})
    assert "'F32'" in refusal.value.hint
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("dtype", ["F33", "", None, 7, object, ("F32",)], ids=repr)
def test_a_layout_of_unknown_types_is_refused_with_the_names_there_are(tmp_path: Path, dtype: Any) -> None:
    with pytest.raises(UsageError) as refusal:
        TensorWriter(tmp_path / "m", {"w": (dtype, (3, 4))})
    assert "F64, BF16" in refusal.value.hint


def test_an_open_file_can_be_read_and_written_by_descriptor(tmp_path: Path) -> None:
    with (tmp_path / "m").open("w+b") as file:
        written = write_tensors(file.fileno(), {"a": some("<f4")})
        with TensorFile.open(file.fileno()) as found:
            assert same(found["a"], some("<f4"))
        assert checksum_file(file.fileno()) == written.checksum


def test_arrays_can_be_changed_in_place_and_the_file_stays(tmp_path: Path) -> None:
    write_tensors(tmp_path / "m", {"a": some("<f4")})
    before = checksum_file(tmp_path / "m")
    with TensorFile.open(tmp_path / "m") as found:
        found.arrays()["a"][:] = 7
        assert found.arrays()["a"].tolist() == [[7.0] * 5] * 3
        assert same(found["a"], some("<f4"))
        with pytest.raises(ValueError, match="read-only"):
            found["a"][:] = 7
    assert checksum_file(tmp_path / "m") == before


def test_arrays_outlive_the_closed_file(tmp_path: Path) -> None:
    write_tensors(tmp_path / "m", {"a": some("<f4")})
    with TensorFile.open(tmp_path / "m") as found:
        array = found["a"]
    (tmp_path / "m").unlink()
    assert same(array, some("<f4"))


def test_a_closed_file_says_so(tmp_path: Path) -> None:
    write_tensors(tmp_path / "m", {"a": 1.0})
    found = TensorFile.open(tmp_path / "m")
    found.close()
    found.close()
    with pytest.raises(UsageError, match="closed"):
        found["a"]


def test_blocks_are_flat_pieces(tmp_path: Path) -> None:
    write_tensors(tmp_path / "m", {"a": np.arange(12, dtype="<i4").reshape(3, 4)})
    with TensorFile.open(tmp_path / "m") as found:
        assert found.block("a", 3, 6).tolist() == [3, 4, 5]
        assert found.block("a", 10, 99).tolist() == [10, 11]


def test_opening_takes_no_memory_for_the_tensors(tmp_path: Path) -> None:
    write_tensors(tmp_path / "m", {"a": np.zeros(5_000_000, dtype="<f4")})
    tracemalloc.start()
    try:
        with TensorFile.open(tmp_path / "m") as found:
            assert float(found["a"].sum()) == 0
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_writing_takes_no_copy_of_the_arrays(tmp_path: Path) -> None:
    arrays = {"a": np.ones((1000, 5000), dtype="<f4"), "b": np.ones((1000, 2500), dtype="<f8").T}
    tracemalloc.start()
    try:
        write_tensors(tmp_path / "m", arrays)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def test_progress_counts_up_to_all_bytes(tmp_path: Path) -> None:
    seen: list[int] = []
    write_tensors(tmp_path / "m", model(), progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == sum(array.nbytes for array in model().values())


class TestWriter:
    layout: ClassVar = {"a": ("F32", (4, 3)), "b": ("I64", (5,))}
    a = np.arange(12, dtype="<f4")
    b = np.arange(5, dtype="<i8")

    @pytest.mark.parametrize("order", ["bBaA", "AaBb", "aAbB", "bBaAb", "bBaAA"])
    def test_blocks_may_come_in_any_order_and_again(self, tmp_path: Path, order: str) -> None:
        parts = {"b": ("b", 0, 2), "B": ("b", 2, 5), "a": ("a", 0, 7), "A": ("a", 7, 12)}
        with TensorWriter(tmp_path / "m", self.layout) as writer:
            for name, start, stop in (parts[letter] for letter in order):
                writer.write_block(name, start, getattr(self, name)[start:stop])
            written = writer.finish()
        assert written.checksum == checksum_file(tmp_path / "m")
        with TensorFile.open(tmp_path / "m") as found:
            assert found["a"].tolist() == self.a.reshape(4, 3).tolist()
            assert found["b"].tolist() == self.b.tolist()

    def test_gives_the_bytes_that_write_tensors_gives(self, tmp_path: Path) -> None:
        write_tensors(tmp_path / "whole", {"a": self.a.reshape(4, 3), "b": self.b})
        with TensorWriter(tmp_path / "m", self.layout) as writer:
            writer.write_block("a", 0, self.a)
            writer.write_block("b", 0, self.b)
            writer.finish()
        assert (tmp_path / "m").read_bytes() == (tmp_path / "whole").read_bytes()

    def test_an_incomplete_file_is_refused_and_removed(self, tmp_path: Path) -> None:
        writer = TensorWriter(tmp_path / "m", self.layout)
        writer.write_block("b", 0, self.b)
        with pytest.raises(UsageError, match="written"):
            writer.finish()
        assert list(tmp_path.iterdir()) == []

    def test_an_exception_removes_the_file(self, tmp_path: Path) -> None:
        with pytest.raises(ZeroDivisionError), TensorWriter(tmp_path / "m", self.layout):
            raise ZeroDivisionError
        assert list(tmp_path.iterdir()) == []

    def test_another_dtype_or_too_many_elements_are_refused(self, tmp_path: Path) -> None:
        with TensorWriter(tmp_path / "m", self.layout) as writer:
            with pytest.raises(UsageError, match="F32"):
                writer.write_block("a", 0, self.b)
            with pytest.raises(UsageError, match="12 elements"):
                writer.write_block("a", 1, self.a)


GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
DATA = b"\0" * 8
UNSOUND: dict[str, tuple[bytes, str]] = {
    "empty file": (b"", "too short"),
    "five bytes": (b"abcde", "too short"),
    "header of 2**63 bytes": (raw({}, length=1 << 63), "allowed"),
    "header over 32 MiB": (raw({}, length=MAX_HEADER_BYTES + 1), "allowed"),
    "header longer than the file": (raw({"a": GOOD}, DATA, length=4096), "in a file of"),
    "not JSON": (raw(b"{nonsense}"), "header"),
    "not UTF-8": (raw(b'{"\xff\xfe":1}'), "UTF-8"),
    "UTF-16": (raw('{"a": 1}'.encode("utf-16")), "UTF-8|header"),
    "not an object": (raw([1, 2]), "not an object"),
    "nested deeply": (raw(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "deep"),
    "many values": (raw(b'{"a":[' + b"[]," * 2_000_001 + b"[]]}"), "too many values"),
    "name given twice": (raw(b'{"a":%b,"a":%b}' % ((json.dumps(GOOD).encode(),) * 2), DATA), "twice"),
    "NaN": (raw(b'{"a": NaN}'), "NaN"),
    "unknown dtype": (raw({"a": {**GOOD, "dtype": "C128"}}, DATA), "unknown dtype"),
    "dtype is a list": (raw({"a": {**GOOD, "dtype": ["F32"]}}, DATA), "unknown dtype"),
    "a key is missing": (raw({"a": {"dtype": "F32", "shape": [2]}}, DATA), "exactly"),
    "a key too many": (raw({"a": {**GOOD, "x": 1}}, DATA), "exactly"),
    "entry is no object": (raw({"a": 3}, DATA), "exactly"),
    "negative shape": (raw({"a": {**GOOD, "shape": [-2]}}, DATA), "shape"),
    "negative shapes that cancel out": (raw({"a": {**GOOD, "shape": [-1, -2]}}, DATA), "shape"),
    "shape of floats": (raw({"a": {**GOOD, "shape": [2.0]}}, DATA), "shape"),
    "shape of truth values": (raw({"a": {**GOOD, "shape": [True, 2]}}, DATA), "shape"),
    "shape overflows": (raw({"a": {**GOOD, "shape": [1 << 62, 4]}}, DATA), "larger than any memory"),
    "shape wraps around to fit": (raw({"a": {**GOOD, "shape": [(1 << 62) + 1, 8]}}, DATA), "larger than any memory"),
    "empty shape overflows": (raw({"a": {**GOOD, "shape": [0, 1 << 62], "data_offsets": [0, 0]}}), "larger"),
    "33 dimensions": (raw({"a": {**GOOD, "shape": [1] * 32 + [2]}}, DATA), "shape"),
    "huge integer": (raw(b'{"a": {"dtype":"F32","shape":[%b],"data_offsets":[0,8]}}' % (b"9" * 5000), DATA), "header"),
    "size is not that of the shape": (raw({"a": {**GOOD, "shape": [3]}}, DATA), "need 12 bytes"),
    "offsets backwards": (raw({"a": {**GOOD, "data_offsets": [8, 0]}}, DATA), "range"),
    "three offsets": (raw({"a": {**GOOD, "data_offsets": [0, 8, 8]}}, DATA), "range"),
    "negative offset": (raw({"a": {**GOOD, "data_offsets": [-8, 0]}}, DATA), "range"),
    "beyond the end": (raw({"a": GOOD}, DATA[:4]), "need 8 bytes"),
    "bytes left over": (raw({"a": GOOD}, DATA + b"x"), "need 8 bytes"),
    "overlap": (raw({"a": GOOD, "b": {**GOOD, "data_offsets": [4, 12]}}, DATA * 2), "overlaps"),
    "the same bytes twice": (raw({"a": GOOD, "b": GOOD}, DATA), "overlaps"),
    "hole": (raw({"a": GOOD, "b": {**GOOD, "data_offsets": [16, 24]}}, DATA * 3), "hole"),
    "hole at the start": (raw({"a": {**GOOD, "data_offsets": [8, 16]}}, DATA * 2), "hole"),
    "long name": (raw({"n" * 1025: GOOD}, DATA), "tensor name"),
    "control character": (raw({"a\x1b[2J": GOOD}, DATA), "tensor name"),
    "lone surrogate": (raw(b'{"\\ud800":' + json.dumps(GOOD).encode() + b"}", DATA), "tensor name"),
    "too many tensors": (
        raw({f"{n}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for n in range(100_001)}),
        "100001 tensors",
    ),
}


@pytest.mark.row("W8", "S4")
@pytest.mark.parametrize(("content", "reason"), UNSOUND.values(), ids=UNSOUND.keys())
def test_an_unsound_file_is_refused_with_its_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(IntegrityError, match=reason) as refusal:
        TensorFile.open(tmp_path / "m")
    assert str(tmp_path / "m") in refusal.value.message
    assert len(refusal.value.message) < 400


@pytest.mark.row("W8", "S4")
def test_every_truncation_of_a_file_is_refused() -> None:
    content = raw({"a": GOOD, "b": {**GOOD, "data_offsets": [8, 16]}}, DATA * 2)
    for size in range(len(content)):
        with pytest.raises(IntegrityError):
            parse_header(content[:size], size)


def test_metadata_is_accepted_and_ignored() -> None:
    header = parse_header(raw({"__metadata__": {"format": "pt"}, "a": GOOD}, DATA), len(raw({"a": GOOD}, DATA)) + 34)
    assert [spec.name for spec in header.tensors] == ["a"]


def test_no_tensors_at_all_are_a_sound_file(tmp_path: Path) -> None:
    write_tensors(tmp_path / "m", {})
    with TensorFile.open(tmp_path / "m") as found:
        assert dict(found) == {}


def test_layouts_are_compared_by_name_whatever_the_order_of_bytes() -> None:
    _, ours = encode_header([("a", "F32", (2,)), ("b", "F32", (3,))])
    swapped = {"b": {**GOOD, "shape": [3], "data_offsets": [0, 12]}, "a": {**GOOD, "data_offsets": [12, 20]}}
    theirs = parse_header(raw(swapped, b"\0" * 20), len(raw(swapped)) + 20)
    assert ours.same_layout(theirs) == ""


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ([("a", "F32", (2,))], "'b' is missing"),
        ([("a", "F32", (2,)), ("b", "F32", (3,)), ("c", "F32", ())], "'c' is not expected"),
        ([("a", "F32", (2,)), ("b", "F32", (1, 3))], "'b': shape is [1, 3], expected [3]"),
        ([("a", "F64", (2,)), ("b", "F32", (3,))], "'a': dtype is F64, expected F32"),
    ],
)
def test_the_first_difference_of_layouts_is_named(other: Any, said: str) -> None:
    _, ours = encode_header([("a", "F32", (2,)), ("b", "F32", (3,))])
    assert said in ours.same_layout(encode_header(other)[1])


def test_bfloat16_survives_widening_and_narrowing_for_every_pattern() -> None:
    every = np.arange(1 << 16, dtype="<u2").view(BFLOAT16)
    back = narrow(widen(every)).view("<u2")
    is_nan = np.isnan(widen(every))
    assert np.array_equal(back[~is_nan], every.view("<u2")[~is_nan])
    assert np.isnan(widen(back[is_nan].view(BFLOAT16))).all()


@pytest.mark.parametrize(
    ("value", "rounded"),
    [
        (0x3F800000, 0x3F80),  # 1
        (0x3F808000, 0x3F80),  # a tie goes to the even one below
        (0x3F818000, 0x3F82),  # a tie goes to the even one above
        (0x3F808001, 0x3F81),
        (0x7F7FFFFF, 0x7F80),  # the largest float32 is beyond bfloat16
        (0x80000000, 0x8000),  # -0
        (0x7F800000, 0x7F80),  # infinity
        (0x00008001, 0x0001),  # subnormal
    ],
)
def test_narrowing_rounds_to_the_nearest_even(value: int, rounded: int) -> None:
    found = narrow(np.array([value], dtype="<u4").view("<f4"))
    assert hex(found.view("<u2")[0]) == hex(rounded)


def test_nan_with_only_low_bits_stays_nan() -> None:
    patterns = np.array([0x7F800001, 0xFF800001, 0x7FFFFFFF, 0xFFFFFFFF], dtype="<u4").view("<f4")
    assert np.isnan(widen(narrow(patterns))).all()


def test_the_header_is_read_without_numpy() -> None:
    code = """
        import sys
        import flpoc.models.header, flpoc.models.checksums
        sys.exit("numpy" in sys.modules)
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False).returncode == 0


def test_a_file_larger_than_a_process_may_write_is_told(tmp_path: Path) -> None:
    code = f"""
        import resource, signal, numpy
        from flpoc.errors import ResourceError
        from flpoc.models.tensors import write_tensors
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            write_tensors({str(tmp_path / "m")!r}, {{"a": numpy.zeros(100_000)}})
        except ResourceError as error:
            print(error.message)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, capture_output=True, text=True)
    assert "File too large" in done.stdout
    assert list(tmp_path.iterdir()) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100_000
