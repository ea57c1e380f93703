"""The files of jobs at the server."""

from __future__ import annotations

from pathlib import Path

import pytest

from flpoc.server.files import JobFiles, round_of


@pytest.mark.parametrize(
    ("earlier", "left"),
    [
        (True, {"2.b.safetensors", "4.a.safetensors", "4.a.state", "5.c.safetensors", "5.c.state"}),
        (False, {"-1.a.safetensors", "2.b.safetensors", "3.a.safetensors", "4.a.safetensors", "4.a.state"}
                | {"5.c.safetensors", "5.c.state"}),
    ],
)  # fmt: skip
def test_a_commit_deletes_what_it_makes_superfluous_and_nothing_of_the_round_that_is_open(
    tmp_path: Path, earlier: bool, left: set[str]
) -> None:
    files = JobFiles(tmp_path)
    files.drop_models((), 4, earlier=earlier)  # no model yet, no folder
    (tmp_path / "models").mkdir()
    kept = [files.model(2, "b"), files.model(4, "a"), files.state(4, "a")]
    # of round 4 a model of a task too, and of round 5 what its controller has handed over meanwhile
    others = [files.model(-1, "a"), files.model(3, "a"), files.state(3, "a"), files.model(4, "x")]
    later = [files.model(5, "c"), files.state(5, "c")]
    for path in (*kept, *others, *later):
        path.touch()
    assert [round_of(path) for path in (*others, *later)] == [-1, 3, 3, 4, 5, 5]
    files.drop_models(kept, 4, earlier=earlier)
    assert {path.name for path in (tmp_path / "models").iterdir()} == left
