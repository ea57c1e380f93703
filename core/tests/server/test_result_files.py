"""The files of a results folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flpoc.server.result_files import Results


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_ledger_is_written_row_by_row_as_one_indented_list(tmp_path: Path, count: int) -> None:
    rows = [
        {"round": 0, "site": f"site-{number}", "status": "trained", "weight": None, "reason": 'a "word"\n'}
        for number in range(count)
    ]
    Results(None, None, (), iter(rows), {}).write(tmp_path)
    assert (tmp_path / "ledger.json").read_text() == json.dumps(rows, indent=2)
