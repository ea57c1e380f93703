"""A Docker engine of the tests' own: a private socket, a private place for its data, images without any registry."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import docker
import pytest

#: How every test that is skipped for want of an engine says so; the summary of a run repeats it.
ABSENT = "NO DOCKER ENGINE, NOTHING THAT NEEDS ONE IS TESTED"
#: The images that the tests use: an interpreter and nothing else; the same with flpoc.
BASE, IMAGE = "flpoc-test-base:1", "flpoc-test:1"
_SECONDS = 120.0
_DISTRIBUTIONS = ("flpoc", "flpoc-builtin-local", "flpoc-builtin-docker")
#: Of the standard library, what no test needs.
_LEFT_OUT = ("test", "idlelib", "tkinter", "turtledemo", "lib2to3", "site-packages", "ensurepip", "__pycache__")
#: What compiled packages need besides the libraries of the interpreter.
_MORE_LIBRARIES = ("libstdc++.so.6", "libgcc_s.so.1", "librt.so.1", "libpthread.so.0", "libdl.so.2", "libutil.so.1")


class NoEngineError(Exception):
    """No engine can be had here, and why."""


class Engine:
    """A ``dockerd`` with everything of its own; killed and started at will."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"unix://{folder}/s"
        self._process: subprocess.Popen[bytes] | None = None
        self._driver = ""

    @property
    def api(self) -> docker.APIClient:
        return docker.APIClient(base_url=self.address, version="1.41", timeout=_SECONDS)

    def start(self) -> None:
        """Start it, with the first kind of storage that works here."""
        tried = []
        # on a busy machine its containerd may take longer than it waits for that: then once more
        for driver in [self._driver] * 3 if self._driver else ["overlay2", "overlay2", "fuse-overlayfs", "vfs"]:
            if self._start(driver):
                self._driver = driver
                return
            tried.append(self.log()[-300:])
            self.stop()
        raise NoEngineError(f"dockerd does not start: {' / '.join(tried)}")

    def _start(self, driver: str) -> bool:
        (self.folder / "pid").unlink(missing_ok=True)
        argv = ["dockerd", "-H", self.address, "--data-root", str(self.folder / "data")]
        argv += ["--exec-root", str(self.folder / "exec"), "-p", str(self.folder / "pid"), "-s", driver]
        # without the default network, for whose name engines side by side would fight, and without rules that stay
        argv += ["--bridge", "none", "--iptables=false", "--ip6tables=false"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until = time.monotonic() + _SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            try:
                self.api.ping()
            except Exception:  # it is not there yet
                time.sleep(0.1)
            else:
                return True
        return False

    def kill(self) -> None:
        """Kill it without any warning, and nothing else."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it with all its containers."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None

    def close(self) -> None:
        """End it, and delete everything that it had."""
        if self._process is not None and self._process.poll() is None:
            for one in self.api.containers(all=True):
                self.api.remove_container(one["Id"], v=True, force=True)
            for one in self.api.networks():
                if one["Driver"] == "bridge":  # its interface would stay
                    self.api.remove_network(one["Id"])
        self.stop()
        self._end_containerd()
        for line in reversed(Path("/proc/mounts").read_text().splitlines()):
            if line.split()[1].startswith(f"{self.folder}/"):
                subprocess.run(["umount", "-l", line.split()[1]], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end_containerd(self) -> None:
        """A killed engine leaves its containerd, that its shims, which name this folder, and these their containers."""
        argv, parent = {}, {}
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit():
                    argv[int(entry.name)] = (entry / "cmdline").read_bytes()
                    parent[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
        name = str(self.folder).encode()
        ours = {pid for pid, words in argv.items() if name in words and b"containerd" in words.partition(b"\0")[0]}
        for pid in [*(pid for pid in parent if parent[pid] in ours), *ours]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")


@contextmanager
def engine() -> Iterator[Engine]:
    """An engine with an image of an interpreter.

    Raises:
        NoEngineError: None can be had here.
    """
    _install()
    folder = Path(tempfile.mkdtemp(prefix="flpoc-engine-"))
    found = Engine(folder)
    try:
        found.start()
        name, _, tag = BASE.partition(":")
        found.api.import_image_from_data(base_image(), repository=name, tag=tag)
        yield found
    finally:
        found.close()


@contextmanager
def engine_for_tests() -> Iterator[Engine]:
    """An engine; without one tests are skipped, but never where CI counts on them."""
    with ExitStack() as stack:
        try:
            found = stack.enter_context(engine())
        except NoEngineError as error:
            if os.environ.get("CI"):
                pytest.fail(f"no Docker engine, and CI is set: {error}", pytrace=False)
            pytest.skip(f"{ABSENT}: {error}")
        yield found


def make_image(found: Engine) -> str:
    """The image with flpoc, made from that without; gives its name."""
    from flpoc_builtin_docker.building import build

    build(found.api, found.address, base=BASE, tag=IMAGE, names=_DISTRIBUTIONS)
    return IMAGE


def _install() -> None:
    if shutil.which("dockerd"):
        return
    if os.getuid() != 0 or not shutil.which("apt-get"):
        raise NoEngineError("there is no dockerd, and it cannot be installed: not root, or no apt-get")
    argv = ["apt-get", "install", "-y", "--no-install-recommends", "docker.io"]
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], env=env, capture_output=True, check=False)
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    if not shutil.which("dockerd"):
        raise NoEngineError(f"apt-get install docker.io: {(done.stderr or done.stdout).strip()[-300:]}")


def base_image() -> bytes:
    """An archive of this interpreter, its standard library, the shared libraries of both, and a shell."""
    prefix = Path(sys.base_prefix)
    python = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib", vars={"installed_base": str(prefix), "base": str(prefix)}))
    shell = Path("/bin/sh").resolve()
    programs = [python, shell, *library.glob("lib-dynload/*.so")]
    found = {str(path): path for path in programs[:2]}
    for path in sorted(library.rglob("*")):
        inner = path.relative_to(library).parts
        if path.is_file() and not set(inner) & set(_LEFT_OUT) and path.suffix not in (".a", ".pyc"):
            found[str(path)] = path
    found |= {name: Path(name) for name in _libraries(programs)}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, path in found.items():
            entry = archive.gettarinfo(str(path.resolve()), name.lstrip("/"))
            with path.open("rb") as content:
                archive.addfile(entry, content)
        _link(archive, "usr/local/bin/python3", str(python))
        if str(shell) != "/bin/sh":
            _link(archive, "bin/sh", str(shell))
        _text(archive, "etc/passwd", "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
        _text(archive, "etc/group", "root:x:0:\n")
        _text(archive, "etc/nsswitch.conf", "hosts: files dns\n")
        for folder in ("tmp", "root", "data", str(library / "site-packages")):
            entry = tarfile.TarInfo(folder.lstrip("/"))
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            archive.addfile(entry)
    return buffer.getvalue()


def _libraries(programs: list[Path]) -> set[str]:
    """Shared libraries that programs and modules need, by the names under which they are looked up."""
    told = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False).stdout
    # what compiled packages of the tests need besides
    more = [path for name in _MORE_LIBRARIES if (path := _find(name))]
    found = re.findall(r"(?:=> )?(/\S+) \(0x", told)
    return {*found, *more}


def _find(name: str) -> str:
    listed = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=False).stdout
    place = re.search(rf"{re.escape(name)} .*=> (\S+)", listed)
    return place.group(1) if place else ""


def _link(archive: tarfile.TarFile, name: str, target: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    archive.addfile(entry)


def _text(archive: tarfile.TarFile, name: str, text: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(text), 0o644
    archive.addfile(entry, io.BytesIO(text.encode()))
