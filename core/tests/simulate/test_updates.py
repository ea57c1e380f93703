"""The updates of many sites in one file: what is in it, and what is not let in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flpoc.errors import IntegrityError
from flpoc.models.tensors import write_tensors
from flpoc.simulate.updates import MOST_FILES, RoundFiles


@pytest.fixture
def files(tmp_path: Path) -> RoundFiles:
    found = RoundFiles(tmp_path)
    found.expect(MOST_FILES + 1)
    return found


def test_each_update_has_its_own_numbers_and_its_file_is_gone(files, tmp_path):
    taken = []
    for number in range(5):
        write_tensors(tmp_path / str(number), {"w": np.full((number % 2 + 2, 3), number, "float32")})
        taken.append(files.take(str(number)))
    assert [one["w"].shape for one in taken] == [(2, 3), (3, 3), (2, 3), (3, 3), (2, 3)]
    assert [set(one["w"].ravel()) for one in taken] == [{0}, {1}, {2}, {3}, {4}]
    assert list(tmp_path.iterdir()) == []
    files.close()


@pytest.mark.parametrize("spoil", [lambda data: data[:-4], lambda data: data + b"more", lambda data: data[:20]])
def test_a_file_of_another_size_than_its_header_says_is_refused_whatever_came_before(files, tmp_path, spoil):
    for name in "ab":
        write_tensors(tmp_path / name, {"w": np.ones(7)})
    files.take("a")
    (tmp_path / "b").write_bytes(spoil((tmp_path / "b").read_bytes()))
    with pytest.raises(IntegrityError, match="b: "):
        files.take("b")
    files.close()
