"""Loading kits: whole and untouched ones are accepted, everything else is refused with the reason."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from flpoc.errors import ConfigError, KitError
from flpoc.provision.authority import LocalAuthority
from flpoc.provision.building import provision
from flpoc.provision.kits import load_kit, read_user_kit
from flpoc.provision.project_file import sample_project

USER = "lead@nvidia.com"


def sign_again(kit: Path, ca_folder: Path) -> None:
    """Make the manifest fit the files again, as only the CA's owner could."""
    import hashlib

    startup = kit / "startup"
    manifest = json.loads((startup / "manifest.json").read_text())
    manifest["files"] = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in startup.iterdir()
        if not path.name.startswith("manifest.") and path.suffix != ".key"
    }
    (startup / "manifest.json").write_text(json.dumps(manifest))
    (startup / "manifest.sig").write_bytes(LocalAuthority().sign(ca_folder, (startup / "manifest.json").read_bytes()))


def refusal(kit: Path) -> KitError:
    with pytest.raises(KitError) as caught:
        load_kit(kit)
    return caught.value


@pytest.mark.parametrize(("name", "kind"), [("server", "server"), ("site-1", "site"), (USER, "user")])
def test_a_kit_says_whose_it_is(provisioned: Path, name: str, kind: str):
    kit = load_kit(provisioned / name, kind=kind)
    assert (kit.kind, kit.identity.kind, kit.identity.name, kit.settings.name) == (kind, kind, name, name)
    assert kit.folder == provisioned / name
    assert kit.transfer == provisioned / name / "transfer"
    assert (kit.server_address, kit.certificate_name) == ("localhost:8002", "server")


def test_the_startup_folder_will_do(provisioned: Path):
    assert load_kit(provisioned / "site-1" / "startup") == load_kit(provisioned / "site-1")


def test_a_relative_path_will_do(provisioned: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(provisioned / "site-1" / "startup")
    assert load_kit(Path()).folder == provisioned / "site-1"


def test_a_kit_can_be_moved(prod: Path, tmp_path: Path):
    assert load_kit(Path(shutil.move(prod / "site-1", tmp_path / "elsewhere"))).settings.name == "site-1"


def test_a_kit_shows_no_key(provisioned: Path):
    assert "PRIVATE" not in repr(load_kit(provisioned / "site-1"))


def test_a_kit_of_another_kind_is_refused(provisioned: Path):
    with pytest.raises(KitError, match="is the kit of a site, wanted is that of a user") as caught:
        load_kit(provisioned / "site-1", kind="user")
    assert caught.value.code == "INVALID_KIT"


@pytest.mark.parametrize("place", ["none", "prod_00", "file", "prod_00/site-1/local"])
def test_where_there_is_no_kit_that_is_what_is_said(prod: Path, tmp_path: Path, place: str):
    (tmp_path / "file").touch()
    error = refusal(tmp_path / place)
    assert error.code == "STARTUP_KIT_MISSING"
    assert error.exit_status == 2
    assert str(tmp_path / place) in error.message


def test_two_kits_in_one_folder_are_refused(prod: Path):
    shutil.copy(prod / USER / "startup" / "fed_admin.json", prod / "site-1" / "startup")
    assert "the files of two kits are mixed" in refusal(prod / "site-1").message


@pytest.mark.parametrize("name", ["fed_client.json", "client.crt", "rootCA.pem", "start.sh"])
def test_a_changed_file_is_refused(site_kit: Path, name: str):
    path = site_kit / "startup" / name
    path.write_bytes(path.read_bytes() + b"\n")
    error = refusal(site_kit)
    assert f"{path} was changed after the kit was made" in error.message


@pytest.mark.parametrize(
    "name", ["client.crt", "rootCA.pem", "start.sh", "client.key", "manifest.json", "manifest.sig"]
)
def test_a_missing_file_is_named(site_kit: Path, name: str):
    (site_kit / "startup" / name).unlink()
    assert f"{name} is missing" in refusal(site_kit).message


@pytest.mark.parametrize("name", ["more.json", "deep/more.json", "fed_client.json~"])
def test_a_file_that_was_not_provisioned_is_refused(site_kit: Path, name: str):
    path = site_kit / "startup" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}")
    assert f"{path} is not part of this kit" in refusal(site_kit).message


def test_a_manifest_that_was_adapted_is_refused(site_kit: Path):
    path = site_kit / "startup" / "manifest.json"
    path.write_text(path.read_text().replace("site-1", "site-2"))
    assert "manifest.json is not signed by the CA of the kit" in refusal(site_kit).message


def test_the_manifest_of_another_kit_is_refused(prod: Path):
    for name in ("manifest.json", "manifest.sig"):
        shutil.copy(prod / "site-2" / "startup" / name, prod / "site-1" / "startup")
    assert "the manifest is that of 'site-2', not of 'site-1'" in refusal(prod / "site-1").message


@pytest.mark.row("K12")
def test_the_ca_of_another_project_is_refused(site_kit: Path, tmp_path: Path):
    other = provision(sample_project(["site-1"]), tmp_path / "other")
    shutil.copy(other / "site-1" / "startup" / "rootCA.pem", site_kit / "startup")
    assert "is not signed by the CA of the kit" in refusal(site_kit).message


@pytest.mark.row("K14")
def test_another_participants_key_is_refused_even_if_signed(prod: Path, ca_folder: Path):
    shutil.copy(prod / "site-2" / "startup" / "client.key", prod / "site-1" / "startup")
    assert "does not belong to the certificate beside it" in refusal(prod / "site-1").message
    sign_again(prod / "site-1", ca_folder)
    assert "does not belong to the certificate beside it" in refusal(prod / "site-1").message


def test_another_participants_certificate_is_refused_even_if_signed(prod: Path, ca_folder: Path):
    for name in ("client.crt", "client.key"):
        shutil.copy(prod / "site-2" / "startup" / name, prod / "site-1" / "startup")
    sign_again(prod / "site-1", ca_folder)
    assert "the settings say name 'site-1', the certificate says 'site-2'" in refusal(prod / "site-1").message


@pytest.mark.row("K1")
def test_an_expired_kit_says_since_when(site_kit: Path, ca_folder: Path, forge: Callable[..., bytes]):
    (site_kit / "startup" / "client.crt").write_bytes(forge(days=(-40, -3.5)))
    sign_again(site_kit, ca_folder)
    assert "the certificate of 'site-1' expired 3 days ago" in refusal(site_kit).message


@pytest.mark.row("G16", "K15", "S9")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused(site_kit: Path, mode: int):
    path = site_kit / "startup" / "client.key"
    path.chmod(mode)
    error = refusal(site_kit)
    assert f"{path} can be read by others (mode 0{mode:o})" in error.message
    assert error.hint == f"chmod 600 {path}"


@pytest.mark.row("K15", "S9")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_of_another_user_is_refused(site_kit: Path):
    os.chown(site_kit / "startup" / "client.key", 12345, -1)
    assert "belongs to user 12345" in refusal(site_kit).message


@pytest.mark.row("G17", "K15", "S9")
@pytest.mark.parametrize("name", ["client.key", "client.crt", "fed_client.json", "manifest.json", "start.sh"])
def test_a_symbolic_link_is_refused(site_kit: Path, tmp_path: Path, name: str):
    path = site_kit / "startup" / name
    path.rename(tmp_path / name)
    path.symlink_to(tmp_path / name)
    assert f"{path} is a symbolic link" in refusal(site_kit).message


@pytest.mark.row("G17")
def test_a_linked_startup_folder_is_refused(site_kit: Path, tmp_path: Path):
    (site_kit / "startup").rename(tmp_path / "startup")
    (site_kit / "startup").symlink_to(tmp_path / "startup")
    assert "startup is a symbolic link" in refusal(site_kit).message


def test_a_pipe_in_the_kit_is_refused_at_once(site_kit: Path):
    os.mkfifo(site_kit / "startup" / "pipe")
    assert "is neither a file nor a folder" in refusal(site_kit).message


@pytest.mark.row("K14", "K9")
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda key: key.private_bytes(*_form(serialization.BestAvailableEncryption(b"x"))), "is encrypted"),
        (lambda key: b"", "is empty"),
        (lambda key: b"hello", "not in PEM form"),
        (lambda key: ec.generate_private_key(ec.SECP384R1()).private_bytes(*_form()), "not an EC P-256 key"),
    ],
)
def test_an_unusable_key_is_refused(
    site_kit: Path, ca_folder: Path, make: Callable[[ec.EllipticCurvePrivateKey], bytes], says: str
):
    path = site_kit / "startup" / "client.key"
    path.write_bytes(make(ec.generate_private_key(ec.SECP256R1())))
    sign_again(site_kit, ca_folder)
    error = refusal(site_kit)
    assert says in error.message
    assert str(path) in error.message


def _form(encryption: serialization.KeySerializationEncryption | None = None) -> tuple[object, ...]:
    how = encryption or serialization.NoEncryption()
    return serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 2}, "format 2, wanted is 1"),
        ({"prot": 1}, "prot: no such setting"),
        ({"server": {"name": "s", "host": "0.0.0.0", "port": 1}}, "where a server listens"),
        ({"server": {"name": "s", "host": "s", "port": 0}}, "0 is not a port"),
        ({"name": 1}, "name"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(site_kit: Path, change: dict[str, object], says: str):
    path = site_kit / "startup" / "fed_client.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    error = refusal(site_kit)
    assert says in error.message
    assert error.code == "INVALID_KIT"


# -- what belongs to the owner


@pytest.mark.parametrize(
    ("override", "address"),
    [
        ({"host": "10.1.2.3", "port": 9443}, "10.1.2.3:9443"),
        ({"host": "::1"}, "[::1]:8002"),
        ({"port": 9443}, "localhost:9443"),
        ({}, "localhost:8002"),
    ],
)
def test_another_address_can_be_dialled_without_a_new_kit(site_kit: Path, override: dict[str, object], address: str):
    (site_kit / "local" / "connect.json").write_text(json.dumps(override))
    kit = load_kit(site_kit)
    assert kit.server_address == address
    assert kit.certificate_name == "server"


@pytest.mark.row("G12")
@pytest.mark.parametrize("text", ["[]", "{", '{"host": "a b"}', '{"port": 99999}', '{"hots": "a"}', '{"port": "1"}'])
def test_an_unusable_address_is_refused(site_kit: Path, text: str):
    (site_kit / "local" / "connect.json").write_text(text)
    assert "connect.json" in refusal(site_kit).message


@pytest.mark.row("G18")
def test_the_policy_is_read_as_it_is_now(site_kit: Path):
    kit = load_kit(site_kit)
    (site_kit / "local" / "policy.json").write_text('{"max_jobs": 1, "datasets": {"mnist": "/data"}}')
    assert kit.policy == {
        "format": 1,
        "launcher": "local",
        "launcher_settings": {},
        "images": {},
        "environments": {},
        "filters": [],
        "share_metrics": True,
        "allow_custom_code": True,
        "datasets": {"mnist": "/data"},
        "python": "",
        "max_jobs": 1,
        "share_logs": True,
        "resources": {},
        "studies": [],
    }


def test_without_a_policy_file_the_defaults_hold(site_kit: Path):
    (site_kit / "local" / "policy.json").unlink()
    assert load_kit(site_kit).policy["max_jobs"] == 4


@pytest.mark.row("G18")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"format": 2}',
        '{"max_jobs": -1}',
        '{"max_job": 1}',
        '{"max_jobs": "4"}',
        '{"allow_custom_code": 0}',
        '{"max_jobs": true}',
    ],
)
def test_a_policy_that_cannot_be_used_is_an_error_and_never_the_defaults(site_kit: Path, text: str):
    kit = load_kit(site_kit)
    (site_kit / "local" / "policy.json").write_text(text)
    with pytest.raises(ConfigError, match=r"policy\.json"):
        _ = kit.policy


# -- speed, and the quick way


def test_loading_takes_less_than_ten_milliseconds(provisioned: Path):
    def once() -> float:
        start = time.perf_counter()
        load_kit(provisioned / "server")
        return time.perf_counter() - start

    assert any(once() < 0.010 for _ in range(50))  # the machine may be busy with something else


def test_a_users_kit_is_read_without_cryptography(provisioned: Path):
    code = (
        "import sys; from pathlib import Path; from flpoc.provision.kits import read_user_kit\n"
        "kit = read_user_kit(Path(sys.argv[1])); print(kit.settings.name, kit.settings.role, kit.server_address)\n"
        "heavy = {'cryptography', 'yaml', 'pyhocon', 'grpc', 'numpy'} & set(sys.modules); assert not heavy, heavy"
    )
    ran = subprocess.run([sys.executable, "-c", code, provisioned / USER], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == [USER, "lead", "localhost:8002"]


def test_the_quick_way_gives_the_same_kit(provisioned: Path):
    assert read_user_kit(provisioned / USER) == load_kit(provisioned / USER)


def test_the_quick_way_still_wants_a_private_key_to_be_private(prod: Path):
    (prod / USER / "startup" / "client.key").chmod(0o644)
    with pytest.raises(KitError, match="can be read by others"):
        read_user_kit(prod / USER)


def test_the_quick_way_still_wants_the_kit_of_a_user(provisioned: Path):
    with pytest.raises(KitError, match="kit of a site"):
        read_user_kit(provisioned / "site-1")
