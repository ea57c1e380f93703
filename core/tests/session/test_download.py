"""Downloads are all or nothing, and delete nothing that they did not make."""

from __future__ import annotations

import pytest

from flpoc.errors import FlpocError, UsageError
from flpoc.session import Session


@pytest.fixture
def session(deployment):
    with Session.open(deployment.kit()) as opened:
        yield opened


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.row("D12")
def test_all_results_and_logs_are_there(session, finished, tmp_path):
    got = session.download_job_result(finished, tmp_path / "deep" / "results")
    assert {"FL_global_model.safetensors", "artifact_manifest.json", "ledger.json", "download.json"} <= set(
        names(got.path)
    )
    assert {"site-1.log", "site-2.log"} <= set(names(got.path / "logs"))


def test_a_job_that_failed_has_its_logs(session, failed, tmp_path):
    got = session.download_job_result(failed, tmp_path)
    assert got.status == "FINISHED:FAILED"
    assert any("no such column" in path.read_text() for path in (got.path / "logs").iterdir())


@pytest.mark.row("C8")
def test_what_is_there_already_is_not_touched(session, finished, tmp_path):
    (tmp_path / finished).mkdir()
    (tmp_path / finished / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        session.download_job_result(finished, tmp_path)
    assert names(tmp_path / finished) == ["mine.txt"]


def test_force_replaces_an_earlier_download(session, finished, tmp_path):
    first = session.download_job_result(finished, tmp_path)
    (first.path / "ledger.json").unlink()
    second = session.download_job_result(finished, tmp_path, force=True)
    assert (second.path / "ledger.json").exists()
    assert second.kept is None
    assert names(tmp_path) == [finished]


@pytest.mark.row("C8")
def test_force_keeps_what_no_download_made(session, finished, tmp_path):
    first = session.download_job_result(finished, tmp_path)
    (first.path / "notes.txt").write_text("mine")
    second = session.download_job_result(finished, tmp_path, force=True)
    assert (second.kept / "notes.txt").read_text() == "mine"
    assert not (second.path / "notes.txt").exists()


@pytest.mark.row("C8")
@pytest.mark.parametrize("force", [False, True])
def test_a_link_in_the_place_of_the_target_is_refused(session, finished, tmp_path, force):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / finished).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError):
        session.download_job_result(finished, tmp_path, force=force)
    assert names(tmp_path / "elsewhere") == []


@pytest.mark.row("C11")
def test_an_interrupted_download_leaves_nothing(session, finished, tmp_path):
    def interrupt(done, total):
        assert 0 < done <= total
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.download_job_result(finished, tmp_path, progress=interrupt)
    assert names(tmp_path) == []


@pytest.mark.row("C11")
def test_an_interrupted_replacement_leaves_the_earlier_download(session, finished, tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    first = session.download_job_result(finished, tmp_path)
    before = names(first.path)
    with pytest.raises(KeyboardInterrupt):
        session.download_job_result(finished, tmp_path, force=True, progress=interrupt)
    assert names(tmp_path) == [finished]
    assert names(first.path) == before


def test_a_log_that_grows_meanwhile_comes_as_far_as_it_was_announced(session, deployment, finished, tmp_path):
    log = next((deployment.folder / "state-server").rglob(f"{finished}*/logs/site-2.log"))
    before = log.read_bytes()

    def grow(done, total):
        with log.open("ab") as file:
            file.write(b"one more line\n")

    try:
        got = session.download_job_result(finished, tmp_path, progress=grow)
        assert (got.path / "logs" / "site-2.log").read_bytes() == before
    finally:
        log.write_bytes(before)


@pytest.mark.row("C8")
def test_a_place_that_cannot_be_written_is_named(session, finished, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FlpocError, match="file") as caught:
        session.download_job_result(finished, tmp_path / "file" / "below")
    assert (caught.value.code, caught.value.exit_status) == ("OUTPUT_DIR_NOT_WRITABLE", 1)
