"""Who a certificate says somebody is, and when that is believed."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from flpoc.errors import IntegrityError, KitError
from flpoc.provision.authority import LocalAuthority
from flpoc.provision.identity import identity_of, sign, verify_certificate, verify_signature

Forge = Callable[..., bytes]


def certificate(prod: Path, name: str) -> bytes:
    stem = "server" if name == "server" else "client"
    return (prod / name / "startup" / f"{stem}.crt").read_bytes()


@pytest.mark.parametrize(
    ("name", "kind", "role"),
    [
        ("server", "server", ""),
        ("site-1", "site", ""),
        ("admin@nvidia.com", "user", "project_admin"),
        ("org-admin@nvidia.com", "user", "org_admin"),
        ("lead@nvidia.com", "user", "lead"),
    ],
)
def test_a_certificate_says_name_kind_and_role(provisioned: Path, root_pem: bytes, name: str, kind: str, role: str):
    found = verify_certificate(certificate(provisioned, name), root_pem)
    assert (found.name, found.kind, found.role) == (name, kind, role)
    assert (found.org, found.project) == ("nvidia", "example_project")


@pytest.mark.row("S10")
def test_serial_numbers_are_long_and_differ(provisioned: Path):
    serials = {identity_of(certificate(provisioned, one.name)).serial for one in provisioned.iterdir()}
    assert len(serials) == 6
    assert all(serial.bit_length() == 128 for serial in serials)


def test_reading_the_same_certificate_again_is_cheap(provisioned: Path):
    pem = certificate(provisioned, "site-1")
    assert identity_of(pem) is identity_of(pem)


@pytest.mark.row("K8", "S6")
@pytest.mark.parametrize(
    ("name", "uri"),
    [
        ("../../etc", "spiffe://example_project/site/..%2F..%2Fetc"),
        ("", "spiffe://example_project/site/"),
        ("site-1", "spiffe://example_project/site/site-1%00"),
        ("site-1", "spiffe://example_project/site/site-1%0Aadmin"),
        ("x" * 64, "spiffe://example_project/site/" + "x" * 1000),
        ("-site", "spiffe://example_project/site/-site"),
        ("all", "spiffe://example_project/site/all"),
        ("server", "spiffe://example_project/site/server"),
        ("no-mail", "spiffe://example_project/lead/no-mail"),
        ("site-1", "spiffe://../site/site-1"),
        ("site-1", "spiffe://example_project/root/site-1"),
        ("site-1", "spiffe://example_project/user/site-1"),
        ("site-1", "spiffe://example_project/site/site-1/more"),
        ("site-1", "https://example_project/site/site-1"),
        ("site-1", ""),
        ("site-2", "spiffe://example_project/site/site-1"),
        ("site-1\n", "spiffe://example_project/site/site-1"),
    ],
)
def test_an_odd_name_is_refused(forge: Forge, name: str, uri: str):
    with pytest.raises(KitError) as caught:
        identity_of(forge(name or "x", uri=uri))
    assert caught.value.code == "INVALID_KIT"
    assert caught.value.message.isprintable()


def test_a_certificate_without_role_is_refused(forge: Forge):
    with pytest.raises(KitError, match="no role URIs"):
        identity_of(forge(uri=None))


def test_a_certificate_with_two_roles_is_refused(forge: Forge):
    with pytest.raises(KitError, match="2 role URIs"):
        identity_of(forge(more_uris=("spiffe://example_project/project_admin/a@b.c",)))


def test_a_certificate_without_organisation_is_refused(forge: Forge):
    with pytest.raises(KitError, match="organization name"):
        identity_of(forge(org=None))


@pytest.mark.row("K9")
@pytest.mark.parametrize(
    "key",
    [
        lambda: rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate,
        lambda: ec.generate_private_key(ec.SECP384R1()),
    ],
    ids=["rsa", "ed25519", "p384"],
)
def test_another_type_of_key_is_refused(forge: Forge, key: Callable[[], object]):
    with pytest.raises(KitError, match="not an EC P-256 key"):
        identity_of(forge(key=key()))


@pytest.mark.row("K5", "S7")
@pytest.mark.parametrize(
    "purposes",
    [
        (ExtendedKeyUsageOID.SERVER_AUTH,),
        (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH),
        (),
    ],
)
def test_a_site_certificate_for_another_purpose_is_refused(forge: Forge, purposes: tuple[x509.ObjectIdentifier, ...]):
    with pytest.raises(KitError, match="may not be used as that of a site"):
        identity_of(forge(purposes=purposes))


@pytest.mark.row("K4", "S7")
def test_a_certificate_that_could_issue_others_is_refused(forge: Forge):
    with pytest.raises(KitError, match="that of a CA"):
        identity_of(forge(ca=True))


@pytest.mark.parametrize("text", [b"", b"\n", b"hello", b"-----BEGIN CERTIFICATE-----\nAAAA\n", b"\x30\x82\x01"])
def test_what_is_no_certificate_is_refused(text: bytes):
    with pytest.raises(KitError, match="cannot be read"):
        identity_of(text)


@pytest.mark.row("K1")
def test_an_expired_certificate_says_since_when(forge: Forge, root_pem: bytes):
    with pytest.raises(KitError, match="expired 3 days ago"):
        verify_certificate(forge(days=(-30, -3.1)), root_pem)


@pytest.mark.row("K2")
def test_a_certificate_of_the_future_asks_for_the_clock(forge: Forge, root_pem: bytes):
    with pytest.raises(KitError, match=r"not valid before .*: is the clock of this host right\?"):
        verify_certificate(forge(days=(1, 30)), root_pem)


def test_validity_can_be_judged_at_another_time(provisioned: Path, root_pem: bytes):
    pem = certificate(provisioned, "site-1")
    later = identity_of(pem).not_after + datetime.timedelta(hours=5, seconds=1)
    with pytest.raises(KitError, match="expired 5 hours ago"):
        verify_certificate(pem, root_pem, later)


def test_clocks_may_lag_five_minutes(provisioned: Path, root_pem: bytes):
    pem = certificate(provisioned, "site-1")
    made = identity_of(pem).not_before
    verify_certificate(pem, root_pem, made + datetime.timedelta(seconds=1))
    assert datetime.datetime.now(datetime.UTC) - made > datetime.timedelta(minutes=5)


def test_a_certificate_of_another_project_names_both(provisioned: Path, tmp_path: Path):
    LocalAuthority().create(tmp_path / "ca", "other")
    with pytest.raises(KitError, match="issued by 'example_project', not by the CA of project 'other'"):
        verify_certificate(certificate(provisioned, "site-1"), (tmp_path / "ca" / "rootCA.pem").read_bytes())


@pytest.mark.row("K12")
def test_a_ca_of_the_same_name_is_told_apart(provisioned: Path, tmp_path: Path):
    LocalAuthority().create(tmp_path / "ca", "example_project")
    with pytest.raises(KitError, match="issued by another CA of the name 'example_project'"):
        verify_certificate(certificate(provisioned, "site-1"), (tmp_path / "ca" / "rootCA.pem").read_bytes())


@pytest.mark.row("K4", "S7")
def test_a_certificate_issued_by_a_participant_is_refused(forge: Forge, provisioned: Path, root_pem: bytes):
    leaf = x509.load_pem_x509_certificate(certificate(provisioned, "site-2"))
    with pytest.raises(KitError, match="issued by 'site-2'"):
        verify_certificate(forge(signer=ec.generate_private_key(ec.SECP256R1()), issuer=leaf.subject), root_pem)


@pytest.mark.row("K3")
def test_a_self_signed_certificate_is_refused(forge: Forge, root_pem: bytes):
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "site-1")])
    with pytest.raises(KitError, match="issued by 'site-1'"):
        verify_certificate(forge(key=key, signer=key, issuer=issuer), root_pem)


def test_a_certificate_for_another_project_from_this_ca_is_refused(forge: Forge, root_pem: bytes):
    with pytest.raises(KitError, match="is for project 'other', its CA is that of 'example_project'"):
        verify_certificate(forge(uri="spiffe://other/site/site-1"), root_pem)


def test_a_participants_certificate_is_no_root(provisioned: Path):
    pem = certificate(provisioned, "site-1")
    with pytest.raises(KitError, match="not that of a CA"):
        verify_certificate(pem, pem)


@pytest.mark.row("K17")
def test_two_roots_may_overlap(provisioned: Path, root_pem: bytes, tmp_path: Path):
    LocalAuthority().create(tmp_path / "ca", "example_project")
    both = (tmp_path / "ca" / "rootCA.pem").read_bytes() + root_pem
    assert verify_certificate(certificate(provisioned, "site-1"), both).name == "site-1"


def test_a_signature_is_that_of_the_owner(provisioned: Path):
    key = (provisioned / "lead@nvidia.com" / "startup" / "client.key").read_bytes()
    verify_signature(certificate(provisioned, "lead@nvidia.com"), b"a job", sign(key, b"a job"))


@pytest.mark.parametrize(
    ("signer", "content"),
    [("lead@nvidia.com", b"another job"), ("site-1", b"a job")],
)
def test_a_signature_for_something_else_or_of_somebody_else_is_refused(provisioned: Path, signer: str, content: bytes):
    key = (provisioned / signer / "startup" / "client.key").read_bytes()
    with pytest.raises(IntegrityError, match=r"not that of 'lead@nvidia\.com'"):
        verify_signature(certificate(provisioned, "lead@nvidia.com"), b"a job", sign(key, content))


@pytest.mark.parametrize("signature", [b"", b"\x00", b"\x30\x06\x02\x01\x00\x02\x01\x00", b"x" * 1000])
def test_what_is_no_signature_is_refused(provisioned: Path, signature: bytes):
    with pytest.raises(IntegrityError):
        verify_signature(certificate(provisioned, "site-1"), b"a job", signature)
