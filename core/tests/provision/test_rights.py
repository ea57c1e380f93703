"""What ``authorization.json`` says, and what it may not say."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from flpoc.errors import AuthError, ConfigError
from flpoc.provision.identity import Identity
from flpoc.provision.rights import CATEGORIES, DEFAULT, RIGHTS, About, Permissions, read_permissions
from flpoc.provisioning import ROLES

NOW = datetime.datetime.now(datetime.UTC)
MINE, THEIRS = About("ours", "me@us.org", "ours"), About("theirs", "you@they.org", "theirs")
#: Somebody else's job at a site of ours, and the other way round.
MIXED, NEITHER = About("ours", "you@they.org", "theirs"), About("ours")


def who(role: str = "lead", name: str = "me@us.org", org: str = "ours") -> Identity:
    return Identity(name, "user", role, org, "p", 1, NOW, NOW)


def allows(said: Any, about: About, right: str = "abort_job", **person: str) -> bool:
    try:
        Permissions({"lead": said}).check(who(**person), right, about)
    except AuthError:
        return False
    return True


#: An expression, and whether it is true of: my job at my site, theirs at theirs, theirs at mine, no job.
EXPRESSIONS: dict[str, tuple[Any, tuple[bool, bool, bool, bool]]] = {
    "any": ("any", (True, True, True, True)),
    "all": ("all", (True, True, True, True)),
    "none": ("none", (False, False, False, False)),
    "no": ("no", (False, False, False, False)),
    "my site": ("o:site", (True, False, True, True)),
    "my organisation's job": ("o:submitter", (True, False, False, False)),
    "my job": ("n:submitter", (True, False, False, False)),
    "my organisation": ("o:ours", (True, True, True, True)),
    "another organisation": ("o:theirs", (False, False, False, False)),
    "my name": ("n:me@us.org", (True, True, True, True)),
    "another name": ("n:you@they.org", (False, False, False, False)),
    "one of several": (["n:submitter", "o:site"], (True, False, True, True)),
    "but not": (["any", "not o:submitter"], (False, True, True, True)),
    "but not I": (["o:site", "not n:me@us.org"], (False, False, False, False)),
    "but nobody": (["any", "not any"], (False, False, False, False)),
    "only not": ("not o:theirs", (False, False, False, False)),
    "not none": (["any", "not none"], (True, True, True, True)),
    "a category": ({"manage_job": "any"}, (True, True, True, True)),
    "the right before its category": ({"manage_job": "any", "abort_job": "none"}, (False, False, False, False)),
    "the category without the right": ({"manage_job": "none", "abort_job": "n:submitter"}, (True, False, False, False)),
    "another category": ({"view": "any"}, (False, False, False, False)),
    "nothing": ({}, (False, False, False, False)),
}


@pytest.mark.parametrize("case", EXPRESSIONS)
def test_an_expression_is_true_of(case: str) -> None:
    said, expected = EXPRESSIONS[case]
    assert tuple(allows(said, about) for about in (MINE, THEIRS, MIXED, NEITHER)) == expected


def test_a_role_that_is_not_named_may_do_nothing() -> None:
    assert [right for right in RIGHTS if allows("any", MINE, right, role="member")] == []
    assert not allows("any", MINE, role="")


def test_an_organisation_without_a_name_is_no_match() -> None:
    assert not allows("o:submitter", NEITHER, org="")
    assert not allows("n:submitter", NEITHER, name="")


def test_whether_anything_at_all_is_allowed_needs_no_job() -> None:
    permissions = Permissions()
    assert permissions.why_not(who("lead"), "abort_job") == ""
    assert permissions.why_not(who("member"), "abort_job") == "the role member may not abort jobs"
    assert permissions.why_not(who("org_admin"), "submit_job") == "the role org_admin may not submit jobs"
    assert Permissions({"lead": "not o:ours"}).why_not(who(), "abort_job")


#: What was provisioned, said once more: right, and whose jobs or sites each role may use it on.
_ALL = dict.fromkeys(ROLES, "all")
_JOBS = {"project_admin": "all", "org_admin": "org", "lead": "own"}
_SITES = {"project_admin": "all", "org_admin": "site", "lead": "site"}
PROVISIONED = {
    "submit_job": {"project_admin": "all", "lead": "all"},
    "byoc": {"project_admin": "all", "lead": "all"},
    "clone_job": {"project_admin": "all", "lead": "own"},
    "download_job": _JOBS,
    "abort_job": _JOBS,
    "delete_job": _JOBS,
    "configure_job_log": _JOBS,
    "check_status": _ALL,
    "list_jobs": _ALL,
    "get_job_meta": _ALL,
    "get_job_log": _ALL,
    "show_stats": _ALL,
    "show_errors": _ALL,
    "report_resources": _SITES,
    "report_env": _SITES,
    "report_version": _SITES,
    "restart": _SITES,
    "shutdown": _SITES,
    "disable_client": _SITES,
    "enable_client": _SITES,
    "configure_site_log": _SITES,
    "read_site_log": _SITES,
}
ABOUT = {
    "own": About("theirs", "me@us.org", "ours"),
    "org": About("theirs", "colleague@us.org", "ours"),
    "site": About("ours", "you@they.org", "theirs"),
    "all": About("theirs", "you@they.org", "theirs"),
}
#: What is included in each of them.
INCLUDED = {"all": set(ABOUT), "org": {"own", "org"}, "own": {"own"}, "site": {"site"}, "": set()}


@pytest.mark.parametrize("right", RIGHTS)
def test_what_is_provisioned_is_as_documented(right: str) -> None:
    assert set(PROVISIONED) == set(RIGHTS)
    for role in ROLES:
        expected = INCLUDED[PROVISIONED[right].get(role, "")]
        may = {name for name, about in ABOUT.items() if _may(role, right, about)}
        assert may == expected, role


def _may(role: str, right: str, about: About) -> bool:
    try:
        Permissions().check(who(role), right, about)
    except AuthError:
        return False
    return True


@pytest.mark.parametrize(
    ("said", "about", "words"),
    [
        ("n:submitter", THEIRS, "me@us.org (lead) may abort only jobs of their own; this one is you@they.org's"),
        ("o:submitter", THEIRS, "me@us.org (lead) may abort only jobs of ours; this one is of theirs"),
        ("o:site", THEIRS, "me@us.org (lead) may abort only jobs of ours; this is one of theirs"),
        ("none", THEIRS, "the role lead may not abort jobs"),
        ("o:others", THEIRS, "me@us.org (lead) may not abort this job here"),
    ],
)
def test_a_refusal_says_why(said: str, about: About, words: str) -> None:
    permissions = Permissions({"lead": said, "project_admin": "any", "member": "none"}, "local/authorization.json of x")
    with pytest.raises(AuthError) as caught:
        permissions.check(who(), "abort_job", about)
    assert caught.value.message == words
    assert caught.value.hint.startswith("roles that may: project_admin;")
    assert caught.value.hint.endswith("local/authorization.json of x decides")


# -- the file


@pytest.fixture
def local(tmp_path: Path) -> Path:
    return tmp_path


def write(local: Path, content: Any) -> Permissions:
    path = local / "authorization.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return read_permissions(local, "site-1")


def test_without_a_file_what_was_provisioned_holds(local: Path) -> None:
    assert read_permissions(local, "site-1") == Permissions()
    assert write(local, {"format": 1, "permissions": DEFAULT}).roles == DEFAULT


def test_every_right_and_category_can_be_written(local: Path) -> None:
    said = {role: {name: ["n:x@y.org", "not o:z"] for name in (*RIGHTS, *CATEGORIES)} for role in ROLES}
    assert write(local, {"permissions": said}).roles == said
    assert write(local, {"permissions": {}}).roles == {}


BROKEN: dict[str, tuple[Any, str]] = {
    "empty": (b"", "authorization.json"),
    "no JSON": (b"{'lead': 1}", "authorization.json"),
    "not text": (b"\xff\xfe\x00", "authorization.json"),
    "a list": ([], "wanted is an object, not list"),
    "no permissions": ({"format": 1}, "permissions: is missing"),
    "another format": ({"format": 2, "permissions": {}}, "format 2, wanted is 1"),
    "a key too many": ({"permissions": {}, "permision": {}}, "permision: no such setting"),
    "permissions that are none": ({"permissions": "any"}, "wanted are roles and what each may do"),
    "an unknown role": ({"permissions": {"leader": "any"}}, "permissions.leader: no such role"),
    "an unknown right": ({"permissions": {"lead": {"submit": "any"}}}, "permissions.lead.submit: no such right"),
    "an unknown expression": ({"permissions": {"lead": "everything"}}, "permissions.lead: 'everything' says nothing"),
    "half an expression": ({"permissions": {"lead": "o:"}}, "'o:' says nothing"),
    "a number": ({"permissions": {"lead": {"byoc": 1}}}, "permissions.lead.byoc: wanted is a text or a list of texts"),
    "null": ({"permissions": {"lead": None}}, "wanted is a text or a list of texts"),
    "an empty list": ({"permissions": {"lead": []}}, "wanted is a text or a list of texts"),
    "a list in a list": ({"permissions": {"lead": [["any"]]}}, "wanted is a text or a list of texts"),
    "not, and nothing": ({"permissions": {"lead": "not "}}, "says nothing"),
    "a key twice": (b'{"permissions": {"lead": "none", "lead": "any"}}', "lead"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_file_that_is_broken_allows_nothing_to_anybody(local: Path, case: str) -> None:
    content, why = BROKEN[case]
    with pytest.raises(ConfigError) as caught:
        write(local, content)
    assert why in caught.value.message
    assert caught.value.exit_status == 4


def test_what_is_no_file_allows_nothing(local: Path) -> None:
    path = local / "authorization.json"
    path.symlink_to("nowhere")
    with pytest.raises(ConfigError):
        read_permissions(local, "site-1")
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigError):
        read_permissions(local, "site-1")
