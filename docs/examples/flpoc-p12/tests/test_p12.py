"""The authority keeps what every authority must, and its own promise."""

from __future__ import annotations

from pathlib import Path

import pytest
from flpoc_p12.authority import PASSPHRASE, STORE, Pkcs12Authority

from flpoc.errors import KitError
from flpoc.provision.authority import new_key
from flpoc.provisioning import Authority, CertificateRequest, Participant
from flpoc.testing import AuthoritySuite, PluginSuite

SITE = Participant("site-1", "site", "hospital")


@pytest.fixture(autouse=True)
def passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSPHRASE, "correct horse")


class TestPkcs12Authority(AuthoritySuite):
    @pytest.fixture
    def authority(self) -> Authority:
        return Pkcs12Authority()


class TestPlugin(PluginSuite):
    plugin = "flpoc_p12.hooks"


def test_its_key_is_never_on_the_disk_in_the_clear(tmp_path: Path) -> None:
    Pkcs12Authority().create(tmp_path / "ca", "study")
    assert [one.name for one in (tmp_path / "ca").iterdir() if b"PRIVATE KEY" in one.read_bytes()] == []
    assert (tmp_path / "ca" / STORE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("given", "told"), [("", "missing"), ("wrong", "cannot be opened")])
def test_without_the_passphrase_nothing_is_issued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, told: str
) -> None:
    Pkcs12Authority().create(tmp_path / "ca", "study")
    monkeypatch.setenv(PASSPHRASE, given)
    with pytest.raises(KitError, match=told):
        Pkcs12Authority().issue(tmp_path / "ca", CertificateRequest("study", SITE, new_key()[1]))


def test_it_is_of_one_project(tmp_path: Path) -> None:
    Pkcs12Authority().create(tmp_path / "ca", "study")
    with pytest.raises(KitError, match="'study'"):
        Pkcs12Authority().create(tmp_path / "ca", "other")
