"""The certificates of kits hold in real handshakes: gRPC over mutual TLS on the loopback."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import attrs
import grpc
import pytest

from flpoc.provision.authority import LocalAuthority, new_key
from flpoc.provision.building import provision
from flpoc.provision.identity import identity_of
from flpoc.provision.kits import Kit, load_kit, read_user_kit
from flpoc.provision.project_file import sample_project
from flpoc.provisioning import CertificateRequest, Participant

METHOD = "/test/WhoAmI"


def start_server(kit: Kit) -> tuple[grpc.Server, int]:
    def who_am_i(request: bytes, context: grpc.ServicerContext) -> bytes:
        (pem,) = context.auth_context()["x509_pem_cert"]
        found = identity_of(pem)
        return f"{found.kind} {found.role} {found.name} {found.serial}".encode()

    handler = grpc.method_handlers_generic_handler("test", {"WhoAmI": grpc.unary_unary_rpc_method_handler(who_am_i)})
    server = grpc.server(futures.ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((handler,))
    credentials = grpc.ssl_server_credentials(
        [(kit.key_pem, kit.certificate_pem)], kit.root_pem, require_client_auth=True
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    return server, port


@pytest.fixture
def port(provisioned: Path) -> Iterator[int]:
    server, port = start_server(load_kit(provisioned / "server"))
    yield port
    server.stop(0).wait()


def ask(kit: Kit, port: int, *, host: str = "127.0.0.1", name: str = "") -> str:
    credentials = grpc.ssl_channel_credentials(kit.root_pem, kit.key_pem, kit.certificate_pem)
    options = [("grpc.ssl_target_name_override", name)] if name else []
    options.append(("grpc.use_local_subchannel_pool", 1))
    with grpc.secure_channel(f"{host}:{port}", credentials, options) as channel:
        return channel.unary_unary(METHOD)(b"", timeout=30).decode()


def refused(kit: Kit, port: int, **more: str) -> bool:
    with pytest.raises(grpc.RpcError) as caught:
        ask(kit, port, **more)
    return caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("load", [load_kit, read_user_kit])
def test_the_server_knows_a_user_from_the_handshake(provisioned: Path, port: int, load: Callable[[Path], Kit]):
    kit = load(provisioned / "lead@nvidia.com")
    assert ask(kit, port, name=kit.certificate_name) == f"user lead lead@nvidia.com {kit.identity.serial}"


def test_the_server_knows_a_site_from_the_handshake(provisioned: Path, port: int):
    kit = load_kit(provisioned / "site-2")
    assert ask(kit, port, name=kit.certificate_name) == f"site  site-2 {kit.identity.serial}"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_the_servers_certificate_fits_this_host_without_override(provisioned: Path, port: int, host: str):
    assert ask(load_kit(provisioned / "site-1"), port, host=host).startswith("site")


@pytest.mark.row("K13")
def test_a_server_that_should_have_another_name_is_refused(provisioned: Path, port: int):
    assert refused(load_kit(provisioned / "site-1"), port, name="other-server")


def test_a_site_of_another_ca_is_refused(port: int, tmp_path: Path, provisioned: Path):
    other = load_kit(provision(sample_project(["site-1"]), tmp_path) / "site-1")
    ours = load_kit(provisioned / "site-1")
    assert refused(other, port, name="server")
    assert refused(attrs.evolve(other, root_pem=ours.root_pem), port, name="server")
    assert refused(attrs.evolve(ours, root_pem=other.root_pem), port, name="server")


def test_a_servers_certificate_cannot_act_as_a_site(provisioned: Path, port: int):
    assert refused(load_kit(provisioned / "server"), port, name="server")


@pytest.mark.row("K5", "S7")
def test_a_site_cannot_act_as_the_server(provisioned: Path):
    site = load_kit(provisioned / "site-1")
    server, port = start_server(site)
    try:
        assert refused(load_kit(provisioned / "site-2"), port, name="site-1")
    finally:
        server.stop(0).wait()


def test_an_expired_certificate_is_refused(provisioned: Path, port: int, forge: Callable[..., bytes]):
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    kit = load_kit(provisioned / "site-1")
    key = load_pem_private_key(kit.key_pem, None)
    assert ask(attrs.evolve(kit, certificate_pem=forge(key=key)), port, name="server").startswith("site")
    assert refused(attrs.evolve(kit, certificate_pem=forge(key=key, days=(-9, -1))), port, name="server")


def test_nobody_without_certificate_gets_in(provisioned: Path, port: int):
    credentials = grpc.ssl_channel_credentials(load_kit(provisioned / "site-1").root_pem)
    with grpc.secure_channel(f"localhost:{port}", credentials) as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary(METHOD)(b"", timeout=30)
    with grpc.insecure_channel(f"localhost:{port}") as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary(METHOD)(b"", timeout=30)


@pytest.mark.parametrize(
    ("server", "dialled_as"),
    [
        (Participant("fl.hospital.org", "server", "org"), "fl.hospital.org"),
        (Participant("10.11.12.13", "server", "org"), "10.11.12.13"),
        (Participant("server", "server", "org", host_names=("alias.org",)), "alias.org"),
        (Participant("server", "server", "org", connect_to="dial.org:443"), "dial.org"),
        (Participant(".".join(["a" * 50] * 3), "server", "org"), ".".join(["a" * 50] * 3)),
    ],
)
def test_a_server_is_believed_under_each_of_its_names(
    provisioned: Path, ca_folder: Path, server: Participant, dialled_as: str
):
    private, public = new_key()
    pem = LocalAuthority().issue(ca_folder, CertificateRequest("example_project", server, public))
    kit = attrs.evolve(load_kit(provisioned / "server"), certificate_pem=pem, key_pem=private)
    running, port = start_server(kit)
    try:
        assert ask(load_kit(provisioned / "site-1"), port, name=dialled_as).startswith("site")
    finally:
        running.stop(0).wait()


def test_kits_of_two_generations_understand_each_other(tmp_path: Path):
    project = sample_project(["site-1"])
    first, second = provision(project, tmp_path), provision(project, tmp_path)
    server, port = start_server(load_kit(second / "server"))
    try:
        assert ask(load_kit(first / "site-1"), port, name="server").startswith("site")
    finally:
        server.stop(0).wait()
        shutil.rmtree(tmp_path / project.name)
