"""Giving up rights for good, in the process that is about to become a job's; runs in a keeper's bare interpreter."""

from __future__ import annotations

import ctypes
import os

from flpoc_builtin_local import seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is not imported here
    from typing import Any

_PR_SET_NO_NEW_PRIVS = 38
_PR_CAPBSET_DROP = 24
_PR_CAP_AMBIENT, _CLEAR_ALL = 47, 4
_CAPABILITY_VERSION_3 = 0x20080522
_MOST_CAPABILITIES = 64
#: The one privilege that is left to root: to read and write what was granted, whoever owns it.
_CAP_DAC_OVERRIDE = 1
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_SET_FLAGS_OF_INTERFACE, _UP_AND_RUNNING = 0x8914, 1 | 1 << 6
_INET, _DATAGRAM_CLOSED_BY_EXEC = 2, 2 | 1 << 19


def confine(rules: int, libc: Any, *, own_network: bool = False) -> None:
    """Give up all that *rules* do not grant, and all that being root would add to it.

    With *own_network* the rules say nothing of TCP: it is for a network in which only this process and what it
    starts are. Where none can be made there is no TCP either.

    Raises:
        OSError: The kernel refuses; this process must not go on.
    """
    alone = own_network and _is_alone(libc)
    _drop_privileges(libc)
    _must(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _must(libc.syscall(_LANDLOCK_RESTRICT_SELF, rules, 0))
    if own_network and not alone:
        _give_up_tcp(libc)
    seccomp.close_gaps(libc, streams=alone)


def _is_alone(libc: Any) -> bool:
    """Move to a network of one's own, which has a loopback interface and nothing else; false if that cannot be."""
    user, group = os.geteuid(), os.getegid()
    # root of another user namespace would lose its right to files that others own
    if libc.unshare(_NEW_NETWORK if user == 0 else _NEW_USER | _NEW_NETWORK):
        return False
    try:
        if user:
            _write("setgroups", "deny")
            _write("uid_map", f"{user} {user} 1")
            _write("gid_map", f"{group} {group} 1")
    except OSError:
        return False
    handle = libc.socket(_INET, _DATAGRAM_CLOSED_BY_EXEC, 0)
    interface = b"lo".ljust(16, b"\0") + _UP_AND_RUNNING.to_bytes(2, "little") + bytes(22)
    return bool(handle >= 0 and libc.ioctl(handle, _SET_FLAGS_OF_INTERFACE, interface) == 0)


def _write(name: str, line: str) -> None:
    """Say something of this process to the kernel."""
    file = os.open(f"/proc/self/{name}", os.O_WRONLY)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def _give_up_tcp(libc: Any) -> None:
    """By rules of its own; a kernel that knows none for TCP has the filter of calls alone, as always."""
    attributes = (0).to_bytes(8, "little") + (3).to_bytes(8, "little")
    rules = libc.syscall(_LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)
    if rules >= 0:
        _must(libc.syscall(_LANDLOCK_RESTRICT_SELF, rules, 0))
        os.close(rules)


def _drop_privileges(libc: Any) -> None:
    """Root without privileges: it could load modules into the kernel, or send packets by hand."""
    for number in range(_MOST_CAPABILITIES):  # ends with the first that is unknown, or not ours to drop
        if number != _CAP_DAC_OVERRIDE and libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0):
            break
    libc.prctl(_PR_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0)
    header, sets = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3), (ctypes.c_uint32 * 6)()
    _must(libc.capget(header, sets))
    for index, held in enumerate(sets):  # effective, permitted, inheritable; then the upper halves of the same
        sets[index] = held & 1 << _CAP_DAC_OVERRIDE if index < 2 else 0
    _must(libc.capset(header, sets))


def _must(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), "refused")
