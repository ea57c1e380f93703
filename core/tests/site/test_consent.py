"""A site decides itself what it runs, whatever the server says."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from flpoc.errors import AuthError, FlpocError, IntegrityError
from flpoc.jobs.signing import sign_job
from flpoc.jobs.spec import JobSpec, ScriptSpec, SignedJob
from flpoc.provision.building import provision
from flpoc.provision.identity import sign
from flpoc.provision.kit_settings import default_policy
from flpoc.provision.kits import Kit, load_kit
from flpoc.provision.project_file import sample_project
from flpoc.settings import canonical_json
from flpoc.site.consent import consent

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
    script = ScriptSpec("t.py", command=how.pop("command", ()))
    sites = how.pop("sites", ())
    options = {"project": "example_project", "submitter": user} | how
    return sign_job(
        JobSpec("demo", {"@default": script}, sites=sites), "demo", [], key_pem=key.read_bytes(),
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
