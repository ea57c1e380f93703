"""What the local launcher promises beyond the suite: its keepers, records and limits."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import attrs
import pytest

from flpoc.errors import LaunchError, UsageError
from flpoc.launching import KEEPER_MARK, Handle, Needs, State
from flpoc_builtin_local import keeper
from flpoc_builtin_local.processes import Process, wait_gone

PATIENCE = 20.0
SLEEP = "import time; time.sleep(600)"

LAUNCH = """
import json, sys
from flpoc.launching import LaunchRequest
from flpoc.settings import plain, structure
from flpoc_builtin_local.launcher import LocalLauncher
request = structure(json.loads(sys.argv[1]), LaunchRequest)
print("ready", flush=True)
sys.stdin.readline()
print(json.dumps(plain(LocalLauncher().launch(request))), flush=True)
"""


def keeper_of(handle: Handle) -> Process:
    return Process(*json.loads(handle.ref)["keeper"])


def keepers_below(folder: Path) -> list[int]:
    """Keepers whose open files are below a folder."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            files = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            continue
        if keeper.is_keeper(int(pid)) and any(file.startswith(str(folder)) for file in files):
            found.append(int(pid))
    return found


# -- keepers


@pytest.mark.row("P9")
def test_when_its_keeper_is_killed_the_process_ends_and_nobody_knows_how(launcher, start, life) -> None:
    handle = start("say('here'); time.sleep(600)", str(life.path))
    life.hear(PATIENCE)
    os.kill(keeper_of(handle).pid, signal.SIGKILL)
    status = launcher.wait(handle, PATIENCE)
    assert (status.state, status.code) == (State.EXITED, None)
    assert "keeper" in status.reason
    assert life.ended(PATIENCE)


@pytest.mark.row("P9")
def test_stop_ends_the_children_that_a_killed_keeper_left(launcher, start, life) -> None:
    handle = start("os.fork(); say('here'); time.sleep(600)", str(life.path))
    assert (life.hear(PATIENCE), life.hear(PATIENCE)) == ("here", "here")
    os.kill(keeper_of(handle).pid, signal.SIGKILL)
    launcher.wait(handle, PATIENCE)
    launcher.stop(handle, grace=0)
    assert life.ended(0)


def test_the_next_launch_of_a_name_ends_what_a_killed_keeper_left(launcher, start, life) -> None:
    handle = start("os.fork(); say('here'); time.sleep(600)", str(life.path))
    assert (life.hear(PATIENCE), life.hear(PATIENCE)) == ("here", "here")
    os.kill(keeper_of(handle).pid, signal.SIGKILL)
    launcher.wait(handle, PATIENCE)
    start(SLEEP)
    assert life.ended(0)


@pytest.mark.row("P9", "J5")
def test_children_do_not_outlive_the_process_that_made_them(launcher, start, life) -> None:
    handle = start("if not os.fork(): os.setsid(); say('here'); time.sleep(600)", str(life.path))
    assert launcher.wait(handle, PATIENCE).code == 0
    assert life.ended(0)


def test_what_a_launched_process_launches_outlives_it(launcher, start, ask, life) -> None:
    inner = ask("say('inner'); time.sleep(600)", str(life.path), name="inner")
    code = LAUNCH.replace("sys.stdin.readline()", "") + "import time; time.sleep(600)"
    env = {"PYTHONPATH": os.pathsep.join(sys.path)}
    outer = start(code, json.dumps(attrs.asdict(inner)), name="outer", env=env, log=str(Path(inner.log + "-outer")))
    assert life.hear(PATIENCE) == "inner"
    launcher.stop(outer, grace=5)
    assert not launcher.poll(outer).running
    handle = launcher.launch(inner)
    assert launcher.poll(handle).running
    assert not life.ended(0.1)
    launcher.stop(handle, grace=5)
    assert life.ended(0)


def test_no_zombie_is_left_with_the_caller(launcher, start) -> None:
    before = own_children()
    handle = start("pass")
    launcher.wait(handle, PATIENCE)
    assert own_children() <= before


def own_children() -> set[str]:
    """Process ids of this process's children, zombies too."""
    found: set[str] = set()
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            found |= set((thread / "children").read_text().split())
    return found


def test_nothing_runs_after_the_end(launcher, start, tmp_path) -> None:
    handle = start("pass")
    launcher.wait(handle, PATIENCE)
    assert wait_gone([keeper_of(handle)], PATIENCE)
    assert keepers_below(tmp_path) == []


@pytest.mark.row("P8")
def test_a_paused_keeper_does_not_stop_a_stop(launcher, start, life) -> None:
    handle = start("say('here'); time.sleep(600)", str(life.path))
    life.hear(PATIENCE)
    os.kill(keeper_of(handle).pid, signal.SIGSTOP)
    launcher.stop(handle, grace=PATIENCE)
    assert life.ended(0)
    assert launcher.poll(handle).code == -signal.SIGTERM


def test_two_launches_of_a_name_at_once_start_one_process(launcher, ask, life) -> None:
    request = ask("say('here'); time.sleep(600)", str(life.path))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-c", LAUNCH, json.dumps(attrs.asdict(request))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    racers = [subprocess.Popen(argv, env=env, **pipes) for _ in range(4)]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("\n")
        racer.stdin.flush()
    handles = {Handle(**json.loads(racer.communicate(timeout=PATIENCE)[0])) for racer in racers}
    heard = life.hear(PATIENCE), life.hear(0.2)
    for handle in handles:
        launcher.stop(handle, grace=0)
    assert len(handles) == 1
    assert heard == ("here", "")


def test_signals_and_descriptors_of_the_caller_are_not_inherited(launcher, start) -> None:
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    try:
        handle = start(
            "import os\n"
            "lines = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
            "print(int(lines['SigBlk'], 16), int(lines['SigIgn'], 16) & 1 << 9, sorted(os.listdir('/proc/self/fd')))"
        )
    finally:
        signal.signal(signal.SIGUSR1, before)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])
    launcher.wait(handle, PATIENCE)
    assert launcher.logs(handle).strip() == "0 0 ['0', '1', '2', '3']"  # 3 is the listing itself


@pytest.mark.row("S22")
def test_the_environment_is_on_no_command_line(start) -> None:
    handle = start(SLEEP, env={"SECRET": "hunter2-of-the-test"})
    for pid in (handle.pid, keeper_of(handle).pid):
        assert b"hunter2" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert b"hunter2" not in Path(f"/proc/{keeper_of(handle).pid}/environ").read_bytes()


def test_records_and_log_are_for_the_owner_only(launcher, start, tmp_path) -> None:
    launcher.wait(start("print(1)"), PATIENCE)
    files = [*(tmp_path / "state").iterdir(), tmp_path / "log"]
    assert {path.stat().st_mode & 0o077 for path in files} == {0}
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


# -- refusals


def test_a_missing_workdir_is_a_launch_error(launcher, ask, tmp_path) -> None:
    with pytest.raises(LaunchError, match="nowhere") as caught:
        launcher.launch(ask("pass", workdir=str(tmp_path / "nowhere")))
    assert caught.value.hint
    assert keepers_below(tmp_path) == []


@pytest.mark.parametrize(
    ("mode", "text", "hint"),
    [(0o644, "#!/bin/sh\n", "chmod"), (0o755, "#!/no/such/shell\n", "interpreter"), (0o755, "no program", "#!")],
)
def test_a_file_that_is_no_program_is_a_launch_error(launcher, ask, tmp_path, mode, text, hint) -> None:
    program = tmp_path / "program"
    program.write_text(text)
    program.chmod(mode)
    with pytest.raises(LaunchError, match="program") as caught:
        launcher.launch(ask("", argv=(str(program),)))
    assert hint in caught.value.hint
    assert keepers_below(tmp_path) == []


def test_a_program_is_searched_in_the_path_of_the_request(launcher, ask, start, tmp_path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "greet").write_text("#!/bin/sh\necho hello\n")
    (tmp_path / "bin" / "greet").chmod(0o755)
    handle = start("", argv=("greet",), env={"PATH": str(tmp_path / "bin")})
    assert launcher.wait(handle, PATIENCE).code == 0
    with pytest.raises(LaunchError):
        launcher.launch(ask("", argv=("greet",)))


@pytest.mark.row("P12")
def test_a_log_that_cannot_be_written_is_a_launch_error(launcher, ask, tmp_path) -> None:
    (tmp_path / "log").mkdir()
    with pytest.raises(LaunchError, match="log"):
        launcher.launch(ask("pass"))
    assert keepers_below(tmp_path) == []


@pytest.mark.parametrize("change", [{"env": {"A=B": "1"}}, {"env": {"A": "\0"}}, {"argv": ("/bin/echo", "\0")}])
def test_what_no_process_can_have_is_refused(launcher, ask, change) -> None:
    with pytest.raises(UsageError):
        launcher.launch(ask("pass", **change))


# -- how it ended


def test_the_most_memory_it_held_is_recorded(launcher, start) -> None:
    status = launcher.wait(start("b = bytearray(64 << 20); b[::4096] = bytes(len(b[::4096]))"), PATIENCE)
    assert 64 << 20 <= status.peak_rss < 200 << 20


@pytest.mark.row("J5")
def test_a_memory_limit_holds(launcher, start) -> None:
    handle = start("bytearray(400 << 20)", needs=Needs(memory_gib=0.25))
    assert launcher.wait(handle, PATIENCE).code == 1
    assert "MemoryError" in launcher.logs(handle)


def test_a_memory_limit_does_not_count_mapped_files(launcher, start, tmp_path) -> None:
    with (tmp_path / "model").open("wb") as file:
        file.truncate(400 << 20)
    code = "import mmap; model = open('model', 'rb'); mmap.mmap(model.fileno(), 0, prot=mmap.PROT_READ)"
    assert launcher.wait(start(code, needs=Needs(memory_gib=0.25)), PATIENCE).code == 0


def test_an_end_by_sigkill_says_so(launcher, start) -> None:
    status = launcher.wait(start("import os; os.kill(os.getpid(), 9)"), PATIENCE)
    assert (status.code, status.reason) == (-9, "ended by SIGKILL")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"code": true, "peak_rss": 1}', '{"code": "0"}', "\xff\x00"])
def test_a_damaged_exit_record_means_that_nobody_knows(launcher, start, tmp_path, content) -> None:
    handle = start("pass")
    launcher.wait(handle, PATIENCE)
    wait_gone([keeper_of(handle)], PATIENCE)
    (record,) = (tmp_path / "state").glob("*.exit")
    record.write_bytes(content.encode("latin-1"))
    assert (launcher.poll(handle).state, launcher.poll(handle).code) == (State.EXITED, None)


def test_an_earlier_launch_of_a_name_keeps_its_code(launcher, start) -> None:
    first = start("raise SystemExit(7)")
    launcher.wait(first, PATIENCE)
    second = start("pass")
    assert (launcher.wait(second, PATIENCE).code, launcher.poll(first).code) == (0, 7)


def test_earlier_ends_are_not_kept_for_ever(launcher, start, tmp_path) -> None:
    for _ in range(12):
        launcher.wait(start("pass", argv=("/bin/true",)), PATIENCE)
    assert len(list((tmp_path / "state").glob("*.exit"))) <= 9


# -- identity


def forged(handle: Handle, **changes: Any) -> Handle:
    return attrs.evolve(handle, ref=json.dumps({**json.loads(handle.ref), **changes}))


def test_a_process_that_got_a_used_pid_is_not_taken_for_the_old_one(launcher, start) -> None:
    handle = start(SLEEP)
    ref = json.loads(handle.ref)
    old = forged(handle, keeper=[ref["keeper"][0], 1], child=[ref["child"][0], 1])
    assert launcher.poll(old).state is State.EXITED
    assert launcher.wait(old, PATIENCE).state is State.EXITED
    assert launcher.poll(handle).running


def test_nothing_of_another_run_of_the_machine_is_touched(launcher, start) -> None:
    handle = start(SLEEP)
    old = forged(handle, boot="another")
    assert launcher.poll(old).state is State.EXITED
    launcher.stop(old, grace=0)
    assert launcher.poll(handle).running


def test_a_damaged_record_of_what_runs_starts_no_second(launcher, start, ask, tmp_path) -> None:
    handle = start(SLEEP)
    (tmp_path / "state" / "local-job.site-1.1.json").write_text("{")
    with pytest.raises(LaunchError, match="already runs"):
        launcher.launch(ask(SLEEP))
    assert launcher.poll(handle).running


def test_a_damaged_record_of_what_has_ended_is_replaced(launcher, start, tmp_path) -> None:
    launcher.wait(start("pass"), PATIENCE)
    record = tmp_path / "state" / "local-job.site-1.1.json"
    wait_gone([Process(*json.loads(record.read_text())["keeper"])], PATIENCE)
    record.write_text("{")
    assert launcher.poll(start(SLEEP)).running


@pytest.mark.parametrize("name", ["../../up", "a/b", "zo\u00eb", "x" * 300, ". ", "a\nb"])
def test_any_name_stays_in_the_state_folder(launcher, start, tmp_path, name) -> None:
    launcher.wait(start("pass", name=name), PATIENCE)
    assert {path.name for path in tmp_path.iterdir()} == {"state", "log"}


def test_keepers_have_the_mark_that_all_launchers_know() -> None:
    assert keeper.MARK.decode() == KEEPER_MARK


# -- cost


def test_a_keeper_is_small(start) -> None:
    handle = start(SLEEP)
    rollup = Path(f"/proc/{keeper_of(handle).pid}/smaps_rollup").read_text()
    private = sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_"))
    assert private < 6 << 10  # KiB


def test_relaying_does_not_hold_up_a_talkative_process(launcher, start) -> None:
    began = time.monotonic()
    handle = start("import os\nfor _ in range(1600): os.write(1, b'x' * 65535 + b'\\n')", log_limit=20 << 20)
    assert launcher.wait(handle, 3 * PATIENCE).code == 0
    assert time.monotonic() - began < 2 * PATIENCE  # 100 MiB, in less than a second where nothing else is to be done
