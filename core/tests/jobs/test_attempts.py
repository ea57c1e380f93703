"""Launches of job processes are found again by whoever comes later."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from flpoc.jobs.attempts import Attempt, Attempts
from flpoc.jobs.processes import TOKEN_FILE, environment, signal_name
from flpoc.launching import Handle, Launcher, LaunchRequest, Mount, Needs, State, Status


class Recorder(Launcher):
    """A launcher that starts nothing, and looks at what is on the disk when it is asked."""

    def __init__(self, handles: Path) -> None:
        self.handles = handles
        self.requests: list[LaunchRequest] = []
        self.recorded_before: list[list[str]] = []

    def launch(self, request: LaunchRequest) -> Handle:
        self.requests.append(request)
        self.recorded_before.append(os.listdir(self.handles))
        return Handle("recorder", request.name, "{}", 1)

    def poll(self, handle: Handle) -> Status:
        return Status(State.EXITED, -9)

    def stop(self, handle: Handle, *, grace: float = 10.0) -> None:
        pass

    def logs(self, handle: Handle, *, tail: int = 200) -> str:
        return "said"


@pytest.fixture
def attempts(tmp_path: Path) -> Iterator[Attempts]:
    recorder = Recorder(tmp_path / "state" / "handles")
    found = Attempts(tmp_path / "state", recorder, "recorder", hidden=(tmp_path / "kit",))
    yield found
    found._shortcuts.drop()


def begin(attempts: Attempts, tmp_path: Path, number: int = 1) -> Attempt:
    return attempts.begin("job", 1, "site-1", number, tmp_path / "runs")


@pytest.mark.row("S9")
def test_the_token_is_for_the_owner_only_and_known_by_its_hash(attempts: Attempts, tmp_path: Path) -> None:
    attempt = begin(attempts, tmp_path)
    path = Path(attempt.folder) / TOKEN_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    token = path.read_bytes()
    assert len(token) == 32
    assert attempt.knows(token)
    assert not any(attempt.knows(other) for other in (b"", token[:-1], token + b"x", os.urandom(32)))
    record = (tmp_path / "state" / "handles" / f"{attempt.name}.json").read_bytes()
    assert token not in record
    assert token.hex().encode() not in record


def test_a_launch_is_on_the_disk_before_anything_is_started(attempts: Attempts, tmp_path: Path) -> None:
    attempt = begin(attempts, tmp_path)
    launched = launch(attempts, attempt, tmp_path)
    recorder = attempts._launcher
    assert recorder.recorded_before == [["job.1.site-1.1.json"]]
    again = Attempts(tmp_path / "state", recorder, "recorder")
    assert again.recorded() == [launched]
    assert launched.handle is not None
    again.forget(launched)
    assert again.recorded() == []


def launch(attempts: Attempts, attempt: Attempt, tmp_path: Path, **env: str) -> Attempt:
    return attempts.launch(
        attempt,
        ("true",),
        log=tmp_path / "log",
        socket=tmp_path / "s",
        env=env,
        needs=Needs(cpus=2.5),
        project="p",
        reads=(tmp_path / "in",),
        datasets=(Mount("/data", "/data"),),
    )


def test_a_launch_that_was_interrupted_counts_as_lost(attempts: Attempts, tmp_path: Path) -> None:
    begin(attempts, tmp_path)
    (left,) = attempts.recorded()
    assert not attempts.poll(left).running
    assert attempts.poll(left).code is None
    assert attempts.wait(left, 0.0)
    assert attempts.logs(left, 5) == ""
    attempts.stop(left, 0.0)

    async def main() -> Status:
        ended: asyncio.Future[Status] = asyncio.get_running_loop().create_future()
        attempts.watch(left, lambda _, status: ended.set_result(status))
        return await asyncio.wait_for(ended, 10)

    assert "interrupted" in asyncio.run(main()).reason


def test_a_record_that_is_damaged_is_put_aside_and_the_others_are_found(attempts: Attempts, tmp_path: Path) -> None:
    kept = begin(attempts, tmp_path, 2)
    handles = tmp_path / "state" / "handles"
    (handles / "job.1.site-1.1.json").write_bytes(b"")
    assert attempts.recorded() == [kept]
    assert (handles / "job.1.site-1.1.damaged").exists()


def test_attempts_are_in_the_order_of_their_numbers(attempts: Attempts, tmp_path: Path) -> None:
    for number in (10, 9, 1):
        begin(attempts, tmp_path, number)
    assert [one.number for one in attempts.recorded()] == [1, 9, 10]


@pytest.mark.row("S19", "S22")
def test_the_environment_is_exactly_this(attempts: Attempts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_AGENT", "1")
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    attempt = begin(attempts, tmp_path)
    launch(attempts, attempt, tmp_path, MINE="x", FLPOC_SOCKET="/elsewhere", OMP_NUM_THREADS="7")
    env = attempts._launcher.requests[0].env
    folder = attempt.folder
    path = environment(Path(folder), Needs())["PATH"]
    assert Path(env["TMPDIR"]).resolve() == Path(folder) / "tmp"
    threads = dict.fromkeys(
        ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "2"
    )
    assert env == {
        "PATH": path, "HOME": folder, "TMPDIR": env["TMPDIR"], "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1", "PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "2", "MINE": "x", "OMP_NUM_THREADS": "7",
        "FLPOC_SOCKET": str(tmp_path / "s"), "FLPOC_TOKEN_FILE": f"{folder}/token", **threads,
    }  # fmt: skip


@pytest.mark.parametrize(("code", "name"), [(-9, "SIGKILL"), (-250, "signal 250"), (0, ""), (1, ""), (None, "")])
def test_the_end_by_a_signal_has_its_name(code: int | None, name: str) -> None:
    assert signal_name(code) == name


def test_a_launch_is_granted_its_folder_what_it_reads_and_the_data_and_nothing_of_its_owner(
    attempts: Attempts, tmp_path: Path
) -> None:
    attempt = launch(attempts, begin(attempts, tmp_path), tmp_path)
    request = attempts._launcher.requests[0]
    assert {(mount.source, mount.writable) for mount in request.mounts} == {
        (attempt.folder, True),
        (request.env["TMPDIR"], True),
        (str(tmp_path), False),  # where its owner's socket is
        (str(tmp_path / "in"), False),
        ("/data", False),
    }
    assert (tmp_path / "in").is_dir()  # what is not there yet could not be granted
    assert request.hidden == (str(tmp_path / "state"), str(tmp_path / "kit"))
    assert request.network == "agent"


def test_temporary_files_of_a_deep_workspace_have_a_short_path_elsewhere(tmp_path: Path) -> None:
    deep = tmp_path / ("a" * 60) / ("b" * 60)
    deep.mkdir(parents=True)
    found = Attempts(deep / "state", Recorder(deep / "state" / "handles"), "recorder")
    launched = launch(found, begin(found, deep), deep)
    path = Path(found._launcher.requests[0].env["TMPDIR"])
    assert len(os.fsencode(path)) + len("/pymp-12345678/listener-12345678") <= 107
    assert path.resolve() == Path(launched.folder) / "tmp"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    # a later owner takes it away, too
    Attempts(deep / "state", Recorder(deep / "state" / "handles"), "recorder").forget(launched)
    assert not path.parent.exists()
    assert list((deep / "state" / "t").iterdir()) == []


def test_temporary_files_have_a_short_path_as_long_as_the_attempt_is_known(attempts: Attempts, tmp_path: Path) -> None:
    launched = [launch(attempts, begin(attempts, tmp_path, number), tmp_path) for number in (1, 2)]
    paths = [Path(request.env["TMPDIR"]) for request in attempts._launcher.requests]
    assert [path.resolve() for path in paths] == [Path(one.folder) / "tmp" for one in launched]
    attempts.forget(launched[0])
    assert [path.is_symlink() for path in paths] == [False, True]
    launch(attempts, begin(attempts, tmp_path, 3), tmp_path)
    assert attempts._launcher.requests[-1].env["TMPDIR"] == str(paths[0])


class Forgetful(Recorder):
    """A launcher that fails the first time it is asked how a process is."""

    def wait(self, handle: Handle, timeout: float) -> Status:
        self.asked = getattr(self, "asked", 0) + 1
        if self.asked == 1:
            raise OSError("too many open files")
        return Status(State.EXITED, -9)


def test_a_launcher_that_cannot_say_how_a_process_is_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("flpoc.jobs.attempts.LOOK_AGAIN_AFTER", 0.01)
    attempts = Attempts(tmp_path / "state", Forgetful(tmp_path / "state" / "handles"), "forgetful")
    launched = launch(attempts, begin(attempts, tmp_path), tmp_path)

    async def watch() -> Status:
        ended: asyncio.Future[Status] = asyncio.get_running_loop().create_future()
        attempts.watch(launched, lambda _, status: ended.set_result(status))
        return await asyncio.wait_for(ended, 30)

    assert asyncio.run(watch()).code == -9
    assert "cannot be watched" in caplog.text
