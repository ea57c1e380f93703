"""The site decides in which image a job runs."""

from __future__ import annotations

import pytest

from flpoc.errors import AuthError, ConfigError
from flpoc.jobs.spec import JobSpec, ScriptSpec
from flpoc.site.images import ImagePolicy, image_policy

POLICY = image_policy({"allowed": ["mine:1", "ours/*"], "studies": {"lung": "lung-tools:3"}})


def job(image: str = "", study: str = "default", **sites: str) -> JobSpec:
    scripts = {name.replace("_", "-"): ScriptSpec("t.py", image=one) for name, one in sites.items()}
    return JobSpec("demo", {"@default": ScriptSpec("t.py", image=image), **scripts}, study=study)


def test_a_jobs_image_comes_before_its_studys_and_that_before_the_sites() -> None:
    assert POLICY.choose(job("mine:1", study="lung"), "site-1") == "mine:1"
    assert POLICY.choose(job(study="lung"), "site-1") == "lung-tools:3"
    assert POLICY.choose(job(), "site-1") == ""


def test_a_job_may_name_another_for_one_site() -> None:
    spec = job("mine:1", site_2="ours/gpu:2")
    assert [POLICY.choose(spec, site) for site in ("site-1", "site-2")] == ["mine:1", "ours/gpu:2"]


@pytest.mark.parametrize("image", ["mine:2", "mine", "our/x", "docker.io/ours/x"])
def test_an_image_that_is_not_allowed_is_refused(image: str) -> None:
    with pytest.raises(AuthError, match=f"site-1 does not run jobs in the image '{image}'") as refused:
        POLICY.choose(job(image), "site-1")
    assert "local/policy.json" in refused.value.hint


def test_nothing_is_allowed_until_the_site_says_so() -> None:
    with pytest.raises(AuthError):
        ImagePolicy().choose(job("mine:1"), "site-1")


def test_a_wrong_policy_is_told_with_its_place() -> None:
    with pytest.raises(ConfigError, match=r"local/policy.json: images"):
        image_policy({"alowed": []})


@pytest.mark.parametrize("image", ["-v", "a b", "$(x)", "x\n", "ä"])
def test_what_is_no_name_of_an_image_is_refused_at_once(image: str) -> None:
    with pytest.raises(ValueError, match="is not the name of an image"):
        ScriptSpec("t.py", image=image)
