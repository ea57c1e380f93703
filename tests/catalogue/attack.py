"""What an attacker holds: certificates of every kind, raw connections, a site that lies."""

from __future__ import annotations

import datetime
import hashlib
import queue
import socket
import sqlite3
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import grpc
import xxhash
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from machine.federation import Federation

from flpoc import API, __version__
from flpoc.provision.identity import identity_uri
from flpoc.provision.kits import Kit, load_kit
from flpoc.wire.asks import REPLIES, Reply
from flpoc.wire.codec import encode
from flpoc.wire.messages import PROTOCOL, TO_SITE, Announce, Hello, JobReport, JobWant
from flpoc.wire.options import SITE_SERVICE, USER_SERVICE, channel_options

PROJECT = "example_project"
CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)
SERVER = (ExtendedKeyUsageOID.SERVER_AUTH,)


@attrs.frozen
class Pair:
    """A private key and a certificate, both PEM."""

    key: bytes
    certificate: bytes


def pem_of(key: Any) -> bytes:
    form = serialization
    return bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()))


class Forger:
    """Issues certificates as the project's authority would, but for what a test asks."""

    def __init__(self, ca: Path) -> None:
        self.key: Any = serialization.load_pem_private_key((ca / "rootCA.key").read_bytes(), None)
        self.root = x509.load_pem_x509_certificate((ca / "rootCA.pem").read_bytes())

    def pair(
        self,
        name: str = "site-2",
        role: str = "site",
        *,
        common_name: str | None = None,
        uri: str | None = None,
        org: str = "nvidia",
        key: Any = None,
        signer: Any = None,
        issuer: x509.Name | None = None,
        purposes: tuple[x509.ObjectIdentifier, ...] = CLIENT,
        seconds: tuple[float, float] = (-3600, 3600),
        algorithm: Any = None,
        hosts: tuple[str, ...] = (),
        serial: int = 0,
    ) -> Pair:
        """A key and a certificate; what is not given is as it should be."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        kind: Any = role if role in ("site", "server") else "user"
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, name if common_name is None else common_name, _validate=False),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, org, _validate=False),
            ]
        )
        names: list[x509.GeneralName] = [
            x509.UniformResourceIdentifier(identity_uri(PROJECT, kind, role, name) if uri is None else uri)
        ]
        number = serial or x509.random_serial_number()
        built = (
            x509.CertificateBuilder(issuer or self.root.subject, subject, key.public_key(), number)
            .not_valid_before(now + datetime.timedelta(seconds=seconds[0]))
            .not_valid_after(now + datetime.timedelta(seconds=seconds[1]))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.SubjectAlternativeName([*names, *map(x509.DNSName, hosts)]), critical=False)
        )
        made = built.sign(signer or self.key, algorithm or hashes.SHA256())
        return Pair(pem_of(key), made.public_bytes(serialization.Encoding.PEM))


def pair_of(kit: Kit) -> Pair:
    return Pair(kit.key_pem, kit.certificate_pem)


class Peer:
    """A connection of its own to the server, with any certificate."""

    def __init__(self, running: Federation, pair: Pair | None, *options: tuple[str, Any]) -> None:
        self.kit = load_kit(running.prod / "site-1")
        key, certificate = (pair.key, pair.certificate) if pair is not None else (None, None)
        credentials = grpc.ssl_channel_credentials(self.kit.root_pem, key, certificate)
        several = [*channel_options(self.kit.certificate_name, separate=True), *options]
        self.channel = grpc.secure_channel(running.address, credentials, several)

    def ask(self, call: str, message: Any, **more: Any) -> Reply:
        """What users ask: one message, one reply."""
        data = message if isinstance(message, bytes) else encode(message)
        return REPLIES.decode(self.channel.unary_unary(f"/{USER_SERVICE}/{call}")(data, timeout=30, **more))

    def status(self, call: str = "Connect", *messages: bytes) -> grpc.StatusCode:
        """How a call of sites ends that says only *messages*."""
        try:
            list(self.channel.stream_stream(f"/{SITE_SERVICE}/{call}")(iter(messages or (hello(),)), timeout=30))
        except grpc.RpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    def close(self) -> None:
        self.channel.close()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def hello(*jobs: JobReport, **changed: Any) -> bytes:
    return encode(attrs.evolve(Hello(PROTOCOL, __version__, API, {}, jobs), **changed))


class Stream:
    """The long stream of a site, in the hands of whoever wants to lie."""

    def __init__(self, peer: Peer, *first: bytes) -> None:
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        for data in first or (hello(),):
            self._queue.put(data)
        self._call = peer.channel.stream_stream(f"/{SITE_SERVICE}/Connect")(iter(self._queue.get, None), timeout=90)
        self.said: list[Any] = []

    def send(self, *messages: Any) -> None:
        for message in messages:
            self._queue.put(message if isinstance(message, bytes) else encode(message))

    def __iter__(self) -> Iterator[Any]:
        for data in self._call:
            self.said.append(TO_SITE.decode(data))
            yield self.said[-1]

    def next(self, kind: type, where: Callable[[Any], bool] = lambda _: True) -> Any:
        """The next message of a kind that fits; what comes before it is passed over."""
        return next(message for message in self if isinstance(message, kind) and where(message))

    def ended(self) -> list[Any]:
        """Read to the end; gives what came, and why it ended if not well."""
        try:
            return list(self)
        except grpc.RpcError as error:
            return [error.code()]
        finally:
            self._queue.put(None)

    def close(self) -> None:
        self._queue.put(None)
        self._call.cancel()


class Liar:
    """A site with a true certificate that takes part in one job, as it likes."""

    def __init__(self, running: Federation, name: str) -> None:
        self.running = running
        self.name = name
        self.peer = Peer(running, pair_of(load_kit(running.prod / name)))
        self.stream = Stream(self.peer)
        self.want: JobWant | None = None

    def join(self, job: str) -> JobWant:
        """Take part; returns once the first task is there."""
        self.want = self.stream.next(JobWant, lambda want: want.job == job)
        assert self.want is not None
        self.stream.send(JobReport(job, self.want.run, "joined"))
        if self.want.task is None:
            self.want = self.stream.next(JobWant, lambda want: want.job == job and want.task is not None)
        return self.want

    def update(self, data: bytes, *, inline: bool = True, **changed: Any) -> Announce:
        """An announcement of these bytes for the task at hand."""
        task = self.want.task if self.want is not None else None
        fields: dict[str, Any] = {
            "job": self.want.job if self.want else "none", "run": 1, "round": task.round if task else 0,
            "kind": "train", "attempt": 1, "size": len(data), "checksum": xxhash.xxh3_128_hexdigest(data),
            "weight": 1.0, "params_type": "FULL", "metrics": {}, "meta": {}, "evaluates": False,
            "inline": data if inline else None,
        }  # fmt: skip
        return Announce(**{**fields, **changed})

    def close(self) -> None:
        self.stream.close()
        self.peer.close()


# -- what a server's process holds


@attrs.frozen
class Vitals:
    """Open files and memory of a process; a digest of what its database says."""

    files: int
    kib: int
    state: str


def vitals(running: Federation, name: str = "server") -> Vitals:
    process = Path("/proc") / str(running.pid(name))
    memory = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    kib = int(memory["RssAnon"].split()[0])
    return Vitals(len(list((process / "fd").iterdir())), kib, state_of(running))


def state_of(running: Federation) -> str:
    """A digest of all that the server's database says of jobs."""
    path = running.state("server") / "server.sqlite"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        tables = ("jobs", "rounds", "updates", "ledger", "tokens")
        rows = [db.execute(f"SELECT * FROM {table} ORDER BY rowid").fetchall() for table in tables]
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def becomes(check: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Whether something nobody announces comes true in time."""
    until = time.monotonic() + seconds
    while not check():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


# -- connections below gRPC


def dial(running: Federation) -> socket.socket:
    host, _, port = running.address.rpartition(":")
    return socket.create_connection((host, int(port)), 5)


def tls(running: Federation, pair: Pair | None = None, folder: Path | None = None) -> ssl.SSLContext:
    """A client's side of TLS that believes the project's authority."""
    kit = load_kit(running.prod / "site-1")
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    found.load_verify_locations(cadata=kit.root_pem.decode())
    found.set_alpn_protocols(["h2"])
    if pair is not None and folder is not None:
        path = folder / f"{hashlib.sha256(pair.certificate).hexdigest()[:16]}.pem"
        path.write_bytes(pair.key + pair.certificate)
        found.load_cert_chain(path)
    return found
