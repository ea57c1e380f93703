"""Adding records to the files of an audit log, also after a crash.

Blocking; :mod:`flpoc.audit.log` has a thread for it.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from flpoc.audit.files import (
    CURRENT,
    TORN,
    Head,
    log_files,
    next_full,
    open_current,
    open_head,
    read_bytes,
    read_head,
    sync_folder,
    write_head,
)
from flpoc.audit.records import Decision, Principal, printable, read_record, write_record
from flpoc.errors import IntegrityError

#: A file that has grown to this size is full.
FILE_BYTES = 8 << 20
#: So much of a torn line is repeated in the record about it.
_TORN_SHOWN = 200

_LOG_ITSELF = Principal("audit log", "log")


class Chain:
    """The open end of an audit log."""

    def __init__(
        self, folder: Path, *, file_bytes: int = FILE_BYTES, now: Callable[[], datetime.datetime] | None = None
    ) -> None:
        """Open the log in *folder*, or begin one; what a crash left is put right, and the log says so.

        Raises:
            IntegrityError: There are records and no head: this is not the whole log.
            OSError: It cannot be read or written.
        """
        self._folder = folder
        self._file_bytes = file_bytes
        self._now = now or (lambda: datetime.datetime.now(datetime.UTC))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._end = _begin(folder)
        self._head = open_head(folder)
        self._file = -1
        self._failed = False
        try:
            self._take_up()
        except BaseException:
            self.close()
            raise

    # -- taking up what is there

    def _take_up(self) -> None:
        """Find the last sound record; what comes behind the head and is not sound is what a crash left."""
        head = self._end
        files = log_files(self._folder)
        current = self._folder / CURRENT
        data = read_bytes(current) if current in files else b""
        start = _behind(data, head)
        if start is None and _ends_with(files, head):
            start = 0
        if start is None:
            self._set_aside(current, data)
            self._open()
            self._say(f"record {head.seq} is not where the head says: the log was cut or changed before this record")
            return
        self._end, sound = _follow(data, start, head)
        self._open()
        torn = data[sound:]
        if torn:
            self._keep_torn(torn)
            os.ftruncate(self._file, sound)
            self._size = sound
        self._say_torn()

    def _set_aside(self, current: Path, data: bytes) -> None:
        """Leave a damaged file as it is; the records go on in a new one."""
        if data:
            current.rename(next_full(self._folder))

    def _keep_torn(self, torn: bytes) -> None:
        part = self._folder / f"{TORN}.part"
        part.write_bytes(torn)
        part.rename(self._folder / TORN)
        sync_folder(self._folder)

    def _say_torn(self) -> None:
        path = self._folder / TORN
        with contextlib.suppress(FileNotFoundError):
            torn = read_bytes(path)
            shown = printable(torn[:_TORN_SHOWN].decode("utf-8", errors="backslashreplace"))
            digest = hashlib.sha256(torn).hexdigest()
            self._say(f"{len(torn)} bytes that a crash left behind the last record were removed ({digest}): {shown}")
            path.unlink()

    def _say(self, what: str) -> None:
        """A record about the log itself."""
        self.append([Decision(_LOG_ITSELF, "repair", "audit log", "note", what)])
        self.sync()

    def _open(self) -> None:
        self._file = open_current(self._folder)
        self._size = os.fstat(self._file).st_size
        sync_folder(self._folder)  # what is in a file survives power loss only where its name does

    # -- going on

    def append(self, decisions: Iterable[Decision]) -> None:
        """Add records; they survive the death of this process. All of them are there, or none.

        Raises:
            OSError: They cannot be written.
        """
        if not self._is_ours():
            self._begin_another()
            what = f"the file was removed, replaced or changed by somebody else after record {self._end.seq}"
            self._put([Decision(_LOG_ITSELF, "repair", "audit log", "note", what)])
        elif self._size >= self._file_bytes:
            self._turn_over()
        self._put(decisions)

    def _put(self, decisions: Iterable[Decision]) -> None:
        end, lines = self._end, []
        for decision in decisions:
            line, own = write_record(end.seq + 1, end.hash, decision, self._now())
            end = Head(end.seq + 1, own)
            lines.append(line)
        content = b"".join(lines)
        try:
            written = 0
            while written < len(content):
                written += os.write(self._file, content[written:])
        except OSError:
            self._failed = True
            self._take_back()
            raise
        self._size += len(content)
        self._end = end

    def _take_back(self) -> None:
        """Take away what a failed write has left; where even that fails, it is tried before the next."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, self._size)
            self._failed = False

    def _is_ours(self) -> bool:
        """Whether the file is still where it was, and as long as it was."""
        if self._failed:
            self._take_back()
        mine = os.fstat(self._file)
        try:
            there = (self._folder / CURRENT).lstat()
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino, there.st_size) == (mine.st_dev, mine.st_ino, self._size)

    def note_missed(self, count: int, since: str) -> None:
        """Say that *count* decisions could not be written down."""
        what = f"{count} decisions since {since} could not be written down"
        self.append([Decision(_LOG_ITSELF, "gap", "audit log", "note", what)])

    def sync(self) -> None:
        """Have all records survive power loss, then write the head."""
        os.fdatasync(self._file)
        write_head(self._head, self._end)

    def _turn_over(self) -> None:
        """The current file is full: name it after its place, and begin another."""
        self.sync()
        self._begin_another()

    def _begin_another(self) -> None:
        """Keep the current file under another name, and go on in a new one."""
        with contextlib.suppress(FileNotFoundError):
            (self._folder / CURRENT).rename(next_full(self._folder))
        former = self._file
        self._open()
        os.close(former)

    def close(self) -> None:
        for handle in (self._file, self._head):
            if handle >= 0:
                os.close(handle)
        self._file = self._head = -1


def _begin(folder: Path) -> Head:
    """The head of the log; written first of all if there is no log yet."""
    try:
        head = read_head(folder)
    except ValueError as error:
        raise _not_whole(folder, str(error)) from None
    if head is not None:
        return head
    if log_files(folder):
        raise _not_whole(folder, "its head is missing")
    handle = open_head(folder)
    try:
        write_head(handle, Head())
        os.fsync(handle)
    finally:
        os.close(handle)
    sync_folder(folder)
    return Head()


def _not_whole(folder: Path, what: str) -> IntegrityError:
    return IntegrityError(
        f"the audit log in {folder} cannot be gone on with: {what}",
        hint="restore the whole folder from a backup; or move it away, keep it for those who look into it, and start",
    )


def _behind(data: bytes, head: Head) -> int | None:
    """Where the record of the head ends in *data*; None if it is not there as it was."""
    place = data.find(f'"hash":"{head.hash}"'.encode())
    if place < 0:
        return None
    start, end = data.rfind(b"\n", 0, place) + 1, data.find(b"\n", place) + 1
    return end if _is_head(data[start:end], head) else None


def _ends_with(files: list[Path], head: Head) -> bool:
    """Whether the file before the current one ends with the head; true for a log that has not begun."""
    full = [one for one in files if one.name != CURRENT]
    if not full:
        return head.seq == 0
    data = read_bytes(full[-1])
    return _is_head(data[data.rfind(b"\n", 0, max(0, len(data) - 1)) + 1 :], head)


def _is_head(line: bytes, head: Head) -> bool:
    try:
        found = read_record(line)
    except ValueError:
        return False
    return (found.seq, found.hash) == (head.seq, head.hash)


def _follow(data: bytes, start: int, head: Head) -> tuple[Head, int]:
    """The last record that follows soundly, and where it ends."""
    while end := data.find(b"\n", start) + 1:
        try:
            found = read_record(data[start:end])
        except ValueError:
            break
        if (found.seq, found.previous) != (head.seq + 1, head.hash):
            break
        head, start = Head(found.seq, found.hash), end
    return head, start
