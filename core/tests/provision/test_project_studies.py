"""The studies that a project begins with: read strictly, written again, and handed to the server once."""

from __future__ import annotations

import asyncio
import datetime
from pathlib import Path

import pytest

from flpoc.errors import ConfigError
from flpoc.provision.building import provision
from flpoc.provision.identity import Identity
from flpoc.provision.project_file import read_project, write_project
from flpoc.provision.project_studies import read_studies
from flpoc.provisioning import Project, ProjectStudy
from flpoc.server.store import Store
from flpoc.server.studies import Studies

HEAD = """\
api_version: 4
name: example
participants:
  - {name: server, type: server, org: nvidia}
  - {name: site-1, type: client, org: alpha}
  - {name: site-2, type: client, org: beta}
  - {name: lead@nvidia.com, type: admin, org: alpha, role: lead}
"""
STUDIES = """\
studies:
  cancer: {site_orgs: {alpha: [site-1], beta: [site-2]}, admins: [lead@nvidia.com]}
  empty: {}
"""
CANCER = ProjectStudy("cancer", {"alpha": ("site-1",), "beta": ("site-2",)}, ("lead@nvidia.com",))
ADMIN = Identity(
    "admin@nvidia.com", "user", "project_admin", "nvidia", "example", 1,
    datetime.datetime.min, datetime.datetime.max,
)  # fmt: skip


def project(folder: Path, studies: str = STUDIES, head: str = HEAD) -> Project:
    path = folder / "project.yml"
    path.write_text(head + studies)
    found, warnings = read_project(path)
    assert warnings == []
    return found


def test_studies_are_read_and_written_so_that_they_read_the_same_again(tmp_path: Path):
    found = project(tmp_path)
    assert found.studies == (CANCER, ProjectStudy("empty"))
    write_project(found, tmp_path / "again.yml")
    assert read_project(tmp_path / "again.yml") == (found, [])


@pytest.mark.row("G2")
@pytest.mark.parametrize(
    ("studies", "says"),
    [
        ("studies: [cancer]\n", "studies: wanted are names"),
        ("studies: {Cancer: {}}\n", "studies.Cancer: 'Cancer' is not a name of a study"),
        ("studies: {default: {}}\n", "studies.default: 'default' always exists"),
        ("studies: {a: {sites: [site-1]}}\n", "studies.a.sites: no such setting"),
        ("studies: {a: {site_orgs: [site-1]}}\n", "studies.a.site_orgs: wanted are organisations"),
        ("studies: {a: {site_orgs: {alpha: site-1}}}\n", "studies.a.site_orgs.alpha: wanted is a list"),
        ("studies: {a: {site_orgs: {alpha: [site-1, site-1]}}}\n", "there twice"),
        ("studies: {a: {site_orgs: {alpha: [site-3]}}}\n", "'site-3' is no site of the project"),
        ("studies: {a: {site_orgs: {alpha: [site-2]}}}\n", "'site-2' belongs to 'beta'"),
        ("studies: {a: {admins: [nobody@nvidia.com]}}\n", "'nobody@nvidia.com' is no user of the project"),
        ("studies: {a: {admins: {lead@nvidia.com: lead}}}\n", "studies.a.admins: wanted is a list"),
    ],
)
def test_a_wrong_study_is_refused_with_its_path(tmp_path: Path, studies: str, says: str):
    with pytest.raises(ConfigError) as caught:
        project(tmp_path, studies)
    assert says in caught.value.message


def test_the_older_version_of_the_file_has_no_studies(tmp_path: Path):
    with pytest.raises(ConfigError, match="api_version 3") as caught:
        project(tmp_path, head=HEAD.replace("4", "3", 1))
    assert "api_version: 4" in caught.value.hint


def test_only_the_servers_kit_has_them(tmp_path: Path):
    prod = provision(project(tmp_path), tmp_path / "work")
    assert [path.parent.parent.name for path in prod.rglob("study_registry.json")] == ["server"]
    assert read_studies(prod / "server") == (CANCER, ProjectStudy("empty"))
    assert read_studies(prod / "site-1") == ()
    (prod / "server" / "local" / "study_registry.json").write_text('{"format": 9}')
    with pytest.raises(ConfigError, match="format 1"):
        read_studies(prod / "server")


def test_a_server_begins_with_them_and_what_was_removed_does_not_come_back(tmp_path: Path):
    (tmp_path / "state").mkdir()
    store = Store(tmp_path / "state")

    async def live() -> list[list[str]]:
        seen = []
        studies = Studies(store)
        await studies.restore([CANCER, ProjectStudy("empty")])
        seen.append([one.name for one in studies.seen_by(ADMIN)])
        assert studies.find("cancer", ADMIN).site_orgs == CANCER.site_orgs
        assert studies.find("cancer", ADMIN).users == CANCER.users
        await studies.remove("empty", ADMIN)
        later = Studies(store)
        await later.restore([CANCER, ProjectStudy("empty")])
        seen.append([one.name for one in later.seen_by(ADMIN)])
        return seen

    try:
        assert asyncio.run(live()) == [["cancer", "empty"], ["cancer"]]
    finally:
        store.close()


def test_a_server_without_studies_takes_none_later(tmp_path: Path):
    (tmp_path / "state").mkdir()
    store = Store(tmp_path / "state")

    async def live() -> list[str]:
        await Studies(store).restore()
        later = Studies(store)
        await later.restore([CANCER])
        return [one.name for one in later.seen_by(ADMIN)]

    try:
        assert asyncio.run(live()) == []
    finally:
        store.close()
