"""A site says what scripts of a study find in their environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flpoc.errors import AuthError, ConfigError, JobError
from flpoc.jobs.secrets import file_variable, secret_file_ref, secret_ref
from flpoc.jobs.spec import JobSpec, ScriptSpec
from flpoc.site.environments import environments


def job(study: str, *args: str) -> JobSpec:
    return JobSpec("demo", {"@default": ScriptSpec("t.py", args=args)}, study=study)


def test_each_study_has_its_own(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t-1\n")
    found = environments({"lung": {"env": {"SITE": "north"}, "secrets": {"TOKEN": str(tmp_path / "token")}}})
    assert found.of("lung").read("site-1") == {"SITE": "north", "TOKEN": "t-1"}
    assert found.of("default").read("site-1") == {}


def test_a_secret_is_read_anew_for_every_start(tmp_path: Path) -> None:
    token = tmp_path / "token"
    found = environments({"lung": {"secrets": {"TOKEN": str(token)}}}).of("lung")
    for value in ("one", "two"):
        token.write_text(value)
        assert found.read("site-1") == {"TOKEN": value}


@pytest.mark.parametrize("content", [None, b"\xff", b"a\0b", b"x" * 70_000])
def test_one_that_cannot_be_read_is_named_and_its_file_is_not(tmp_path: Path, content: bytes | None) -> None:
    token = tmp_path / "token"
    if content is not None:
        token.write_bytes(content)
    with pytest.raises(JobError, match="site-1: the secret 'TOKEN' cannot be read") as told:
        environments({"lung": {"secrets": {"TOKEN": str(token)}}}).of("lung").read("site-1")
    assert str(tmp_path) not in f"{told.value.message} {told.value.hint}"


def test_a_job_of_a_study_that_has_not_the_secret_is_refused(tmp_path: Path) -> None:
    found = environments({"lung": {"env": {"SITE": "north"}, "secrets": {"TOKEN": str(tmp_path)}}})
    found.refuse_unknown(job("lung", "--token", secret_ref("TOKEN")), "site-1")
    found.refuse_unknown(job("default", "--token", "x"), "site-1")
    for study, name in (("default", "TOKEN"), ("lung", "TOKNE"), ("lung", "SITE")):
        with pytest.raises(AuthError, match=f"site-1 has no secret '{name}' for study '{study}'"):
            found.refuse_unknown(job(study, secret_ref(name)), "site-1")


def test_files_that_jobs_may_name_are_granted_one_by_one(tmp_path: Path) -> None:
    token = str(tmp_path / "token")
    Path(token).write_text("t-1\n")
    found = environments({"lung": {"secret_files": [token]}})
    assert found.of("lung").read("site-1") == {file_variable(token): "t-1"}
    found.refuse_unknown(job("lung", secret_file_ref(token)), "site-1")
    for study, path in (("default", token), ("lung", f"{token}s"), ("lung", str(tmp_path))):
        with pytest.raises(AuthError, match=f"site-1 has no secret file '{path}' for study '{study}'"):
            found.refuse_unknown(job(study, secret_file_ref(path)), "site-1")


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({"lung": {"env": {"PYTHONPATH": "/x"}}}, "'PYTHONPATH' cannot be set"),
        ({"lung": {"env": {"FLPOC_SOCKET": "/x"}}}, "'FLPOC_SOCKET' cannot be set"),
        ({"lung": {"secrets": {"LD_PRELOAD": "/x"}}}, "'LD_PRELOAD' cannot be set"),
        ({"lung": {"env": {"a b": "/x"}}}, "'a b' cannot be set"),
        ({"lung": {"secrets": {"TOKEN": "token"}}}, "'token' is not an absolute path"),
        ({"lung": {"secret_files": ["token"]}}, "'token' is no path that a job can name"),
        ({"lung": {"secret_files": ["/a/../b"]}}, "'/a/../b' is no path that a job can name"),
        ({"lung": {"env": {"A": "x"}, "secrets": {"A": "/x"}}}, "'A' is both in env and in secrets"),
        ({"lung": {"secret": {}}}, "secret"),
        ({"lung": {"env": {"A": 1}}}, "env"),
    ],
)
def test_a_wrong_policy_is_told_with_its_place(policy: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as told:
        environments(policy)
    assert "local/policy.json: environments.lung" in told.value.message
