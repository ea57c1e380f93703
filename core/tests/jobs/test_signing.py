"""Signed jobs: believed only when everything about them is right."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from flpoc.errors import AuthError, FlpocError, IntegrityError
from flpoc.jobs.paths import FileEntry
from flpoc.jobs.signing import LIFETIME, MAX_MANIFEST_BYTES, sign_job, verify_job
from flpoc.jobs.spec import JobSpec, ScriptSpec, SignedJob
from flpoc.provision.identity import sign

NOW = datetime.datetime(2026, 5, 1, 12, 0, 0, tzinfo=datetime.UTC)
USER = "lead@nvidia.com"
SPEC = JobSpec(name="demo", scripts={"@default": ScriptSpec("train.py")}, workflow_settings={"größe": [1, 2.5, None]})
FILES = [FileEntry("code/z.py", 3, "ab"), FileEntry("code/a.py", 5, "cd")]


class Authority:
    """A project's authority, made by hand."""

    def __init__(self, project: str = "demo_project") -> None:
        self.project = project
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, project)])
        self.root_pem = self._issue(self.name, self.key, ca=True)

    def kit(self, name: str = USER, role: str = "lead", **options: Any) -> dict[str, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = [(NameOID.COMMON_NAME, name), (NameOID.ORGANIZATION_NAME, "nvidia")]
        uri = f"spiffe://{self.project}/{role}/{name.replace('@', '%40')}"
        pem = self._issue(
            x509.Name([x509.NameAttribute(*pair) for pair in subject]), key, uri=uri, role=role, **options
        )
        encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        key_pem = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
        return {"key_pem": key_pem, "certificate_pem": pem}

    def _issue(
        self, subject: x509.Name, key: Any, *, ca: bool = False, uri: str = "", role: str = "", days: int = 360
    ) -> bytes:
        start = NOW - datetime.timedelta(days=1)
        builder = (
            x509.CertificateBuilder(self.name, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
        )
        if uri:
            use = ExtendedKeyUsageOID.SERVER_AUTH if role == "server" else ExtendedKeyUsageOID.CLIENT_AUTH
            names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
            builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False).add_extension(names, False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def kit(authority: Authority) -> dict[str, bytes]:
    return authority.kit()


def signed_by(kit: dict[str, bytes], **options: Any) -> SignedJob:
    facts = {"project": "demo_project", "submitter": USER, "now": NOW} | options
    return sign_job(SPEC, "/home/me/my job", FILES, **facts, **kit)


def verify(signed: SignedJob, authority: Authority, **options: Any) -> Any:
    return verify_job(signed, **({"root_pem": authority.root_pem, "project": "demo_project", "now": NOW} | options))


def altered(signed: SignedJob, kit: dict[str, bytes], change: Callable[[dict[str, Any]], Any]) -> SignedJob:
    """Another manifest, properly signed by the same user, in its canonical spelling."""
    data = json.loads(signed.manifest)
    change(data)
    content = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return attrs.evolve(signed, manifest=content, signature=sign(kit["key_pem"], content))


def test_what_was_signed_comes_back(authority: Authority, kit: dict[str, bytes]) -> None:
    manifest, identity = verify(signed_by(kit), authority)
    assert manifest.spec == SPEC
    assert [file.path for file in manifest.files] == ["code/a.py", "code/z.py"]
    assert (manifest.folder, manifest.project, manifest.submitter) == ("my job", "demo_project", USER)
    assert (manifest.created, manifest.expires) == ("2026-05-01T12:00:00Z", "2026-05-31T12:00:00Z")
    assert (identity.name, identity.role, identity.org) == (USER, "lead", "nvidia")


def test_the_order_of_the_files_does_not_matter(kit: dict[str, bytes]) -> None:
    facts = {"project": "p", "submitter": USER, "now": NOW}
    forward = sign_job(SPEC, "x", FILES, **facts, **kit)
    assert sign_job(SPEC, "x", FILES[::-1], **facts, **kit).manifest == forward.manifest


@pytest.mark.row("J13", "S17")
def test_no_byte_of_manifest_or_signature_can_be_changed(authority: Authority, kit: dict[str, bytes]) -> None:
    signed = signed_by(kit)
    for what in ("manifest", "signature"):
        content = getattr(signed, what)
        for place in range(0, len(content), 1 if what == "signature" else 37):
            changed = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
            with pytest.raises(IntegrityError):
                verify(attrs.evolve(signed, **{what: changed}), authority)


@pytest.mark.row("J13")
def test_another_users_certificate_does_not_fit_the_signature(authority: Authority, kit: dict[str, bytes]) -> None:
    other = authority.kit("eve@nvidia.com")
    with pytest.raises(IntegrityError, match="signature"):
        verify(attrs.evolve(signed_by(kit), certificate=other["certificate_pem"]), authority)


@pytest.mark.row("J13")
def test_another_project_of_the_same_name_is_not_believed(kit: dict[str, bytes]) -> None:
    with pytest.raises(AuthError, match="another CA"):
        verify(signed_by(kit), Authority())


@pytest.mark.row("J13")
def test_a_job_for_another_project_is_refused(authority: Authority, kit: dict[str, bytes]) -> None:
    with pytest.raises(AuthError, match="'other_project'"):
        verify(signed_by(kit, project="other_project"), authority)


@pytest.mark.row("J13", "S17")
@pytest.mark.parametrize(("name", "role"), [("site-1", "site"), ("server", "server")])
def test_only_users_submit_jobs(authority: Authority, name: str, role: str) -> None:
    with pytest.raises(AuthError, match=f"a {role}: only users"):
        verify(signed_by(authority.kit(name, role), submitter=name), authority)


@pytest.mark.row("J13", "S17")
def test_nobody_submits_in_the_name_of_another(authority: Authority, kit: dict[str, bytes]) -> None:
    with pytest.raises(AuthError, match=r"submitted by 'boss@nvidia\.com', but signed by 'lead@nvidia\.com'"):
        verify(signed_by(kit, submitter="boss@nvidia.com"), authority)


@pytest.mark.row("J13")
def test_a_job_expires(authority: Authority, kit: dict[str, bytes]) -> None:
    verify(signed_by(kit), authority, now=NOW + LIFETIME)
    with pytest.raises(AuthError, match="expired at 2026-05-31T12:00:00Z"):
        verify(signed_by(kit), authority, now=NOW + LIFETIME + datetime.timedelta(seconds=1))


@pytest.mark.row("W20")
def test_a_job_from_the_future_tells_of_the_clocks(authority: Authority, kit: dict[str, bytes]) -> None:
    verify(signed_by(kit), authority, now=NOW - datetime.timedelta(minutes=4))
    with pytest.raises(AuthError, match="was signed at") as refusal:
        verify(signed_by(kit), authority, now=NOW - datetime.timedelta(hours=1))
    assert "clocks" in refusal.value.hint


@pytest.mark.row("J13")
def test_an_expired_certificate_is_refused(authority: Authority) -> None:
    with pytest.raises(AuthError, match="expired"):
        verify(signed_by(authority.kit(days=10)), authority, now=NOW + datetime.timedelta(days=20))


def _set(key: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda data: data.__setitem__(key, value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set("extra", 1), "manifest.extra: no such setting"),
        (lambda data: data.pop("folder"), "missing"),
        (_set("folder", 3), "manifest.folder: Expected"),
        (lambda data: data["spec"].__setitem__("rounds", 0), "rounds must be"),
        (lambda data: data["spec"].__setitem__("rounds", True), "rounds: Expected"),
        (lambda data: data["spec"].pop("rounds"), "not canonical"),
        (_set("expires", "2026-05-31"), "the time '2026-05-31'"),
        (_set("expires", "2027-05-31T12:00:00Z"), "30 days are allowed"),
    ],
)
def test_a_manifest_is_read_strictly(
    authority: Authority, kit: dict[str, bytes], change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    with pytest.raises(IntegrityError, match=r"manifest|lives") as refusal:
        verify(altered(signed_by(kit), kit, change), authority)
    assert said in refusal.value.message


@pytest.mark.parametrize(
    "spelling",
    [
        lambda content: content + b"\n",
        lambda content: content.replace(b",", b", ", 1),
        lambda content: json.dumps(json.loads(content), sort_keys=True, separators=(",", ":")).encode(),
        lambda content: content[:-1] + b',"folder":"x"}',
        lambda content: content.replace(b"2.5", b"2.50"),
        lambda content: b"\xef\xbb\xbf" + content,
        lambda content: content.decode().encode("utf-16"),
        lambda content: b"[]",
        lambda content: b"",
    ],
    ids=["newline", "space", "escapes", "key twice", "number", "byte order mark", "UTF-16", "a list", "nothing"],
)
def test_only_one_spelling_of_a_manifest_is_accepted(
    authority: Authority, kit: dict[str, bytes], spelling: Callable[[bytes], bytes]
) -> None:
    signed = signed_by(kit)
    content = spelling(signed.manifest)
    assert content != signed.manifest
    with pytest.raises(IntegrityError):
        verify(attrs.evolve(signed, manifest=content, signature=sign(kit["key_pem"], content)), authority)


@pytest.mark.parametrize("what", ["manifest", "signature", "certificate"])
@pytest.mark.parametrize("content", [b"", b"x" * (MAX_MANIFEST_BYTES + 1)], ids=["empty", "large"])
def test_sizes_are_checked_before_anything_is_read(
    authority: Authority, kit: dict[str, bytes], what: str, content: bytes
) -> None:
    with pytest.raises(IntegrityError, match=f"the job's {what} has {len(content)} bytes"):
        verify(attrs.evolve(signed_by(kit), **{what: content}), authority)


@pytest.mark.parametrize("certificate", [b"x", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_certificate_that_is_none_is_an_error_of_ours(
    authority: Authority, kit: dict[str, bytes], certificate: bytes
) -> None:
    with pytest.raises(FlpocError):
        verify(attrs.evolve(signed_by(kit), certificate=certificate), authority)


def test_what_json_cannot_hold_is_not_signed(kit: dict[str, bytes]) -> None:
    spec = attrs.evolve(SPEC, workflow_settings={"rate": float("nan")})
    with pytest.raises(IntegrityError, match="JSON"):
        sign_job(spec, "x", [], project="p", submitter=USER, now=NOW, **kit)
