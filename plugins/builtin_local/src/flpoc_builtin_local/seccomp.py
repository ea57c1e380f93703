"""What Landlock lets pass and must not: a seccomp filter over three system calls; for a keeper's bare interpreter.

Landlock asks when a socket of plain TCP is connected or bound. Data that is
sent at once opens a connection without either, ``listen`` binds by itself, and MPTCP and
SMC speak TCP and are not asked about. So nothing of that kind is made at all.
It also does not ask about limits, by which one process can end another.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is not imported here
    from typing import Any

#: By machine: how the kernel calls it, and its numbers of ``socket`` and ``prlimit64``.
_MACHINES = {"x86_64": (0xC000003E, 41, 302), "aarch64": (0xC00000B7, 198, 261)}
_IO_URING_SETUP = 425
#: Calls of x32 programs begin here: other numbers for the same calls.
_FIRST_OF_X32 = 0x40000000
_UNIX, _INET, _INET6, _NETLINK = 1, 2, 10, 16
_STREAM, _DATAGRAM, _TYPE_BITS = 1, 2, 0xF

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_LOAD, _AND, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
#: Where the kernel puts a call: its number, the machine, the arguments.
_NUMBER, _MACHINE, _FIRST, _SECOND, _THIRD = 0, 4, 16, 24, 32


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def close_gaps(libc: Any, *, streams: bool = False) -> None:
    """Give up these calls for good; the process gains no privileges any more, which the kernel asks for.

    Args:
        libc: Of this process.
        streams: It may make sockets of TCP: there is nobody it could reach.

    Raises:
        OSError: The kernel refuses; this process must not go on.
    """
    machine = _MACHINES.get(os.uname().machine)
    if machine is None:
        return
    code = _instructions(*machine, _STREAM if streams else _DATAGRAM)
    program = _Program(len(code) // 8, code)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "refused")


def _instructions(machine: int, socket: int, prlimit: int, kind: int) -> bytes:
    """The filter: after each comparison, how many instructions are skipped if it is true, and if not.

    *kind* is that of sockets which may be made besides datagrams.
    """
    fail = [_FAIL | number for number in (errno.EPERM, errno.ENOSYS, errno.EACCES)]
    steps = (
        (_LOAD, 0, 0, _MACHINE), (_EQUAL, 1, 0, machine), (_RETURN, 0, 0, fail[0]),
        (_LOAD, 0, 0, _NUMBER), (_AT_LEAST, 1, 0, _FIRST_OF_X32),
        # it makes sockets without a call that a filter sees
        (_EQUAL, 0, 1, _IO_URING_SETUP), (_RETURN, 0, 0, fail[1]),
        (_EQUAL, 2, 0, socket), (_EQUAL, 12, 0, prlimit), (_RETURN, 0, 0, _ALLOW),
        # a socket: unix, netlink, or datagrams
        (_LOAD, 0, 0, _FIRST), (_EQUAL, 8, 0, _UNIX), (_EQUAL, 7, 0, _NETLINK),
        (_EQUAL, 1, 0, _INET), (_EQUAL, 0, 4, _INET6),
        (_LOAD, 0, 0, _SECOND), (_AND, 0, 0, _TYPE_BITS), (_EQUAL, 2, 0, kind), (_EQUAL, 1, 0, _DATAGRAM),
        (_RETURN, 0, 0, fail[2]), (_RETURN, 0, 0, _ALLOW),
        # limits: of this process, or only asked for
        (_LOAD, 0, 0, _FIRST), (_EQUAL, 4, 0, 0),
        (_LOAD, 0, 0, _THIRD), (_EQUAL, 0, 3, 0), (_LOAD, 0, 0, _THIRD + 4), (_EQUAL, 0, 1, 0),
        (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, fail[0]),
    )  # fmt: skip
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
