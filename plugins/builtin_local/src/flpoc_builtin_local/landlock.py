"""Landlock: how Linux lets a process give up rights for good, without being root.

Three system calls, and the bits of ``linux/landlock.h``. Each version of the
interface (ABI) added to what can be given up; what a kernel does not know is left out.
See https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import stat
import sys
from collections.abc import Iterable, Iterator

import attrs

_CREATE_RULESET, _ADD_RULE = 444, 445
_ASK_FOR_ABI = 1
_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_BLOCK, _REFER, _TRUNCATE, _IOCTL_DEV = 1 << 6, 1 << 11, 1 << 13, 1 << 14, 1 << 15
_FOR_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
#: How many of the bits above each ABI knows; a later one knows at least as many.
_FILE_BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_ALL_TCP = 1 << 0 | 1 << 1
_ALL_SCOPES = 1 << 0 | 1 << 1


class Access(enum.Enum):
    """What is granted of a file, or of a folder and all below it."""

    READ = _EXECUTE | _READ_FILE | _READ_DIR
    WRITE = ((1 << 16) - 1) & ~(_MAKE_CHAR | _MAKE_BLOCK | _IOCTL_DEV)
    DEVICE = _READ_FILE | _READ_DIR | _WRITE_FILE | _TRUNCATE | _IOCTL_DEV


@attrs.frozen
class Grant:
    """One thing that a confined process may still reach."""

    path: str
    access: Access


@attrs.frozen
class Kernel:
    """What the kernel of this machine can confine.

    Attributes:
        abi: Version of its Landlock; 0 when there is none.
        lacking: Why there is none.
    """

    abi: int
    lacking: str = ""

    @property
    def confines(self) -> tuple[str, ...]:
        """What a process is kept from, in words."""
        known = {1: "files", 4: "TCP", 6: "signals"}
        return tuple(word for since, word in known.items() if self.abi >= since)

    @property
    def said(self) -> str:
        """What it confines, or why nothing, as a sentence."""
        if not self.abi:
            return f"Confines nothing on this machine: {self.lacking}."
        *first, last = self.confines
        words = f"{', '.join(first)} and {last}" if first else last
        return f"Confines jobs on this machine by Landlock (ABI {self.abi}): {words}."

    @property
    def is_complete(self) -> bool:
        """Whether it can confine all that this launcher knows to confine."""
        return self.abi >= 6


class _Calls:
    """System calls that Python has no name for."""

    def __init__(self) -> None:
        import ctypes

        self._wide, self._errno = ctypes.c_long, ctypes.get_errno
        self._syscall = ctypes.CDLL(None, use_errno=True).syscall

    def make(self, number: int, *arguments: int | bytes | None) -> int:
        """Make one.

        Raises:
            OSError: It failed.
        """
        given = [self._wide(value) if isinstance(value, int) else value for value in arguments]
        result = int(self._syscall(self._wide(number), *given))
        if result < 0:
            raise OSError(self._errno(), os.strerror(self._errno()))
        return result


def this_kernel() -> Kernel:
    """Ask the kernel for its Landlock."""
    try:
        return Kernel(_Calls().make(_CREATE_RULESET, None, 0, _ASK_FOR_ABI))
    except ImportError:
        return Kernel(0, "this Python has no ctypes")
    except OSError as error:
        why = {
            errno.ENOSYS: "this kernel has no Landlock (it came with Linux 5.13)",
            errno.EOPNOTSUPP: "Landlock is switched off on this machine; add it to the kernel's lsm= parameter",
        }
        return Kernel(0, why.get(error.errno or 0, f"Landlock cannot be used here: {error.strerror}"))


@contextlib.contextmanager
def ruleset(abi: int, grants: Iterable[Grant], *, tcp: bool) -> Iterator[int]:
    """A descriptor of rules, for a process that gives up everything else; what does not exist is not granted.

    Args:
        abi: Of :func:`this_kernel`.
        grants: What may be reached; of anything else nothing can be opened or made.
        tcp: Whether connections may still be made and taken.

    Raises:
        OSError: The kernel refuses.
    """
    handled = (1 << _FILE_BITS.get(abi, 16)) - 1
    network = _ALL_TCP if abi >= 4 and not tcp else 0
    scopes = _ALL_SCOPES if abi >= 6 else 0
    attributes = b"".join(bits.to_bytes(8, sys.byteorder) for bits in (handled, network, scopes))
    calls = _Calls()
    rules = calls.make(_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for grant in grants:
            _add(calls, rules, grant, handled)
        yield rules
    finally:
        os.close(rules)


def _add(calls: _Calls, rules: int, grant: Grant, handled: int) -> None:
    try:
        place = os.open(grant.path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # gone, or not for this user: there is nothing to grant
    try:
        allowed = grant.access.value & handled
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            allowed &= _FOR_FILES
        beneath = allowed.to_bytes(8, sys.byteorder) + place.to_bytes(4, sys.byteorder)
        calls.make(_ADD_RULE, rules, _PATH_BENEATH, beneath, 0)
    finally:
        os.close(place)
