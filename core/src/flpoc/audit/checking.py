"""Checking audit logs, by whoever can read them; nothing is changed and no service is needed."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection, Iterator
from pathlib import Path

import attrs

from flpoc.audit.files import CURRENT, FOLDER, HEAD, Head, log_files, read_bytes, read_head
from flpoc.audit.records import Record, read_record
from flpoc.errors import UsageError

#: A log that is written meanwhile is looked at again, at most so many times.
_TRIES = 5


@attrs.frozen
class Fault:
    """The first thing that is wrong with a log.

    Attributes:
        file: Where.
        line: Counted from 1; 0 when it is about the file as a whole.
        problem: What is wrong.
    """

    file: Path
    line: int
    problem: str


@attrs.frozen
class Verdict:
    """What was found out about one log.

    Attributes:
        log: Its folder, or the one file that was looked at.
        records: How many are sound, from the first one on.
        first: Time of the first record; empty if there is none.
        last: Time of the last sound one.
        head: Hash of the last sound one; note it elsewhere to recognise the log later.
        fault: What is wrong, or None.
        recognised: Which of the expected hashes are there.
    """

    log: Path
    records: int = 0
    first: str = ""
    last: str = ""
    head: str = ""
    fault: Fault | None = None
    recognised: frozenset[str] = frozenset()


def find_logs(path: Path) -> list[Path]:
    """The logs that *path* names: a file or folder of one, a state folder, a kit, or the workspace of a POC.

    Raises:
        UsageError: There is none.
    """
    if not path.is_dir():
        if os.path.lexists(path):
            return [path]
        raise UsageError(f"{path}: no such file or folder", hint="name a log, a state folder, a kit or a workspace")
    if any(os.path.lexists(path / name) for name in (CURRENT, HEAD)):
        return [path]
    states = [path, path / "state", path.absolute().parent.parent.parent / "state" / path.name]
    for state in states:
        if _has_log(state):
            return [state / FOLDER]
    found = [one / FOLDER for one in sorted((path / "state").glob("*")) if _has_log(one)]
    if not found:
        raise UsageError(
            f"there is no audit log in {path}",
            hint="servers and sites write one into their state, once they are started",
        )
    return found


def _has_log(state: Path) -> bool:
    """Whether a service has run here; then it has a log, or somebody has removed it."""
    return (state / "lock").is_file() or (state / FOLDER).is_dir()


def verify(log: Path, expected: Collection[str] = ()) -> Verdict:
    """Check a log, or one file of it, from its first record to its last (blocking).

    Args:
        log: The folder; or a single file, of which only its own records can be checked.
        expected: Hashes to recognise.
    """
    if os.path.lexists(log) and not log.is_dir():
        return _Walk(log, expected).through([log], None)
    seen = _snapshot(log)
    for _ in range(_TRIES):
        found = _verify_folder(log, expected)
        after = _snapshot(log)
        if found.fault is None or after == seen:
            break
        seen = after  # it was written to meanwhile
    return found


def _verify_folder(folder: Path, expected: Collection[str]) -> Verdict:
    walk = _Walk(folder, expected)
    if not folder.is_dir():
        return walk.stop(folder, 0, "there is no audit log here, though a service has run here")
    try:
        head = read_head(folder)  # before the records: it is written after them
    except (OSError, ValueError) as error:
        return walk.stop(folder / HEAD, 0, getattr(error, "strerror", None) or str(error))
    if head is None:
        return walk.stop(folder / HEAD, 0, "the head is missing: whether the end of the log is there cannot be said")
    return walk.through(log_files(folder), head)


def _snapshot(folder: Path) -> list[tuple[str, int, int]]:
    found = []
    for one in (*log_files(folder), folder / HEAD):
        try:
            there = one.lstat()
        except OSError:
            continue
        found.append((one.name, there.st_size, there.st_mtime_ns))
    return found


class _Walk:
    """A way through the records of one log, up to the first that is wrong."""

    def __init__(self, log: Path, expected: Collection[str]) -> None:
        self._log = log
        self._expected = frozenset(expected)
        self._recognised: set[str] = set()
        self._first: Record | None = None
        self._last: Record | None = None
        self._records = 0

    def stop(self, file: Path, line: int, problem: str) -> Verdict:
        return attrs.evolve(self._verdict(), fault=Fault(file, line, problem))

    def _verdict(self) -> Verdict:
        first, last = self._first, self._last
        times = (first.time if first else "", last.time if last else "")
        return Verdict(self._log, self._records, *times, last.hash if last else "", None, frozenset(self._recognised))

    def through(self, files: list[Path], head: Head | None) -> Verdict:
        """Look at every record; *head* is None for a file that is looked at alone."""
        last = Head() if head is not None else None
        if head is not None and head.seq == 0 and head != last:
            return self.stop(self._log / HEAD, 0, "the head was changed")
        for file in files:
            try:
                content = read_bytes(file)
            except OSError as error:
                return self.stop(file, 0, f"it cannot be read: {error.strerror or error}")
            for number, line in enumerate(content.splitlines(keepends=True), 1):
                try:
                    found = read_record(line)
                    _check_place(found, last)
                    last = Head(found.seq, found.hash)
                    _check_head(last, head)
                except ValueError as error:
                    return self.stop(file, number, str(error))
                self._count(found)
        if head is not None and last is not None and last.seq < head.seq:
            where = files[-1] if files else self._log / CURRENT
            return self.stop(where, 0, f"{_missing(last.seq + 1, head.seq)}: the end of the log was cut off")
        return self._verdict()

    def _count(self, found: Record) -> None:
        self._first = self._first or found
        self._last = found
        self._records += 1
        if found.hash in self._expected:
            self._recognised.add(found.hash)


def _check_place(found: Record, last: Head | None) -> None:
    if last is None:
        return
    if found.seq > last.seq + 1:
        raise ValueError(f"{_missing(last.seq + 1, found.seq - 1)}: removed")
    if found.seq <= last.seq:
        raise ValueError(f"record {found.seq} comes after record {last.seq}: inserted, or out of order")
    if found.previous != last.hash:
        raise ValueError(f"record {found.seq} does not follow record {last.seq}: one of them was replaced")


def _check_head(last: Head, head: Head | None) -> None:
    if head is not None and last.seq == head.seq and last.hash != head.hash:
        raise ValueError(f"record {last.seq} is not the one that the head knows: replaced")


def _missing(first: int, last: int) -> str:
    return f"record {first} is missing" if first == last else f"records {first} to {last} are missing"


def last_records(log: Path, count: int, *, denied: bool = False) -> list[Record]:
    """The last *count* records that can be read, the oldest first; *denied*: only refusals (blocking)."""
    found = (one for one in _readable(log) if not denied or one.decision.outcome == "deny")
    return list(deque(found, maxlen=count))


def _readable(log: Path) -> Iterator[Record]:
    for file in log_files(log) if log.is_dir() else [log]:
        for line in read_bytes(file).splitlines(keepends=True):
            try:
                yield read_record(line)
            except ValueError:
                continue  # `verify` says what is wrong with it
