"""A site decides itself what it runs, whatever the server says."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from flpoc.errors import AuthError, FlpocError, IntegrityError
from flpoc.jobs.revocations import Revocations
from flpoc.jobs.signing import sign_job
from flpoc.jobs.spec import JobSpec, ScriptSpec, SignedJob
from flpoc.jobs.statements import Revoked, new_list, sign_statement, written_now
from flpoc.provision.building import provision
from flpoc.provision.identity import identity_of, sign
from flpoc.provision.kit_settings import default_policy
from flpoc.provision.kits import Kit, load_kit
from flpoc.provision.project_file import sample_project
from flpoc.provision.rights import Permissions
from flpoc.settings import canonical_json
from flpoc.site.consent import consent
from flpoc.site.images import ImagePolicy

USER = "lead@nvidia.com"
POLICY = default_policy() | {"allow_custom_code": True}


@pytest.fixture(scope="module")
def prod(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return provision(sample_project(["site-1"]), tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def kit(prod: Path) -> Kit:
    return load_kit(prod / "site-1", kind="site")


def signed(prod: Path, user: str = USER, **how: Any) -> SignedJob:
    startup = prod / user / "startup"
    (key,), (certificate,) = startup.glob("client.key"), startup.glob("client.crt")
    script = ScriptSpec("t.py", command=how.pop("command", ()), image=how.pop("image", ""))
    sites, study = how.pop("sites", ()), how.pop("study", "default")
    options = {"project": "example_project", "submitter": user} | how
    return sign_job(
        JobSpec("demo", {"@default": script}, sites=sites, study=study), "demo", [], key_pem=key.read_bytes(),
        certificate_pem=certificate.read_bytes(), **options,
    )  # fmt: skip


def test_a_job_of_a_lead_is_run(prod: Path, kit: Kit) -> None:
    assert consent(kit, signed(prod), POLICY).submitter == USER


@pytest.mark.row("J13", "S20")
def test_a_user_whose_role_may_not_submit_is_refused_even_if_the_server_took_the_job(prod: Path, kit: Kit) -> None:
    with pytest.raises(AuthError, match="may not submit"):
        consent(kit, signed(prod, "org-admin@nvidia.com"), POLICY)


def test_a_job_that_was_signed_for_other_sites_is_refused_even_if_the_server_sends_it(prod: Path, kit: Kit) -> None:
    assert consent(kit, signed(prod, sites=("site-1", "site-2")), POLICY).spec.sites == ("site-1", "site-2")
    with pytest.raises(AuthError, match="not signed this job for site-1"):
        consent(kit, signed(prod, sites=("site-2",)), POLICY)


@pytest.mark.row("J13")
def test_somebody_elses_name_in_the_manifest_is_refused(prod: Path, kit: Kit) -> None:
    with pytest.raises(AuthError, match="but signed by"):
        consent(kit, signed(prod, "org-admin@nvidia.com", submitter=USER), POLICY)


def altered(job: SignedJob, **changes: Any) -> SignedJob:
    return attrs.evolve(job, manifest=canonical_json(json.loads(job.manifest) | changes))


@pytest.mark.row("J13")
def test_an_altered_manifest_is_refused(prod: Path, kit: Kit) -> None:
    for changes in ({"folder": "other"}, {"expires": "2099-01-01T00:00:00Z"}, {"role": "lead"}):
        with pytest.raises(FlpocError) as refused:
            consent(kit, altered(signed(prod), **changes), POLICY)
        assert isinstance(refused.value, (IntegrityError, AuthError))


@pytest.mark.row("J13")
def test_a_signature_of_another_key_is_refused(prod: Path, kit: Kit) -> None:
    job = signed(prod)
    other = (prod / "org-admin@nvidia.com" / "startup" / "client.key").read_bytes()
    with pytest.raises(FlpocError):
        consent(kit, attrs.evolve(job, signature=sign(other, job.manifest)), POLICY)


@pytest.mark.row("J13")
def test_an_expired_job_and_one_of_another_project_are_refused(prod: Path, kit: Kit) -> None:
    old = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=31)
    for how in ({"now": old}, {"project": "another_project"}):
        with pytest.raises(AuthError, match=r"expired|another_project"):
            consent(kit, signed(prod, **how), POLICY)


@pytest.mark.row("S20")
def test_a_site_that_runs_no_code_of_users_refuses_every_job(prod: Path, kit: Kit) -> None:
    with pytest.raises(AuthError, match="runs no code of users"):
        consent(kit, signed(prod), POLICY | {"allow_custom_code": False})


@pytest.mark.row("S20")
def test_only_programs_of_the_policy_are_started(prod: Path, kit: Kit) -> None:
    assert consent(kit, signed(prod, command=("/opt/py", "-u")), POLICY | {"python": "/opt/py"})
    for command in (("/bin/sh", "-c"), ("python3.99",), ("/opt/py2",)):
        with pytest.raises(AuthError, match="does not start"):
            consent(kit, signed(prod, command=command), POLICY | {"python": "/opt/py"})


@pytest.mark.row("S20")
def test_a_site_works_for_the_studies_that_its_policy_names_whatever_the_server_says(prod: Path, kit: Kit) -> None:
    assert consent(kit, signed(prod, study="cancer"), POLICY).spec.study == "cancer"
    some = POLICY | {"studies": ["cancer", "lung"]}
    assert consent(kit, signed(prod, study="lung"), some).spec.study == "lung"
    for study in ("default", "heart"):
        with pytest.raises(AuthError, match=f"site-1 does not work for study '{study}'") as caught:
            consent(kit, signed(prod, study=study), some)
        assert "local/policy.json decides" in caught.value.hint


@pytest.mark.row("S20")
@pytest.mark.parametrize(
    ("lead", "why"),
    [
        ({"byoc": "any"}, "the role lead may not submit jobs"),
        ({"submit_job": "any"}, "the role lead may not run code of their own in jobs"),
        ({"submit_job": "o:elsewhere", "byoc": "any"}, "may not submit this job here"),
        ({"submit_job": ["any", f"not n:{USER}"], "byoc": "any"}, "may not submit this job here"),
        ("none", "the role lead may not submit jobs"),
    ],
)
def test_a_site_refuses_whom_its_own_file_does_not_allow(prod: Path, kit: Kit, lead: Any, why: str) -> None:
    permissions = Permissions({"project_admin": "any", "lead": lead}, "local/authorization.json of site-1")
    assert consent(kit, signed(prod, "admin@nvidia.com"), POLICY, permissions)
    with pytest.raises(AuthError) as caught:
        consent(kit, signed(prod), POLICY, permissions)
    assert why in caught.value.message
    assert caught.value.hint.endswith("local/authorization.json of site-1 decides")


@pytest.mark.row("K7", "S20")
def test_a_site_runs_no_job_of_a_submitter_who_is_locked_out(prod: Path, kit: Kit, tmp_path: Path) -> None:
    job, startup = signed(prod), prod / "admin@nvidia.com" / "startup"
    known = Revocations(tmp_path, root_pem=kit.root_pem, project="example_project")
    assert consent(kit, job, POLICY, None, known).submitter == USER
    entry = Revoked(USER, written_now(), "left")
    made = new_list(None, "example_project", f"{identity_of(job.certificate).serial:x}", entry)
    key, certificate = (startup / "client.key").read_bytes(), (startup / "client.crt").read_bytes()
    known.keep(sign_statement(made, key_pem=key, certificate_pem=certificate))
    with pytest.raises(AuthError, match=f"certificate of {USER} was revoked at .* \\(left\\)"):
        consent(kit, job, POLICY, None, known)


def test_images_are_the_policys_business_only_where_there_are_images(prod: Path, kit: Kit) -> None:
    job = signed(prod, image="theirs:1")
    assert consent(kit, job, POLICY).spec.script_for("site-1").image == "theirs:1"
    assert consent(kit, job, POLICY, images=ImagePolicy(("theirs:*",)))
    with pytest.raises(AuthError, match="does not run jobs in the image"):
        consent(kit, job, POLICY, images=ImagePolicy(("mine:*",)))
