"""Nothing in an audit log can be changed unnoticed."""

from __future__ import annotations

import datetime
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flpoc.audit.chain import Chain
from flpoc.audit.checking import find_logs, last_records, verify
from flpoc.audit.files import HEAD, log_files
from flpoc.audit.records import NO_HASH, Decision, Principal, read_record, write_record
from flpoc.errors import UsageError

Written = Callable[..., Path]


def lines_of(folder: Path) -> list[bytes]:
    return [line for file in log_files(folder) for line in file.read_bytes().splitlines(keepends=True)]


def rewrite(folder: Path, lines: list[bytes]) -> None:
    """One file with these lines instead of what is there; the head stays."""
    for file in log_files(folder):
        file.unlink()
    (folder / "audit.jsonl").write_bytes(b"".join(lines))


def problem(folder: Path) -> str:
    fault = verify(folder).fault
    assert fault is not None
    return fault.problem


def test_an_untouched_log_of_several_files_is_sound(written: Written) -> None:
    folder = written(5)
    found = verify(folder)
    assert len(log_files(folder)) == 3
    assert (found.fault, found.records) == (None, 5)
    assert found.first <= found.last
    assert found.head == read_record(lines_of(folder)[-1]).hash


@pytest.mark.row("S23")
@pytest.mark.parametrize("bits", [0x01, 0x20])
def test_one_flipped_byte_is_noticed_wherever_it_is(written: Written, bits: int) -> None:
    folder = written(3)
    unnoticed = []
    for file in (*log_files(folder), folder / HEAD):
        content = file.read_bytes()
        for place in range(len(content)):
            file.write_bytes(content[:place] + bytes([content[place] ^ bits]) + content[place + 1 :])
            if verify(folder).fault is None:
                unnoticed.append((file.name, place))
        file.write_bytes(content)
    assert unnoticed == []
    assert verify(folder).fault is None


def test_it_is_said_in_which_line_and_what_is_wrong(written: Written) -> None:
    folder = written(5)
    file = log_files(folder)[1]
    file.write_bytes(file.read_bytes().replace(b'"allow"', b'"deny"', 1))
    found = verify(folder)
    assert found.records == 2
    assert found.fault is not None
    assert (found.fault.file, found.fault.line) == (file, 1)
    assert "changed" in found.fault.problem


@pytest.mark.parametrize("gone", range(5))
def test_a_removed_record_is_missed(written: Written, gone: int) -> None:
    folder = written(5)
    lines = lines_of(folder)
    rewrite(folder, lines[:gone] + lines[gone + 1 :])
    assert f"record {gone + 1} is missing" in problem(folder)


def test_a_cut_end_is_missed(written: Written) -> None:
    folder = written(5)
    rewrite(folder, lines_of(folder)[:3])
    assert problem(folder) == "records 4 to 5 are missing: the end of the log was cut off"
    rewrite(folder, [])
    assert "records 1 to 5 are missing" in problem(folder)


def test_records_in_another_order_or_twice_are_noticed(written: Written) -> None:
    folder = written(5)
    lines = lines_of(folder)
    rewrite(folder, [lines[0], lines[2], lines[1], *lines[3:]])
    assert "record 2 is missing" in problem(folder)
    rewrite(folder, [*lines[:3], lines[2], *lines[3:]])
    assert "inserted, or out of order" in problem(folder)


def test_a_forged_record_with_a_right_hash_breaks_the_chain(written: Written) -> None:
    folder = written(5)
    lines = lines_of(folder)
    forged = read_record(lines[2])
    now = datetime.datetime.now(datetime.UTC)
    line, _ = write_record(3, forged.previous, Decision(Principal("mallory", "user"), "List", "", "allow"), now)
    rewrite(folder, [*lines[:2], line, *lines[3:]])
    assert problem(folder) == "record 4 does not follow record 3: one of them was replaced"
    rewrite(folder, [*lines[:4], write_record(5, read_record(lines[3]).hash, forged.decision, now)[0]])
    assert problem(folder) == "record 5 is not the one that the head knows: replaced"


def test_a_line_with_other_spelling_is_noticed_though_it_says_the_same(written: Written) -> None:
    folder = written(2)
    lines = lines_of(folder)
    rewrite(folder, [lines[0].replace(b'","', b'", "', 1), lines[1]])
    assert "changed" in problem(folder)


@pytest.mark.parametrize("content", [b"", b"\n", b"null\n", b"[]\n", b"{}\n", b"\xff\xfe\n", b"[" * 100_000 + b"\n"])
def test_what_is_no_record_is_said_so(written: Written, content: bytes) -> None:
    folder = written(2)
    rewrite(folder, [lines_of(folder)[0], content, lines_of(folder)[1]])
    assert (verify(folder).fault is None) == (content == b"")


def test_a_log_without_its_head_or_its_folder_is_not_sound(written: Written) -> None:
    folder = written(2)
    (folder / HEAD).unlink()
    assert "head is missing" in problem(folder)
    shutil.rmtree(folder)
    assert "no audit log here" in problem(folder)


def test_links_and_pipes_are_not_followed(written: Written, tmp_path: Path) -> None:
    folder = written(2)
    file = folder / "audit.jsonl"
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert "cannot be read" in problem(folder)
    file.unlink()
    os.mkfifo(file)
    assert "not a regular file" in problem(folder)
    with pytest.raises(OSError, match="not a regular file") as refused:
        last_records(folder, 1)
    assert refused.value.filename == str(file)


def test_a_log_that_was_written_anew_is_recognised_by_a_hash_noted_before(written: Written) -> None:
    noted = verify(written(5, name="old")).head
    grown = written(9, name="old2")
    new = written(5, name="new")
    assert verify(new, [noted]).fault is None
    assert verify(new, [noted]).recognised == frozenset()
    middle = read_record(lines_of(grown)[4]).hash
    assert verify(grown, [middle, NO_HASH]).recognised == {middle}


def test_one_file_can_be_looked_at_alone(written: Written) -> None:
    last = log_files(written(5))[-1]
    assert verify(last).records == 1
    last.write_bytes(last.read_bytes()[:-1])
    assert "not whole" in problem(last)


def test_a_log_is_found_by_its_file_folder_state_kit_or_workspace(tmp_path: Path) -> None:
    for service in ("server", "site-1"):
        Chain(tmp_path / "state" / service / "audit").close()
    (tmp_path / "state" / "poc").mkdir()
    kit = tmp_path / "project" / "prod_00" / "site-1"
    kit.mkdir(parents=True)
    one = tmp_path / "state" / "site-1"
    for path in (one, one / "audit", kit):
        assert find_logs(path) == [one / "audit"]
    assert find_logs(one / "audit" / "head") == [one / "audit" / "head"]
    assert find_logs(tmp_path) == [tmp_path / "state" / "server" / "audit", one / "audit"]
    with pytest.raises(UsageError, match="no audit log"):
        find_logs(tmp_path / "project")
    with pytest.raises(UsageError, match="no such file"):
        find_logs(tmp_path / "nowhere")


def test_a_service_that_has_run_and_has_no_log_is_noticed(tmp_path: Path) -> None:
    state = tmp_path / "state" / "server"
    state.mkdir(parents=True)
    (state / "lock").touch()
    (log,) = find_logs(tmp_path)
    assert "no audit log here" in problem(log)


def test_the_last_records_are_shown_over_files_and_past_damage(written: Written) -> None:
    folder = written(5)
    file = log_files(folder)[1]
    file.write_bytes(b"damaged\n" + file.read_bytes())
    assert [one.seq for one in last_records(folder, 4)] == [2, 3, 4, 5]
    assert last_records(folder, 4, denied=True) == []
