"""What `flpoc audit` says about logs, and what it exits with."""

from __future__ import annotations

import json

import pytest

from flpoc.audit.chain import Chain
from flpoc.audit.checking import verify
from flpoc.audit.records import Decision, Principal

LEAD = Principal("lead@nvidia.com", "user", "lead", "nvidia", "1f")


@pytest.fixture
def workspace(tmp_path):
    """The states of a server and a site; the server has let one call in, and refused one."""
    for name, outcomes in (("server", ("allow", "deny")), ("site-1", ())):
        chain = Chain(tmp_path / "poc" / "state" / name / "audit")
        chain.append([Decision(LEAD, "Abort", "job 1", outcome, "not yours\x1b[2J") for outcome in outcomes])
        chain.sync()
        chain.close()
    return tmp_path / "poc"


def log_of(workspace, name="server"):
    return workspace / "state" / name / "audit"


def test_without_a_path_every_log_of_the_configured_workspace_is_checked(flpoc, workspace):
    done = flpoc("audit", "verify", FLPOC_POC_WORKSPACE=str(workspace))
    head = verify(log_of(workspace)).head
    assert done.returncode == 0, done.stderr
    assert "server: ok, 2 records\n" in done.stdout
    assert f"  head {head}\n" in done.stdout
    assert "site-1: ok, 0 records\n" in done.stdout


def test_the_first_bad_line_is_named_and_the_exit_status_is_1(flpoc, workspace):
    file = log_of(workspace) / "audit.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"deny"', b'"allow"'))
    done = flpoc("audit", "verify", str(workspace))
    assert done.returncode == 1
    assert "server: NOT INTACT after 1 record\n" in done.stdout
    assert f"  {file}, line 2: the record was changed: its hash is another\n" in done.stdout
    assert "INTEGRITY_FAILED" in done.stdout + done.stderr
    told = json.loads(flpoc("audit", "verify", str(workspace), "--format", "json").stdout)
    assert told["exit_code"] == 1
    assert told["data"]["intact"] is False
    assert told["data"]["logs"][0]["fault"] == {
        "file": str(file),
        "line": 2,
        "problem": "the record was changed: its hash is another",
    }


def test_a_noted_hash_that_is_in_no_log_is_an_alarm(flpoc, workspace):
    head = verify(log_of(workspace)).head
    assert flpoc("audit", "verify", str(workspace), "--expect", head.upper()).returncode == 0
    done = flpoc("audit", "verify", str(workspace), "--expect", head, "--expect", "a" * 64)
    assert done.returncode == 1
    assert f"Expected, and in no log: {'a' * 64}" in done.stdout


def test_what_is_refused_can_be_shown_alone_and_steers_no_terminal(flpoc, workspace):
    done = flpoc("audit", "show", str(log_of(workspace)), "--denied")
    assert done.returncode == 0
    assert "lead @ nvidia" in done.stdout
    assert "deny" in done.stdout
    assert "allow" not in done.stdout
    assert "not yours\\x1b[2J" in done.stdout
    assert "\x1b" not in done.stdout
    told = json.loads(flpoc("audit", "show", str(workspace), "--tail", "1", "--format", "json").stdout)["data"]
    assert [len(one["records"]) for one in told] == [1, 0]
    assert told[0]["records"][0]["principal"]["name"] == "lead@nvidia.com"


@pytest.mark.parametrize(
    "words", [("verify", "nowhere"), ("show", "nowhere"), ("verify",), ("verify", "--expect", "xyz", ".")]
)
def test_where_there_is_no_log_or_no_hash_it_says_what_to_give(flpoc, tmp_path, words):
    done = flpoc("audit", *words, FLPOC_POC_WORKSPACE=str(tmp_path / "nothing"))
    assert done.returncode == 4
    assert "Hint: " in done.stdout + done.stderr
