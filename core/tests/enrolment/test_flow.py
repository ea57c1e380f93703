"""From a definition to a kit: what is made at each step, what it says, and where the key is."""

from __future__ import annotations

import base64
import datetime
import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from flpoc.enrolment.archives import LIMITS
from flpoc.errors import FlpocError
from flpoc.jobs.archive import read
from flpoc.provision.building import provision
from flpoc.provision.identity import identity_of, read_certificate, verify_certificate
from flpoc.provision.kits import load_kit
from flpoc.provision.project_file import sample_project

from .conftest import PEOPLE, Done, World, definition

Run = Callable[..., Done]
APPROVE = ["-c", "ca", "--profile", "profile.yaml"]
KIT = Path("workspace/study/prod_00")


def package_all(flpoc: Run) -> None:
    for name in PEOPLE:
        assert flpoc("package", f"{name}/{name}.signed.zip").status == 0


def files_of(folder: Path) -> dict[Path, bytes]:
    """Every file, and every file in an archive."""
    found = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for path in [one for one in found if one.suffix == ".zip"]:
        found |= {path / name: content for name, content in read(path, LIMITS).items()}
    return found


# -- what is made


def test_the_commands_of_the_documents_work_from_the_first_to_the_last(world: World, flpoc: Run):
    shutil.rmtree(world / "ca")
    for name in PEOPLE:
        shutil.rmtree(world / name)
    fingerprint = flpoc("cert", "init", "--profile", "profile.yaml", "-o", "./ca").data["rootca_fingerprint_sha256"]
    assert sorted(path.name for path in (world / "ca").iterdir()) == ["ca.json", "rootCA.key", "rootCA.pem"]
    for name in PEOPLE:
        asked = flpoc("cert", "request", "--participant", f"{name}.yaml").data
        files = {f"{name}.key", f"{name}.csr", "site.yaml", "request.json", f"{name}.request.zip"}
        assert {path.name for path in (world / name).iterdir()} == files
        words = ["--ca-dir", "./ca", "--profile", "profile.yaml"]
        approved = flpoc("cert", "approve", f"{name}/{name}.request.zip", *words).data
        assert approved["rootca_fingerprint_sha256"] == fingerprint
        assert approved["key_fingerprint_sha256"] == asked["key_fingerprint_sha256"]
        assert read(Path(approved["signed_zip"]), LIMITS).keys() == {
            "signed.json", "signed.json.sig", "site.yaml", f"{name}.crt", "rootCA.pem",
        }  # fmt: skip
        done = flpoc("package", approved["signed_zip"], "-w", "workspace", "--fingerprint", fingerprint.lower())
        assert done.data["fingerprint_checked"] is True
        assert done.said == ""
        kit = load_kit(KIT / name)
        assert str(kit.folder) == done.data["kit"]
        assert (kit.identity.name, kit.identity.project) == (name, "study")
    assert load_kit(KIT / "alice@hospital.org").identity.role == "lead"


def test_a_kit_of_a_request_is_like_one_that_was_provisioned(world: World, flpoc: Run, tmp_path: Path):
    package_all(flpoc)
    central = provision(sample_project(["site-1"]), tmp_path / "central")
    same = {"server1": "server", "hospital-a": "site-1", "alice@hospital.org": "lead@nvidia.com"}
    for name, other in same.items():
        mine = {str(path.relative_to(KIT / name)): path.stat().st_mode for path in (KIT / name).rglob("*")}
        theirs = {str(path.relative_to(central / other)): path.stat().st_mode for path in (central / other).rglob("*")}
        assert mine == theirs


def test_what_is_asked_for_and_what_is_answered_fit_together(world: World):
    asked = json.loads(read(world / "hospital-a" / "hospital-a.request.zip", LIMITS)["request.json"])
    answered = json.loads(read(world.answer, LIMITS)["signed.json"])
    assert asked["participant"] == answered["participant"]
    assert asked["request_id"] == answered["request_id"]
    assert (asked["project"], answered["deploy_version"]) == ("study", "00")
    assert answered["server"] == {"name": "server1", "host": "localhost", "port": answered["server"]["port"]}


@pytest.mark.row("S8")
def test_no_private_key_is_anywhere_but_with_its_owner(world: World, flpoc: Run):
    """Whatever a step has written: only the folder of the request and the kit have the key, each in one file."""
    package_all(flpoc)
    files = files_of(world.folder)
    for name in PEOPLE:
        own = {world / name / f"{name}.key", *(world / KIT / name / "startup").glob("*.key")}
        assert len(own) == 2
        pem = (world / name / f"{name}.key").read_bytes()
        number = form.load_pem_private_key(pem, None).private_numbers().private_value  # type: ignore[union-attr]
        raw = number.to_bytes(32, "big")
        body = b"".join(pem.splitlines()[1:-1])
        for piece in (raw, raw.hex().encode(), str(number).encode(), body[20:60], base64.b64encode(raw)[:40]):
            assert {path for path, content in files.items() if piece in content} <= own
    assert [path for path, content in files.items() if b"PRIVATE KEY" in content and path.suffix != ".key"] == []


@pytest.mark.row("S8", "S9")
def test_keys_are_for_their_owner_only(world: World, flpoc: Run):
    package_all(flpoc)
    for path in world.folder.rglob("*.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    for name in ("ca", "hospital-a", str(KIT), str(KIT / "hospital-a")):
        assert stat.S_IMODE((world / name).stat().st_mode) == 0o700, name


@pytest.mark.row("S8")
def test_whoever_approves_needs_the_archive_alone(world: World, flpoc: Run, tmp_path: Path):
    shutil.copy(world / "hospital-a" / "hospital-a.request.zip", tmp_path / "came.by.mail.zip")
    shutil.rmtree(world / "hospital-a")
    done = flpoc("cert", "approve", tmp_path / "came.by.mail.zip", *APPROVE)
    assert done.data["signed_zip"] == str(tmp_path / "hospital-a.signed.zip")


# -- who decides


def hostile_csr(world: World) -> bytes:
    """A certificate signing request for the key of hospital-a that asks for everything."""
    key = form.load_pem_private_key((world / "hospital-a" / "hospital-a.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    uri = x509.UniformResourceIdentifier("spiffe://study/project_admin/root@nvidia.com")
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root@nvidia.com")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=3), critical=True)
        .add_extension(x509.SubjectAlternativeName([uri, x509.DNSName("server1")]), critical=False)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(form.Encoding.PEM)


@pytest.mark.row("K16", "S6", "S7")
def test_of_a_certificate_signing_request_only_the_key_counts(world: World, flpoc: Run):
    import hashlib

    csr = hostile_csr(world)
    digest = hashlib.sha256(csr).hexdigest()
    world.forge_request(lambda data: data.update(csr_sha256=digest), **{"hospital-a__csr": csr})
    done = flpoc("cert", "approve", "hospital-a/hospital-a.request.zip", *APPROVE, "--force")
    assert done.data["role"] is None
    assert "'root@nvidia.com'" in done.said
    assert "BasicConstraints, SubjectAlternativeName, ExtendedKeyUsage" in done.said
    pem = read(world.answer, LIMITS)["hospital-a.crt"]
    who = verify_certificate(pem, (world / "ca" / "rootCA.pem").read_bytes())
    assert (who.name, who.kind, who.role, who.org) == ("hospital-a", "site", "", "alpha")
    found = read_certificate(pem).extensions
    assert found.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert list(found.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    names = found.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [one.value for one in names] == ["spiffe://study/site/hospital-a"]


@pytest.mark.row("K16")
@pytest.mark.parametrize(
    ("words", "role", "org"),
    [((), "lead", "alpha"), (("--role", "member"), "member", "alpha"), (("--org", "beta"), "lead", "beta")],
)
def test_role_and_organisation_are_those_that_whoever_approves_says(
    world: World, flpoc: Run, words: tuple[str, ...], role: str, org: str
):
    name = "alice@hospital.org"
    done = flpoc("cert", "approve", f"{name}/{name}.request.zip", *APPROVE, "--force", *words)
    assert (done.data["role"], done.data["org"]) == (role, org)
    assert ("Asked for was" in done.said) == bool(words)
    packaged = flpoc("package", f"{name}/{name}.signed.zip")
    assert ("Asked for was" in packaged.said) == bool(words), "whoever asked hears it, too"
    who = load_kit(Path(packaged.data["kit"])).identity
    assert (who.role, who.org) == (role, org)


@pytest.mark.row("K16")
def test_somebody_becomes_project_admin_by_the_words_of_whoever_approves_only(world: World, flpoc: Run):
    text = definition("root@hospital.org", "type: admin\n    org: alpha\n    role: project_admin")
    (world / "root.yaml").write_text(text)
    asked = flpoc("cert", "request", "-p", "root.yaml", "--out", "root").data["request_zip"]
    assert flpoc("cert", "approve", asked, *APPROVE).code == "INVALID_CERT_TYPE"
    assert flpoc("cert", "approve", asked, *APPROVE, "--role", "lead").data["role"] == "lead"
    done = flpoc("cert", "approve", asked, *APPROVE, "--role", "project_admin", "--force")
    assert done.data["role"] == "project_admin"


def test_names_and_address_of_the_server_are_those_of_the_profile(world: World, flpoc: Run):
    profile = (world / "profile.yaml").read_text() + "  host_names: [fl.hospital.org, 10.0.0.7]\n"
    (world / "profile.yaml").write_text(profile)
    text = (world / "server1.yaml").read_text() + "    host_names: [evil.org]\n"
    (world / "server1.yaml").write_text(text)
    asked = flpoc("cert", "request", "-p", "server1.yaml", "--force")
    assert "those of the profile" in asked.said
    assert flpoc("cert", "approve", "server1/server1.request.zip", *APPROVE, "--force").status == 0
    pem = read(world / "server1" / "server1.signed.zip", LIMITS)["server1.crt"]
    names = read_certificate(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"server1", "localhost", "fl.hospital.org"}


@pytest.mark.row("K17")
def test_a_certificate_lasts_as_long_as_was_said_but_not_longer_than_its_authority(world: World, flpoc: Run):
    assert flpoc("cert", "init", "--profile", "profile.yaml", "-o", "short", "--valid-days", "10").status == 0
    for ca, days, expected in (("ca", 1095, 1095), ("ca", 7, 7), ("short", 1095, 10)):
        words = ["-c", ca, "--profile", "profile.yaml", "--valid-days", days, "--force"]
        assert flpoc("cert", "approve", "hospital-a/hospital-a.request.zip", *words).status == 0
        ends = identity_of(read(world.answer, LIMITS)["hospital-a.crt"]).not_after
        left = ends - datetime.datetime.now(datetime.UTC)
        assert datetime.timedelta(expected - 1) < left <= datetime.timedelta(expected)


# -- kits


def test_a_kit_says_nothing_of_a_fingerprint_that_nobody_compared(world: World, flpoc: Run):
    done = flpoc("package", "hospital-a/hospital-a.signed.zip")
    assert done.data["fingerprint_checked"] is False
    assert done.data["rootca_fingerprint_sha256"] in done.said


@pytest.mark.parametrize(
    "form_of", [str, str.lower, lambda text: text.replace(":", ""), "SHA256 Fingerprint={}".format]
)
def test_a_fingerprint_is_taken_as_people_write_it(world: World, flpoc: Run, form_of: Callable[[str], str]):
    fingerprint = json.loads((world / "ca" / "ca.json").read_text())["fingerprint"]
    done = flpoc("package", "hospital-a/hospital-a.signed.zip", "--fingerprint", form_of(fingerprint))
    assert done.data["fingerprint_checked"] is True


@pytest.mark.parametrize("place", ["beside", "here", "named"])
def test_the_folder_of_the_request_is_found(
    world: World, flpoc: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
):
    answer = shutil.move(world.answer, tmp_path / "hospital-a.signed.zip")
    words: list[object] = []
    if place == "beside":
        shutil.move(world / "hospital-a", tmp_path / "hospital-a")
    elif place == "here":
        monkeypatch.chdir(world / "hospital-a")
    else:
        shutil.move(world / "hospital-a", tmp_path / "mine")
        words = ["--request-dir", tmp_path / "mine"]
    assert load_kit(Path(flpoc("package", answer, *words).data["kit"])).settings.name == "hospital-a"


def test_a_kit_that_is_replaced_keeps_what_is_its_owners(world: World, flpoc: Run):
    kit = Path(flpoc("package", "hospital-a/hospital-a.signed.zip").data["kit"])
    (kit / "local" / "policy.json").write_text('{"max_jobs": 1}')
    assert flpoc("cert", "request", "-p", "hospital-a.yaml", "--force").status == 0
    assert flpoc("cert", "approve", "hospital-a/hospital-a.request.zip", *APPROVE, "--force").status == 0
    before = load_kit(kit)
    assert flpoc("package", "hospital-a/hospital-a.signed.zip").code == "OUTPUT_DIR_EXISTS"
    assert load_kit(kit) == before
    assert flpoc("package", "hospital-a/hospital-a.signed.zip", "--force").data["replaced"] is True
    after = load_kit(kit)
    assert after.policy["max_jobs"] == 1
    assert after.key_pem != before.key_pem


def test_the_answer_to_a_former_request_is_of_no_use(world: World, flpoc: Run):
    assert flpoc("cert", "request", "-p", "hospital-a.yaml", "--force").status == 0
    assert flpoc("package", "hospital-a/hospital-a.signed.zip").code == "REQUEST_DIR_NOT_FOUND"


def test_a_site_that_dials_another_address_writes_it_into_its_definition(world: World, flpoc: Run):
    (world / "b.yaml").write_text(definition("b", "type: client\n    org: alpha\n    connect_to: proxy.beta.org:9000"))
    assert flpoc("cert", "request", "-p", "b.yaml").status == 0
    assert flpoc("cert", "approve", "b/b.request.zip", *APPROVE).data["server"].startswith("localhost:")
    kit = load_kit(Path(flpoc("package", "b/b.signed.zip").data["kit"]))
    assert (kit.server_address, kit.certificate_name) == ("proxy.beta.org:9000", "server1")


# -- authorities


def test_an_authority_that_was_made_for_requests_can_provision(world: World, flpoc: Run, tmp_path: Path):
    project = sample_project(["site-1"], name="study")
    (tmp_path / "central" / "study").mkdir(parents=True)
    shutil.copytree(world / "ca", tmp_path / "central" / "study" / "ca")
    prod = provision(project, tmp_path / "central")
    assert load_kit(prod / "site-1").root_pem == (world / "ca" / "rootCA.pem").read_bytes()


def test_a_provisioned_project_can_approve_requests(world: World, flpoc: Run, tmp_path: Path):
    project = sample_project(["site-1"], name="study")
    prod = [provision(project, tmp_path / "central") for _ in range(2)][-1]
    words = ["-c", prod.parent / "ca", "--profile", "profile.yaml", "--force"]
    assert flpoc("cert", "approve", "hospital-a/hospital-a.request.zip", *words).data["deploy_version"] == "01"
    kit = Path(flpoc("package", "hospital-a/hospital-a.signed.zip", "-w", tmp_path / "central").data["kit"])
    assert kit.parent == prod
    assert load_kit(kit).root_pem == load_kit(prod / "site-1").root_pem


@pytest.mark.row("K17", "S10")
def test_an_authority_is_encrypted_where_there_is_a_passphrase(
    world: World, flpoc: Run, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FLPOC_CA_PASSPHRASE", "correct horse")
    made = flpoc("cert", "init", "--profile", "profile.yaml", "-o", "safe")
    assert made.data["encrypted"] is True
    assert made.said == ""
    words = [
        "cert",
        "approve",
        "hospital-a/hospital-a.request.zip",
        "-c",
        "safe",
        "--profile",
        "profile.yaml",
        "--force",
    ]
    assert flpoc(*words).status == 0
    monkeypatch.setenv("FLPOC_CA_PASSPHRASE", "wrong")
    refused = flpoc(*words)
    assert refused.code == "CA_LOAD_FAILED"
    assert "passphrase" in refused.document["message"]
    assert "horse" not in str(refused)


def test_an_authority_that_is_replaced_is_set_aside_and_the_new_one_has_another_version(world: World, flpoc: Run):
    before = (world / "ca" / "rootCA.key").read_bytes()
    done = flpoc("cert", "init", "--profile", "profile.yaml", "-o", "ca", "--force", "--org", "alpha")
    assert done.data["deploy_version"] == "01"
    assert (Path(done.data["former_ca_dir"]) / "rootCA.key").read_bytes() == before
    assert (world / "ca" / "rootCA.key").read_bytes() != before
    assert json.loads((world / "ca" / "ca.json").read_text())["org"] == "alpha"
    assert flpoc("cert", "approve", "hospital-a/hospital-a.request.zip", *APPROVE, "--force").status == 0
    assert Path(flpoc("package", "hospital-a/hospital-a.signed.zip").data["kit"]).parent.name == "prod_01"


def test_an_authority_can_be_made_where_other_files_are(world: World, flpoc: Run):
    assert flpoc("cert", "init", "--profile", "profile.yaml", "-o", ".").status == 0
    assert (world / "rootCA.key").exists()
    assert (world / "profile.yaml").exists()


def test_what_a_profile_of_another_system_says_is_said_once(world: World, flpoc: Run):
    text = (world / "profile.yaml").read_text() + "  admin_port: 8003\nscheme: http\nconnection_security: clear\n"
    (world / "profile.yaml").write_text(text)
    said = flpoc("cert", "init", "--profile", "profile.yaml", "-o", "new").said
    assert all(key in said for key in ("admin_port", "scheme", "connection_security"))
    assert flpoc("cert", "approve", "hospital-a/hospital-a.request.zip", *APPROVE, "--force").said == ""


@pytest.mark.parametrize("version", ["1", "100", "../x", "aa"])
def test_a_version_has_two_digits(world: World, flpoc: Run, version: str):
    done = flpoc("cert", "init", "--profile", "profile.yaml", "-o", "new", "--deploy-version", version)
    assert done.code == "INVALID_ARGS"
    assert not (world / "new").exists()


@pytest.mark.row("A1", "A2", "A3", "A5", "A6")
@pytest.mark.parametrize("which", ["request", "signed"])
def test_a_hostile_archive_is_refused_by_both_sides(world: World, flpoc: Run, which: str):
    """The walker itself is tested where it is; here, that both commands use it, with tight limits."""
    import zipfile

    path = world / "hospital-a" / f"hospital-a.{which}.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("../escaped", "x")
    command = {
        "request": ["cert", "approve", path, *APPROVE, "--force"],
        "signed": ["package", path],
    }[which]
    code = {"request": "INVALID_REQUEST_ZIP", "signed": "INVALID_SIGNED_ZIP"}[which]
    assert flpoc(*command).code == code
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        file.writestr("large", b"x" * (LIMITS.total + 1))
    assert flpoc(*command).code == code
    path.unlink()
    path.symlink_to(world / "ca" / "rootCA.pem")
    assert flpoc(*command).code == code
    assert not (world.folder.parent / "escaped").exists()


def test_a_pipe_is_not_waited_for(world: World, flpoc: Run):
    import os

    os.mkfifo(world / "pipe")
    assert flpoc("cert", "approve", "pipe", *APPROVE).code == "INVALID_REQUEST_ZIP"
    assert flpoc("package", "pipe").code == "INVALID_SIGNED_ZIP"
    assert flpoc("cert", "request", "-p", "pipe").code == "INVALID_PROJECT_FILE"


def test_every_step_can_be_read_again_by_the_code_that_wrote_it(made: Path):
    from flpoc.enrolment.answers import read_answer
    from flpoc.enrolment.incoming import read_incoming

    for name in PEOPLE:
        try:
            asked = read_incoming(made / name / f"{name}.request.zip")
            answer = read_answer(made / name / f"{name}.signed.zip")
        except FlpocError as error:
            pytest.fail(error.message)
        assert asked.request.request_id == answer.signed.request_id


def test_plugins_whose_files_a_kit_will_not_have_are_named(world: World):
    import types

    from flpoc import API, hookimpl
    from flpoc.enrolment.approving import Words, approve
    from flpoc.plugins import Plugins
    from flpoc.provisioning import KitFile, Project

    @hookimpl
    def flpoc_kit_files(project: Project) -> list[KitFile]:
        return [KitFile(one.name, "startup/context", b"secret", secret=True) for one in project.sites]

    module = types.ModuleType("adding_hooks")
    vars(module).update(FLPOC_API=API, flpoc_kit_files=flpoc_kit_files)
    import sys

    sys.modules["adding_hooks"] = module
    try:
        plugins = Plugins.load(private=["adding_hooks"])
    finally:
        del sys.modules["adding_hooks"]
    asked = world / "hospital-a" / "hospital-a.request.zip"
    profile = world / "profile.yaml"
    words = (asked, world / "ca", profile, Words())
    assert approve(*words, force=True, plugins=lambda: plugins).warnings == (), "it is not a plugin of this project"
    profile.write_text(profile.read_text() + "plugins: [local, adding_hooks]\n")
    assert any("adding_hooks" in one for one in approve(*words, force=True, plugins=lambda: plugins).warnings)
    assert not any(b"secret" in content for content in files_of(world.folder).values())
