"""Giving up rights for good, in the process that is about to become a job's; runs in a keeper's bare interpreter."""

from __future__ import annotations

import ctypes

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
_LANDLOCK_RESTRICT_SELF = 446


def confine(rules: int, libc: Any) -> None:
    """Give up all that *rules* do not grant, and all that being root would add to it.

    Raises:
        OSError: The kernel refuses; this process must not go on.
    """
    _drop_privileges(libc)
    _must(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _must(libc.syscall(_LANDLOCK_RESTRICT_SELF, rules, 0))
    seccomp.close_gaps(libc)


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
