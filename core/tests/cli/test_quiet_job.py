"""A job that prints nothing and has no metrics is as good as any other, and is not shown as if something were wrong."""

from __future__ import annotations

import textwrap

import pytest

from flpoc.cli.main import main
from flpoc.session import Session

SCRIPT = """
    import numpy as np
    import flpoc.client as flare

    flare.init()
    while flare.is_running():
        flare.receive()
        flare.send(flare.FLModel(params={"a": np.zeros(2)}))
"""


@pytest.fixture(autouse=True)
def admin(deployment, monkeypatch):
    """Commands are those of the project's administrator."""
    monkeypatch.setenv("FLPOC_STARTUP_KIT_DIR", str(deployment.kit()))


@pytest.fixture(scope="module")
def quiet(deployment, tmp_path_factory):
    folder = tmp_path_factory.mktemp("quiet")
    (folder / "code").mkdir()
    (folder / "code" / "train.py").write_text(textwrap.dedent(SCRIPT), encoding="utf-8")
    (folder / "job.conf").write_text("name = quiet\nscript = train.py\nrounds = 1\nmin_clients = 2\n", encoding="utf-8")
    with Session.open(deployment.kit()) as session:
        job = session.submit_job(str(folder))
        assert session.wait_for_job(job, timeout=60)["status"] == "FINISHED:COMPLETED"
    return job


@pytest.mark.parametrize("command", ["wait", "monitor"])
def test_the_end_names_no_round_as_if_it_were_a_metric(capsys, quiet, command):
    assert main(["job", command, quiet]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert "FINISHED:COMPLETED after" in last
    assert "=" not in last


def test_an_empty_log_is_said_to_be_one(capsys, quiet, tmp_path):
    assert main(["job", "logs", quiet, "--site", "all"]) == 0
    assert "site-1: it has printed nothing so far" in capsys.readouterr().err
    assert main(["job", "download", quiet, "-o", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert "no log of site-1, site-2: nothing was printed there" in said.out
    assert "not there" not in said.out + said.err


def test_a_submission_without_a_folder_says_which_was_looked_for(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["job", "submit"]) == 4
    assert "no job is given, and there is no ./current_job" in capsys.readouterr().err
