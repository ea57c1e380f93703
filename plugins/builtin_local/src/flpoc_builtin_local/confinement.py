"""What a job process may reach: decided here, enforced by the kernel."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from flpoc.errors import LaunchError
from flpoc.launching import LaunchRequest
from flpoc_builtin_local.interpreters import folders_of
from flpoc_builtin_local.landlock import Access, Grant, Kernel, ruleset, this_kernel
from flpoc_builtin_local.settings import LocalSettings

#: The system's programs and libraries, and what libraries read about the machine.
_SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store", "/proc", "/sys/devices",
    "/sys/bus", "/sys/class", "/sys/fs/cgroup", "/sys/kernel/mm", "/sys/module", "/var/cache/fontconfig",
    "/var/lib/ca-certificates",
)  # fmt: skip
#: Of ``/etc`` what programs look up, and what begins so. Not all of it: root can read the secrets that are there, too.
_ETC = (
    "alternatives", "ca-certificates", "ca-certificates.conf", "debian_version", "fonts", "gai.conf", "group",
    "host.conf", "hostname", "hosts", "inputrc", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias",
    "locale.conf", "localtime", "machine-id", "magic", "mailcap", "mime.types", "networks", "nsswitch.conf", "OpenCL",
    "os-release", "passwd", "pki/ca-trust", "pki/tls/certs", "pki/tls/cert.pem", "pki/tls/openssl.cnf", "profile",
    "profile.d", "protocols", "redhat-release", "resolv.conf", "rpc", "services", "shells", "ssl/cert.pem",
    "ssl/certs", "ssl/openssl.cnf", "terminfo", "timezone", "vulkan",
)  # fmt: skip
_ETC_PREFIXES = ("python3", "java-")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
#: Graphics processors. Which of them a job should use, its environment says.
_GPU_PREFIXES = ("nvidia", "dri", "kfd", "dxg")
#: Semaphores and shared memory of ``multiprocessing`` and of loaders of training data.
_SHARED = "/dev/shm"  # noqa: S108 - this very folder, not a place for files of ours


@contextlib.contextmanager
def rules_for(request: LaunchRequest, program: str, settings: LocalSettings) -> Iterator[int | None]:
    """A descriptor of the rules for this process; None when it is not to be confined.

    Raises:
        LaunchError: It must be confined and cannot be, or a mount cannot be granted.
    """
    if request.network == "open" or settings.confine == "never":
        yield None
        return
    kernel = this_kernel()
    if settings.confine == "always" and not kernel.is_complete:
        raise _not_confinable(request, kernel)
    if not kernel.abi:
        yield None
        return
    grants = grants_for(request, program, settings.readable)
    with contextlib.ExitStack() as stack:
        try:
            rules = stack.enter_context(ruleset(kernel.abi, grants, tcp=request.network == "own"))
        except OSError as error:
            raise LaunchError(
                f"{request.name}: it cannot be confined: {error.strerror}",
                hint='confine = "never" among the launcher\'s settings starts it without',
            ) from error
        yield rules


def _not_confinable(request: LaunchRequest, kernel: Kernel) -> LaunchError:
    can = f"only {' and '.join(kernel.confines)} can be (Linux 6.12 can all)" if kernel.abi else kernel.lacking
    return LaunchError(
        f"{request.name}: it must be confined, and here {can}",
        hint='confine = "auto" among the launcher\'s settings confines as much as the kernel can',
    )


def grants_for(request: LaunchRequest, program: str, readable: Sequence[str] = ()) -> tuple[Grant, ...]:
    """All that a confined process may reach; everything else is denied.

    Raises:
        LaunchError: A mount does not exist, or holds what the process must not see.
    """
    hidden = [Path(path).resolve() for path in request.hidden]
    folders: list[str | Path] = [*_SYSTEM, *readable, *_interpreter(request, Path(request.workdir, program))]
    lookups = [*(f"/etc/{name}" for name in _ETC), *_beginning(Path("/etc"), _ETC_PREFIXES)]
    devices = [*_DEVICES, *_beginning(Path("/dev"), _GPU_PREFIXES)]
    return (
        *(Grant(str(path), Access.READ) for path in _without(folders, hidden)),
        *(Grant(path, Access.READ) for path in lookups),
        *(Grant(path, Access.DEVICE) for path in devices),
        Grant(_SHARED, Access.WRITE),
        *(_of_mount(request, mount.source, hidden, writable=mount.writable) for mount in request.mounts),
        Grant(request.workdir, Access.WRITE),
    )


def _interpreter(request: LaunchRequest, program: Path) -> Iterable[Path]:
    """What the program needs to run; of one that a job could have written only itself, or its author would decide."""
    own = [Path(path).resolve() for path in (_SHARED, request.workdir, *(mount.source for mount in request.mounts))]
    where = (program.parent.resolve(), program.resolve())
    if any(path.is_relative_to(folder) for path in where for folder in own):
        return [program]
    return folders_of(program)


def _of_mount(request: LaunchRequest, source: str, hidden: Sequence[Path], *, writable: bool) -> Grant:
    path = Path(source)
    if not path.exists():
        raise LaunchError(f"{request.name}: {source} does not exist", hint="make it, or do not grant it to jobs")
    if held := [one for one in hidden if one.is_relative_to(path.resolve())]:
        raise LaunchError(
            f"{request.name}: {source} holds {held[0]}, which no job may see", hint="grant a folder below it"
        )
    if around := [one.source for one in request.mounts if one.writable and Path(one.source) in path.parents]:
        # otherwise a job could put a link in its place, and the next one would be granted what that leads to
        raise LaunchError(
            f"{request.name}: {source} lies in {around[0]}, which jobs may change", hint="grant only one of them"
        )
    return Grant(source, Access.WRITE if writable else Access.READ)


def _beginning(folder: Path, prefixes: tuple[str, ...]) -> Iterator[str]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names only
    except OSError:
        return
    yield from (f"{folder}/{name}" for name in names if name.startswith(prefixes))


def _without(folders: Iterable[str | Path], hidden: Sequence[Path]) -> Iterator[Path]:
    """Each folder once or, where something hidden lies in it, all else that is in it."""
    seen = set()
    for folder in folders:
        path = Path(folder).resolve()
        if path not in seen:
            seen.add(path)
            yield from _around(path, [one for one in hidden if one.is_relative_to(path)])


def _around(folder: Path, hidden: Sequence[Path]) -> Iterator[Path]:
    if not hidden:
        yield folder
    elif folder not in hidden:
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if not entry.is_symlink():  # it may lead to what is hidden; where it leads is granted by itself
                    path = Path(entry.path)
                    yield from _around(path, [one for one in hidden if one.is_relative_to(path)])
