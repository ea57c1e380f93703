"""The certificate authority in a folder."""

from __future__ import annotations

import datetime
import ipaddress
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from flpoc.errors import ConfigError, FlpocError, KitError
from flpoc.provision.authority import LocalAuthority, new_key
from flpoc.provision.identity import verify_certificate, verify_signature
from flpoc.provisioning import CertificateRequest, Participant

SITE = Participant("site-1", "site", "hospital")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    LocalAuthority().create(tmp_path / "ca", "study")
    return tmp_path / "ca"


def request(one: Participant = SITE, project: str = "study", public: bytes | None = None) -> CertificateRequest:
    return CertificateRequest(project, one, public or new_key()[1])


def public_pem(key: object) -> bytes:
    form = serialization
    return key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]


def test_it_is_made_once_and_used_again(folder: Path):
    before = [(folder / name).read_bytes() for name in ("rootCA.pem", "rootCA.key")]
    LocalAuthority().create(folder, "study")
    assert before == [(folder / name).read_bytes() for name in ("rootCA.pem", "rootCA.key")]


@pytest.mark.row("S9", "S10")
def test_its_key_is_for_its_owner_only(folder: Path):
    assert stat.S_IMODE((folder / "rootCA.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert b"BEGIN PRIVATE KEY" in (folder / "rootCA.key").read_bytes()


def test_making_it_leaves_nothing_beside_it(folder: Path):
    assert [path.name for path in folder.parent.iterdir()] == ["ca"]


@pytest.mark.row("K16")
def test_it_may_issue_for_participants_only_and_lasts_ten_years(folder: Path):
    root = x509.load_pem_x509_certificate(LocalAuthority().root(folder))
    constraints = root.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    assert (root.not_valid_after_utc - root.not_valid_before_utc).days == 3650


def test_a_certificate_lasts_360_days(folder: Path):
    pem = LocalAuthority().issue(folder, request())
    found = verify_certificate(pem, LocalAuthority().root(folder))
    assert found.not_after - found.not_before == datetime.timedelta(days=360, minutes=5)


@pytest.mark.row("K17")
def test_a_certificate_does_not_outlive_the_authority(folder: Path):
    root = LocalAuthority().root(folder)
    wish = CertificateRequest("study", SITE, new_key()[1], valid_for=datetime.timedelta(days=9999))
    found = verify_certificate(LocalAuthority().issue(folder, wish), root)
    assert found.not_after == x509.load_pem_x509_certificate(root).not_valid_after_utc


def test_a_certificate_names_its_issuers_key_and_its_own(folder: Path):
    root = x509.load_pem_x509_certificate(LocalAuthority().root(folder))
    leaf = x509.load_pem_x509_certificate(LocalAuthority().issue(folder, request()))
    theirs = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.key_identifier
    assert leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == theirs
    assert leaf.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.key_identifier != theirs
    assert not leaf.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_a_server_is_found_under_all_its_names(folder: Path):
    server = Participant("fl.org", "server", "it", host_names=("alias", "10.0.0.7", "fe80::1"), connect_to="dial.org:9")
    leaf = x509.load_pem_x509_certificate(LocalAuthority().issue(folder, request(server)))
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["fl.org", "dial.org", "alias", "localhost"]
    addresses = [ipaddress.ip_address(one) for one in ("10.0.0.7", "fe80::1", "127.0.0.1", "::1")]
    assert names.get_values_for_type(x509.IPAddress) == addresses


def test_a_site_has_no_host_names(folder: Path):
    leaf = x509.load_pem_x509_certificate(LocalAuthority().issue(folder, request()))
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [type(name) for name in names] == [x509.UniformResourceIdentifier]


def test_a_long_name_is_cut_in_the_subject_only(folder: Path):
    name = "a" * 60 + "@" + "b" * 40 + ".org"
    pem = LocalAuthority().issue(folder, request(Participant(name, "user", "org", role="lead")))
    assert verify_certificate(pem, LocalAuthority().root(folder)).name == name


@pytest.mark.row("K16", "K8", "S6")
@pytest.mark.parametrize(
    "one",
    [
        Participant("../../etc", "site", "org"),
        Participant("", "site", "org"),
        Participant("a\nb", "site", "org"),
        Participant("site-1", "site", ""),
        Participant("site-1", "site", "org", role="lead"),
        Participant("a@b.org", "user", "org"),
        Participant("a@b.org", "user", "org", role="root"),
        Participant("server", "server", "org", host_names=("bad host",)),
        Participant("server", "server", "org", connect_to="https://fl.org"),
    ],
)
def test_it_refuses_to_certify_what_has_no_usable_name(folder: Path, one: Participant):
    with pytest.raises(ConfigError):
        LocalAuthority().issue(folder, request(one))


@pytest.mark.row("K10")
@pytest.mark.parametrize(
    "key", [ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP384R1())], ids=["ed25519", "p384"]
)
def test_it_certifies_p256_keys_only_and_says_so(folder: Path, key: object):
    with pytest.raises(KitError, match="P-256"):
        LocalAuthority().issue(folder, request(public=public_pem(key)))


@pytest.mark.row("K16")
def test_it_certifies_nobody_of_another_project(folder: Path):
    with pytest.raises(KitError, match="CA of project 'study', not of 'other'"):
        LocalAuthority().issue(folder, request(project="other"))


def test_it_is_not_taken_for_that_of_another_project(folder: Path):
    with pytest.raises(KitError, match="holds the CA of project 'study', not of 'other'"):
        LocalAuthority().create(folder, "other")


@pytest.mark.row("K17")
@pytest.mark.parametrize("missing", ["rootCA.pem", "rootCA.key"])
def test_half_an_authority_is_never_replaced(folder: Path, missing: str):
    (folder / missing).unlink()
    with pytest.raises(KitError, match=f"{missing} is missing"):
        LocalAuthority().create(folder, "study")
    assert len(list(folder.iterdir())) == 1


def test_its_signature_is_that_of_its_root(folder: Path):
    signature = LocalAuthority().sign(folder, b"a manifest")
    verify_signature(LocalAuthority().root(folder), b"a manifest", signature)


def test_a_key_that_others_can_read_is_not_used(folder: Path):
    (folder / "rootCA.key").chmod(0o640)
    with pytest.raises(KitError) as caught:
        LocalAuthority().sign(folder, b"")
    assert caught.value.hint == f"chmod 600 {folder / 'rootCA.key'}"


@pytest.mark.row("S10")
def test_a_passphrase_protects_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLPOC_CA_PASSPHRASE", "a long story")
    LocalAuthority().create(tmp_path / "ca", "study")
    assert b"ENCRYPTED" in (tmp_path / "ca" / "rootCA.key").read_bytes()
    LocalAuthority().issue(tmp_path / "ca", request())


@pytest.mark.row("K17", "S10")
@pytest.mark.parametrize(("given", "says"), [(None, "is encrypted"), ("wrong", "is wrong")])
def test_without_the_right_passphrase_nothing_is_issued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, says: str
):
    monkeypatch.setenv("FLPOC_CA_PASSPHRASE", "a long story")
    LocalAuthority().create(tmp_path / "ca", "study")
    if given is None:
        monkeypatch.delenv("FLPOC_CA_PASSPHRASE")
    else:
        monkeypatch.setenv("FLPOC_CA_PASSPHRASE", given)
    with pytest.raises(KitError, match=says) as caught:
        LocalAuthority().issue(tmp_path / "ca", request())
    assert "FLPOC_CA_PASSPHRASE" in caught.value.message + caught.value.hint
    assert "story" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_broken_key_is_named(folder: Path, content: bytes):
    (folder / "rootCA.key").write_bytes(content)
    with pytest.raises(FlpocError, match=r"rootCA\.key is no private key"):
        LocalAuthority().sign(folder, b"")
