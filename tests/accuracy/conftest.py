"""Data for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from accuracy.problem import write_data


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the data sets are, as files."""
    found = tmp_path_factory.mktemp("data")
    write_data(found)
    return found
