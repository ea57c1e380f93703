"""Archives of jobs: the same bytes each time, and nothing hostile is unpacked."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import textwrap
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flpoc.errors import FlpocError, IntegrityError, ResourceError
from flpoc.jobs.archive import pack, read, unpack
from flpoc.jobs.paths import FileEntry, Limits, check_paths

FILES = {
    "code/train.py": b"print('hello')\n" * 50,
    "code/lib/model.py": b"x = 1\n",
    "code/empty": b"",
    "code/zeros.csv": b"0,0,0\n" * 500_000,
    "code/noise": hashlib.shake_256(b"seed").digest(70_000),
    "code/größe.txt": "größe".encode(),
}


def entry(path: str, content: bytes) -> FileEntry:
    return FileEntry(path, len(content), hashlib.sha256(content).hexdigest())


def entries(files: dict[str, bytes]) -> list[FileEntry]:
    return [entry(path, content) for path, content in files.items()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path, content in FILES.items():
        file = tmp_path / "job" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return tmp_path / "job"


def member(
    name: str | bytes = "code/a.py",
    content: bytes = b"a" * 40,
    *,
    method: int = 8,
    flags: int = 0,
    mode: int = 0o100600,
    dos: int = 0,
    packed: bytes | None = None,
    local: dict[str, Any] | None = None,
    central: dict[str, Any] | None = None,
    extra: bytes = b"",
    comment: bytes = b"",
) -> dict[str, Any]:
    """One member; *local* and *central* overwrite what stands in only one of its two headers."""
    raw = name.encode() if isinstance(name, str) else name
    if packed is None:
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = deflate.compress(content) + deflate.flush() if method == 8 else content
    if not raw.isascii():
        flags |= 0x800
    fields = {
        "version": 20, "flags": flags, "method": method, "time": 0, "date": 0x21, "crc": zlib.crc32(content),
        "packed": len(packed), "size": len(content), "name": raw, "extra": extra,
        "comment": comment, "disk": 0, "mode": mode << 16 | dos, "offset": None,
    }  # fmt: skip
    return {"local": fields | (local or {}), "central": fields | (central or {}), "bytes": packed}


def build(
    *members: dict[str, Any], before: bytes = b"", between: bytes = b"", after: bytes = b"", end: Any = None
) -> bytes:
    """A zip archive by hand; *end* overwrites fields of its last record."""
    out, table = io.BytesIO(), io.BytesIO()
    out.write(before)
    for one in members:
        offset, h = out.tell(), one["local"]
        out.write(struct.pack("<4s5H3I2H", b"PK\3\4", *(h[k] for k in ("version", "flags", "method", "time", "date")),
                              h["crc"], h["packed"], h["size"], len(h["name"]), len(h["extra"])))  # fmt: skip
        out.write(h["name"] + h["extra"] + one["bytes"])
        h = one["central"]
        offset = offset if h["offset"] is None else h["offset"]
        table.write(struct.pack("<4s6H3I5H2I", b"PK\1\2", h["version"] | 3 << 8, h["version"],
                                *(h[k] for k in ("flags", "method", "time", "date", "crc", "packed", "size")),
                                len(h["name"]), len(h["extra"]), len(h["comment"]),
                                h["disk"], 0, h["mode"], offset))  # fmt: skip
        table.write(h["name"] + h["extra"] + h["comment"])
    out.write(between)
    fields = {"disk": 0, "first": 0, "here": len(members), "count": len(members), "length": len(table.getvalue()),
              "start": out.tell(), "comment": b""} | (end or {})  # fmt: skip
    out.write(table.getvalue())
    out.write(struct.pack("<4s4H2IH", b"PK\5\6", fields["disk"], fields["first"], fields["here"], fields["count"],
                          fields["length"], fields["start"], len(fields["comment"])) + fields["comment"])  # fmt: skip
    return out.getvalue() + after


def overlapping() -> bytes:
    """Two names for the same bytes of the archive."""
    content = b"a" * 40
    return build(member("code/a.py", content), member("code/b.py", content, central={"offset": 0}))


def tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as file:
        found = tarfile.TarInfo("code/a.py")
        file.addfile(found)
    return out.getvalue()


def foreign_zip(**options: Any) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", **options) as file, file.open("code/a.py", "w", force_zip64=True) as inner:
        inner.write(b"a" * 40)
    return out.getvalue()


A = b"a" * 40
SMALL = Limits(total=3 << 19)
NOISE = hashlib.shake_256(b"noise").digest(1 << 20)
BOMB = b"\0" * (1 << 20)
ZIP64 = struct.pack("<2H2Q", 1, 16, 40, 40)

#: Row of the catalogue: archive, what the message says, and what is raised.
HOSTILE: dict[str, tuple[Any, str, type[FlpocError]]] = {
    # A1: paths that lead elsewhere
    "A1 parent": (build(member("../x")), "not a path below", IntegrityError),
    "A1 parent inside": (build(member("a/../../b")), "not a path below", IntegrityError),
    "A1 harmless parent": (build(member("a/../b")), "not a path below", IntegrityError),
    "A1 absolute": (build(member("/abs")), "not a path below", IntegrityError),
    "A1 drive": (build(member("C:\\x")), "not a path below", IntegrityError),
    "A1 drive without slash": (build(member("c:x")), "not a path below", IntegrityError),
    "A1 host": (build(member("\\\\host\\x")), "backslash", IntegrityError),
    "A1 backslash": (build(member("a\\b")), "backslash", IntegrityError),
    "A1 dot": (build(member("./a")), "not a path below", IntegrityError),
    "A1 double slash": (build(member("a//b")), "not a path below", IntegrityError),
    "A1 no name": (build(member("")), "not a path below", IntegrityError),
    # A2: what is no file
    "A2 symlink": (build(member("a", b"/etc/passwd", mode=0o120777)), "not a regular file", IntegrityError),
    "A2 device": (build(member("a", b"", mode=0o020666)), "not a regular file", IntegrityError),
    "A2 pipe": (build(member("a", b"", mode=0o010666)), "not a regular file", IntegrityError),
    "A2 socket": (build(member("a", b"", mode=0o140666)), "not a regular file", IntegrityError),
    "A2 folder": (build(member("a/", b"", mode=0o040755)), "not a regular file", IntegrityError),
    "A2 folder by its DOS bit": (build(member("a", b"", dos=0x10)), "not a regular file", IntegrityError),
    # A3: two files that are one
    "A3 twice": (build(member("a"), member("a")), "same file", IntegrityError),
    "A3 case": (build(member("code/A"), member("code/a")), "same file", IntegrityError),
    "A3 sharp s": (build(member("straße"), member("STRASSE")), "same file", IntegrityError),
    "A3 composed": (build(member("\u00e9"), member("e\u0301")), "same file", IntegrityError),
    "A3 file and folder": (build(member("a"), member("a/b")), "both a file and a folder", IntegrityError),
    "A3 file and folder by case": (build(member("A"), member("a/b/c")), "both a file and a folder", IntegrityError),
    # A4: names
    "A4 NUL": (build(member("a\0b")), "control characters", IntegrityError),
    "A4 newline": (build(member("a\nb")), "control characters", IntegrityError),
    "A4 escape": (build(member("a\x1b[2Jb")), "control characters", IntegrityError),
    "A4 C1 control": (build(member("a\x9bb")), "control characters", IntegrityError),
    "A4 trailing dot": (build(member("a./b")), "every system", IntegrityError),
    "A4 trailing space": (build(member("a ")), "every system", IntegrityError),
    "A4 CON": (build(member("code/CON")), "every system", IntegrityError),
    "A4 con.txt": (build(member("con.txt")), "every system", IntegrityError),
    "A4 lpt1": (build(member("lpt1.tar.gz")), "every system", IntegrityError),
    "A4 not UTF-8": (build(member(b"\xff\xfe", flags=0x800)), "not text", IntegrityError),
    "A4 Latin-1 without flag": (
        build(member("a", local={"name": b"\xe9"}, central={"name": b"\xe9"})), "not text", IntegrityError,
    ),
    # A5: bombs
    "A5 bomb": (build(member(content=BOMB)), "grow more than", ResourceError),
    "A5 bomb that lies about its size": (
        build(member(content=BOMB, local={"size": 40}, central={"size": 40})), "longer than it says", IntegrityError,
    ),
    "A5 total": (build(member("a", NOISE, method=0), member("b", NOISE)), "bytes unpacked", ResourceError),
    "A5 overlap": (overlapping(), "overlaps", IntegrityError),
    "A5 overlap by size": (
        build(member("a", local={"packed": 60}, central={"packed": 60}), member("b")), "overlaps", IntegrityError,
    ),
    # A6: a structure that lies
    "A6 sizes differ": (build(member(local={"size": 41})), "two different ways", IntegrityError),
    "A6 names differ": (build(member("code/a.py", local={"name": b"code/b.py"})), "two different", IntegrityError),
    "A6 methods differ": (build(member(local={"method": 0})), "two different ways", IntegrityError),
    "A6 flags differ": (build(member(local={"flags": 0x800})), "two different ways", IntegrityError),
    "A6 crc differs": (build(member(local={"crc": 1})), "two different ways", IntegrityError),
    "A6 wrong crc": (build(member(local={"crc": 1}, central={"crc": 1})), "CRC", IntegrityError),
    "A6 stored with two sizes": (build(member(method=0, central={"size": 9})), "two sizes", IntegrityError),
    "A6 not deflate": (build(member(packed=b"\xff" * 20)), "damaged", IntegrityError),
    "A6 cut deflate": (build(member(packed=zlib.compress(A, wbits=-15)[:-1])), "cut off", IntegrityError),
    "A6 deflate with a tail": (build(member(packed=zlib.compress(A, wbits=-15) + b"tail")), "longer", IntegrityError),
    "A6 truncated": (build(member())[:-1], "cut off", IntegrityError),
    "A6 half": (build(member("code/a.py", os.urandom(900)))[:500], "cut off", IntegrityError),
    "A6 trailing data": (build(member(), after=b"x"), "after its end", IntegrityError),
    "A6 archive comment": (build(member(), end={"comment": b"hello"}), "after its end", IntegrityError),
    "A6 prepended": (build(member(), before=b"#!/bin/sh\n"), "not a zip", IntegrityError),
    "A6 prepended zip": (build(member(), before=build(member("b"))), "stands before", IntegrityError),
    "A6 gap before the table": (build(member(), between=b"gap"), "between its files", IntegrityError),
    "A6 gap after the table": (build(member(), end={"length": 40}), "not where it says", IntegrityError),
    "A6 count too small": (build(member("a"), member("b"), end={"here": 1, "count": 1}), "between", IntegrityError),
    "A6 count too large": (build(member(), end={"here": 2, "count": 2}), "damaged", IntegrityError),
    "A6 multi-disk": (build(member(), end={"disk": 1}), "several parts", IntegrityError),
    "A6 multi-disk by count": (build(member(), end={"here": 0}), "several parts", IntegrityError),
    "A6 member on another disk": (build(member(central={"disk": 1})), "zip64", IntegrityError),
    "A6 encrypted": (build(member(flags=1)), "encrypted", IntegrityError),
    "A6 data descriptor": (build(member(flags=8)), "flags", IntegrityError),
    "A6 masked headers": (build(member(flags=0x2000)), "flags", IntegrityError),
    "A6 unknown method": (build(member(method=12)), "unknown method", IntegrityError),
    "A6 zip64 sizes": (
        build(member(extra=ZIP64, local={"size": 0xFFFFFFFF}, central={"size": 0xFFFFFFFF})), "zip64", IntegrityError,
    ),
    "A6 zip64 end": (build(member(), end={"start": 0xFFFFFFFF}), "zip64", IntegrityError),
    "A6 zip64 of another writer": (foreign_zip(), "zip64|flags|between", IntegrityError),
    "A6 extra field": (build(member(extra=b"UT\5\0\3abcd")), "extra fields", IntegrityError),
    "A6 extra field in one place": (build(member(local={"extra": b"UT\0\0"})), "between|overlaps", IntegrityError),
    "A6 member comment": (build(member(comment=b"x")), "comment", IntegrityError),
    "A6 offset beyond the end": (build(member(central={"offset": 9999})), "overlaps", IntegrityError),
    # A7: too many, too deep
    "A7 too many": (build(*(member(f"f{n}", b"") for n in range(10_001))), "10001 files", ResourceError),
    "A7 too deep": (build(member("/".join("a" * 33))), "33 levels", ResourceError),
    "A7 long path": (build(member("/".join(["a" * 200] * 21))), "too long", ResourceError),
    "A7 long name": (build(member("a" * 256)), "too long", ResourceError),
    # A9: something else
    "A9 tar.gz": (tar(), "not a zip", IntegrityError),
    "A9 7z": (b"7z\xbc\xaf\x27\x1c" + b"\0" * 100, "not a zip", IntegrityError),
    "A9 empty file": (b"", "not a zip", IntegrityError),
    "A9 random bytes": (hashlib.shake_256(b"x").digest(5000), "not a zip", IntegrityError),
    "A9 only a magic": (b"PK\3\4", "cut off", IntegrityError),
    # A10: not what the manifest says
    "A10 more than expected": (build(member(), member("code/b.py")), "not in the manifest", IntegrityError),
    "A10 less than expected": (build(), "not in the archive", IntegrityError),
    "A10 another size": (build(member(content=b"b" * 41)), "41 bytes", IntegrityError),
    "A10 another content": (build(member(content=b"b" * 40)), "SHA-256", IntegrityError),
}  # fmt: skip


@pytest.mark.row("A1", "A2", "A3", "A4", "A5", "A6", "A7", "A9", "A10", "S18")
@pytest.mark.parametrize(("archive", "reason", "kind"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_archive_is_refused_and_leaves_nothing(
    tmp_path: Path, archive: bytes, reason: str, kind: type[FlpocError]
) -> None:
    (tmp_path / "job.zip").write_bytes(archive)
    (tmp_path / "inside").mkdir()
    with pytest.raises(kind, match=reason) as refusal:
        unpack(
            tmp_path / "job.zip", tmp_path / "inside" / "into", [entry("code/a.py", A)], limits=Limits(total=3 << 19)
        )
    assert list((tmp_path / "inside").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inside", "job.zip"]
    assert refusal.value.message.startswith("job.zip: ")
    assert refusal.value.message.isprintable()
    assert len(refusal.value.message) < 300


@pytest.mark.row("A1", "A2", "A3", "A4", "A5", "A6", "A7", "A9")
@pytest.mark.parametrize("case", [case for case in HOSTILE if not case.startswith("A10")])
def test_a_hostile_archive_is_not_read_either(tmp_path: Path, case: str) -> None:
    archive, reason, kind = HOSTILE[case]
    (tmp_path / "job.zip").write_bytes(archive)
    with pytest.raises(kind, match=reason) as refusal:
        read(tmp_path / "job.zip", SMALL)
    assert refusal.value.message.startswith("job.zip: ")


def test_a_small_archive_is_read_without_a_list_of_its_files(tmp_path: Path) -> None:
    small = {path: content for path, content in FILES.items() if len(content) < 100_000}
    (tmp_path / "job.zip").write_bytes(build(*(member(path, content, method=0) for path, content in small.items())))
    assert read(tmp_path / "job.zip", Limits()) == small


@pytest.mark.row("A6")
def test_a_file_that_is_smaller_than_manifest_and_archive_say_is_refused(tmp_path: Path) -> None:
    (tmp_path / "job.zip").write_bytes(build(member(local={"size": 50}, central={"size": 50})))
    with pytest.raises(IntegrityError, match="shorter than it says"):
        unpack(tmp_path / "job.zip", tmp_path / "into", [FileEntry("code/a.py", 50, entry("", A).sha256)])
    assert [path.name for path in tmp_path.iterdir()] == ["job.zip"]


@pytest.mark.row("A6")
def test_every_byte_of_an_archive_counts(tmp_path: Path) -> None:
    """Whatever single byte is changed, nothing is unpacked: the manifest's content or nothing."""
    archive = build(member(), member("code/b.py", b"import os\n"))
    wanted = [entry("code/a.py", A), entry("code/b.py", b"import os\n")]
    silent = 0
    for place in range(len(archive)):
        changed = bytearray(archive)
        changed[place] ^= 0xFF
        (tmp_path / "job.zip").write_bytes(changed)
        try:
            unpack(tmp_path / "job.zip", tmp_path / "into", wanted)
        except (IntegrityError, ResourceError):
            assert not (tmp_path / "into").exists()
            continue
        silent += 1
        assert (tmp_path / "into" / "code" / "a.py").read_bytes() == A
        shutil.rmtree(tmp_path / "into")
    # "made by" (2), internal attributes (2), permissions and DOS attributes say nothing about the content
    assert silent <= 2 * 8


def test_what_is_packed_is_unpacked(folder: Path, tmp_path: Path) -> None:
    pack(folder, entries(FILES), tmp_path / "job.zip")
    unpack(tmp_path / "job.zip", tmp_path / "into", entries(FILES))
    found = {path.relative_to(tmp_path / "into").as_posix(): path for path in (tmp_path / "into").rglob("*")}
    assert {name: path.read_bytes() for name, path in found.items() if path.is_file()} == FILES


def test_other_tools_read_what_is_packed(folder: Path, tmp_path: Path) -> None:
    pack(folder, entries(FILES), tmp_path / "job.zip")
    with zipfile.ZipFile(tmp_path / "job.zip") as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == FILES


def test_the_same_files_give_the_same_archive(folder: Path, tmp_path: Path) -> None:
    pack(folder, entries(FILES), tmp_path / "first.zip")
    for path in folder.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o755)
    pack(folder, entries(FILES)[::-1], tmp_path / "second.zip")
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()


def test_files_that_shrink_are_deflated(folder: Path, tmp_path: Path) -> None:
    pack(folder, [entry("code/train.py", FILES["code/train.py"])], tmp_path / "job.zip")
    assert (tmp_path / "job.zip").stat().st_size < len(FILES["code/train.py"])


def test_an_archive_without_files_is_one(tmp_path: Path) -> None:
    pack(tmp_path, [], tmp_path / "job.zip")
    unpack(tmp_path / "job.zip", tmp_path / "into", [])
    assert list((tmp_path / "into").iterdir()) == []


@pytest.mark.row("A8")
def test_modes_in_the_archive_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "job.zip").write_bytes(build(member(mode=0o106777)))
    unpack(tmp_path / "job.zip", tmp_path / "into", [entry("code/a.py", A)])
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in [tmp_path / "into", *(tmp_path / "into").rglob("*")]
    }
    assert modes == {"into": 0o700, "code": 0o700, "a.py": 0o600}


@pytest.mark.row("A5")
def test_a_nested_archive_is_a_file_like_any_other(tmp_path: Path) -> None:
    inner = build(member(content=BOMB))
    (tmp_path / "job.zip").write_bytes(build(member("code/data.zip", inner, method=0)))
    unpack(tmp_path / "job.zip", tmp_path / "into", [entry("code/data.zip", inner)])
    assert (tmp_path / "into" / "code" / "data.zip").read_bytes() == inner


@pytest.mark.row("S18")
def test_an_existing_folder_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "job.zip").write_bytes(build(member()))
    (tmp_path / "into").mkdir()
    with pytest.raises(IntegrityError, match="exists"):
        unpack(tmp_path / "job.zip", tmp_path / "into", [entry("code/a.py", A)])
    assert list((tmp_path / "into").iterdir()) == []


@pytest.mark.row("A2")
def test_a_linked_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real.zip").write_bytes(build(member()))
    (tmp_path / "job.zip").symlink_to("real.zip")
    with pytest.raises(IntegrityError):
        unpack(tmp_path / "job.zip", tmp_path / "into", [entry("code/a.py", A)])


@pytest.mark.row("A10")
def test_a_manifest_that_names_a_file_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "job.zip").write_bytes(build(member()))
    with pytest.raises(IntegrityError, match="twice"):
        unpack(tmp_path / "job.zip", tmp_path / "into", [entry("code/a.py", A), entry("code/a.py", A)])


@pytest.mark.row("A11", "P5", "S18")
@pytest.mark.parametrize("fails_at", ["posix_fallocate", "mkdir"])
def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: str) -> None:
    (tmp_path / "job.zip").write_bytes(build(member("code/a.py"), member("code/deep/b.py")))
    calls: list[Any] = []
    real: Callable[..., Any] = getattr(os, fails_at)

    def full(*arguments: Any, **named: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments, **named)

    monkeypatch.setattr(os, fails_at, full)
    with pytest.raises(ResourceError, match="No space left"):
        unpack(tmp_path / "job.zip", tmp_path / "into", [entry("code/a.py", A), entry("code/deep/b.py", A)])
    assert [path.name for path in tmp_path.iterdir()] == ["job.zip"]


@pytest.mark.row("J11")
@pytest.mark.parametrize("change", [b"", b"shorter", b"x" * 750, b"longer" * 1000])
def test_a_file_that_is_not_the_listed_one_is_not_packed(folder: Path, tmp_path: Path, change: bytes) -> None:
    wanted = entries(FILES)
    (folder / "code" / "train.py").write_bytes(change)
    with pytest.raises(IntegrityError, match=r"train\.py: changed"):
        pack(folder, wanted, tmp_path / "job.zip")
    assert not (tmp_path / "job.zip").exists()


@pytest.mark.row("J10")
def test_a_file_that_became_a_link_is_not_packed(folder: Path, tmp_path: Path) -> None:
    (folder / "code" / "train.py").rename(tmp_path / "elsewhere.py")
    (folder / "code" / "train.py").symlink_to(tmp_path / "elsewhere.py")
    with pytest.raises(IntegrityError):
        pack(folder, entries(FILES), tmp_path / "job.zip")


@pytest.mark.parametrize("path", ["code/a.py", "code/.hidden", "code/a b.py", "code/größe/日本.py", "code/contents.py"])
def test_ordinary_paths_are_accepted(path: str) -> None:
    check_paths([path])


def test_a_large_file_takes_little_memory_to_pack_and_unpack(tmp_path: Path) -> None:
    code = f"""
        import hashlib, os, resource
        from pathlib import Path
        from flpoc.jobs.archive import pack, unpack
        from flpoc.jobs.paths import FileEntry
        folder = Path({str(tmp_path)!r})
        noise = hashlib.shake_256(b"noise").digest(1 << 20)
        with (folder / "big").open("wb") as file:
            for _ in range(24):
                file.write(noise)
        digest = hashlib.file_digest((folder / "big").open("rb"), "sha256").hexdigest()
        entries = [FileEntry("big", 24 << 20, digest)]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        pack(folder, entries, folder / "job.zip")
        unpack(folder / "job.zip", folder / "into", entries)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 12 << 10
