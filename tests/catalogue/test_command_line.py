"""Wrong words, paths, streams and surroundings: commands refuse them in one document and change nothing."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shutil
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from machine.ports import free_port

from .conftest import RUN, User, interrupted, snapshot

# -- words


@pytest.mark.row("C1")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "sub-command is missing"),
        (("job",), "sub-command is missing"),
        (("poc",), "sub-command is missing"),
        (("jbo",), "'job'"),
        (("poc", "strat"), "'start'"),
        (("job", "lsit"), "'list'"),
        (("config", "ad"), "'add'"),
        (("poc", "prepare", "--forse"), "'--force'"),
        (("job", "submit", "--job-foldr", "x"), "'--job-folder'"),
        (("poc", "prepare", "--number", "3"), "'--number-of-clients'"),
        (("job", "list", "--connect-timeuot", "3"), "'--connect-timeout'"),
        (("job", "meta"), "JOB_ID"),
        (("job", "meta", "one", "two"), "two"),
        (("",), "''"),
        (("\u0661",), "'\u0661'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_words_are_answered_with_the_usage_and_the_nearest_name(idle, words, says):
    found = idle.run(*words).refused("INVALID_ARGS", says)
    assert found["data"]["usage"]


@pytest.mark.row("C2")
@pytest.mark.parametrize(
    "words",
    [
        ("poc", "prepare", "--launcher"),
        ("job", "submit", "--submit-token", "--debug"),
        ("job", "wait", "x", "--timeout"),
        ("job", "list", "--connect-timeout"),
        ("job", "list", "--connect-timeout="),
        ("poc", "prepare", "-n", "2", "-n", "3"),
        ("poc", "prepare", "-n", "2", "--number-of-clients=3"),
        ("job", "submit", "-j", "a", "--job_folder", "b"),
        ("job", "list", "--connect-timeout", "1", "--connect-timeout=2"),
        ("poc", "prepare", "-i", ""),
        ("poc", "prepare", "--project-input="),
        ("job", "submit", "-j", ""),
        ("job", "download", "x", "-o", ""),
        ("job", "list", "--startup-kit", ""),
        ("job", "list", "--kit-id="),
        ("poc", "start", "-p", ""),
    ],
    ids=" ".join,
)
def test_an_option_has_one_value_and_it_is_not_empty(idle, words):
    before = snapshot(idle.folder)
    found = idle.run(*words).refused("INVALID_ARGS")
    assert any(word.partition("=")[0] in found["message"] for word in words if word.startswith("-")), found
    assert snapshot(idle.folder) == before


COUNTS = ("0", "-1", "1e9", "1000000000", "abc", "1.5", "\u0661\u0662", "\uff11", "0x10", "1_0", " 1", "+ 1", "NaN")


@pytest.mark.row("C3", "D4")
@pytest.mark.parametrize("value", [*COUNTS, "-3"])
def test_a_number_of_sites_is_a_plain_number_in_range(idle, value):
    idle.run("poc", "prepare", "-n", value).refused("INVALID_ARGS", "'-n'", "from 1 to 1000")
    assert not idle.workspace.exists()


@pytest.mark.row("C3")
@pytest.mark.parametrize("value", [value for value in COUNTS if value not in ("0", "1000000000")])
def test_counts_of_lists_and_lines_are_plain_numbers(idle, value):
    idle.run("job", "logs", "x", "--tail", value).refused("INVALID_ARGS", "'--tail'", "from 0 to")
    idle.run("job", "list", "-m", value).refused("INVALID_ARGS", "'--max'", "from 0 to")


@pytest.mark.row("C4")
@pytest.mark.parametrize("value", ["nan", "inf", "-5", "10x", "1e400", "1,5", "\u0661", "5s"])
@pytest.mark.parametrize(
    "words",
    [("job", "wait", "x", "--timeout"), ("job", "monitor", "x", "--interval"), ("job", "list", "--connect-timeout")],
    ids=lambda words: words[-1],
)
def test_seconds_are_finite_and_in_range(idle, words, value):
    idle.run(*words, value).refused("INVALID_ARGS", words[-1], "must be a number")


@pytest.mark.row("C4")
@pytest.mark.parametrize("value", ["nan", "-1", "0", "1.5", "1e3", "10s"])
def test_whole_seconds_of_start_are_in_range(idle, value):
    idle.run("poc", "start", "--timeout", value).refused("INVALID_ARGS", "--timeout", "from 1 to 86400")


JOB_IDS = {
    "path": "../x",
    "absolute": "/etc/passwd",
    "empty": "",
    "10 kB": "a" * 10_000,
    "line end": "a\nb",
    "blank": "a b",
    "escape": "a\x1b[31mb",
    "star": "*",
    "percent": "%00",
    "letter": "\u00e9",
}


@pytest.mark.row("C5")
@pytest.mark.parametrize("command", ["meta", "wait", "monitor", "abort", "delete", "download", "logs"])
def test_what_cannot_be_a_job_id_never_leaves_this_machine(idle, tmp_path, command):
    """There is no server to ask, and still the answer is about the id."""
    kit = provisioned(tmp_path)
    force = ["--force"] if command in ("abort", "delete") else []
    for name, job in JOB_IDS.items():
        done = idle.run("job", command, "--startup-kit", str(kit), *force, "--", job)
        found = done.refused("INVALID_ARGS", "is not a job id")
        assert len(found["message"]) < 300, name
        assert not set(found["message"]) & {"\n", "\x1b"}, name


@pytest.mark.row("C5")
def test_a_nul_in_an_argument_is_refused_by_the_session(tmp_path):
    from flpoc.errors import UsageError
    from flpoc.session import Session

    with Session.open(provisioned(tmp_path)) as session, pytest.raises(UsageError, match="is not a job id"):
        session.get_job_meta("a\0b")


@pytest.mark.row("C14")
@pytest.mark.parametrize(
    "words",
    [
        ("--password", "hunter2"),
        ("--password=hunter2",),
        ("--token", "hunter2"),
        ("--private-key=hunter2",),
        ("--api-key", "hunter2"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("text", [False, True])
def test_a_secret_on_the_command_line_is_refused_and_not_repeated(idle, words, text):
    done = idle.run("job", "list", *words, text=text)
    assert done.code == 4
    assert "hunter2" not in done.out + done.err


# -- paths


def provisioned(folder: Path, port: int = 0) -> Path:
    """The kit of a user of a project whose server does not run."""
    from flpoc.provision.building import provision
    from flpoc.provision.project_file import sample_project

    return provision(sample_project(["site-1"], port=port or free_port()), folder / "project") / "admin@nvidia.com"


@pytest.fixture
def odd(idle) -> Callable[[str], str]:
    """Give a path that is not what a command wants."""

    def make(kind: str) -> str:
        path = idle.here / kind
        if kind == "device":
            return "/dev/zero"
        if kind == "long":
            return "a" * 5000
        if not path.exists() and not path.is_symlink():
            {
                "missing": int,
                "folder": path.mkdir,
                "file": lambda: path.write_text("x"),
                "fifo": lambda: os.mkfifo(path),
                "dangling": lambda: path.symlink_to("nowhere"),
                "loop": lambda: path.symlink_to("loop"),
                "below a file": lambda: None,
            }[kind]()
        return "file/below" if kind == "below a file" else str(path)

    make("file")
    return make


FILES = ("missing", "folder", "fifo", "device", "long", "dangling", "loop", "below a file")
FOLDERS = ("missing", "file", "fifo", "device", "long", "dangling", "loop", "below a file")


@pytest.mark.row("C7")
@pytest.mark.parametrize("kind", FILES)
def test_what_is_no_project_file_is_said_at_once(idle, odd, kind):
    path = odd(kind)
    before = snapshot(idle.folder)
    found = idle.run("poc", "prepare", "-i", path, "--force", limit=10).document
    assert found["error_code"] in ("INVALID_CONFIG", "FILE_FAILED")
    assert found["hint"]
    assert {"dangling": "nowhere"}.get(kind, Path(path).name[:100]) in found["message"]
    assert snapshot(idle.folder) == before


@pytest.mark.row("C7")
@pytest.mark.parametrize("kind", FILES)
def test_what_is_no_configuration_is_said_at_once(idle, odd, kind):
    done = idle.run("config", "list", env={"FLPOC_CONFIG": odd(kind)}, limit=10)
    if kind in ("missing", "dangling", "loop", "below a file"):
        assert done.data == []  # the configuration is there only when something was configured
    else:
        done.refused("INVALID_CONFIG", Path(odd(kind)).name[:100])


@pytest.mark.row("C7")
@pytest.mark.parametrize("kind", FOLDERS)
def test_what_is_no_job_folder_is_said_at_once(idle, odd, tmp_path, kind):
    words = ("job", "submit", "--startup-kit", str(provisioned(tmp_path)), "-j", odd(kind))
    code = "FILE_FAILED" if kind == "long" else "INVALID_ARGS"
    idle.run(*words, limit=10).refused(code, Path(odd(kind)).name[:100])


@pytest.mark.row("C7")
@pytest.mark.parametrize("kind", [*FOLDERS, "folder"])
def test_what_is_no_kit_is_said_at_once(idle, odd, kind):
    path = odd(kind)
    idle.run("job", "list", "--startup-kit", path, limit=10).refused("STARTUP_KIT_MISSING", "--startup-kit")
    idle.run("config", "add", "x", path, limit=10).refused("INVALID_ARGS", Path(path).name[:100])
    named = idle.run("job", "list", env={"FLPOC_STARTUP_KIT_DIR": path}, limit=10)
    named.refused("STARTUP_KIT_MISSING", "FLPOC_STARTUP_KIT_DIR")


@pytest.mark.row("C7")
@pytest.mark.parametrize("kind", ["file", "fifo", "device", "long", "loop", "below a file"])
@pytest.mark.parametrize("words", [("prepare",), ("start",), ("stop",), ("clean", "--force")], ids=" ".join)
def test_what_cannot_be_a_workspace_is_said_at_once(idle, odd, words, kind):
    before = snapshot(idle.folder)
    done = idle.run("poc", *words, env={"FLPOC_POC_WORKSPACE": odd(kind)}, limit=10)
    assert done.document["error_code"] in ("INVALID_ARGS", "FILE_FAILED")
    assert done.document["hint"]
    assert done.code in (1, 4)
    assert snapshot(idle.folder) == before


@pytest.mark.row("C7")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_what_may_not_be_read_is_said(tmp_path):
    """Somebody without rights, in a process that shares nothing with this one but the interpreter."""
    secret = tmp_path / "secret.yml"
    secret.write_text("name: x")
    secret.chmod(0o600)
    code = f"""
import os, sys
from flpoc.settings import read_text
from flpoc.errors import ConfigError
from pathlib import Path
os.chroot({str(tmp_path)!r}); os.chdir("/"); os.setgid(65534); os.setuid(65534)
try:
    read_text(Path("/secret.yml"))
except ConfigError as error:
    print(error.message)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "/secret.yml: Permission denied\n"


# -- places that are not ours


@pytest.mark.row("C8")
@pytest.mark.parametrize("place", ["/", "home", ".", "link", "full"])
@pytest.mark.parametrize("words", [("prepare", "--force"), ("clean", "--force")], ids=" ".join)
def test_a_workspace_is_never_made_of_a_place_with_other_things(idle, place, words):
    (idle.home / "letter.txt").write_text("dear")
    (idle.here / "full").mkdir(exist_ok=True)
    (idle.here / "full" / "work.txt").write_text("of years")
    if not (idle.here / "link").is_symlink():
        (idle.here / "link").symlink_to("full")
    before = snapshot(idle.folder)
    path = {"/": "/", "home": str(idle.home), ".": "."}.get(place, str(idle.here / place))
    done = idle.run("poc", *words, env={"FLPOC_POC_WORKSPACE": path})
    done.refused("INVALID_ARGS")
    assert snapshot(idle.folder) == before


# -- streams and terminals


def piped(user: User, line: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a line of the shell in which ``flpoc`` is the command."""
    text = f'flpoc() {{ "{sys.executable}" -c "{RUN}" "$@"; }}\n{line}'
    environment = {**user.environment, **more}
    return subprocess.run(
        ["bash", "-c", text], env=environment, cwd=user.here, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.row("C12")
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(
    ("words", "code"),
    [("version", 0), ("--schema job list", 0), ("job list", 2), ("job lst", 4)],
)
def test_a_closed_stream_changes_no_exit_status(idle, closed, words, code):
    done = piped(idle, f"flpoc {words} {closed}")
    assert done.returncode == code
    assert "Traceback" not in done.stdout + done.stderr
    assert "NoneType" not in done.stdout + done.stderr


@pytest.mark.row("C12")
@pytest.mark.parametrize("words", ["--help", "plugins list", "--schema job list", "--format json plugins list"])
def test_a_reader_that_stops_reading_is_no_failure(idle, words):
    done = piped(idle, f"for n in 1 2 3; do flpoc {words} | head -c 1 >/dev/null; done; flpoc {words} | true")
    assert done.stderr == ""


@pytest.mark.row("C12")
@pytest.mark.parametrize("words", ["version", "--help", "--schema job list", "plugins list"])
def test_a_full_disk_behind_standard_output_is_named(idle, words):
    done = piped(idle, f"flpoc {words} >/dev/full")
    assert done.returncode == 1
    assert "DISK_FULL" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.row("C12")
@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_names_with_letters_work_in_a_locale_without_them(idle, tmp_path, locale):
    folder = idle.here / "größe-模型"
    folder.mkdir(exist_ok=True)
    words = ("job", "submit", "--startup-kit", str(provisioned(tmp_path)), "-j", os.fsencode(folder))
    idle.run(*words, env=locale).refused("INVALID_ARGS", "no job file")
    done = idle.run(*words, env=locale, text=True)
    assert done.code == 4
    assert "gr" in done.err
    assert "Traceback" not in done.err


@pytest.mark.row("C12")
@pytest.mark.parametrize(("columns", "term"), [("20", "xterm"), ("1", "xterm"), ("x", ""), ("80", "dumb")])
@pytest.mark.parametrize("words", [("plugins", "list"), ("--help",), ("job", "list")], ids=" ".join)
def test_any_terminal_will_do(idle, columns, term, words):
    ours, theirs = pty.openpty()
    with idle.begin(
        *words, text=True, env={"COLUMNS": columns, "TERM": term}, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        said = bytearray()
        with contextlib.suppress(OSError):  # the other end was closed
            while piece := os.read(ours, 4096):
                said += piece
        os.close(ours)
    assert process.returncode == (2 if words == ("job", "list") else 0)
    assert b"Traceback" not in said
    assert said


# -- a server that is none


def answers_http(connection: socket.socket) -> None:
    connection.recv(1000)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def says_nothing(connection: socket.socket) -> None:
    while connection.recv(1000):
        pass


@contextlib.contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def work() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        answer(connection)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


@contextlib.contextmanager
def other_service(folder: Path, *, secure: bool) -> Iterator[int]:
    """A gRPC server that is not of flpoc; with TLS it has a certificate of its own."""
    from concurrent.futures import ThreadPoolExecutor

    import grpc

    server = grpc.server(ThreadPoolExecutor(1))
    if secure:
        kit = provisioned(folder).parent / "server" / "startup"
        pair = [((kit / "server.key").read_bytes(), (kit / "server.crt").read_bytes())]
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(pair))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


@pytest.mark.row("C13")
@pytest.mark.parametrize("case", ["no such name", "closed", "HTTP", "silent", "gRPC", "gRPC with TLS", "wrong TLS"])
def test_an_address_without_a_server_of_flpoc_is_told_from_others(idle, tmp_path, case):
    kit = provisioned(tmp_path)
    host, says = "localhost", ""
    with contextlib.ExitStack() as stack:
        port = free_port()
        if case == "no such name":
            host, says = "no-such-host.invalid", "no-such-host.invalid"
        elif case == "closed":
            says = "nothing listens"
        elif case == "HTTP":
            port = stack.enter_context(listening(answers_http))
        elif case == "silent":
            port = stack.enter_context(listening(says_nothing))
        elif case == "wrong TLS":
            port = stack.enter_context(old_tls(tmp_path))
        else:
            port = stack.enter_context(other_service(tmp_path / "other", secure=case == "gRPC with TLS"))
        (kit / "local").mkdir(exist_ok=True)
        (kit / "local" / "connect.json").write_text(json.dumps({"host": host, "port": port}))
        done = idle.run("job", "list", "--startup-kit", str(kit), "--connect-timeout", "2", limit=20)
    found = done.document
    assert found["error_code"] in ("CONNECTION_FAILED", "AUTH_FAILED"), found
    assert (done.code, done.seconds < 15) == (2, True)
    assert host in found["message"]
    assert says in found["message"]
    assert found["hint"]
    assert not [line for line in done.err.splitlines() if "ssl_transport" in line or "grpc" in line.lower()]


@contextlib.contextmanager
def old_tls(folder: Path) -> Iterator[int]:
    """A server that speaks TLS, and neither HTTP/2 nor any certificate that is known."""
    kit = provisioned(folder / "tls").parent / "server" / "startup"
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secure.load_cert_chain(kit / "server.crt", kit / "server.key")

    def answer(connection: socket.socket) -> None:
        with contextlib.suppress(ssl.SSLError), secure.wrap_socket(connection, server_side=True) as inner:
            inner.recv(100)

    with listening(answer) as port:
        yield port


# -- settings of another version, and odd surroundings


@pytest.mark.row("C16")
@pytest.mark.parametrize("version", ["3", "99", '"2"', "true", "2.5"])
def test_a_configuration_of_another_version_is_refused_with_both_and_left_alone(idle, tmp_path, version):
    path = tmp_path / "config.conf"
    path.write_text(f'{{"version": {version}, "novelty": 1}}')
    environment = {"FLPOC_CONFIG": str(path)}
    found = idle.run("poc", "prepare", env=environment).refused("INVALID_CONFIG", "version", "reads version 2")
    assert str(path) in found["message"]
    assert path.read_text() == f'{{"version": {version}, "novelty": 1}}'
    assert not idle.workspace.exists()


@pytest.mark.row("C17")
@pytest.mark.parametrize(
    "words", [("version",), ("plugins", "list"), ("poc", "config"), ("config", "list")], ids=" ".join
)
@pytest.mark.parametrize("home", [None, "", "/nonexistent", "/proc/1", "/dev/null"])
def test_what_needs_no_home_works_without_one(idle, words, home):
    assert idle.run(*words, env={"HOME": home}).data is not None


@pytest.mark.row("C17")
@pytest.mark.parametrize("home", [None, "", "/proc/1", "/dev/null"])
def test_without_a_home_what_has_to_be_remembered_is_refused(idle, home):
    done = idle.run("poc", "config", "-pw", str(idle.here), env={"HOME": home})
    found = done.refused("INVALID_CONFIG")
    assert "FLPOC_CONFIG" in found["hint"]


@pytest.mark.row("C17")
@pytest.mark.parametrize("home", [None, "/proc/1"])
def test_prepare_without_a_home_leaves_nothing_or_all(user, home):
    done = user.run("poc", "prepare", env={"HOME": home})
    if done.code == 0:
        assert (user.workspace / "project.yml").exists()
    else:
        done.refused("INVALID_CONFIG", "FLPOC_CONFIG")
        assert not user.workspace.exists()


SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
int clock_gettime(clockid_t which, struct timespec *out) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(which, out);
    if (which == CLOCK_REALTIME) out->tv_sec = 1000;
    return done;
}
time_t time(time_t *out) { if (out) *out = 1000; return 1000; }
int gettimeofday(struct timeval *restrict out, void *restrict zone) { out->tv_sec = 1000; out->tv_usec = 0; return 0; }
"""


@pytest.fixture(scope="module")
def in_1970(tmp_path_factory) -> dict[str, str]:
    """Variables with which a command believes that it is the first of January 1970."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("clock")
    (folder / "shim.c").write_text(textwrap.dedent(SHIM))
    argv = [compiler, "-shared", "-fPIC", "-o", str(folder / "shim.so"), str(folder / "shim.c"), "-ldl"]
    subprocess.run(argv, check=True, capture_output=True)
    return {"LD_PRELOAD": str(folder / "shim.so")}


@pytest.mark.row("C17")
def test_a_clock_in_1970_is_named_as_the_cause(user, in_1970):
    assert user.run("poc", "prepare", "-n", "1").code == 0
    assert user.run("poc", "start").code == 0
    for words in (("version",), ("poc", "config"), ("config", "list"), ("config", "inspect"), ("plugins", "list")):
        assert user.run(*words, env=in_1970).data is not None
    done = user.run("job", "list", env=in_1970)
    done.refused("CONNECTION_FAILED", "not valid", "clock")
    stopped = user.run("poc", "stop", env=in_1970)
    assert stopped.data["status"] == "stopped"
    assert "ssl_transport" not in stopped.err


@pytest.mark.row("C17")
def test_a_project_made_in_1970_is_told_to_be_outdated(user, in_1970):
    assert user.run("poc", "prepare", "-n", "1", env=in_1970).code == 0
    done = user.run("poc", "start")
    done.refused("SERVICE_FAILED", "expired")
    assert user.run("poc", "clean").data["status"] == "removed"


# -- Ctrl-C


@pytest.mark.row("C11")
@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.6, 1.0])
def test_an_interrupted_start_leaves_what_can_be_started_again(user, seconds):
    user.prepare(1)
    code, out, _ = interrupted(user, "poc", "start", after=seconds)
    assert code == 0 or out == ""
    assert user.run("poc", "start").data["ready"]
    assert user.run("poc", "stop").data["status"] == "stopped"
