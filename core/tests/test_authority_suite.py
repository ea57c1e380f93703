"""Core's authority keeps what every authority must, and the suite notices when one does not."""

from __future__ import annotations

import datetime
import inspect
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from flpoc.errors import FlpocError
from flpoc.provision.authority import KEY, ROOT, LocalAuthority, new_key
from flpoc.provision.identity import read_certificate, read_private_key
from flpoc.provisioning import Authority, CertificateRequest, Participant
from flpoc.testing import AuthoritySuite
from flpoc.testing.authority_suite import _SERVER, _SITE


class TestLocalAuthority(AuthoritySuite):
    @pytest.fixture
    def authority(self) -> Authority:
        return LocalAuthority()


class _Reissues(LocalAuthority):
    """Signs another certificate than the one that it should."""

    def change(self, builder: x509.CertificateBuilder, leaf: x509.Certificate) -> x509.CertificateBuilder:
        raise NotImplementedError

    def issue(self, folder: Path, request: CertificateRequest) -> bytes:
        leaf = read_certificate(super().issue(folder, request))
        builder = x509.CertificateBuilder(
            leaf.issuer, leaf.subject, leaf.public_key(), leaf.serial_number,
            leaf.not_valid_before_utc, leaf.not_valid_after_utc, list(leaf.extensions),
        )  # fmt: skip
        signed = self.change(builder, leaf).sign(self._key(folder), hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)


class IsNoAuthority(LocalAuthority):
    def root(self, folder: Path) -> bytes:
        return LocalAuthority().issue(folder, CertificateRequest("suite", _SITE, new_key()[1]))


class GivesItsKeyAway(LocalAuthority):
    def root(self, folder: Path) -> bytes:
        return super().root(folder) + (folder / KEY).read_bytes()


class BeginsAnew(LocalAuthority):
    def create(self, folder: Path, project: str) -> None:
        for name in (ROOT, KEY):
            (folder / name).unlink(missing_ok=True)
        super().create(folder, project)


class KeepsItInMemory(LocalAuthority):
    def create(self, folder: Path, project: str) -> None:
        super().create(folder, project)
        self.pem = (folder / KEY).read_bytes()
        (folder / KEY).write_bytes(new_key()[0])

    def _key(self, folder: Path) -> Any:
        return read_private_key(getattr(self, "pem", (folder / KEY).read_bytes()))


class LetsOthersRead(LocalAuthority):
    def create(self, folder: Path, project: str) -> None:
        super().create(folder, project)
        (folder / "backup.key").write_bytes((folder / KEY).read_bytes())
        (folder / "backup.key").chmod(0o640)


class LeavesACopy(LocalAuthority):
    def sign(self, folder: Path, content: bytes) -> bytes:
        (folder.parent / "rootCA.key").write_bytes((folder / KEY).read_bytes())
        return super().sign(folder, content)


class HasOneKeyForAll(LocalAuthority):
    made: tuple[bytes, bytes] | None = None

    def create(self, folder: Path, project: str) -> None:
        super().create(folder, project)
        if self.made is None:
            self.made = ((folder / KEY).read_bytes(), (folder / ROOT).read_bytes())
        (folder / KEY).write_bytes(self.made[0])
        (folder / ROOT).write_bytes(self.made[1])


class ForgetsTheRole(_Reissues):
    def change(self, builder: x509.CertificateBuilder, leaf: x509.Certificate) -> x509.CertificateBuilder:
        builder._extensions = [
            one for one in builder._extensions if not isinstance(one.value, x509.SubjectAlternativeName)
        ]
        return builder


class ForgetsTheOrganisation(_Reissues):
    def change(self, builder: x509.CertificateBuilder, leaf: x509.Certificate) -> x509.CertificateBuilder:
        builder._subject_name = x509.Name(leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME))
        return builder


class SendsTheChain(LocalAuthority):
    def issue(self, folder: Path, request: CertificateRequest) -> bytes:
        return super().issue(folder, request) + self.root(folder)


class MakesTheKey(LocalAuthority):
    def issue(self, folder: Path, request: CertificateRequest) -> bytes:
        return super().issue(folder, attrs.evolve(request, public_key=new_key()[1]))


class KnowsOneNameOfAServer(LocalAuthority):
    def issue(self, folder: Path, request: CertificateRequest) -> bytes:
        one = attrs.evolve(request.participant, host_names=(), connect_to="")
        return super().issue(folder, attrs.evolve(request, participant=one))


class CountsSerials(_Reissues):
    serial = 0

    def change(self, builder: x509.CertificateBuilder, leaf: x509.Certificate) -> x509.CertificateBuilder:
        self.serial += 1
        builder._serial_number = self.serial
        return builder


class AlwaysAYear(LocalAuthority):
    def issue(self, folder: Path, request: CertificateRequest) -> bytes:
        return super().issue(folder, attrs.evolve(request, valid_for=datetime.timedelta(days=360)))


class OutlivesItself(_Reissues):
    def change(self, builder: x509.CertificateBuilder, leaf: x509.Certificate) -> x509.CertificateBuilder:
        builder._not_valid_after = datetime.datetime.now() + datetime.timedelta(days=9999)
        return builder


class BeginsNow(_Reissues):
    def change(self, builder: x509.CertificateBuilder, leaf: x509.Certificate) -> x509.CertificateBuilder:
        builder._not_valid_before = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
        return builder


class TakesAnyKey(LocalAuthority):
    def issue(self, folder: Path, request: CertificateRequest) -> bytes:
        try:
            return super().issue(folder, request)
        except FlpocError:
            return super().issue(folder, attrs.evolve(request, public_key=new_key()[1]))


class TakesAnyName(LocalAuthority):
    def issue(self, folder: Path, request: CertificateRequest) -> bytes:
        return super().issue(folder, attrs.evolve(request, participant=Participant("site-9", "site", "org")))


class TakesAnyProject(LocalAuthority):
    def issue(self, folder: Path, request: CertificateRequest) -> bytes:
        return super().issue(folder, attrs.evolve(request, project="suite"))


class SignsWithAnotherHash(LocalAuthority):
    def sign(self, folder: Path, content: bytes) -> bytes:
        return self._key(folder).sign(content, ec.ECDSA(hashes.SHA512()))


_CAUGHT: list[tuple[type[Authority], str, tuple[Any, ...]]] = [
    (IsNoAuthority, "test_its_certificate_is_that_of_an_authority_of_the_project", ()),
    (GivesItsKeyAway, "test_its_certificate_is_that_of_an_authority_of_the_project", ()),
    (BeginsAnew, "test_making_it_again_leaves_it_as_it_is", ()),
    (KeepsItInMemory, "test_a_later_process_uses_the_same_key", ()),
    (LetsOthersRead, "test_its_key_is_for_its_owner_only", ()),
    (LeavesACopy, "test_it_makes_nothing_beside_its_folder", ()),
    (HasOneKeyForAll, "test_two_projects_have_different_keys", ()),
    (ForgetsTheRole, "test_what_it_issues_is_believed", (_SITE,)),
    (ForgetsTheOrganisation, "test_what_it_issues_is_believed", (_SERVER,)),
    (SendsTheChain, "test_what_it_issues_is_one_certificate", ()),
    (MakesTheKey, "test_what_it_issues_is_one_certificate", ()),
    (KnowsOneNameOfAServer, "test_a_server_is_found_under_all_its_names", ()),
    (CountsSerials, "test_serial_numbers_cannot_be_guessed", ()),
    (AlwaysAYear, "test_a_certificate_lasts_as_long_as_asked_for", ()),
    (OutlivesItself, "test_no_certificate_outlives_the_authority", ()),
    (BeginsNow, "test_clocks_of_sites_may_lag", ()),
    (TakesAnyKey, "test_it_certifies_p256_keys_only", ("p384",)),
    (TakesAnyName, "test_it_refuses_a_participant_that_nobody_would_believe", ("a role that there is not",)),
    (TakesAnyProject, "test_it_certifies_nobody_of_another_project", ()),
    (SignsWithAnotherHash, "test_its_signature_is_that_of_its_certificate", (b"manifest",)),
]


@pytest.mark.parametrize(("wrong", "promise", "arguments"), _CAUGHT, ids=lambda value: getattr(value, "__name__", None))
def test_the_suite_catches(wrong: type[Authority], promise: str, arguments: tuple[Any, ...], tmp_path: Path) -> None:
    test = getattr(AuthoritySuite(), promise)
    assert "folder" in inspect.signature(test).parameters
    with pytest.raises((AssertionError, FlpocError, pytest.fail.Exception)):
        test(wrong(), tmp_path / "ca", *arguments)


def test_every_promise_of_the_suite_has_one_that_breaks_it() -> None:
    promises = {name for name in dir(AuthoritySuite) if name.startswith("test_")}
    assert promises == {promise for _, promise, _ in _CAUGHT}
