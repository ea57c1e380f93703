"""What every authority must keep, wherever it has its key."""

from __future__ import annotations

import copy
import datetime
import ipaddress
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flpoc.errors import FlpocError
from flpoc.provision.authority import new_key
from flpoc.provision.identity import p256_key, read_certificate, verify_certificate, verify_signature
from flpoc.provisioning import Authority, CertificateRequest, Participant

if TYPE_CHECKING:
    from cryptography import x509

PROJECT = "suite"

_SITE = Participant("site-1", "site", "hospital")
_SERVER = Participant("fl.org", "server", "it", host_names=("alias", "10.0.0.7", "fe80::1"), connect_to="dial.org:9")
_PEOPLE = [
    Participant(f"{role}@hospital.org", "user", "hospital", role=role)
    for role in ("project_admin", "org_admin", "lead", "member")
]
_NAMELESS = {
    "a path": Participant("../../etc", "site", "org"),
    "no name": Participant("", "site", "org"),
    "two lines": Participant("a\nb", "site", "org"),
    "no organisation": Participant("site-1", "site", ""),
    "a user without role": Participant("a@b.org", "user", "org"),
    "a role that there is not": Participant("a@b.org", "user", "org", role="root"),
    "a site with a role": Participant("site-1", "site", "org", role="lead"),
    "a host that is none": Participant("server", "server", "org", host_names=("bad host",)),
}


class AuthoritySuite:
    """Tests of an authority; a subclass gives the fixture ``authority``.

    Each test makes the authority of a project in a folder of its own.
    """

    @pytest.fixture
    def authority(self) -> Authority:
        raise NotImplementedError("a subclass of AuthoritySuite gives the fixture `authority`")

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """The authority's folder; it does not exist yet."""
        return tmp_path / "ca"

    # -- the authority itself

    def test_its_certificate_is_that_of_an_authority_of_the_project(self, authority: Authority, folder: Path) -> None:
        """One certificate in PEM: it may issue others, its key is EC P-256, its name is the project's."""
        from cryptography import x509

        authority.create(folder, PROJECT)
        pem = authority.root(folder)
        assert _kinds_of_pem(pem) == ["CERTIFICATE"], "the root is a certificate and nothing else"
        root = read_certificate(pem)
        p256_key(root)
        assert root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        assert root.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
        assert root.subject == root.issuer
        assert PROJECT in root.subject.rfc4514_string()

    def test_making_it_again_leaves_it_as_it_is(self, authority: Authority, folder: Path) -> None:
        """Provisioning comes back for more kits: those made before stay valid."""
        again = copy.deepcopy(authority)
        authority.create(folder, PROJECT)
        before = authority.root(folder)
        again.create(folder, PROJECT)
        assert again.root(folder) == before == authority.root(folder)

    def test_a_later_process_uses_the_same_key(self, authority: Authority, folder: Path) -> None:
        """Nothing is kept in memory that another instance would need."""
        later = copy.deepcopy(authority)
        authority.create(folder, PROJECT)
        verify_certificate(later.issue(folder, _request()), authority.root(folder))
        verify_signature(authority.root(folder), b"manifest", later.sign(folder, b"manifest"))

    def test_its_key_is_for_its_owner_only(self, authority: Authority, folder: Path) -> None:
        """A file with a private key has mode 0600."""
        authority.create(folder, PROJECT)
        authority.issue(folder, _request())
        files = [file for file in folder.rglob("*") if file.is_file() and b"PRIVATE KEY" in file.read_bytes()]
        assert [file.name for file in files if stat.S_IMODE(file.stat().st_mode) & 0o077] == []

    def test_it_makes_nothing_beside_its_folder(self, authority: Authority, folder: Path) -> None:
        """What lies beside the folder becomes kits."""
        authority.create(folder, PROJECT)
        authority.issue(folder, _request())
        authority.sign(folder, b"manifest")
        assert [one.name for one in folder.parent.iterdir() if one != folder] == []

    def test_two_projects_have_different_keys(self, authority: Authority, folder: Path) -> None:
        """Who is trusted in one project is a stranger in the other."""
        other = folder.with_name("other")
        authority.create(folder, PROJECT)
        authority.create(other, "other")
        mine, theirs = (p256_key(read_certificate(authority.root(place))) for place in (folder, other))
        assert mine.public_numbers() != theirs.public_numbers()

    # -- what it issues

    @pytest.mark.parametrize("one", [_SERVER, _SITE, *_PEOPLE], ids=lambda one: one.role or one.kind)
    def test_what_it_issues_is_believed(self, authority: Authority, folder: Path, one: Participant) -> None:
        """Server, site and every role are recognised by name, kind, role, organisation and project."""
        authority.create(folder, PROJECT)
        found = verify_certificate(authority.issue(folder, _request(one)), authority.root(folder))
        wanted = (one.name, one.kind, one.role, one.org, PROJECT)
        assert (found.name, found.kind, found.role, found.org, found.project) == wanted

    def test_what_it_issues_is_one_certificate(self, authority: Authority, folder: Path) -> None:
        """In PEM, for the key of the request; no key of anybody's comes with it."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        private, public = new_key()
        authority.create(folder, PROJECT)
        pem = authority.issue(folder, CertificateRequest(PROJECT, _SITE, public))
        assert _kinds_of_pem(pem) == ["CERTIFICATE"]
        key = read_certificate(pem).public_key()
        assert key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) == public
        assert private not in pem

    def test_a_server_is_found_under_all_its_names(self, authority: Authority, folder: Path) -> None:
        """Its own name, what is dialled, its other names and addresses, and this machine's."""
        from cryptography import x509

        authority.create(folder, PROJECT)
        leaf = read_certificate(authority.issue(folder, _request(_SERVER)))
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        missing = {"fl.org", "dial.org", "alias", "localhost"} - set(names.get_values_for_type(x509.DNSName))
        assert missing == set()
        addresses = {ipaddress.ip_address(one) for one in ("10.0.0.7", "fe80::1", "127.0.0.1")}
        assert addresses - set(names.get_values_for_type(x509.IPAddress)) == set()

    def test_serial_numbers_cannot_be_guessed(self, authority: Authority, folder: Path) -> None:
        """Certificates are revoked by them: they differ, and have at least 64 bits (RFC 5280, CA/B baseline)."""
        authority.create(folder, PROJECT)
        serials = [_issued(authority, folder).serial_number for _ in range(4)]
        assert len(set(serials)) == len(serials)
        assert max(serials).bit_length() >= 60
        assert all(0 < serial < 1 << 160 for serial in serials)

    def test_a_certificate_lasts_as_long_as_asked_for(self, authority: Authority, folder: Path) -> None:
        authority.create(folder, PROJECT)
        ends = _issued(authority, folder, datetime.timedelta(days=5)).not_valid_after_utc
        wanted = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=5)
        assert abs(ends - wanted) < datetime.timedelta(minutes=1)

    def test_no_certificate_outlives_the_authority(self, authority: Authority, folder: Path) -> None:
        authority.create(folder, PROJECT)
        leaf = _issued(authority, folder, datetime.timedelta(days=99999))
        assert leaf.not_valid_after_utc <= read_certificate(authority.root(folder)).not_valid_after_utc

    def test_clocks_of_sites_may_lag(self, authority: Authority, folder: Path) -> None:
        """A certificate, and the authority's own, are valid since at least a minute ago."""
        authority.create(folder, PROJECT)
        then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=1)
        verify_certificate(authority.issue(folder, _request()), authority.root(folder), then)

    # -- what it refuses

    @pytest.mark.parametrize("kind", ["rsa", "ed25519", "p384", "nonsense"])
    def test_it_certifies_p256_keys_only(self, authority: Authority, folder: Path, kind: str) -> None:
        """Other keys fail later, in the middle of a handshake, without a reason."""
        authority.create(folder, PROJECT)
        with pytest.raises(FlpocError):
            authority.issue(folder, CertificateRequest(PROJECT, _SITE, _OTHER_KEYS[kind]()))

    @pytest.mark.parametrize("name", _NAMELESS)
    def test_it_refuses_a_participant_that_nobody_would_believe(
        self, authority: Authority, folder: Path, name: str
    ) -> None:
        authority.create(folder, PROJECT)
        with pytest.raises(FlpocError):
            authority.issue(folder, _request(_NAMELESS[name]))

    def test_it_certifies_nobody_of_another_project(self, authority: Authority, folder: Path) -> None:
        authority.create(folder, PROJECT)
        with pytest.raises(FlpocError):
            authority.issue(folder, CertificateRequest("other", _SITE, new_key()[1]))

    # -- what it signs

    @pytest.mark.parametrize("content", [b"", b"manifest", bytes(range(256)) * 4096], ids=["empty", "short", "long"])
    def test_its_signature_is_that_of_its_certificate(self, authority: Authority, folder: Path, content: bytes) -> None:
        """ECDSA P-256 with SHA-256 over exactly the content."""
        authority.create(folder, PROJECT)
        verify_signature(authority.root(folder), content, authority.sign(folder, content))


def _request(one: Participant = _SITE, **more: Any) -> CertificateRequest:
    return CertificateRequest(PROJECT, one, new_key()[1], **more)


def _issued(authority: Authority, folder: Path, *valid_for: datetime.timedelta) -> x509.Certificate:
    return read_certificate(authority.issue(folder, CertificateRequest(PROJECT, _SITE, new_key()[1], *valid_for)))


def _kinds_of_pem(pem: bytes) -> list[str]:
    return re.findall(r"-----BEGIN ([A-Z0-9 ]+)-----", pem.decode("ascii"))


def _public(key: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def _rsa() -> bytes:
    from cryptography.hazmat.primitives.asymmetric import rsa

    return _public(rsa.generate_private_key(65537, 2048))


def _ed25519() -> bytes:
    from cryptography.hazmat.primitives.asymmetric import ed25519

    return _public(ed25519.Ed25519PrivateKey.generate())


def _p384() -> bytes:
    from cryptography.hazmat.primitives.asymmetric import ec

    return _public(ec.generate_private_key(ec.SECP384R1()))


_OTHER_KEYS: dict[str, Callable[[], bytes]] = {
    "rsa": _rsa,
    "ed25519": _ed25519,
    "p384": _p384,
    "nonsense": lambda: b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
}
