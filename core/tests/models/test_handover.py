"""A file is taken out of a folder that somebody else writes: only that file, and only once."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from flpoc.errors import IntegrityError
from flpoc.models import handover
from flpoc.models.handover import take
from flpoc.models.tensors import write_tensors


@pytest.fixture
def job(tmp_path: Path) -> Path:
    (tmp_path / "job").mkdir()
    return tmp_path / "job"


def model(path: Path) -> int:
    return write_tensors(path, {"w": np.arange(4, dtype=np.float32)}).size


def test_a_model_is_renamed_out_exactly_once(job: Path, tmp_path: Path) -> None:
    size = model(job / "m")
    header = take(job, "m", size, tmp_path / "out" / "m")
    assert [spec.name for spec in header.tensors] == ["w"]
    assert not (job / "m").exists()
    assert (tmp_path / "out" / "m").stat().st_size == size
    with pytest.raises(IntegrityError):
        take(job, "m", size, tmp_path / "out" / "again")
    assert os.listdir(tmp_path / "out") == ["m"]


KINDS = {
    "symlink": lambda path, real: path.symlink_to(real),
    "hard link": lambda path, real: path.hardlink_to(real),
    "pipe": lambda path, real: os.mkfifo(path),
    "folder": lambda path, real: path.mkdir(),
    "nothing": lambda path, real: None,
    "empty": lambda path, real: path.touch(),
    "damaged header": lambda path, real: path.write_bytes(b"\xff" * real.stat().st_size),
    "cut": lambda path, real: path.write_bytes(real.read_bytes()[:-1]),
    "something after it": lambda path, real: path.write_bytes(real.read_bytes() + b"x"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_a_plain_model_file_stays_where_it_is(job: Path, tmp_path: Path, kind: str) -> None:
    size = model(tmp_path / "secret")
    KINDS[kind](job / "m", tmp_path / "secret")
    with pytest.raises(IntegrityError):
        take(job, "m", size, tmp_path / "out" / "m")
    assert os.listdir(tmp_path / "out") == []
    assert (tmp_path / "secret").stat().st_size == size


@pytest.mark.parametrize("name", ["", ".", "..", ".m", "../secret", "a/m", "/etc/passwd", "m\0", "m" * 300])
def test_a_name_that_leads_elsewhere_is_refused(job: Path, tmp_path: Path, name: str) -> None:
    size = model(tmp_path / "secret")
    with pytest.raises(IntegrityError):
        take(job, name, size, tmp_path / "out" / "m")


def test_another_size_than_announced_is_refused(job: Path, tmp_path: Path) -> None:
    size = model(job / "m")
    with pytest.raises(IntegrityError, match="were announced"):
        take(job, "m", size + 1, tmp_path / "out" / "m")
    assert (job / "m").exists()


def test_a_folder_that_is_a_link_is_refused(job: Path, tmp_path: Path) -> None:
    size = model(job / "m")
    (tmp_path / "link").symlink_to(job)
    with pytest.raises(IntegrityError):
        take(tmp_path / "link", "m", size, tmp_path / "out" / "m")


def test_a_file_exchanged_between_the_check_and_the_rename_is_not_taken(job: Path, tmp_path: Path, monkeypatch) -> None:
    size = model(job / "m")
    model(tmp_path / "secret")
    real = handover.read_header

    def exchanged(fd: int, *, where: str = ""):
        found = real(fd, where=where)
        (job / "m").unlink()
        (job / "m").symlink_to(tmp_path / "secret")
        return found

    monkeypatch.setattr(handover, "read_header", exchanged)
    with pytest.raises(IntegrityError, match="another file took its place"):
        take(job, "m", size, tmp_path / "out" / "m")
    assert os.listdir(tmp_path / "out") == []
