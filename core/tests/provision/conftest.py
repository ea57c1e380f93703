"""A project that is provisioned once, kits to spoil, and certificates with chosen flaws."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from flpoc.provision.building import provision
from flpoc.provision.project_file import sample_project


@pytest.fixture(scope="session")
def provisioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prod folder of the sample project; for reading only."""
    return provision(sample_project(["site-1", "site-2"]), tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def ca_folder(provisioned: Path) -> Path:
    return provisioned.parent / "ca"


@pytest.fixture(scope="session")
def root_pem(ca_folder: Path) -> bytes:
    return (ca_folder / "rootCA.pem").read_bytes()


@pytest.fixture
def prod(provisioned: Path, tmp_path: Path) -> Path:
    """A copy of the prod folder that a test may spoil."""
    return Path(shutil.copytree(provisioned, tmp_path / "prod_00"))


@pytest.fixture
def site_kit(prod: Path) -> Path:
    return prod / "site-1"


@pytest.fixture
def forge(ca_folder: Path, root_pem: bytes) -> Callable[..., bytes]:
    """Make a certificate as the project's CA would, but for what the test asks."""
    ca_key = serialization.load_pem_private_key((ca_folder / "rootCA.key").read_bytes(), None)
    root = x509.load_pem_x509_certificate(root_pem)

    def make(
        name: str = "site-1",
        *,
        uri: str | None = "spiffe://example_project/site/site-1",
        org: str | None = "nvidia",
        key: Any = None,
        signer: Any = None,
        issuer: x509.Name | None = None,
        purposes: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.CLIENT_AUTH,),
        ca: bool = False,
        days: tuple[float, float] = (-1, 30),
        more_uris: tuple[str, ...] = (),
        algorithm: Any = None,
    ) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, name, _validate=False)]
        if org is not None:
            subject.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, org))
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(subject))
            .issuer_name(issuer or root.subject)
            .public_key((key or ec.generate_private_key(ec.SECP256R1())).public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=days[0]))
            .not_valid_after(now + datetime.timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        uris = [*([uri] if uri is not None else []), *more_uris]
        if uris:
            names = [x509.UniformResourceIdentifier(each) for each in uris]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        signed = builder.sign(signer or ca_key, algorithm or hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)

    return make
