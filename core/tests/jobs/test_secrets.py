"""A job carries the names of secrets; what they are, only its processes hear."""

from __future__ import annotations

import json

import pytest

from flpoc.errors import JobError, UsageError
from flpoc.jobs.secrets import file_variable, secret_file_ref, secret_files_in, secret_ref, secrets_in, with_secrets
from flpoc.jobs.spec import ScriptSpec

HAVE = {"TOKEN": "t-1", "USER": "me"}


def test_what_stands_for_a_secret_becomes_it() -> None:
    assert with_secrets(secret_ref("TOKEN"), HAVE) == "t-1"
    assert with_secrets(f"{secret_ref('USER')}:{secret_ref('TOKEN')}@host", HAVE) == "me:t-1@host"


def test_lists_and_tables_are_gone_through_and_the_rest_stays() -> None:
    config = {"db": {"words": ["x", secret_ref("USER")], "port": 1}, "{secret:USER}": True}
    assert with_secrets(config, HAVE) == {"db": {"words": ["x", "me"], "port": 1}, "{secret:USER}": True}


def test_a_secret_that_looks_like_a_place_for_one_is_not_looked_into() -> None:
    assert with_secrets(secret_ref("A"), {"A": secret_ref("B"), "B": "b"}) == "{secret:B}"


def test_one_that_is_not_there_is_named() -> None:
    with pytest.raises(JobError, match="no secret 'TOKNE' here") as told:
        with_secrets(secret_ref("TOKNE"), HAVE)
    assert "local/policy.json" in told.value.hint


@pytest.mark.parametrize("name", ["", "a b", "1A", "A}", "Ä", "A" * 200])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="not the name of a secret"):
        secret_ref(name)


def test_a_secret_may_be_named_by_its_file() -> None:
    have = {**HAVE, file_variable("/run/secrets/token"): "t-2"}
    said = ["--token", f"{secret_file_ref('/run/secrets/token')}@{secret_ref('USER')}"]
    assert with_secrets(said, have) == ["--token", "t-2@me"]
    with pytest.raises(JobError, match="no secret file '/run/secrets/other' here"):
        with_secrets(secret_file_ref("/run/secrets/other"), have)


@pytest.mark.parametrize(
    "path", ["", "token", "/", "/a/", "//a", "/a/../b", "/..", "/./a", "/a b", '/a"', "/a}b", "/ä", "/a" * 600]
)
def test_what_is_no_path_of_a_secret_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match="not the path of a secret"):
        secret_file_ref(path)


def test_files_in_texts_are_found_each_once_whatever_the_format() -> None:
    text = json.dumps({"args": [secret_file_ref("/a.b/c..d"), secret_file_ref("/a.b/c..d"), secret_ref("A")]})
    assert secret_files_in([text, "{secret-file:/x/../y}"]) == ["/a.b/c..d"]
    assert secrets_in([text]) == ["A"]


def test_the_names_in_texts_are_found_each_once() -> None:
    assert secrets_in([secret_ref("B"), "plain", f"{secret_ref('A')}{secret_ref('B')}", "{secret:}"]) == ["B", "A"]


def test_a_program_that_starts_the_script_is_given_none() -> None:
    for place in (secret_ref("A"), secret_file_ref("/a")):
        with pytest.raises(ValueError, match="not through a command"):
            ScriptSpec("t.py", args=(place,), command=("torchrun",))
