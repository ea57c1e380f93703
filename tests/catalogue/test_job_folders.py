"""Job folders that cannot be sent: said before anything travels, and nothing of the folder is touched."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Answer, User, snapshot


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kit of a user whose server does not run."""
    from flpoc.provision.building import provision
    from flpoc.provision.project_file import sample_project

    folder = tmp_path_factory.mktemp("project")
    return provision(sample_project(["site-1", "site-2"], port=1), folder) / "lead@nvidia.com"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A job folder that is right."""
    found = tmp_path / "job"
    (found / "code").mkdir(parents=True)
    (found / "code" / "train.py").write_text("print('hello')\n")
    (found / "job.conf").write_text("name = demo\nscript = train.py\n")
    return found


@pytest.fixture
def submit(idle: User, tmp_path: Path, kit: Path) -> Callable[..., Answer]:
    """Submit a folder; it is as before, and nothing stays in the folder for temporary files."""

    def run(folder: Path, *, look: bool = True, limit: float = 20) -> Answer:
        temporary = tmp_path / "temporary"
        temporary.mkdir(exist_ok=True)
        before = snapshot(folder) if look else {}
        words = ("job", "submit", "-j", os.fsencode(folder), "--startup-kit", str(kit), "--connect-timeout", "1")
        done = idle.run(*words, env={"TMPDIR": str(temporary)}, limit=limit)
        assert (snapshot(folder) if look else {}) == before
        assert list(temporary.iterdir()) == []
        return done

    return run


@pytest.mark.row("J1")
def test_a_folder_needs_one_job_file(submit, folder, tmp_path):
    (tmp_path / "empty").mkdir()
    submit(tmp_path / "empty").refused("INVALID_ARGS", "no job file", "job.conf")
    (folder / "job.json").write_text("{}")
    submit(folder).refused("INVALID_ARGS", "job.conf and job.json")
    for name in ("job.conf", "job.json"):
        (folder / name).unlink()
    submit(folder).refused("INVALID_ARGS", "no job file")
    (folder / "job.conf").mkdir()
    submit(folder).refused("INVALID_ARGS", "no job file")


@pytest.mark.row("J1")
def test_a_job_of_another_framework_is_told_how_to_come_here(submit, tmp_path):
    (tmp_path / "old" / "app" / "config").mkdir(parents=True)
    (tmp_path / "old" / "meta.json").write_text("{}")
    submit(tmp_path / "old").refused("JOB_INVALID", "another framework", "export")


@pytest.mark.row("J1", "C7")
def test_a_job_file_that_never_ends_or_never_comes_is_refused_at_once(submit, folder):
    (folder / "job.conf").unlink()
    os.mkfifo(folder / "job.conf")
    assert submit(folder, limit=10).document["error_code"] in ("INVALID_ARGS", "INVALID_CONFIG")
    (folder / "job.conf").unlink()
    (folder / "job.conf").symlink_to("/dev/zero")
    assert submit(folder, limit=10).document["error_code"] in ("INVALID_ARGS", "INVALID_CONFIG")


@pytest.mark.row("J2")
def test_all_that_is_missing_is_said_at_once(submit, folder):
    (folder / "job.conf").write_text(
        "name = demo\nscript = gone.py\ninitial_model = start.safetensors\n"
        'scripts { site-1 { script = also-gone.py }, site-2 { script = "a/b.py" } }\n'
    )
    found = submit(folder).refused("INVALID_CONFIG", "gone.py", "also-gone.py", "a/b.py", "start.safetensors")
    assert len(found["data"]["problems"]) == 4


@pytest.mark.row("J3")
@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("def f(:\n", "line 1"),
        ("x = 1\n  y = 2\n", "line 2"),
        ("print 'hello'\n", "line 1"),
        ("x = (" * 2000, "train.py"),
        ("x = 1\0\n", "train.py"),
        ("# coding: nonsense\nx = 1\n", "train.py"),
        ("\ud83d = 1\n", "train.py"),
        ("return 3\n", "outside function"),
        ("x = " + "-" * 100_000 + "1\n", "train.py"),
    ],
    ids=range(9),
)
def test_a_script_that_cannot_be_compiled_is_not_sent_and_not_run(submit, folder, code, says):
    text = code if "line" in says or code.startswith("#") else "open('ran', 'w')\n" + code
    (folder / "code" / "train.py").write_bytes(text.encode("utf-8", "surrogatepass"))
    submit(folder).refused("INVALID_CONFIG", "code/train.py", says)
    assert not (folder / "ran").exists()


@pytest.mark.row("J8")
def test_more_files_than_a_job_may_have_are_refused_soon(submit, folder):
    (folder / "code" / "many").mkdir()
    for number in range(10_001):
        os.close(os.open(folder / "code" / "many" / str(number), os.O_CREAT | os.O_WRONLY))
    submit(folder, look=False).refused("RESOURCE_EXHAUSTED", "10000 files")


@pytest.mark.row("J8")
def test_a_file_of_10_gb_is_refused_without_being_read(submit, folder):
    with (folder / "code" / "data.bin").open("wb") as file:
        file.truncate(10 << 30)
    done = submit(folder, look=False)
    done.refused("RESOURCE_EXHAUSTED", "bytes", "initial_model")
    assert done.seconds < 15


@pytest.mark.row("J8")
@pytest.mark.parametrize("levels", [33, 25])
def test_paths_that_are_too_deep_or_too_long_are_refused(submit, folder, levels):
    inner = folder / "code" / ("a" * (2 if levels == 33 else 200))
    here = os.getcwd()
    try:
        os.chdir(folder / "code")
        for _ in range(levels):
            os.mkdir(inner.name)
            os.chdir(inner.name)
        Path("x.py").touch()
    finally:
        os.chdir(here)
    found = submit(folder, look=False).document
    assert found["hint"]
    if levels == 33:
        assert found["error_code"] == "RESOURCE_EXHAUSTED", found
        assert "levels deep" in found["message"]
    else:  # the system itself does not read paths that are as long as this
        assert found["error_code"] in ("RESOURCE_EXHAUSTED", "INTEGRITY_FAILED")
        assert "too long" in found["message"]


@pytest.mark.row("J9")
def test_what_nobody_needs_stays_at_home_and_keys_are_refused(submit, folder):
    for name in ("__pycache__/a.pyc", ".git/config", ".venv/x", "sub/.env/y"):
        (folder / "code" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "code" / name).write_text("secret")
    submit(folder).refused("CONNECTION_FAILED")  # all is right with it: only the server is not there
    (folder / "code" / "id.key").write_text("-----BEGIN EC PRIVATE KEY-----\nhunter2\n")
    found = submit(folder).refused("INVALID_ARGS", "id.key", "private key")
    assert "hunter2" not in str(found)


@pytest.mark.row("J10")
@pytest.mark.parametrize("kind", ["link in", "link out", "dangling", "folder link", "FIFO", "socket", "device", "loop"])
def test_what_is_no_plain_file_is_refused_by_name(submit, folder, kind):
    path = folder / "code" / "odd"
    if kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            here = os.getcwd()
            os.chdir(path.parent)
            try:
                made.bind("odd")
            finally:
                os.chdir(here)
    elif kind == "device":
        if os.geteuid():
            pytest.skip("only root makes devices")
        os.mknod(path, 0o020600, os.makedev(1, 5))
    elif kind == "FIFO":
        os.mkfifo(path)
    else:
        targets = {"link in": "train.py", "link out": "/etc/passwd", "dangling": "gone", "loop": "odd"}
        path.symlink_to(targets.get(kind, ".."))
    submit(folder, limit=10).refused("INVALID_ARGS", "odd", "cannot be sent")


@pytest.mark.row("J10")
def test_a_hard_link_is_a_file_like_any_other(submit, folder):
    os.link(folder / "code" / "train.py", folder / "code" / "same.py")
    submit(folder).refused("CONNECTION_FAILED")


@pytest.mark.row("J11")
def test_a_folder_that_changes_all_the_time_is_not_sent(submit, folder):
    """What is signed is what is sent: a file that is never the same twice is neither."""
    path = folder / "code" / "log.txt"
    path.write_bytes(b"x" * (8 << 20))
    code = "import sys\nwith open(sys.argv[1], 'r+b', buffering=0) as file:\n    while True:\n"
    code += "        file.seek(0)\n        file.write(b'y')\n        file.seek(0, 2)\n        file.write(b'z')\n"
    with subprocess.Popen([sys.executable, "-c", code, str(path)]) as writer:
        try:
            until = time.monotonic() + 20
            while path.stat().st_size == 8 << 20:
                assert time.monotonic() < until, "the writer did not begin"
            done = submit(folder, look=False)
        finally:
            writer.kill()
    done.refused("INTEGRITY_FAILED", "log.txt", "submit again")


@pytest.mark.row("J15")
@pytest.mark.parametrize(
    ("name", "code"),
    [
        (b"\xff\xfe.py", "INTEGRITY_FAILED"),
        (b"a\nb.py", "INTEGRITY_FAILED"),
        (b"a\x1b[31m.py", "INTEGRITY_FAILED"),
        (b"a\\b.py", "INTEGRITY_FAILED"),
        (b"con.py", "INTEGRITY_FAILED"),
        (b"trailing.", "INTEGRITY_FAILED"),
        (b"Train.py", "INTEGRITY_FAILED"),
        ("größe.py".encode(), "CONNECTION_FAILED"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
def test_names_that_are_not_the_same_everywhere_are_refused(idle, folder, kit, name, code, locale):
    with open(os.fsencode(folder / "code") + b"/" + name, "wb"):
        pass
    words = ("job", "submit", "-j", str(folder), "--startup-kit", str(kit), "--connect-timeout", "1")
    found = idle.run(*words, env={"LC_ALL": locale}).refused(code)
    assert not set(found["message"]) & {"\n", "\x1b"}
