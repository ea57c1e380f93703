"""A log that goes on after every kind of end, and says so."""

from __future__ import annotations

import json
import os
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flpoc.audit.chain import Chain
from flpoc.audit.checking import last_records, verify
from flpoc.audit.files import HEAD, TORN, log_files, read_head
from flpoc.audit.records import Decision, Principal, read_record
from flpoc.errors import IntegrityError

Written = Callable[..., Path]
Make = Callable[..., Decision]


def opened(folder: Path) -> None:
    """As a service does when it starts."""
    Chain(folder, file_bytes=600).close()


def notes(folder: Path) -> list[str]:
    return [one.decision.reason for one in last_records(folder, 100) if one.decision.outcome == "note"]


def test_records_go_on_where_the_last_process_ended(written: Written, decision: Make) -> None:
    folder = written(3)
    chain = Chain(folder, file_bytes=800)
    chain.append([decision(4)])
    chain.close()
    assert (verify(folder).fault, verify(folder).records, notes(folder)) == (None, 4, [])


def test_a_full_file_is_followed_by_one_that_begins_with_its_last_hash(written: Written) -> None:
    first, second, *_ = log_files(written(5))
    last = read_record(first.read_bytes().splitlines(keepends=True)[-1])
    assert read_record(second.read_bytes().splitlines(keepends=True)[0]).previous == last.hash


def test_files_can_be_read_by_their_owner_only(written: Written) -> None:
    folder = written(3)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(one.stat().st_mode) for one in folder.iterdir()} == {0o600}


@pytest.mark.parametrize("size", [600, 100_000])
def test_a_line_that_a_crash_tore_is_taken_away_and_that_is_told(written: Written, size: int, tmp_path: Path) -> None:
    folder = written(2, unsynced=2, file_bytes=size)
    file = log_files(folder)[-1]
    content = file.read_bytes()
    ends = [place + 1 for place, byte in enumerate(content) if byte == 10]
    start = 0 if size == 600 else ends[1]
    for place in range(start, len(content) + 1, 7):
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        (copy / file.name).write_bytes(content[:place])
        opened(copy)
        found = verify(copy)
        assert found.fault is None, place
        whole = place in {start, *ends}
        assert len(notes(copy)) == (0 if whole else 1), place
        assert whole or f"{place - max(0, start, *(e for e in ends if e <= place))} bytes" in notes(copy)[0]
        shutil.rmtree(copy)


def test_zeros_that_a_power_failure_left_are_taken_away_and_the_log_says_so(written: Written) -> None:
    folder = written(1, unsynced=1, file_bytes=100_000)
    file = folder / "audit.jsonl"
    file.write_bytes(file.read_bytes() + bytes(5000))
    opened(folder)
    assert verify(folder).fault is None
    assert "5000 bytes" in notes(folder)[0]


def test_what_was_torn_is_told_even_if_the_next_start_is_cut_off_too(written: Written) -> None:
    folder = written(2)
    (folder / TORN).write_bytes(b'{"decision":"all')  # taken away, and then there was no power again
    opened(folder)
    assert '{"decision":"all' in notes(folder)[0]
    assert not (folder / TORN).exists()
    opened(folder)
    assert len(notes(folder)) == 1


@pytest.mark.parametrize("left", [0, 1, 2, 3])
def test_a_log_that_was_cut_stays_so_whatever_is_written_after_it(written: Written, decision: Make, left: int) -> None:
    folder = written(4, file_bytes=100_000)
    file = folder / "audit.jsonl"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:left]))
    chain = Chain(folder)
    chain.append([decision(9)])
    chain.close()
    fault = verify(folder).fault
    assert fault is not None
    assert "missing" in fault.problem
    assert "not where the head says" in notes(folder)[0]


def test_a_log_that_was_changed_stays_so_whatever_is_written_after_it(written: Written) -> None:
    folder = written(3, file_bytes=100_000)
    file = folder / "audit.jsonl"
    content = file.read_bytes()
    for place in range(0, len(content), 41):
        copy = folder.with_name("copy")
        shutil.copytree(folder, copy)
        (copy / file.name).write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        opened(copy)
        assert verify(copy).fault is not None, place
        shutil.rmtree(copy)


def test_records_without_their_head_are_not_gone_on_with(written: Written) -> None:
    folder = written(2)
    (folder / HEAD).unlink()
    with pytest.raises(IntegrityError, match="head is missing"):
        Chain(folder)
    (folder / HEAD).write_text("0" * 81)
    with pytest.raises(IntegrityError, match="head was changed"):
        Chain(folder)


def test_a_start_that_was_cut_off_after_a_file_was_full_goes_on(written: Written) -> None:
    folder = written(2)  # both in one file, which is full now
    (folder / "audit.jsonl").rename(folder / "audit-000001.jsonl")
    opened(folder)
    assert (verify(folder).fault, verify(folder).records, notes(folder)) == (None, 2, [])


def test_a_link_in_the_place_of_the_log_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "audit").mkdir()
    for name in ("audit.jsonl", HEAD):
        (tmp_path / "audit" / name).symlink_to(tmp_path / "elsewhere")
        with pytest.raises((OSError, IntegrityError)):
            Chain(tmp_path / "audit")
        (tmp_path / "audit" / name).unlink()
    assert not (tmp_path / "elsewhere").exists()


def test_nothing_of_a_record_that_does_not_fit_on_the_disk_stays(written: Written, decision: Make) -> None:
    folder = written(2, file_bytes=100_000)
    size = (folder / "audit.jsonl").stat().st_size
    chain = Chain(folder)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, before[1]))
    try:
        with pytest.raises(OSError, match="large"):
            chain.append([decision(3)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (folder / "audit.jsonl").stat().st_size == size
    chain.append([decision(3)])
    chain.close()
    assert (verify(folder).fault, verify(folder).records) == (None, 3)


CHANGES: dict[str, Callable[[Path], object]] = {
    "removed": lambda file: file.unlink(),
    "moved": lambda file: file.rename(file.with_name("old")),
    "cut": lambda file: os.truncate(file, file.stat().st_size // 2),
    "emptied": lambda file: os.truncate(file, 0),
    "added to": lambda file: file.write_bytes(file.read_bytes() * 2),
    "replaced": lambda file: shutil.copy(file, file.with_name("new")) and file.with_name("new").replace(file),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_somebody_changes_under_a_running_service_is_noticed(
    written: Written, decision: Make, change: str
) -> None:
    folder = written(2, file_bytes=100_000)
    chain = Chain(folder)
    CHANGES[change](folder / "audit.jsonl")
    chain.append([decision(3)])
    chain.close()
    assert "removed, replaced or changed by somebody else after record 2" in notes(folder)[0]
    assert last_records(folder, 1)[0].seq == 4
    assert (verify(folder).fault is None) == (change == "replaced")  # by a true copy: nothing is lost


def test_text_of_others_can_neither_end_a_line_nor_steer_a_terminal_nor_be_endless(tmp_path: Path) -> None:
    chain = Chain(tmp_path / "audit")
    name = 'x\n{"seq":2}\x1b[2J\u202e\ud800\x00\r\u2028"\\'
    chain.append([Decision(Principal(name, "user", "r" * 10_000), "List\n", "o" * 10_000, "deny", "é" * 10_000)])
    chain.close()
    (line,) = (tmp_path / "audit" / "audit.jsonl").read_bytes().splitlines()
    assert len(line) < 4000
    found = json.loads(line)
    assert found["principal"]["name"] == 'x\\x0a{"seq":2}\\x1b[2J\\x202e\\xd800\\x00\\x0d\\x2028"\\'
    assert found["reason"].endswith("...")
    assert verify(tmp_path / "audit").fault is None


WRITER = """
import asyncio, sys
from pathlib import Path
from flpoc.audit.log import AuditLog
from flpoc.audit.records import Decision, Principal

async def main():
    log = AuditLog(Path(sys.argv[1]), file_bytes=20_000)
    for number in range(10**9):
        one = Decision(Principal("lead", "user"), "List", f"study {number}", "allow")
        await asyncio.gather(*(log.write(one, durable=number % 7 == 0) for _ in range(5)))
        print(number, flush=True)

asyncio.run(main())
"""


def test_a_killed_writer_has_written_all_that_it_said_and_the_next_goes_on(tmp_path: Path) -> None:
    said = 0
    for lines in (1, 3, 20, 60):
        argv = [sys.executable, "-c", WRITER, str(tmp_path)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            for _ in range(lines):
                assert writer.stdout.readline()
            writer.kill()
            said += 5 * (lines + len(writer.stdout.read().splitlines()))
    opened(tmp_path / "audit")
    found = verify(tmp_path / "audit")
    assert found.fault is None
    assert found.records >= said
    assert len(log_files(tmp_path / "audit")) > 2


def test_the_head_follows_what_is_on_the_disk(tmp_path: Path, decision: Make) -> None:
    chain = Chain(tmp_path / "audit")
    chain.append([decision(1)])
    before = read_head(tmp_path / "audit")
    chain.sync()
    after = read_head(tmp_path / "audit")
    chain.close()
    assert before is not None
    assert after is not None
    assert (before.seq, after.seq) == (0, 1)
    assert os.stat(tmp_path / "audit" / HEAD).st_size == 82
