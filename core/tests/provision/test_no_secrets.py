"""Private keys are in their own files and nowhere else: not in settings, manifests, messages or representations."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from flpoc.errors import FlpocError
from flpoc.provision.authority import LocalAuthority
from flpoc.provision.identity import identity_of, read_private_key, verify_certificate
from flpoc.provision.kits import load_kit


def fragments(pem: bytes) -> list[bytes]:
    """Pieces of a private key, as text and as bytes, that may be found nowhere else."""
    lines = [line for line in pem.splitlines() if not line.startswith(b"-----")]
    raw = base64.b64decode(b"".join(lines))
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    number = load_pem_private_key(pem, None).private_numbers().private_value  # type: ignore[union-attr]
    return [lines[0][44:], *lines[1:2], raw[36:68], str(number).encode(), f"{number:x}".encode()]


@pytest.mark.row("S10", "S22")
def test_each_private_key_is_in_one_file_only(provisioned: Path):
    home = provisioned.parent
    files = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    keys = [path for path in files if path.suffix == ".key"]
    assert len(keys) == 7
    for key in keys:
        for piece in fragments(files[key]):
            assert [path for path, content in files.items() if path != key and piece in content] == []


def test_no_json_and_no_script_speaks_of_a_private_key(provisioned: Path):
    for path in [*provisioned.rglob("*.json"), *provisioned.rglob("*.sh")]:
        assert "PRIVATE" not in path.read_text()
        if path.suffix == ".json":
            json.loads(path.read_text())


@pytest.mark.row("S10")
def test_the_authoritys_key_is_in_no_kit(provisioned: Path):
    assert [path for path in provisioned.rglob("rootCA*") if path.name != "rootCA.pem"] == []


def broken_keys(pem: bytes) -> list[bytes]:
    lines = pem.splitlines()
    return [
        pem.replace(b"-----END", b"-----EN"),
        pem[:-40],
        b"\n".join(lines[1:]),
        lines[1],
        pem.replace(b"M", b"?", 1),
    ]


@pytest.mark.row("K14", "S22")
@pytest.mark.parametrize("place", range(5))
def test_no_message_about_a_broken_key_quotes_it(site_kit: Path, place: int):
    path = site_kit / "startup" / "client.key"
    pem = path.read_bytes()
    broken = broken_keys(pem)[place]
    path.write_bytes(broken)
    for act in (lambda: load_kit(site_kit), lambda: read_private_key(broken), lambda: identity_of(broken)):
        _says_nothing(act, pem)


@pytest.mark.parametrize("place", range(5))
def test_no_message_about_a_broken_authority_quotes_its_key(provisioned: Path, tmp_path: Path, place: int):
    folder = tmp_path / "ca"
    LocalAuthority().create(folder, "study")
    pem = (folder / "rootCA.key").read_bytes()
    (folder / "rootCA.key").write_bytes(broken_keys(pem)[place])
    _says_nothing(lambda: LocalAuthority().sign(folder, b""), pem)


def test_a_key_given_for_a_certificate_is_not_quoted(provisioned: Path, root_pem: bytes):
    pem = (provisioned / "site-1" / "startup" / "client.key").read_bytes()
    _says_nothing(lambda: verify_certificate(pem, root_pem), pem)


def _says_nothing(act: Callable[[], object], pem: bytes) -> None:
    with pytest.raises(FlpocError) as caught:
        act()
    said = f"{caught.value.message} {caught.value.hint} {caught.value.data} {caught.value!r}".encode()
    lines = [line for line in pem.splitlines() if not line.startswith(b"-----")]
    assert all(line[start : start + 12] not in said for line in lines for start in range(0, len(line) - 12, 4))
