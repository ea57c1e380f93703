"""What users hear about an archive that is not taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flpoc.errors import FlpocError
from flpoc.jobs.archive import unpack
from flpoc.jobs.paths import FileEntry
from flpoc.server.submissions import _nameless
from flpoc.session import Session

DAMAGED = {
    "no archive": b"hello",
    "empty": b"",
    "cut": b"PK\x05\x06" + b"\0" * 10,
    "nothing in it": b"PK\x05\x06" + b"\0" * 18,
}


@pytest.mark.row("D14")
@pytest.mark.parametrize("case", [*DAMAGED, "gone", "no place for it"])
def test_users_do_not_learn_where_the_server_keeps_its_files(tmp_path: Path, case: str) -> None:
    archive, into = tmp_path / "archives" / "0.zip", tmp_path / "jobs" / "j" / "job"
    archive.parent.mkdir()
    if case == "no place for it":
        (tmp_path / "jobs").touch()
    if case != "gone":
        archive.write_bytes(DAMAGED.get(case, b""))
    with pytest.raises(FlpocError) as refused, _nameless(archive, into):  # noqa: PT012 - the server does both, too
        into.parent.mkdir(parents=True)
        unpack(archive, into, (FileEntry("code/t.py", 1, "0" * 64),))
    assert str(tmp_path) not in f"{refused.value.message} {refused.value.hint}"
    assert "the archive" in refused.value.message


@pytest.mark.row("G2")
@pytest.mark.parametrize("kind", ["aggregator", "workflow"])
def test_settings_that_a_component_does_not_have_are_refused_when_the_job_is_submitted(
    deployment: Any, make_job: Any, kind: str
) -> None:
    name = {"aggregator": "mean", "workflow": "fedavg"}[kind]
    job = make_job("wrong", lines=f"{kind} {{ name = {name}, blok = 4 }}")
    with Session.open(deployment.kit()) as session, pytest.raises(FlpocError) as refused:
        session.submit_job(str(job))
    assert f"{kind}.{name}.blok: no such setting" in refused.value.message
