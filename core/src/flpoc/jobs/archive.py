"""A job's files as a zip archive: packed the same way each time, unpacked with distrust.

The walker reads the structure itself and accepts exactly what :func:`pack`
writes: one plain archive of regular files, nothing before, between or after
them. What it does not accept it refuses as a whole; it never rewrites a name
and leaves nothing behind. Structure and names: PKWARE APPNOTE.TXT 6.3.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import struct
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import attrs

from flpoc.errors import FlpocError, IntegrityError, ResourceError
from flpoc.jobs.paths import FileEntry, Limits, check_paths
from flpoc.models.checksums import opened, refusal, refusals

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_LOCAL_MAGIC, _CENTRAL_MAGIC, _END_MAGIC = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _UTF8 = 1, 0x800
_NEW_YEAR_1980 = 0x21
_CHUNK = 1 << 18


@attrs.frozen
class _Member:
    """One file of an archive, as the table of contents describes it."""

    path: str
    raw_name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int
    version: int
    time: int
    date: int

    @property
    def end(self) -> int:
        return self.offset + _LOCAL.size + len(self.raw_name) + self.packed

    def local_header(self) -> bytes:
        """The header that must stand before its bytes."""
        times = (self.version, self.flags, self.method, self.time, self.date)
        sizes = (self.crc, self.packed, self.size, len(self.raw_name), 0)
        return _LOCAL.pack(_LOCAL_MAGIC, *times, *sizes) + self.raw_name


def pack(folder: Path, entries: Sequence[FileEntry], target: Path) -> None:
    """Write files of *folder* into the zip archive *target*; the same files give the same bytes.

    Raises:
        IntegrityError: A file is not the one that *entries* describes; nothing is left.
        ResourceError: The disk or a limit is full; nothing is left.
    """
    check_paths(entry.path for entry in entries)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with refusals(target):
        fd = os.open(target, flags, 0o600)
    try:
        with refusals(target), os.fdopen(fd, "w+b") as out:
            members = [_pack_one(out, folder, entry) for entry in sorted(entries, key=lambda entry: entry.path)]
            _write_directory(out, members)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _pack_one(out: BinaryIO, folder: Path, entry: FileEntry) -> _Member:
    offset = out.tell()
    # what shrinks too well, or not at all, is stored: unpacking refuses what looks like a bomb
    for method in (_DEFLATED, _STORED):
        name = entry.path.encode()
        member = _Member(entry.path, name, _UTF8, method, 0, 0, entry.size, offset, 20, 0, _NEW_YEAR_1980)
        out.seek(offset)
        out.truncate()
        out.write(member.local_header())
        deflate = zlib.compressobj(6, zlib.DEFLATED, -15) if method == _DEFLATED else None
        crc = 0
        for piece in _pieces_of(folder, entry):
            crc = zlib.crc32(piece, crc)
            out.write(deflate.compress(piece) if deflate else piece)
        out.write(deflate.flush() if deflate else b"")
        member = attrs.evolve(member, crc=crc, packed=out.tell() - offset - len(member.local_header()))
        if member.packed < entry.size <= member.packed * Limits().ratio:
            break
    out.seek(offset)
    out.write(member.local_header())
    out.seek(0, os.SEEK_END)
    return member


def _pieces_of(folder: Path, entry: FileEntry) -> Iterator[bytes]:
    """The bytes of a file, which must be those of *entry*."""
    digest, size = hashlib.sha256(), 0
    with opened(folder / entry.path) as fd:
        while piece := os.read(fd, min(_CHUNK, entry.size + 1 - size)):
            digest.update(piece)
            size += len(piece)
            if size > entry.size:
                break
            yield piece
    if size != entry.size or digest.hexdigest() != entry.sha256:
        raise IntegrityError(f"{entry.path}: changed while it was packed", hint="submit again")


def _write_directory(out: BinaryIO, members: list[_Member]) -> None:
    start = out.tell()
    for one in members:
        times = (one.version | 3 << 8, one.version, one.flags, one.method, one.time, one.date)
        sizes = (one.crc, one.packed, one.size, len(one.raw_name), 0, 0)
        mode = (stat.S_IFREG | 0o600) << 16
        out.write(_CENTRAL.pack(_CENTRAL_MAGIC, *times, *sizes, 0, 0, mode, one.offset) + one.raw_name)
    size = out.tell() - start
    if size > Limits().directory:
        raise ResourceError("the paths of the files are too long together", hint="shorten them, or use fewer files")
    out.write(_END.pack(_END_MAGIC, 0, 0, len(members), len(members), size, start, 0))


def unpack(archive: Path, into: Path, expected: Sequence[FileEntry], *, limits: Limits | None = None) -> None:
    """Create the folder *into* with exactly the *expected* files of *archive*, or nothing at all.

    Folders are 0700 and files 0600, whatever the archive says.

    Raises:
        IntegrityError: The archive is not sound, or does not hold what is expected; says what and where.
        ResourceError: It takes more than the limits or the disk allow.
    """
    limits = limits or Limits()
    if into.exists() or into.is_symlink():
        raise IntegrityError(f"{into}: exists already")
    with opened(archive) as fd:
        try:
            members = _read_directory(fd, os.fstat(fd).st_size, limits)
            _check_sound(members, limits)
            _check_expected(members, expected)
            _check_headers(fd, members)
        except FlpocError as error:
            raise _named(error, archive) from None
        with refusals(into):
            fresh = Path(tempfile.mkdtemp(prefix=f".{into.name}.", dir=into.parent))
        try:
            hashes = {entry.path: entry.sha256 for entry in expected}
            for member in members:
                _unpack_one(fd, member, hashes[member.path], fresh)
            fresh.rename(into)
        except BaseException as error:
            shutil.rmtree(fresh, ignore_errors=True)
            if isinstance(error, OSError):
                raise refusal(error, into) from error
            if isinstance(error, FlpocError):
                raise _named(error, archive) from None
            raise


def read(archive: Path, limits: Limits) -> dict[str, bytes]:
    """Read a small archive whose files nobody has listed before: content by path.

    Raises:
        IntegrityError: The archive is not sound; says what and where.
        ResourceError: It holds more than the limits allow.
    """
    with opened(archive) as fd:
        try:
            members = _read_directory(fd, os.fstat(fd).st_size, limits)
            _check_sound(members, limits)
            _check_headers(fd, members)
            return {member.path: _content(fd, member) for member in members}
        except FlpocError as error:
            raise _named(error, archive) from None


class _Refused(IntegrityError):
    """The archive is refused."""


def _named(error: FlpocError, archive: Path) -> FlpocError:
    """The same error, with the name of the archive in front."""
    kind = ResourceError if isinstance(error, ResourceError) else IntegrityError
    return kind(f"{archive.name}: {error.message}", hint=error.hint)


def _read_directory(fd: int, size: int, limits: Limits) -> list[_Member]:
    """The table of contents, at the very end of the archive."""
    if os.pread(fd, 4, 0) not in (_LOCAL_MAGIC, _END_MAGIC):
        raise _Refused("not a zip archive", hint="jobs travel as zip archives only; submit the folder with flpoc")
    tail = os.pread(fd, _END.size, max(0, size - _END.size))
    if len(tail) < _END.size or tail[:4] != _END_MAGIC:
        raise _Refused("cut off, or something stands after its end")
    _, disk, first_disk, here, count, length, start, comment = _END.unpack(tail)
    if disk or first_disk or here != count or comment:
        raise _Refused("in several parts, or with a comment")
    if count > limits.files:
        raise ResourceError(f"{count} files; {limits.files} are allowed")
    if start + length + _END.size != size:
        raise _Refused("its table of contents is not where it says, or its sizes need zip64")
    if length > limits.directory:
        raise ResourceError(f"a table of contents of {length} bytes; {limits.directory} are allowed")
    table, members, place = os.pread(fd, length, start), [], 0
    for _ in range(count):
        member, place = _read_member(table, place)
        members.append(member)
    if place != len(table):
        raise _Refused("something stands between its table of contents and its end")
    _check_places(members, start)
    return members


def _read_member(table: bytes, place: int) -> tuple[_Member, int]:
    if place + _CENTRAL.size > len(table) or table[place : place + 4] != _CENTRAL_MAGIC:
        raise _Refused("its table of contents is damaged")
    version, *fields = _CENTRAL.unpack_from(table, place)[2:]
    flags, method, time, date, crc, packed, size, name_bytes, extra, comment, disk, _, mode, offset = fields
    name = table[place + _CENTRAL.size : place + _CENTRAL.size + name_bytes]
    if len(name) < name_bytes:
        raise _Refused("its table of contents is damaged")
    path = _decoded(name, flags)
    if flags & _ENCRYPTED:
        raise _Refused(f"{path!r} is encrypted")
    if flags & ~_UTF8:
        raise _Refused(f"{path!r} has flags {flags:#x}, which are not used here")
    if method not in (_STORED, _DEFLATED):
        raise _Refused(f"{path!r} is packed with the unknown method {method}")
    if extra or comment or disk or version > 20 or 0xFFFFFFFF in (packed, size, offset):
        raise _Refused(f"{path!r} has extra fields, a comment, or needs zip64")
    if mode & 0x10 or path.endswith("/") or stat.S_IFMT(mode >> 16) not in (0, stat.S_IFREG):
        raise _Refused(f"{path!r} is not a regular file")
    if method == _STORED and packed != size:
        raise _Refused(f"{path!r} is stored, but its two sizes differ")
    member = _Member(path, name, flags, method, crc, packed, size, offset, version, time, date)
    return member, place + _CENTRAL.size + name_bytes


def _decoded(name: bytes, flags: int) -> str:
    try:
        return name.decode("utf-8" if flags & _UTF8 else "ascii")
    except UnicodeDecodeError:
        raise _Refused(f"the name {name[:60]!r} is not text") from None


def _check_places(members: list[_Member], end: int) -> None:
    """Files must follow each other from the first byte to the table of contents."""
    place = 0
    for member in sorted(members, key=lambda one: one.offset):
        if member.offset != place:
            raise _Refused(f"{member.path!r} overlaps another file, or something stands before it")
        place = member.end
    if place != end:
        raise _Refused("something stands between its files and its table of contents")


def _check_sound(members: list[_Member], limits: Limits) -> None:
    """All that can be known before anything is unpacked."""
    check_paths([member.path for member in members], limits)
    if (total := sum(member.size for member in members)) > limits.total:
        raise ResourceError(f"{total} bytes unpacked; {limits.total} are allowed")
    if bombs := [member.path for member in members if member.size > member.packed * limits.ratio]:
        raise ResourceError(f"{bombs[0]!r} would grow more than {limits.ratio} times when unpacked")


def _check_expected(members: list[_Member], expected: Sequence[FileEntry]) -> None:
    names = {member.path for member in members}
    wanted = {entry.path: entry for entry in expected}
    if len(wanted) != len(expected):
        raise _Refused("the manifest names a file twice")
    if missing := sorted(wanted.keys() - names):
        raise _Refused(f"{missing[0]!r} is in the manifest, but not in the archive")
    if strangers := sorted(names - wanted.keys()):
        raise _Refused(f"{strangers[0]!r} is in the archive, but not in the manifest")
    for member in members:
        if member.size != wanted[member.path].size:
            raise _Refused(f"{member.path!r} has {member.size} bytes, the manifest says {wanted[member.path].size}")


def _check_headers(fd: int, members: list[_Member]) -> None:
    for member in members:
        header = member.local_header()
        if os.pread(fd, len(header), member.offset) != header:
            raise _Refused(f"{member.path!r} is described in two different ways")


def _unpack_one(fd: int, member: _Member, sha256: str, root: Path) -> None:
    target = root / member.path
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(target, flags, 0o600), "wb") as out:
        if member.size:
            _take_room(out.fileno(), member.size)
        digest, crc = hashlib.sha256(), 0
        for piece in _unpacked(fd, member):
            digest.update(piece)
            crc = zlib.crc32(piece, crc)
            out.write(piece)
    if crc != member.crc:
        raise _Refused(f"{member.path!r} is damaged: its CRC is wrong")
    if digest.hexdigest() != sha256:
        raise _Refused(f"{member.path!r} is not the file in the manifest: its SHA-256 differs")


def _content(fd: int, member: _Member) -> bytes:
    content = b"".join(_unpacked(fd, member))
    if zlib.crc32(content) != member.crc:
        raise _Refused(f"{member.path!r} is damaged: its CRC is wrong")
    return content


def _take_room(fd: int, size: int) -> None:
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise


def _unpacked(fd: int, member: _Member) -> Iterator[bytes]:
    """The bytes of a member; counts them itself and stops at the first too many."""
    place, left = member.end - member.packed, member.packed
    inflate = zlib.decompressobj(-15) if member.method == _DEFLATED else None
    count = 0
    while left or (inflate and inflate.unconsumed_tail):
        packed = inflate.unconsumed_tail if inflate else b""
        if not packed:
            packed = os.pread(fd, min(_CHUNK, left), place)
            place, left = place + len(packed), left - len(packed)
        try:
            piece = inflate.decompress(packed, _CHUNK) if inflate else packed
        except zlib.error:
            raise _Refused(f"{member.path!r} is damaged") from None
        count += len(piece)
        if count > member.size or not packed or (inflate and inflate.eof and (left or inflate.unused_data)):
            raise _Refused(f"{member.path!r} is longer than it says, or cut off")
        yield piece
    if count != member.size or (inflate and not inflate.eof):
        raise _Refused(f"{member.path!r} is shorter than it says, or cut off")
