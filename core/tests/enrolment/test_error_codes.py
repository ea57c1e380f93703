"""Every error code of ``cert`` and ``package`` that can be caused is caused, and nothing is left half done."""

from __future__ import annotations

import datetime
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from flpoc.enrolment.archives import LIMITS
from flpoc.errors import EXIT_STATUS
from flpoc.jobs.archive import read
from flpoc.provision.authority import LocalAuthority, new_key
from flpoc.provisioning import CertificateRequest, Participant

from .conftest import Done, World, definition

Words = list[object]

#: The rows of the documented table, with their exit statuses.
DOCUMENTED = {
    1: """CA_ALREADY_EXISTS CA_NOT_FOUND CA_LOAD_FAILED CA_VERSION_ALREADY_EXISTS KEY_ALREADY_EXISTS CERT_ALREADY_EXISTS
        ROOTCA_ALREADY_EXISTS INVALID_CSR CERT_GENERATION_FAILED CSR_GENERATION_FAILED CERT_SIGNING_FAILED
        CERT_OUTPUT_WRITE_FAILED SIGNED_ZIP_NOT_FOUND KEY_NOT_FOUND CERT_NOT_FOUND ROOTCA_NOT_FOUND AMBIGUOUS_KEY
        KEY_INVALID KEY_CERT_MISMATCH CERT_TYPE_UNKNOWN CERT_CHAIN_INVALID CERT_EXPIRED OUTPUT_DIR_EXISTS BUILD_FAILED
        INVALID_PROJECT_FILE REQUEST_DIR_INCOMPLETE REQUEST_METADATA_NOT_FOUND NO_PARTICIPANTS
        OUTPUT_DIR_NOT_WRITABLE""",
    4: """CSR_NOT_FOUND REQUEST_ZIP_NOT_FOUND INVALID_NAME INVALID_CERT_TYPE INVALID_PROJECT_NAME
        INVALID_ROOTCA_FINGERPRINT PROJECT_CA_MISMATCH PROJECT_PROFILE_MISMATCH SERVER_NAME_HOST_MISMATCH
        PROJECT_FILE_NOT_FOUND INVALID_SIGNED_ZIP SIGNED_ZIP_IDENTITY_CONFLICT ROOTCA_FINGERPRINT_MISMATCH
        ROOTCA_LOAD_FAILED LOCAL_SITE_MISMATCH LOCAL_SITE_INVALID LOCAL_SITE_UNSUPPORTED_FEATURE REQUEST_DIR_NOT_FOUND
        REQUEST_DIR_MISMATCH REQUEST_METADATA_INVALID REQUEST_METADATA_MISMATCH INVALID_ENDPOINT UNSUPPORTED_TOPOLOGY
        INVALID_REQUEST_ZIP""",
}
#: What there is no way to cause: whatever could make these fail is refused before.
NEVER = {"CERT_GENERATION_FAILED", "CSR_GENERATION_FAILED"}

INIT: Words = ["cert", "init", "--profile", "profile.yaml", "-o"]
REQUEST: Words = ["cert", "request", "-p"]
APPROVE: Words = ["cert", "approve", "hospital-a/hospital-a.request.zip", "-c", "ca", "--profile", "profile.yaml"]
PACKAGE: Words = ["package", "hospital-a/hospital-a.signed.zip"]
AGAIN = [*APPROVE, "--force"]


@attrs.frozen
class Cause:
    """How an error comes about: what is done to the world before, and the command that fails."""

    code: str
    what: str
    spoil: Callable[[World], Any]
    words: Words


def write(name: str, text: str | bytes) -> Callable[[World], Any]:
    return lambda world: (world / name).write_bytes(text if isinstance(text, bytes) else text.encode())


def profile(old: str, new: str) -> Callable[[World], Any]:
    def change(world: World) -> None:
        text = (world / "profile.yaml").read_text()
        assert old in text
        (world / "profile.yaml").write_text(text.replace(old, new))

    return change


def request(change: Callable[[dict[str, Any]], Any] = lambda _: None, **files: bytes | None) -> Callable[[World], Any]:
    return lambda world: world.forge_request(change, **files)


def answer(change: Callable[[dict[str, Any]], Any] = lambda _: None, **files: bytes | None) -> Callable[[World], Any]:
    return lambda world: world.forge_answer(change, **files)


def setting(key: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    """Change one key of a document, or one of its parts: ``server.port``."""

    def change(data: dict[str, Any]) -> None:
        *way, last = key.split(".")
        for step in way:
            data = data[step]
        data[last] = value

    return change


def remove(name: str) -> Callable[[World], Any]:
    return lambda world: (world / name).unlink()


def nothing(_: World) -> None:
    pass


def expired_ca(world: World) -> None:
    """An authority whose time is over, with the same key."""
    key = form.load_pem_private_key((world / "ca" / "rootCA.key").read_bytes(), None)
    old = x509.load_pem_x509_certificate((world / "ca" / "rootCA.pem").read_bytes())
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(
        old.issuer, old.subject, old.public_key(), 7, now - datetime.timedelta(9), now - datetime.timedelta(1)
    )
    for one in old.extensions:
        builder = builder.add_extension(one.value, one.critical)
    pem = builder.sign(key, hashes.SHA256()).public_bytes(form.Encoding.PEM)  # type: ignore[arg-type]
    (world / "ca" / "rootCA.pem").write_bytes(pem)


def new_ec() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def csr(key: Any, digest: Any = None) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hospital-a")])
    made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, digest or hashes.SHA256())
    return made.public_bytes(form.Encoding.PEM)


def request_with(content: bytes) -> Callable[[World], Any]:
    """The request of hospital-a with another certificate signing request in it."""

    def change(data: dict[str, Any]) -> None:
        data["csr_sha256"] = hashlib.sha256(content).hexdigest()

    return lambda world: world.forge_request(change, **{"hospital-a__csr": content})


def damaged_csr() -> bytes:
    """A request whose signature has one bit turned: whole as PEM and as DER, whatever its length."""
    good = x509.load_pem_x509_csr(csr(new_ec())).public_bytes(form.Encoding.DER)
    bad = good[:-1] + bytes([good[-1] ^ 1])
    return x509.load_der_x509_csr(bad).public_bytes(form.Encoding.PEM)


def certificate(valid_days: int = 30, key: bytes | None = None, ca: str = "ca") -> Callable[[World], Any]:
    """The answer to hospital-a with another certificate in it, signed by the authority of the world."""

    def spoil(world: World) -> None:
        public = key or form_public(world)
        one = Participant("hospital-a", "site", "alpha")
        pem = LocalAuthority().issue(
            world / ca, CertificateRequest("study", one, public, datetime.timedelta(valid_days))
        )
        digest = hashlib.sha256(pem).hexdigest()
        world.forge_answer(lambda data: data.update(certificate_sha256=digest), **{"hospital-a__crt": pem})

    return spoil


def form_public(world: World) -> bytes:
    found = x509.load_pem_x509_csr((world / "hospital-a" / "hospital-a.csr").read_bytes())
    return found.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)


def foreign_certificate(world: World) -> None:
    """A certificate of the right authority for the right key that says no role."""
    key = form.load_pem_private_key((world / "ca" / "rootCA.key").read_bytes(), None)
    root = x509.load_pem_x509_certificate((world / "ca" / "rootCA.pem").read_bytes())
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hospital-a")])
    public = form.load_pem_public_key(form_public(world))
    made = x509.CertificateBuilder(root.subject, name, public, 9, now, now + datetime.timedelta(9))  # type: ignore[arg-type]
    pem = made.sign(key, hashes.SHA256()).public_bytes(form.Encoding.PEM)  # type: ignore[arg-type]
    world.forge_answer(**{"hospital-a__crt": pem})


def other_ca(world: World) -> None:
    LocalAuthority().create(world / "other", "study")


def of_other_ca(world: World) -> None:
    other_ca(world)
    certificate(ca="other")(world)


def two_keys(world: World) -> None:
    for name in ("one.key", "two.key"):
        shutil.copy(world / "hospital-a" / "hospital-a.key", world / "hospital-a" / name)
    (world / "hospital-a" / "hospital-a.key").unlink()


def new_private_key(world: World) -> None:
    path = world / "hospital-a" / "hospital-a.key"
    path.write_bytes(new_key()[0])


def packaged_elsewhere(world: World) -> None:
    """A kit of another authority where the new one is to go."""
    other_ca(world)
    kit = world / "workspace" / "study" / "prod_00" / "hospital-b" / "startup"
    kit.mkdir(parents=True)
    shutil.copy(world / "other" / "rootCA.pem", kit)


def two_roots(world: World) -> None:
    world.forge_answer(rootCA__pem=2 * (world / "ca" / "rootCA.pem").read_bytes())


def taken(world: World) -> None:
    (world / "workspace" / "study" / "prod_00" / "hospital-a").mkdir(parents=True)


def request_json(change: Callable[[dict[str, Any]], Any]) -> Callable[[World], Any]:
    """The local ``request.json`` of hospital-a, changed."""

    def spoil(world: World) -> None:
        path = world / "hospital-a" / "request.json"
        data = json.loads(path.read_text())
        change(data)
        path.write_text(json.dumps(data))

    return spoil


def folder_gone(world: World) -> None:
    (world / "hospital-a").rename(world / "elsewhere")
    (world / "hospital-a").mkdir()
    (world / "elsewhere" / "hospital-a.signed.zip").rename(world / "hospital-a" / "hospital-a.signed.zip")


def person(lines: str, name: str = "x") -> str:
    return definition(name, lines)


def asks(who: str, lines: str) -> tuple[Callable[[World], Any], Words]:
    """Somebody's request, made for the occasion, and the words that approve it."""

    def spoil(world: World) -> None:
        from flpoc.enrolment.requesting import request

        (world / "who.yaml").write_text(definition(who, lines))
        request(world / "who.yaml", world / "who")

    return spoil, ["cert", "approve", f"who/{who}.request.zip", "-c", "ca", "--profile", "profile.yaml"]


def of_another_project(world: World) -> None:
    site = OTHER_PROJECT.encode()
    digest = hashlib.sha256(site).hexdigest()
    world.forge_request(lambda data: data.update(project="other", site_sha256=digest), site__yaml=site)


OTHER_PROJECT = definition("hospital-a", "type: client\n    org: alpha", "other")
SITE = "hospital-a/site.yaml"
TWO = person("type: client\n    org: a") + "  - {name: y, type: client, org: a}\n"

CAUSES = [
    # -- cert init
    Cause("CA_ALREADY_EXISTS", "an authority is there", nothing, [*INIT, "ca"]),
    Cause("CA_VERSION_ALREADY_EXISTS", "of this version", nothing, [*INIT, "ca", "--force", "--deploy-version", "00"]),
    Cause("ROOTCA_ALREADY_EXISTS", "only a certificate is there", remove("ca/rootCA.key"), [*INIT, "ca"]),
    Cause("PROJECT_FILE_NOT_FOUND", "no profile", remove("profile.yaml"), [*INIT, "new"]),
    Cause("INVALID_PROJECT_FILE", "no YAML", write("profile.yaml", "name: [\n"), [*INIT, "new"]),
    Cause("INVALID_PROJECT_FILE", "an unknown key", profile("server:", "sever:"), [*INIT, "new"]),
    Cause("INVALID_PROJECT_FILE", "an empty file", write("profile.yaml", ""), [*INIT, "new"]),
    Cause("INVALID_PROJECT_NAME", "../../etc", profile("name: study", "name: ../../etc"), [*INIT, "new"]),
    Cause("INVALID_PROJECT_NAME", "a number", profile("name: study", "name: 7"), [*INIT, "new"]),
    Cause("INVALID_ENDPOINT", "where a server listens", profile("localhost", "0.0.0.0"), [*INIT, "new"]),
    Cause("INVALID_ENDPOINT", "no port", profile("fed_learn_port: ", "fed_learn_port: 9"), [*INIT, "new"]),
    Cause("OUTPUT_DIR_NOT_WRITABLE", "below a file", nothing, [*INIT, "profile.yaml/ca"]),
    # -- cert request
    Cause("KEY_ALREADY_EXISTS", "asked for before", nothing, [*REQUEST, "hospital-a.yaml"]),
    Cause(
        "OUTPUT_DIR_EXISTS", "site.yaml is there", write("site.yaml", ""), [*REQUEST, "hospital-a.yaml", "--out", "."]
    ),
    Cause("OUTPUT_DIR_NOT_WRITABLE", "a file", nothing, [*REQUEST, "hospital-a.yaml", "--out", "profile.yaml"]),
    Cause("PROJECT_FILE_NOT_FOUND", "no definition", nothing, [*REQUEST, "nobody.yaml"]),
    Cause("INVALID_PROJECT_FILE", "a folder", nothing, [*REQUEST, "ca"]),
    Cause("INVALID_PROJECT_FILE", "two in one file", write("x.yaml", TWO), [*REQUEST, "x.yaml"]),
    Cause(
        "INVALID_PROJECT_FILE",
        "an unknown key",
        write("x.yaml", person("type: client\n    org: a\n    colour: red")),
        [*REQUEST, "x.yaml"],
    ),
    Cause("NO_PARTICIPANTS", "an empty list", write("x.yaml", "name: study\nparticipants: []\n"), [*REQUEST, "x.yaml"]),
    Cause("INVALID_NAME", "../x", write("x.yaml", person("type: client\n    org: a", "../x")), [*REQUEST, "x.yaml"]),
    Cause(
        "INVALID_NAME", "an organisation", write("x.yaml", person("type: client\n    org: a b")), [*REQUEST, "x.yaml"]
    ),
    Cause("INVALID_CERT_TYPE", "a type", write("x.yaml", person("type: root\n    org: a")), [*REQUEST, "x.yaml"]),
    Cause(
        "INVALID_CERT_TYPE",
        "a role",
        write("x.yaml", person("type: admin\n    org: a\n    role: king", "x@y.org")),
        [*REQUEST, "x.yaml"],
    ),
    Cause("UNSUPPORTED_TOPOLOGY", "a relay", write("x.yaml", person("type: relay\n    org: a")), [*REQUEST, "x.yaml"]),
    Cause("INVALID_PROJECT_NAME", "blank", write("x.yaml", OTHER_PROJECT.replace("other", "''")), [*REQUEST, "x.yaml"]),
    # -- cert approve: the request
    Cause("REQUEST_ZIP_NOT_FOUND", "no request", remove("hospital-a/hospital-a.request.zip"), APPROVE),
    Cause("INVALID_REQUEST_ZIP", "no zip", write("hospital-a/hospital-a.request.zip", "hello"), AGAIN),
    Cause("INVALID_REQUEST_ZIP", "a file too many", request(**{"hospital-a__key": b"x"}), AGAIN),
    Cause("INVALID_REQUEST_ZIP", "no site.yaml", request(site__yaml=None), AGAIN),
    Cause("INVALID_REQUEST_ZIP", "not signed", request(request__json__sig=b"x"), AGAIN),
    Cause("CSR_NOT_FOUND", "no csr", request(**{"hospital-a__csr": None}), AGAIN),
    Cause("REQUEST_METADATA_NOT_FOUND", "no request.json", request(request__json=None), AGAIN),
    Cause("REQUEST_METADATA_INVALID", "no JSON", request(request__json=b"{"), AGAIN),
    Cause("REQUEST_METADATA_INVALID", "format", request(setting("format", 9)), AGAIN),
    Cause("REQUEST_METADATA_INVALID", "a name", request(setting("participant.name", "../x")), AGAIN),
    Cause("REQUEST_METADATA_INVALID", "an id", request(setting("request_id", "../x")), AGAIN),
    Cause("REQUEST_METADATA_INVALID", "a role", request(setting("participant.role", "lead")), AGAIN),
    Cause("REQUEST_METADATA_MISMATCH", "another csr", request(**{"hospital-a__csr": csr(new_ec())}), AGAIN),
    Cause("REQUEST_METADATA_MISMATCH", "another key", request_with(csr(new_ec())), AGAIN),
    Cause("REQUEST_METADATA_MISMATCH", "another organisation", request(setting("participant.org", "beta")), AGAIN),
    Cause("INVALID_CSR", "no PEM", request_with(b"hello"), AGAIN),
    Cause("INVALID_CSR", "RSA", request_with(csr(rsa.generate_private_key(65537, 2048))), AGAIN),
    Cause("INVALID_CSR", "P-384", request_with(csr(ec.generate_private_key(ec.SECP384R1()))), AGAIN),
    Cause("INVALID_CSR", "signed with another key", request_with(damaged_csr()), AGAIN),
    # -- cert approve: the authority, the profile, what is decided
    Cause("CA_NOT_FOUND", "no folder", nothing, [*AGAIN[:4], "nowhere", *AGAIN[5:]]),
    Cause("CA_LOAD_FAILED", "no key", remove("ca/rootCA.key"), AGAIN),
    Cause("CA_LOAD_FAILED", "another key", write("ca/rootCA.key", new_key()[0]), AGAIN),
    Cause("CA_LOAD_FAILED", "a key for all to read", lambda w: (w / "ca" / "rootCA.key").chmod(0o644), AGAIN),
    Cause("CA_LOAD_FAILED", "ca.json", write("ca/ca.json", '{"version": "../x"}'), AGAIN),
    Cause("PROJECT_CA_MISMATCH", "another project's profile", profile("name: study", "name: other"), AGAIN),
    Cause("PROJECT_PROFILE_MISMATCH", "asks for another project", of_another_project, AGAIN),
    Cause("CERT_ALREADY_EXISTS", "answered before", nothing, APPROVE),
    Cause("CERT_SIGNING_FAILED", "the authority's time is over", expired_ca, AGAIN),
    Cause("CERT_OUTPUT_WRITE_FAILED", "no folder", nothing, [*AGAIN, "--out", "nowhere/x.zip"]),
    Cause("CERT_OUTPUT_WRITE_FAILED", "a folder", nothing, [*AGAIN, "--out", "ca"]),
    Cause("INVALID_NAME", "the server's name", *asks("SERVER1", "type: client\n    org: a")),
    Cause("INVALID_NAME", "an organisation in words", nothing, [*AGAIN, "--org", "a b"]),
    Cause(
        "INVALID_CERT_TYPE",
        "project_admin, unsaid",
        *asks("x@y.org", "type: admin\n    org: a\n    role: project_admin"),
    ),
    Cause("INVALID_CERT_TYPE", "a site with a role", nothing, [*AGAIN, "--role", "lead"]),
    Cause("SERVER_NAME_HOST_MISMATCH", "another server", *asks("other.org", "type: server\n    org: a")),
    Cause("INVALID_ENDPOINT", "another port", *asks("server1", "type: server\n    org: a\n    fed_learn_port: 9")),
    # -- package: the answer
    Cause("SIGNED_ZIP_NOT_FOUND", "no answer", remove("hospital-a/hospital-a.signed.zip"), PACKAGE),
    Cause("INVALID_SIGNED_ZIP", "no zip", write("hospital-a/hospital-a.signed.zip", b"PK\3\4"), PACKAGE),
    Cause("INVALID_SIGNED_ZIP", "no signature", answer(signed__json__sig=None), PACKAGE),
    Cause("INVALID_SIGNED_ZIP", "not signed", answer(signed__json__sig=b"x"), PACKAGE),
    Cause("INVALID_SIGNED_ZIP", "a file too many", answer(start__sh=b"x"), PACKAGE),
    Cause("INVALID_SIGNED_ZIP", "a folder of its choice", answer(setting("deploy_version", "..")), PACKAGE),
    Cause("INVALID_SIGNED_ZIP", "a name of its choice", answer(setting("participant.name", "..")), PACKAGE),
    Cause("INVALID_SIGNED_ZIP", "a project of its choice", answer(setting("project", "../x")), PACKAGE),
    Cause("INVALID_SIGNED_ZIP", "a plugin of its choice", answer(setting("plugins", ["a b"])), PACKAGE),
    Cause("INVALID_SIGNED_ZIP", "an unknown key", answer(setting("more", 1)), PACKAGE),
    Cause("INVALID_SIGNED_ZIP", "no base64", answer(setting("manifest_signature", "?")), PACKAGE),
    Cause("INVALID_ENDPOINT", "no host", answer(setting("server.host", "a b")), PACKAGE),
    Cause("ROOTCA_NOT_FOUND", "no certificate of the CA", answer(rootCA__pem=None), PACKAGE),
    Cause("ROOTCA_LOAD_FAILED", "no PEM", answer(rootCA__pem=b"hello"), PACKAGE),
    Cause("ROOTCA_LOAD_FAILED", "two", two_roots, PACKAGE),
    Cause("ROOTCA_FINGERPRINT_MISMATCH", "another", nothing, [*PACKAGE, "--fingerprint", "00" * 32]),
    Cause("INVALID_ROOTCA_FINGERPRINT", "too short", nothing, [*PACKAGE, "--fingerprint", "00"]),
    Cause("CERT_NOT_FOUND", "no certificate", answer(**{"hospital-a__crt": None}), PACKAGE),
    Cause("CERT_TYPE_UNKNOWN", "without a role", foreign_certificate, PACKAGE),
    Cause("CERT_EXPIRED", "it has ended", certificate(valid_days=0), PACKAGE),
    Cause("CERT_CHAIN_INVALID", "another authority", of_other_ca, PACKAGE),
    Cause("SIGNED_ZIP_IDENTITY_CONFLICT", "another organisation", answer(setting("participant.org", "beta")), PACKAGE),
    Cause("SIGNED_ZIP_IDENTITY_CONFLICT", "another site.yaml", answer(site__yaml=b"x"), PACKAGE),
    Cause(
        "SIGNED_ZIP_IDENTITY_CONFLICT",
        "another fingerprint",
        answer(setting("rootca_fingerprint_sha256", "x")),
        PACKAGE,
    ),
    # -- package: the request
    Cause("REQUEST_DIR_NOT_FOUND", "nowhere around", folder_gone, PACKAGE),
    Cause("REQUEST_DIR_NOT_FOUND", "not where it is said", nothing, [*PACKAGE, "--request-dir", "nowhere"]),
    Cause("REQUEST_DIR_MISMATCH", "somebody else's", nothing, [*PACKAGE, "--request-dir", "server1"]),
    Cause("REQUEST_METADATA_NOT_FOUND", "no request.json", nothing, [*PACKAGE, "--request-dir", "ca"]),
    Cause(
        "REQUEST_METADATA_INVALID",
        "no JSON",
        write("hospital-a/request.json", "{"),
        [*PACKAGE, "--request-dir", "hospital-a"],
    ),
    Cause("REQUEST_METADATA_MISMATCH", "another project", request_json(setting("project", "other")), PACKAGE),
    Cause("REQUEST_METADATA_MISMATCH", "another csr", write("hospital-a/hospital-a.csr", "x"), PACKAGE),
    Cause("REQUEST_DIR_INCOMPLETE", "no csr", remove("hospital-a/hospital-a.csr"), PACKAGE),
    Cause("REQUEST_DIR_INCOMPLETE", "no site.yaml", remove(SITE), PACKAGE),
    Cause("LOCAL_SITE_INVALID", "no YAML", write(SITE, "name: ["), PACKAGE),
    Cause("LOCAL_SITE_INVALID", "not text", write(SITE, b"\xff"), PACKAGE),
    Cause("LOCAL_SITE_INVALID", "nobody", write(SITE, "name: study\nparticipants: []\n"), PACKAGE),
    Cause("LOCAL_SITE_MISMATCH", "changed", write(SITE, person("type: client\n    org: beta", "hospital-a")), PACKAGE),
    Cause(
        "LOCAL_SITE_UNSUPPORTED_FEATURE",
        "components",
        write(SITE, person("type: client\n    org: a\n    components: {}")),
        PACKAGE,
    ),
    Cause("LOCAL_SITE_UNSUPPORTED_FEATURE", "builders", write(SITE, "builders: []\n"), PACKAGE),
    Cause("KEY_NOT_FOUND", "no key", remove("hospital-a/hospital-a.key"), PACKAGE),
    Cause("AMBIGUOUS_KEY", "two others", two_keys, PACKAGE),
    Cause("KEY_INVALID", "no key in it", write("hospital-a/hospital-a.key", "hello"), PACKAGE),
    Cause("KEY_INVALID", "for all to read", lambda w: (w / "hospital-a" / "hospital-a.key").chmod(0o644), PACKAGE),
    Cause("KEY_CERT_MISMATCH", "another key", new_private_key, PACKAGE),
    Cause("KEY_CERT_MISMATCH", "a certificate for another key", certificate(key=new_key()[1]), PACKAGE),
    # -- package: the kit
    Cause("OUTPUT_DIR_EXISTS", "a folder is there", taken, PACKAGE),
    Cause("OUTPUT_DIR_EXISTS", "which is no kit", taken, [*PACKAGE, "--force"]),
    Cause("OUTPUT_DIR_NOT_WRITABLE", "a file", nothing, [*PACKAGE, "-w", "profile.yaml"]),
    Cause("PROJECT_CA_MISMATCH", "kits of another authority", packaged_elsewhere, PACKAGE),
    Cause("BUILD_FAILED", "another manifest", answer(setting("manifest", "{}")), PACKAGE),
    Cause("BUILD_FAILED", "another server", answer(setting("server.port", 9)), PACKAGE),
]


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def caused(world: World, flpoc: Callable[..., Done], request: pytest.FixtureRequest) -> Iterator[Done]:
    cause: Cause = request.param
    cause.spoil(world)
    before = files_in(world.folder)
    done = flpoc(*cause.words)
    yield done
    assert files_in(world.folder) == before, "a command that fails changes nothing"
    assert [path for path in world.folder.rglob("*") if ".new-" in path.name] == []


@pytest.mark.row("K14", "K16", "A9")
@pytest.mark.parametrize(
    ("caused", "code"),
    [pytest.param(one, one.code, id=f"{one.code}: {one.what}") for one in CAUSES],
    indirect=["caused"],
)
def test_a_code_is_caused_and_nothing_is_left(caused: Done, code: str):
    assert caused.code == code, caused.document
    status = next(status for status, codes in DOCUMENTED.items() if code in codes.split())
    assert caused.status == caused.document["exit_code"] == EXIT_STATUS.get(code, 1) == status
    assert caused.document["message"].isprintable()
    assert caused.document["hint"]
    assert "PRIVATE" not in str(caused.document)


def test_every_documented_code_is_caused_or_cannot_be():
    documented = {code for codes in DOCUMENTED.values() for code in codes.split()}
    assert documented - {one.code for one in CAUSES} == NEVER


def test_what_was_forged_here_would_be_accepted_unchanged(world: World, flpoc: Callable[..., Done]):
    """The tests above fail for the reason that they name, and not because forging spoils everything."""
    world.forge_request()
    world.forge_answer()
    assert read(world.answer, LIMITS).keys() == {
        "signed.json", "signed.json.sig", "site.yaml", "hospital-a.crt", "rootCA.pem",
    }  # fmt: skip
    assert flpoc(*PACKAGE).status == 0
    assert flpoc(*AGAIN).status == 0
