"""What a job process can no longer do, and what it still can."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from flpoc.errors import LaunchError
from flpoc.jobs.shortcuts import Shortcuts
from flpoc.launching import KEEPER_MARK, Handle, Launcher, LaunchRequest, Mount
from flpoc.testing import LauncherSuite
from flpoc_builtin_local.confinement import grants_for
from flpoc_builtin_local.hooks import flpoc_error_hint
from flpoc_builtin_local.interpreters import folders_of
from flpoc_builtin_local.landlock import Access, Kernel, this_kernel
from flpoc_builtin_local.launcher import LocalLauncher
from flpoc_builtin_local.settings import LocalSettings

PATIENCE = 60.0

#: Before a probe: ``tried(name, action)`` keeps what came of it.
PROBE = """
import errno, json, os, sys
found = {}
def tried(name, action, *arguments):
    try:
        action(*arguments)
        found[name] = "done"
    except BaseException as error:
        found[name] = errno.errorcode.get(getattr(error, "errno", None), repr(error))
"""

Ask = Callable[..., LaunchRequest]
Try = Callable[..., dict[str, str]]


@pytest.fixture(autouse=True)
def landlock() -> Kernel:
    kernel = this_kernel()
    if kernel.is_complete:
        return kernel
    modules = Path("/sys/kernel/security/lsm")
    if modules.exists() and "landlock" in modules.read_text():
        pytest.fail(f"this kernel should have Landlock; its ABI is {kernel.abi} ({kernel.lacking})")
    pytest.skip(f"CONFINEMENT IS NOT TESTED ON THIS MACHINE: Landlock ABI {kernel.abi}, wanted is 6; {kernel.lacking}")


@pytest.fixture
def probe(start: Callable[..., Handle], launcher: LocalLauncher, tmp_path: Path) -> Try:
    """Run a probe as a job process that may write in ``work`` only; gives what came of each try."""

    def run(code: str, *arguments: str, **more: Any) -> dict[str, str]:
        work = tmp_path / "work"
        work.mkdir(exist_ok=True)
        code = PROBE + textwrap.dedent(code) + "\nprint('\\n' + json.dumps(found))"
        more = {"workdir": str(work), "hidden": (str(tmp_path / "state"),), "network": "agent", **more}
        handle = start(code, *arguments, **more)
        status = launcher.wait(handle, PATIENCE)
        assert status.code == 0, launcher.logs(handle)
        found: dict[str, str] = json.loads(launcher.logs(handle, tail=1))
        return found

    return run


class TestConfinedLocalLauncher(LauncherSuite):
    """A confined process is launched, kept and ended like any other."""

    runs_on_host = False  # jobs launch nothing

    @pytest.fixture
    def launcher(self) -> Launcher:
        return LocalLauncher(LocalSettings(confine="always"))

    @pytest.fixture
    def ask(self, ask: Ask) -> Ask:
        return lambda *code, **more: attrs.evolve(ask(*code, **more), network="agent")


def test_a_job_cannot_keep_a_process_by_calling_it_a_keeper(launcher, start, life, tmp_path: Path) -> None:
    code = (
        "code = 'import sys, time; sys.stdout = open(sys.argv[1], chr(119)); print(1, flush=True); time.sleep(600)'\n"
        "import subprocess, sys\n"
        "subprocess.Popen([sys.executable, '-c', code, *sys.argv[1:]], start_new_session=True)\n"
        "open(sys.argv[1] + '.go').readline()"
    )
    os.mkfifo(f"{life.path}.go")
    mounts = (Mount(str(tmp_path), str(tmp_path), writable=True),)
    handle = start(code, str(life.path), KEEPER_MARK, network="agent", mounts=mounts)
    assert life.hear(PATIENCE) == "1"
    Path(f"{life.path}.go").write_text("\n")
    assert launcher.wait(handle, PATIENCE).code == 0
    assert life.ended(0)


# -- files


@pytest.mark.row("J7")
def test_nothing_can_be_read_that_was_not_granted(probe: Try, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    found = probe(
        """
        tried("file", open, sys.argv[1])
        tried("folder", os.listdir, os.path.dirname(sys.argv[1]))
        tried("records", os.listdir, sys.argv[2])
        tried("home", os.listdir, os.path.expanduser("~root" if os.getuid() == 0 else "~"))
        tried("temporary", os.listdir, "/tmp")
        tried("shadow", open, "/etc/shadow")
        tried("parent", open, "../secret")
        os.symlink(sys.argv[1], "link")
        tried("link", open, "link")
        tried("hard link", os.link, sys.argv[1], "hard")
        tried("rename", os.rename, sys.argv[1], "mine")
        """,
        str(tmp_path / "secret"),
        str(tmp_path / "state"),
    )
    assert found.pop("hard link") in ("EACCES", "EXDEV")
    assert found.pop("rename") in ("EACCES", "EXDEV")
    assert set(found.values()) == {"EACCES"}


def test_nothing_can_be_written_outside_its_own_folder(probe: Try, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").write_text("x = 1\n")
    found = probe(
        """
        code = sys.argv[1]
        tried("change", open, code + "/train.py", "r+")
        tried("truncate", os.truncate, code + "/train.py", 0)
        tried("new", open, code + "/new", "w")
        tried("delete", os.unlink, code + "/train.py")
        tried("folder", os.mkdir, code + "/more")
        tried("temporary", open, "/tmp/flpoc-probe", "w")
        tried("library", open, os.__file__, "r+")
        tried("oom", open, "/proc/self/oom_score_adj", "w")
        """,
        str(tmp_path / "code"),
        mounts=(Mount(str(tmp_path / "code"), str(tmp_path / "code")),),
    )
    assert set(found.values()) == {"EACCES"}
    assert (tmp_path / "code" / "train.py").read_text() == "x = 1\n"


def test_mounts_are_granted_as_they_say(probe: Try, tmp_path: Path) -> None:
    mounts = [Mount(str(tmp_path / name), str(tmp_path / name), writable=name == "rw") for name in ("ro", "rw")]
    for mount in mounts:
        Path(mount.source).mkdir()
        (Path(mount.source) / "file").write_text("x")
    found = probe(
        """
        for name, path in zip(("ro", "rw"), sys.argv[1:]):
            tried("read " + name, open, path + "/file")
            tried("write " + name, open, path + "/file", "w")
            tried("rename " + name, os.rename, path + "/file", path + "/other")
        """,
        *(mount.source for mount in mounts),
        mounts=tuple(mounts),
    )
    assert {name for name, what in found.items() if what == "done"} == {"read ro", "read rw", "write rw", "rename rw"}


def test_a_mount_may_be_a_single_file(probe: Try, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1")
    (tmp_path / "b.csv").write_text("1")
    code = "tried('a', open, sys.argv[1]); tried('b', open, sys.argv[2])"
    mounts = (Mount(str(tmp_path / "a.csv"), "/data/a.csv"),)
    assert probe(code, str(tmp_path / "a.csv"), str(tmp_path / "b.csv"), mounts=mounts) == {"a": "done", "b": "EACCES"}


@pytest.fixture
def temporary(tmp_path: Path) -> Iterator[str]:
    """A short name of the folder in which a probe may write, as jobs are given one: some sockets are made in it."""
    shortcuts = Shortcuts(tmp_path / "short")
    yield str(shortcuts.make(tmp_path / "work"))
    shortcuts.drop()


def test_a_job_works_as_usual_in_its_own_folder(probe: Try, tmp_path: Path, temporary: str) -> None:
    found = probe(
        """
        import multiprocessing, multiprocessing.shared_memory, pathlib, random, secrets, socket, sqlite3, subprocess
        import tempfile, zoneinfo
        import numpy
        tried("file", pathlib.Path("a").write_text, "x")
        tried("folders", os.makedirs, "b/c")
        tried("rename between folders", os.rename, "a", "b/c/a")
        tried("fifo", os.mkfifo, "fifo")
        tried("temporary", tempfile.TemporaryFile)
        tried("home", pathlib.Path("~/.cache").expanduser().mkdir)
        tried("database", sqlite3.connect, "db")
        tried("time zone", zoneinfo.ZoneInfo, "Europe/Berlin")
        tried("null", open, "/dev/null", "w")
        tried("random", secrets.token_bytes, 8)
        tried("shell", lambda: subprocess.run(["sh", "-c", "echo hi > said; ls / >/dev/null || cat said"], check=True))
        tried("itself again", lambda: subprocess.run([sys.executable, "-c", "import numpy"], check=True))
        tried("pool", lambda: multiprocessing.Pool(2).map(abs, [1, -1]))
        tried("spawned", lambda: multiprocessing.get_context("spawn").Pool(1).map(abs, [1, -1]))
        tried("manager", multiprocessing.Manager)
        tried("shared memory", lambda: multiprocessing.shared_memory.SharedMemory(create=True, size=64).unlink())
        tried("its child's end", lambda: subprocess.Popen(["sleep", "600"]).terminate())
        tried("sockets of its own", lambda: socket.socket(socket.AF_UNIX).bind("s"))
        tried("a pair", socket.socketpair)
        script = pathlib.Path("script")
        script.write_text("#!/bin/sh\\nexit 0\\n")
        script.chmod(0o700)
        tried("a program of its own", lambda: subprocess.run(["./script"], check=True))
        """,
        env={"HOME": str(tmp_path / "work"), "TMPDIR": temporary, "PATH": os.defpath},
    )
    assert {name: what for name, what in found.items() if what != "done"} == {}


def test_a_virtual_environment_and_what_it_links_to_are_granted(tmp_path: Path) -> None:
    environment, source, other = tmp_path / "env", tmp_path / "project" / "src", tmp_path / "flat" / "acme"
    base = tmp_path / "python"
    packages = environment / "lib" / "python3.11" / "site-packages"
    for folder in (packages, environment / "bin", base / "bin", base / "lib" / "python3.11" / "site-packages"):
        folder.mkdir(parents=True)
    (base / "bin" / "python3").touch()
    (environment / "bin" / "python").symlink_to(base / "bin" / "python3")
    (environment / "pyvenv.cfg").write_text(f"home = {base / 'bin'}\n")
    (packages / "project.pth").write_text(f"import something\n# comment\n{source}\n")
    (packages / "__editable___acme_finder.py").write_text(f"MAPPING: dict[str, str] = {{'acme': {str(other)!r}}}\n")
    found = set(folders_of(environment / "bin" / "python"))
    assert {environment, source, other, base} <= found
    assert tmp_path not in found


def test_whatever_runs_beside_this_interpreter_may_read_what_this_process_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = str(tmp_path / "site-packages")
    monkeypatch.syspath_prepend(elsewhere)
    beside = Path(sys.executable).parent
    for program in (Path(sys.executable), beside / "python3", beside / "torchrun"):
        assert Path(elsewhere) in set(folders_of(program))
    assert Path(elsewhere) not in set(folders_of(tmp_path / "bin" / "python3"))


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder where every job may write."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def test_a_program_that_a_job_could_have_written_gets_nothing_for_itself(tmp_path: Path, shared: Path) -> None:
    for place in (tmp_path / "code", shared):
        packages = place / "lib" / "python3.11" / "site-packages"
        for folder in (place / "bin", packages):
            folder.mkdir(parents=True)
        (place / "bin" / "python").touch()
        (place / "pyvenv.cfg").write_text(f"home = {Path.home() / 'bin'}\n")
        (packages / "more.pth").write_text("/srv\n")
        request = LaunchRequest(
            name="x", argv=("python",), workdir=str(tmp_path), state=str(tmp_path), log=str(tmp_path / "log"),
            mounts=(Mount(str(tmp_path / "code"), str(tmp_path / "code")),),
        )  # fmt: skip
        granted = {grant.path for grant in grants_for(request, str(place / "bin" / "python"))}
        assert not {str(Path.home()), str(Path.home() / "bin"), "/srv"} & granted


def test_a_prefix_that_is_a_home_is_granted_in_part_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "bin").mkdir()
    (tmp_path / "pyvenv.cfg").write_text("")
    found = set(folders_of(tmp_path / "bin" / "python"))
    assert tmp_path / "lib" in found
    assert tmp_path not in found


def test_what_is_hidden_stays_hidden_in_a_folder_that_is_granted(probe: Try, tmp_path: Path) -> None:
    software, kit = tmp_path / "software", tmp_path / "software" / "fl" / "kit"
    kit.mkdir(parents=True)
    (kit / "key").write_text("secret")
    (software / "library").write_text("x")
    (software / "fl" / "beside").write_text("x")
    (software / "way").symlink_to(kit)
    request = LaunchRequest(
        name="x", argv=("/bin/true",), workdir=str(tmp_path), state=str(tmp_path), log=str(tmp_path / "log"),
        hidden=(str(kit),),
    )  # fmt: skip
    granted = {grant.path for grant in grants_for(request, "/bin/true", [str(software)])}
    assert {str(software / "library"), str(software / "fl" / "beside")} <= granted
    assert not {str(software), str(software / "fl"), str(kit), str(kit / "key"), str(software / "way")} & granted


def test_a_mount_that_holds_what_is_hidden_is_a_launch_error(launcher: LocalLauncher, ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "data" / "kit").mkdir(parents=True)
    mounts = (Mount(str(tmp_path / "data"), "/data"),)
    with pytest.raises(LaunchError, match="no job may see") as caught:
        launcher.launch(ask("pass", mounts=mounts, hidden=(str(tmp_path / "data" / "kit"),), network="agent"))
    assert caught.value.hint


def test_a_mount_that_does_not_exist_is_a_launch_error(launcher: LocalLauncher, ask: Ask, tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="nowhere"):
        launcher.launch(ask("pass", mounts=(Mount(str(tmp_path / "nowhere"), "/data"),), network="agent"))


def test_a_mount_in_one_that_jobs_may_change_is_a_launch_error(
    launcher: LocalLauncher, ask: Ask, tmp_path: Path
) -> None:
    (tmp_path / "data" / "part").mkdir(parents=True)
    mounts = (Mount(str(tmp_path / "data" / "part"), "/part"), Mount(str(tmp_path / "data"), "/data", writable=True))
    with pytest.raises(LaunchError, match="which jobs may change"):
        launcher.launch(ask("pass", mounts=mounts, network="agent"))


def test_system_folders_are_for_reading_only(tmp_path: Path) -> None:
    request = LaunchRequest(
        name="x", argv=(sys.executable,), workdir=str(tmp_path), state=str(tmp_path), log=str(tmp_path / "log")
    )
    writable = {grant.path for grant in grants_for(request, sys.executable) if grant.access is Access.WRITE}
    assert writable == {str(tmp_path), "/dev/shm"}


# -- network and processes


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.mark.parametrize("network", ["none", "agent"])
def test_no_tcp_connection_is_made_or_taken(probe: Try, listener: socket.socket, network: str) -> None:
    found = probe(
        """
        import socket
        tried("dial", socket.create_connection, ("127.0.0.1", int(sys.argv[1])), 5)
        tried("listen", socket.create_server, ("127.0.0.1", 0))
        tried("by hand", socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
        stream = (socket.AF_INET, socket.SOCK_STREAM)
        there = ("127.0.0.1", int(sys.argv[1]))
        tried("dial by sending", lambda: socket.socket(*stream).sendto(b"x", socket.MSG_FASTOPEN, there))
        tried("listen unbound", lambda: socket.socket(*stream).listen())
        tried("dial in several paths", lambda: socket.socket(*stream, 262).connect(there))
        tried("listen in several paths", lambda: socket.socket(*stream, 262).bind(("127.0.0.1", 0)))
        tried("version 6", socket.socket, socket.AF_INET6, socket.SOCK_STREAM)
        tried("shared memory protocol", socket.socket, 43, socket.SOCK_STREAM)
        """,
        str(listener.getsockname()[1]),
        network=network,
    )
    assert set(found.values()) == {"EACCES"}


OWN_NETWORK = """
def talk(host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        socket.create_connection(server.getsockname()[:2], 5).close()
"""


def test_processes_with_a_network_of_their_own_talk_to_each_other_and_to_nobody_else(
    probe: Try, listener: socket.socket
) -> None:
    found = probe(
        "import socket\n"
        + OWN_NETWORK
        + textwrap.dedent("""
        tried("talk", talk, "127.0.0.1")
        tried("talk by version 6", talk, "::1")
        tried("dial the host", socket.create_connection, ("127.0.0.1", int(sys.argv[1])), 5)
        tried("dial out", socket.create_connection, ("192.0.2.1", 80), 5)
        tried("send out", socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto, b"x", ("192.0.2.1", 53))
        tried("by hand", socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
        tried("to the hypervisor", socket.socket, 40, socket.SOCK_STREAM)
        found["interfaces"] = " ".join(name for _, name in socket.if_nameindex())
        """),
        str(listener.getsockname()[1]),
        network="own",
    )
    assert found.pop("interfaces").split()[0] == "lo"
    assert found == {
        "talk": "done", "talk by version 6": "done", "dial the host": "ECONNREFUSED", "dial out": "ENETUNREACH",
        "send out": "ENETUNREACH", "by hand": "EACCES", "to the hypervisor": "EACCES",
    }  # fmt: skip


ALONE = """
import ctypes, socket
from flpoc_builtin_local.landlock import ruleset, this_kernel
from flpoc_builtin_local.restricting import confine
class Kernel:
    def __init__(self):
        self._libc = ctypes.CDLL(None, use_errno=True)
    def __getattr__(self, name):
        return getattr(self._libc, name)
    def unshare(self, flags):
        found["made"] = -1 if "refused" in sys.argv else self._libc.unshare(flags)
        return found["made"]
if os.getuid() == 0 and "unprivileged" in sys.argv:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # so that its files in /proc are its own, as those of one that began so
who = os.getuid()
with ruleset(this_kernel().abi, (), tcp=True) as rules:
    confine(rules, Kernel(), own_network=True)
assert os.getuid() == who
tried("talk", talk, "127.0.0.1")
tried("owner", socket.socket, socket.AF_UNIX)
print(json.dumps(found))
"""


@pytest.mark.parametrize("user", ["unprivileged", "this one"])
@pytest.mark.parametrize("asked", ["granted", "refused"])
def test_where_no_network_can_be_made_there_is_no_tcp_either(user: str, asked: str) -> None:
    argv = [sys.executable, "-c", "import encodings.idna, socket\n" + PROBE + OWN_NETWORK + ALONE, user, asked]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert asked == "granted" or found["made"]
    assert found == {"made": found["made"], "talk": "EACCES" if found["made"] else "done", "owner": "done"}


def test_no_call_goes_round_the_filter_of_calls(probe: Try) -> None:
    found = probe(
        """
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        def call(number, *arguments):
            if libc.syscall(number, *arguments) < 0:
                raise OSError(ctypes.get_errno(), "refused")
        tried("rings", call, 425, 4, ctypes.create_string_buffer(200))
        tried("x32", call, (1 << 30) + 41, 2, 1, 0)
        """
    )
    assert found == {"rings": "ENOSYS", "x32": "ENOSYS"}


def test_datagrams_unix_sockets_and_limits_of_its_own_are_left(probe: Try) -> None:
    found = probe(
        """
        import resource, socket
        tried("datagrams", socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        tried("names", socket.getaddrinfo, "localhost", 80)
        tried("pair", socket.socketpair)
        tried("netlink", socket.if_nameindex)
        tried("limits", resource.setrlimit, resource.RLIMIT_NOFILE, (64, 64))
        tried("limits of its keeper", resource.prlimit, os.getppid(), resource.RLIMIT_NOFILE)
        """
    )
    assert set(found.values()) == {"done"}


def test_its_owners_socket_is_reached_in_a_granted_folder_only(probe: Try, tmp_path: Path) -> None:
    (tmp_path / "sockets").mkdir()
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as abstract:
        server.bind(str(tmp_path / "sockets" / "s"))
        server.listen()
        abstract.bind(f"\0flpoc-test-{os.getpid()}")
        abstract.listen()
        found = probe(
            """
            import socket
            folder = os.open(sys.argv[1], os.O_DIRECTORY)
            tried("owner", socket.socket(socket.AF_UNIX).connect, f"/proc/self/fd/{folder}/s")
            tried("abstract", socket.socket(socket.AF_UNIX).connect, chr(0) + sys.argv[2])
            """,
            str(tmp_path / "sockets"),
            f"flpoc-test-{os.getpid()}",
            mounts=(Mount(str(tmp_path / "sockets"), str(tmp_path / "sockets")),),
        )
    assert found == {"owner": "done", "abstract": "EPERM"}


@pytest.mark.row("J7")
def test_other_processes_are_out_of_reach(probe: Try) -> None:
    found = probe(
        """
        import ctypes, resource, signal
        agent, keeper = int(sys.argv[1]), os.getppid()
        for name, pid in (("agent", agent), ("keeper", keeper)):
            tried("signal " + name, os.kill, pid, 0)
            tried("limits of " + name, resource.prlimit, pid, resource.RLIMIT_CPU, (10_000, 10_000))
            tried("environment of " + name, open, f"/proc/{pid}/environ")
            tried("memory of " + name, open, f"/proc/{pid}/mem")
            tried("files of " + name, os.readlink, f"/proc/{pid}/fd/0")
            tried("root of " + name, os.listdir, f"/proc/{pid}/root/")
        libc = ctypes.CDLL(None, use_errno=True)
        found["trace"] = errno.errorcode[ctypes.get_errno()] if libc.ptrace(16, agent, 0, 0) else "done"
        """,
        str(os.getpid()),
    )
    assert set(found.values()) <= {"EACCES", "EPERM"}


@pytest.mark.skipif(os.getuid() != 0, reason="only root has privileges to lose")
def test_root_keeps_no_privileges_but_for_files(probe: Try) -> None:
    found = probe(
        """
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        found.update({name: status[name].strip() for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "NoNewPrivs")})
        tried("own", os.chown, ".", 65534, 65534)
        tried("switch user", os.setuid, 65534)
        tried("device", os.mknod, "null", 0o20600, os.makedev(1, 3))
        """
    )
    capabilities = {int(found.pop(name), 16) for name in ("CapEff", "CapPrm", "CapInh", "CapBnd")}
    assert capabilities <= {0, 1 << 1}
    assert found.pop("NoNewPrivs") == "1"
    assert set(found.values()) <= {"EPERM", "EACCES"}


UNPRIVILEGED = """
import ctypes, sys, pathlib
from flpoc.launching import LaunchRequest
from flpoc_builtin_local.confinement import grants_for
from flpoc_builtin_local.landlock import ruleset, this_kernel
from flpoc_builtin_local.restricting import confine
os.umask(0)
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
place = sys.argv[1]
request = LaunchRequest(name="x", argv=("x",), workdir=place + "/own", state=place, log=place + "/log")
tried("before", open, place + "/open-to-all")
with ruleset(this_kernel().abi, grants_for(request, "/bin/true"), tcp=False) as rules:
    confine(rules, ctypes.CDLL(None, use_errno=True))
tried("after", open, place + "/open-to-all")
tried("write", open, place + "/new", "w")
tried("signal", os.kill, os.getppid(), 0)
tried("dial", socket.create_connection, ("127.0.0.1", 9))
tried("own", open, place + "/own/mine", "w")
print(json.dumps(found))
"""


@pytest.mark.row("J7")
def test_an_unprivileged_user_is_confined_just_the_same(tmp_path: Path) -> None:
    place = Path("/var/tmp") if not os.access("/var/tmp", os.W_OK) else Path("/var/tmp") / f"flpoc-{os.getpid()}"
    place.mkdir(mode=0o777)
    try:
        place.chmod(0o777)
        (place / "own").mkdir()
        (place / "own").chmod(0o777)
        (place / "open-to-all").write_text("x")
        (place / "open-to-all").chmod(0o666)
        # loaded while it still is root, below whose home the interpreter may be
        argv = [sys.executable, "-c", "import encodings.idna, socket\n" + PROBE + UNPRIVILEGED, str(place)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
    finally:
        for path in (place / "own" / "mine", place / "open-to-all", place / "new"):
            path.unlink(missing_ok=True)
        (place / "own").rmdir()
        place.rmdir()
    assert found == {
        "before": "done", "after": "EACCES", "write": "EACCES", "signal": "EPERM", "dial": "EACCES", "own": "done",
    }  # fmt: skip


# -- settings


def test_confinement_can_be_switched_off(ask: Ask, tmp_path: Path) -> None:
    launcher = LocalLauncher(LocalSettings(confine="never"))
    handle = launcher.launch(ask(f"open({str(tmp_path / 'new')!r}, 'w')", network="none", workdir="/"))
    assert launcher.wait(handle, PATIENCE).code == 0
    launcher.stop(handle, grace=0)


def test_services_are_not_confined(start: Callable[..., Handle], launcher: LocalLauncher, tmp_path: Path) -> None:
    handle = start(f"open({str(tmp_path / 'new')!r}, 'w')", network="open", workdir="/")
    assert launcher.wait(handle, PATIENCE).code == 0


def test_further_folders_can_be_made_readable(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "software").mkdir()
    (tmp_path / "work").mkdir()
    launcher = LocalLauncher(LocalSettings(readable=(str(tmp_path / "software"),)))
    code = f"import os; os.listdir({str(tmp_path / 'software')!r}); os.listdir({str(tmp_path)!r})"
    handle = launcher.launch(ask(code, network="agent", workdir=str(tmp_path / "work")))
    assert launcher.wait(handle, PATIENCE).code == 1
    assert f"Permission denied: '{tmp_path}'" in launcher.logs(handle)
    launcher.stop(handle, grace=0)


@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        (Kernel(7), "files, TCP and signals"),
        (Kernel(4), "files and TCP"),
        (Kernel(1), "files."),
        (Kernel(0, "this kernel has no Landlock"), "nothing on this machine: this kernel has no Landlock"),
    ],
)
def test_what_a_kernel_confines_is_said(kernel: Kernel, said: str) -> None:
    assert said in kernel.said


@pytest.mark.parametrize("kernel", [Kernel(0, "this kernel has no Landlock"), Kernel(3), Kernel(5)])
def test_where_the_kernel_cannot_always_is_a_launch_error(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, kernel: Kernel
) -> None:
    monkeypatch.setattr("flpoc_builtin_local.confinement.this_kernel", lambda: kernel)
    with pytest.raises(LaunchError, match="must be confined") as caught:
        LocalLauncher(LocalSettings(confine="always")).launch(ask("pass", network="agent"))
    assert "auto" in caught.value.hint


@pytest.mark.parametrize("abi", range(7))
def test_older_kernels_confine_what_they_can(
    probe: Try, monkeypatch: pytest.MonkeyPatch, listener: socket.socket, tmp_path: Path, abi: int
) -> None:
    monkeypatch.setattr("flpoc_builtin_local.confinement.this_kernel", lambda: Kernel(abi))
    (tmp_path / "secret").write_text("x")
    found = probe(
        """
        import socket
        tried("files", open, sys.argv[1])
        tried("TCP", socket.create_connection, ("127.0.0.1", int(sys.argv[2])), 5)
        tried("signals", os.kill, os.getppid(), 0)
        """,
        str(tmp_path / "secret"),
        str(listener.getsockname()[1]),
    )
    # with any Landlock, sockets of TCP are filtered; it is not promised, as not all processors are known to the filter
    filtered = {"TCP"} if abi else set()
    assert {name for name, what in found.items() if what != "done"} == filtered | set(Kernel(abi).confines)


# -- telling why


HINT = """
from flpoc_builtin_local.hooks import flpoc_error_hint
def hint(action, *arguments):
    try:
        action(*arguments)
    except Exception as error:
        return flpoc_error_hint(error)
"""


def test_a_denial_is_explained_where_it_happens(probe: Try, tmp_path: Path, listener: socket.socket) -> None:
    (tmp_path / "data.csv").write_text("x")
    found = probe(
        HINT
        + textwrap.dedent("""
        import socket
        def wrapped():
            try:
                open(sys.argv[1])
            except OSError as error:
                raise RuntimeError("cannot load") from error
        found["read"] = hint(open, sys.argv[1])
        found["wrapped"] = hint(wrapped)
        found["write"] = hint(open, sys.argv[1] + ".new", "w")
        found["dial"] = hint(socket.create_connection, ("127.0.0.1", int(sys.argv[2])))
        found["missing"] = hint(open, "missing") or ""
        found["other"] = hint(int, "x") or ""
        """),
        str(tmp_path / "data.csv"),
        str(listener.getsockname()[1]),
    )
    assert str(tmp_path / "data.csv") in found["read"]
    assert '"datasets" in the site\'s local/policy.json' in found["read"]
    assert found["wrapped"] == found["read"]
    assert f"{tmp_path / 'data.csv'}.new" in found["write"]
    assert "no network" in found["dial"]
    assert (found["missing"], found["other"]) == ("", "")


def test_a_denial_elsewhere_is_none_of_its_business(tmp_path: Path) -> None:
    assert flpoc_error_hint(PermissionError(13, "Permission denied", str(tmp_path))) is None


# -- ends


def test_a_confined_process_ends_with_its_keeper(launcher: LocalLauncher, start: Callable[..., Handle], life) -> None:
    mounts = (Mount(str(life.path), str(life.path), writable=True),)
    handle = start("say('here'); time.sleep(600)", str(life.path), network="agent", mounts=mounts)
    assert life.hear(PATIENCE) == "here"
    os.kill(json.loads(handle.ref)["keeper"][0], signal.SIGKILL)
    assert life.ended(PATIENCE)
