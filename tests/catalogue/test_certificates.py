"""Certificates and keys that are not what they should be, shown to a real server."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from machine.federation import Federation

from flpoc.errors import AuthError, ConnectionFailed, KitError
from flpoc.provision.building import provision
from flpoc.provision.identity import verify_certificate
from flpoc.provision.kits import load_kit
from flpoc.provision.project_file import sample_project
from flpoc.session import Session
from flpoc.wire.asks import Ask

from .attack import CLIENT, PROJECT, SERVER, Forger, Pair, Peer, Stream, becomes, dial, pair_of, pem_of, tls, vitals

row = pytest.mark.row
# odd names and old protocols are what is tried here
pytestmark = pytest.mark.filterwarnings("ignore:Attribute's length", "ignore:ssl.TLSVersion")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    found = Federation(tmp_path_factory.mktemp("certificates"))
    try:
        found.start()
        found.ready()
        yield found
    finally:
        found.close()


@pytest.fixture(scope="module")
def forger(running: Federation) -> Forger:
    return Forger(running.prod.parent / "ca")


@pytest.fixture
def unharmed(running: Federation) -> Iterator[None]:
    """Whatever a test does, the server's jobs are as before, its files are closed again, and it answers."""
    before = vitals(running)
    yield
    running.ready()
    assert vitals(running).state == before.state
    assert becomes(lambda: vitals(running).files <= before.files + 2)


def self_signed(forger: Forger) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    return forger.pair(key=key, signer=key, issuer=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "site-2")]))


def of_another_authority(forger: Forger) -> Pair:
    """With the true authority's name as its issuer."""
    return forger.pair(signer=ec.generate_private_key(ec.SECP256R1()))


def issued_by_a_site(forger: Forger) -> Pair:
    site = ec.generate_private_key(ec.SECP256R1())
    parent = x509.load_pem_x509_certificate(forger.pair("site-1", key=site).certificate)
    return forger.pair("admin@nvidia.com", "project_admin", signer=site, issuer=parent.subject)


#: Certificates with which there is no connection at all.
NO_CONNECTION: dict[str, Callable[[Forger], Pair | None]] = {
    "expired": lambda f: f.pair(seconds=(-3600, -5)),
    "not valid yet": lambda f: f.pair(seconds=(600, 3600)),
    "another authority": of_another_authority,
    "self-signed": self_signed,
    "none": lambda _: None,
    "issued by a site": issued_by_a_site,
    "for servers": lambda f: f.pair(purposes=SERVER),
    "the server's name and purpose": lambda f: f.pair("server", "server", purposes=SERVER),
    "Ed25519": lambda f: f.pair(key=ed25519.Ed25519PrivateKey.generate()),
}
ROW_OF = {"expired": "K1", "not valid yet": "K2", "issued by a site": "K4", "Ed25519": "K10"}
ROW_OF |= dict.fromkeys(["another authority", "self-signed", "none"], "K3")
ROW_OF |= dict.fromkeys(["for servers", "the server's name and purpose"], "K5")


@pytest.mark.parametrize("case", [pytest.param(case, marks=row(ROW_OF[case])) for case in NO_CONNECTION])
@pytest.mark.usefixtures("unharmed")
def test_there_is_no_connection_with(running: Federation, forger: Forger, case: str) -> None:
    with Peer(running, NO_CONNECTION[case](forger)) as peer:
        assert peer.status() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(grpc.RpcError) as caught:
            peer.ask("Status", Ask())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


ODD_NAMES = {
    "a path": "../../etc",
    "blank": " ",
    "1 kB": "x" * 1024,
    "NUL": "site-2\0",
    "a line end": "site-2\n2026-01-01T00:00:00.000Z INFO flpoc.server forged",
    "reserved": "all",
    "the server's": "server",
}
#: Certificates of the project's own authority that say something else than they should.
NOT_BELIEVED: dict[str, Callable[[Forger], Pair]] = {
    **{f"name: {case}": lambda f, name=name: f.pair(name, role="site") for case, name in ODD_NAMES.items()},
    **{f"CN: {case}": lambda f, name=name: f.pair(common_name=name) for case, name in ODD_NAMES.items()},
    "org: a path": lambda f: f.pair(org="../../etc"),
    "no role": lambda f: f.pair(uri="https://example.org/site-2"),
    "two roles": lambda f: f.pair(uri=f"spiffe://{PROJECT}/site/site-2/project_admin"),
    "an invented role": lambda f: f.pair("root@nvidia.com", "root"),
    "another project": lambda f: f.pair(uri="spiffe://other/site/site-2"),
    "both purposes": lambda f: f.pair(purposes=(*CLIENT, *SERVER)),
    "RSA 1024": lambda f: f.pair(key=rsa.generate_private_key(65537, 1024)),
    "RSA 2048": lambda f: f.pair(key=rsa.generate_private_key(65537, 2048)),
    "P-384": lambda f: f.pair(key=ec.generate_private_key(ec.SECP384R1())),
}


def status_of(peer: Peer) -> str:
    """How a question for the server's status ends."""
    try:
        return str(peer.ask("Status", Ask()).code)
    except grpc.RpcError as error:
        return str(error.code().name)


K9 = ("RSA 1024", "RSA 2048", "P-384")


@pytest.mark.parametrize("case", [pytest.param(case, marks=row("K9" if case in K9 else "K8")) for case in NOT_BELIEVED])
@pytest.mark.usefixtures("unharmed")
def test_nobody_is_believed_with(running: Federation, forger: Forger, case: str) -> None:
    pair = NOT_BELIEVED[case](forger)
    with Peer(running, pair) as peer:
        # OpenSSL itself refuses the weakest: then there is no connection
        assert peer.status() in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAVAILABLE)
        assert status_of(peer) in ("AUTH_FAILED", "UNAVAILABLE")
    assert not [line for line in running.log("server").splitlines() if line.startswith("2026-01-01")]


@row("K9")
@pytest.mark.skipif(shutil.which("openssl") is None, reason="NOT TESTED: signing with SHA-1 needs openssl")
def test_a_signature_with_sha_1_is_not_believed(running: Federation, forger: Forger, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "key.pem").write_bytes(pem_of(key))
    (tmp_path / "extensions").write_text(
        f"basicConstraints=critical,CA:FALSE\nextendedKeyUsage=clientAuth\nsubjectAltName=URI:spiffe://{PROJECT}/site/site-2\n"
    )
    ca = running.prod.parent / "ca"
    for words in (
        ["req", "-new", "-key", "key.pem", "-subj", "/CN=site-2/O=nvidia", "-out", "request.pem"],
        ["x509", "-req", "-sha1", "-in", "request.pem", "-CA", str(ca / "rootCA.pem"), "-CAkey", str(ca / "rootCA.key"),
         "-extfile", "extensions", "-days", "1", "-out", "certificate.pem"],
    ):  # fmt: skip
        subprocess.run(["openssl", *words], cwd=tmp_path, check=True, capture_output=True, timeout=30)
    pem = (tmp_path / "certificate.pem").read_bytes()
    with pytest.raises(KitError, match="SHA-256 or better"):
        verify_certificate(pem, (ca / "rootCA.pem").read_bytes())
    with Peer(running, Pair(pem_of(key), pem)) as peer:
        assert status_of(peer) in ("AUTH_FAILED", "UNAVAILABLE")


@row("K6", "S7")
@pytest.mark.usefixtures("unharmed")
def test_a_site_asks_nothing_of_users_and_a_user_nothing_of_sites(running: Federation) -> None:
    with Peer(running, pair_of(load_kit(running.prod / "site-2"))) as site:
        assert site.ask("Status", Ask()).code == "AUTH_FAILED"
    with Peer(running, pair_of(load_kit(running.prod / "admin@nvidia.com"))) as admin:
        assert admin.ask("Status", Ask()).code == ""
        for call in ("Connect", "Fetch", "Push"):
            assert admin.status(call) is grpc.StatusCode.PERMISSION_DENIED


@row("K1")
@pytest.mark.usefixtures("unharmed")
def test_a_certificate_that_expires_is_refused_on_its_open_connection(running: Federation, forger: Forger) -> None:
    with Peer(running, forger.pair("admin@nvidia.com", "project_admin", seconds=(-60, 8))) as peer:
        assert peer.ask("Status", Ask()).code == ""
        replies = []
        assert becomes(lambda: replies.append(peer.ask("Status", Ask())) or replies[-1].code == "AUTH_FAILED", 60)
        assert "expired" in replies[-1].message


@row("K11", "W15")
def test_of_two_certificates_of_one_site_the_newer_connection_stays(running: Federation, forger: Forger) -> None:
    first, second = (Peer(running, forger.pair("site-9")) for _ in range(2))
    older, newer = Stream(first), None
    try:
        assert next(iter(older)).project == PROJECT
        newer = Stream(second)
        assert next(iter(newer)).project == PROJECT
        assert [message.code for message in older.ended()] == ["FENCED"]
    finally:
        for one in (older, newer, first, second):
            if one is not None:
                one.close()


@row("K12")
def test_a_kit_of_another_project_of_the_same_names_is_told_so(running: Federation, tmp_path: Path) -> None:
    port = int(running.address.rpartition(":")[2])
    other = provision(sample_project(["site-1", "site-2"], port=port), tmp_path)
    with pytest.raises((ConnectionFailed, AuthError), match=r"another project that is also called|CA|issued") as caught:
        Session.open(other / "admin@nvidia.com", timeout=30).status()
    assert caught.value.exit_status == 2
    # and with the true authority to believe, the server does not believe the kit
    with Peer(running, pair_of(load_kit(other / "site-1"))) as peer:
        assert peer.status() is grpc.StatusCode.UNAVAILABLE


@pytest.fixture
def impostor(running: Federation, forger: Forger, tmp_path: Path) -> Iterator[Callable[[Pair], int]]:
    """Something that speaks TLS with any certificate; gives its port."""
    listeners: list[socket.socket] = []

    def serve(pair: Pair) -> int:
        path = tmp_path / "impostor.pem"
        path.write_bytes(pair.key + pair.certificate)
        secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        secure.load_cert_chain(path)
        secure.set_alpn_protocols(["h2"])
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def accept() -> None:
            while True:
                try:
                    plain, _ = listener.accept()
                except OSError:
                    return
                try:
                    secure.wrap_socket(plain, server_side=True).close()
                except OSError:
                    plain.close()

        threading.Thread(target=accept, daemon=True).start()
        return int(listener.getsockname()[1])

    yield serve
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@row("K13")
def test_a_server_of_another_name_is_told_with_the_names_that_it_has(
    running: Federation, forger: Forger, impostor: Callable[[Pair], int]
) -> None:
    pair = forger.pair("fl.elsewhere.org", "server", purposes=SERVER, hosts=("fl.elsewhere.org", "localhost"))
    kit = load_kit(running.prod / "admin@nvidia.com")
    there = attrs.evolve(kit.settings, server_host="127.0.0.1", server_port=impostor(pair))
    with pytest.raises(ConnectionFailed, match=r"not for 'server'") as caught:
        Session(attrs.evolve(kit, settings=there), timeout=30).status()
    assert "fl.elsewhere.org" in caught.value.message
    assert caught.value.exit_status == 2


@row("K5", "K13")
def test_a_site_that_plays_the_server_is_not_believed(
    running: Federation, forger: Forger, impostor: Callable[[Pair], int]
) -> None:
    kit = load_kit(running.prod / "admin@nvidia.com")
    port = impostor(forger.pair("site-2", hosts=("server", "localhost")))
    there = attrs.evolve(kit.settings, server_host="127.0.0.1", server_port=port)
    with pytest.raises(ConnectionFailed, match="not a server's") as caught:
        Session(attrs.evolve(kit, settings=there), timeout=30).status()
    assert caught.value.exit_status == 2


@row("K14")
def test_the_key_of_another_certificate_opens_nothing(running: Federation, forger: Forger) -> None:
    pair = attrs.evolve(forger.pair(), key=pem_of(ec.generate_private_key(ec.SECP256R1())))
    with Peer(running, pair) as peer:
        assert peer.status() is grpc.StatusCode.UNAVAILABLE


@row("K3", "S5")
@pytest.mark.usefixtures("unharmed")
def test_nobody_is_served_without_tls(running: Federation) -> None:
    with dial(running) as plain:
        plain.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
        plain.settimeout(10)
        assert b"example_project" not in plain.recv(4096)
    with grpc.insecure_channel(running.address) as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary("/flpoc.User/Status")(b"", timeout=5)


@row("S5")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_an_old_tls_is_not_spoken(running: Federation, tmp_path: Path, version: ssl.TLSVersion) -> None:
    pair = pair_of(load_kit(running.prod / "site-2"))
    now = tls(running, pair, tmp_path)
    with dial(running) as plain, now.wrap_socket(plain, server_hostname="server") as secure:
        assert secure.version() in ("TLSv1.2", "TLSv1.3")
    old = tls(running, pair, tmp_path)
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version, old.maximum_version = version, version
    with dial(running) as plain, pytest.raises(OSError, match=r"(?i)version|protocol|alert|EOF|reset"):
        old.wrap_socket(plain, server_hostname="server")
