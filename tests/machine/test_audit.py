"""What a real server and real sites write down about who wanted what."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import grpc
import pytest

from flpoc.audit.checking import last_records, verify
from flpoc.errors import AuthError, FlpocError, ServiceError
from flpoc.provision.building import provision
from flpoc.provision.kits import Kit, load_kit
from flpoc.provision.project_file import sample_project
from flpoc.session import Session
from flpoc.wire.asks import Ask
from flpoc.wire.codec import encode
from flpoc.wire.messages import Announce, Hello, JobReport
from flpoc.wire.options import SITE_SERVICE, USER_SERVICE, channel_options

from .federation import Federation, federation, write_job

SCRIPT = """
    import threading
    import numpy as np
    import flpoc.client as flare

    flare.init()
    while flare.is_running():
        model = flare.receive()
        if model.current_round == 2:
            threading.Event().wait()
        flare.send(flare.FLModel(params={"w": np.zeros(4, "float32")}))
"""

Said = tuple[str, str, str]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with federation(tmp_path_factory.mktemp("audit"), sites=1) as found:
        yield found


class Since:
    """What is written down from now on."""

    def __init__(self, running: Federation, service: str = "server") -> None:
        self.log = running.state(service) / "audit"
        self._before = verify(self.log).records

    def records(self) -> list[Any]:
        return [one.decision for one in last_records(self.log, 10_000)[self._before :]]

    def said(self) -> list[Said]:
        """Who wanted what, and what came of it; not the question after the server's state that begins a session."""
        return [
            (one.principal.name, one.verb, one.outcome) for one in self.records() if one.verb not in ("Status", "Ready")
        ]


def dial(kit: Kit, service: str, call: str) -> Any:
    """A remote procedure as any program with a kit could call it."""
    credentials = grpc.ssl_channel_credentials(kit.root_pem, kit.key_pem, kit.certificate_pem)
    channel = grpc.secure_channel(kit.server_address, credentials, channel_options(kit.certificate_name))
    return channel.stream_stream(f"/{service}/{call}")


def answers(kit: Kit, service: str, call: str, message: Any) -> list[bytes] | grpc.StatusCode:
    try:
        return list(dial(kit, service, call)(iter([encode(message)]), timeout=10))
    except grpc.RpcError as error:
        return error.code()


def test_users_who_may_not_are_refused_with_one_record_each_and_nothing_else_happens(
    running: Federation, tmp_path: Path
) -> None:
    job = write_job(tmp_path / "job", SCRIPT, sites=["site-9"], min_clients=1)
    with running.session() as admin, Session.open(running.prod / "lead@nvidia.com") as lead:
        since = Since(running)
        waiting = admin.submit_job(job)
        for wish in (lead.abort_job, lead.delete_job, lead.get_job_meta):
            try:
                wish(waiting)
            except AuthError:
                continue
        with Session.open(running.prod / "org-admin@nvidia.com") as other, pytest.raises(AuthError):
            other.submit_job(job)
        admin.abort_job(waiting)
    assert since.said() == [
        ("admin@nvidia.com", "Submit", "allow"),
        ("admin@nvidia.com", "accept", "allow"),
        ("lead@nvidia.com", "Abort", "deny"),
        ("lead@nvidia.com", "Delete", "deny"),
        ("lead@nvidia.com", "Meta", "allow"),
        ("org-admin@nvidia.com", "Submit", "deny"),
        ("admin@nvidia.com", "Abort", "allow"),
    ]
    about = {one.verb: one.object for one in since.records()}
    assert waiting in about["accept"]
    assert waiting in about["Abort"]
    assert verify(since.log).fault is None


@pytest.mark.row("K6")
def test_sites_make_no_calls_of_users_and_users_none_of_sites(running: Federation) -> None:
    site, user = load_kit(running.prod / "site-1"), load_kit(running.prod / "admin@nvidia.com")
    since = Since(running)
    hello = Hello(1, "0", 1, {})
    (reply,) = answers(site, USER_SERVICE, "Status", Ask())
    assert b"AUTH_FAILED" in reply
    assert answers(user, SITE_SERVICE, "Connect", hello) is grpc.StatusCode.PERMISSION_DENIED
    assert [(one.principal.name, one.verb, one.outcome, one.reason) for one in since.records()] == [
        ("site-1", "Status", "deny", "site-1 is a site; Status is for users"),
        ("admin@nvidia.com", "Connect", "deny", "admin@nvidia.com is a user; Connect is for sites"),
    ]
    running.ready()


@pytest.mark.row("K5", "K12")
def test_a_server_and_a_kit_of_another_project_with_equal_names_do_not_get_as_far_as_a_decision(
    running: Federation, tmp_path: Path
) -> None:
    port = int(running.address.rpartition(":")[2])
    other = provision(sample_project(["site-1"], port=port), tmp_path)
    since = Since(running)
    for folder in (other / "admin@nvidia.com", other / "site-1", running.prod / "server"):
        (certificate,) = (folder / "startup").glob("[cs]*.crt")
        kit = load_kit(running.prod / "site-1")
        key = certificate.with_suffix(".key")
        stolen = attrs.evolve(kit, certificate_pem=certificate.read_bytes(), key_pem=key.read_bytes())
        assert answers(stolen, SITE_SERVICE, "Connect", Hello(1, "0", 1, {})) is grpc.StatusCode.UNAVAILABLE
    assert since.records() == []


@pytest.mark.row("K3")
def test_a_site_that_dials_a_server_of_another_project_says_why_it_has_no_connection(
    running: Federation, tmp_path: Path
) -> None:
    port = int(running.address.rpartition(":")[2])
    other = provision(sample_project(["site-1"], name="elsewhere", port=port), tmp_path / "kits")
    log = tmp_path / "site.log"
    argv = [sys.executable, "-m", "flpoc.site", str(other / "site-1"), "--state", str(tmp_path / "state")]
    with log.open("wb") as file, subprocess.Popen(argv, stderr=subprocess.PIPE) as agent:
        assert agent.stderr is not None
        for line in agent.stderr:
            file.write(line)
            if b"WARNING" in line:
                break
        agent.terminate()
        agent.stderr.read()
        assert agent.wait(60) == 0
    assert b"is not of project 'elsewhere': it was issued by 'CN=example_project'" in line
    (record,) = [one.decision for one in last_records(tmp_path / "state" / "audit", 10)]
    assert (record.principal.kind, record.verb, record.outcome) == ("server", "Connect", "deny")
    assert "issued by 'CN=example_project'" in record.reason


@pytest.mark.row("K11", "W15")
def test_of_two_agents_with_one_kit_the_older_is_fenced_and_that_is_written_down(
    running: Federation, tmp_path: Path
) -> None:
    since = Since(running)
    argv = [sys.executable, "-m", "flpoc.site", str(running.prod / "site-1"), "--state", str(tmp_path / "state")]
    older = running._services["site-1"]
    newer = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
    try:
        assert older.wait(60) != 0
    finally:
        newer.terminate()
        newer.wait(60)
        running.start("site-1")
        running.ready()
    said = [one for one in since.said() if one[0] == "site-1"]
    assert said[:2] == [("site-1", "Connect", "allow"), ("site-1", "fence", "deny")]
    assert "fence" not in [verb for _, verb, _ in said[2:]]


@pytest.mark.row("W11")
def test_updates_and_reports_that_nobody_wants_are_written_down(running: Federation, tmp_path: Path) -> None:
    """The site's own agent is away; what its kit can be made to say is refused."""
    job = write_job(tmp_path / "job", SCRIPT, sites=["site-1"], rounds=9)
    kit = load_kit(running.prod / "site-1")
    with running.session() as session:
        found = session.submit_job(job)
        for meta in session.watch_job(found):
            if meta["rounds_committed"] >= 2:
                break
        running.stop("site-1")
        since = Since(running)
        facts = {"kind": "train", "attempt": 1, "size": 8, "checksum": "0" * 32, "weight": 1.0, "params_type": "FULL"}
        more: dict[str, Any] = {"metrics": {}, "meta": {}, "evaluates": False}
        wanted = [(found, 1, 0), (found, 7, 2), ("unknown", 1, 0)]
        messages = [Announce(job=job_id, run=run, round=number, **facts, **more) for job_id, run, number in wanted]
        # the report first: it has no answer to wait for
        refused = speak(kit, [JobReport("elsewhere", 1, "joined"), *messages], answers=3)
        session.abort_job(found)
        running.start("site-1")
        running.ready()
    assert sorted(refused) == ["ABORTED", "ABORTED", "STALE"]
    denied = [one for one in since.records() if one.principal.kind == "site" and one.outcome == "deny"]
    said = sorted((one.verb, one.object) for one in denied)
    assert {
        ("report", "job elsewhere"),
        ("update", f"round 1 of job {found}, run 1"),
        ("update", f"round 3 of job {found}, run 7"),
        ("update", "round 1 of job unknown, run 1"),
    } <= set(said)


def speak(kit: Kit, messages: list[Any], *, answers: int) -> list[str]:
    """Connect as a site does, say something, and hear the verdicts on announced updates."""
    from flpoc import API, __version__
    from flpoc.wire.messages import PROTOCOL, TO_SITE, Answer

    enough = threading.Event()

    def said() -> Iterator[bytes]:
        yield encode(Hello(PROTOCOL, __version__, API, {}))
        yield from map(encode, messages)
        enough.wait(20)

    call = dial(kit, SITE_SERVICE, "Connect")(said(), timeout=20)
    heard = []
    for data in call:
        message = TO_SITE.decode(data)
        if isinstance(message, Answer):
            heard.append(message.verdict)
        if len(heard) == answers:
            break
    enough.set()
    call.cancel()
    return heard


def test_a_site_writes_down_what_it_agrees_to_run_and_what_not(running: Federation, tmp_path: Path) -> None:
    since = Since(running, "site-1")
    odd = {"@default": {"script": "train.py", "command": ["/bin/sh", "-c"]}}
    good = write_job(tmp_path / "good", SCRIPT, sites=["site-1"], rounds=2)
    bad = write_job(tmp_path / "bad", SCRIPT, sites=["site-1"], rounds=1)
    (bad / "job.json").write_text(json.dumps({"name": "bad", "sites": ["site-1"], "scripts": odd}))
    with running.session() as session:
        jobs = [session.submit_job(folder) for folder in (good, bad)]
        ends = [session.wait_for_job(job, timeout=60)["status"] for job in jobs]
    assert ends == ["FINISHED:COMPLETED", "FINISHED:FAILED"]
    said = {one.object: (one.principal.name, one.verb, one.outcome, one.reason) for one in since.records()}
    assert said == {
        f"job {jobs[0]}, run 1": ("admin@nvidia.com", "run", "allow", ""),
        f"job {jobs[1]}, run 1": ("admin@nvidia.com", "run", "deny", "site-1 does not start '/bin/sh'"),
    }
    assert len(since.records()) == 2


@pytest.mark.row("S24")
def test_a_server_that_cannot_write_its_log_changes_nothing_and_answers(running: Federation, tmp_path: Path) -> None:
    job = write_job(tmp_path / "job", SCRIPT, sites=["site-9"], min_clients=1)
    log = running.state("server") / "audit"
    server = running._services["server"].pid
    with running.session() as session:
        waiting = session.submit_job(job)
        before = resource.prlimit(server, resource.RLIMIT_FSIZE)
        resource.prlimit(server, resource.RLIMIT_FSIZE, ((log / "audit.jsonl").stat().st_size, before[1]))
        try:
            with pytest.raises(FlpocError, match="audit log cannot be written") as refused:
                session.abort_job(waiting)
            assert session.get_job_status(waiting) == "SUBMITTED"
        finally:
            resource.prlimit(server, resource.RLIMIT_FSIZE, before)
        assert isinstance(refused.value, ServiceError)
        session.abort_job(waiting)
    *_, gap, abort = [one.decision for one in last_records(log, 10)]
    assert (gap.verb, gap.outcome) == ("gap", "note")
    assert (abort.verb, abort.outcome) == ("Abort", "allow")
    assert verify(log).fault is None


@pytest.mark.row("S22")
def test_no_secret_is_in_a_log_and_nobody_else_can_read_one(running: Federation) -> None:
    keys = [line for path in running.prod.glob("*/startup/*.key") for line in path.read_bytes().split(b"\n")[1:-2]]
    assert keys
    for name in ("server", "site-1"):
        for path in (running.state(name) / "audit").iterdir():
            assert not path.stat().st_mode & 0o077
            content = path.read_bytes()
            assert not [line for line in keys if line in content]


def list_until_it_fails(running: Federation) -> None:
    with running.session() as session, contextlib.suppress(FlpocError):
        while True:
            session.list_jobs()


@pytest.mark.row("S23")
def test_a_server_that_is_killed_while_it_writes_goes_on_with_a_sound_log(tmp_path: Path) -> None:
    with federation(tmp_path, sites=1) as running:
        for _ in range(2):
            people = [threading.Thread(target=list_until_it_fails, args=(running,)) for _ in range(3)]
            before = verify(running.state("server") / "audit").records
            for one in people:
                one.start()
            while verify(running.state("server") / "audit").records < before + 50:
                assert any(one.is_alive() for one in people)
            running.kill("server")
            for one in people:
                one.join(30)
            running.start("server")
            running.ready()
            found = verify(running.state("server") / "audit")
            assert found.fault is None
            assert found.records > before + 50
        running.stop()
        log = running.state("server") / "audit" / "audit.jsonl"
        content = bytearray(log.read_bytes())
        content[len(content) // 2] ^= 1
        log.write_bytes(content)
        assert verify(log.parent).fault is not None


def test_the_reason_names_since_when_a_certificate_has_expired(running: Federation, tmp_path: Path) -> None:
    from flpoc.wire.reaching import UntrustedError, diagnose

    kit = load_kit(running.prod / "site-1")
    expired = make_expired(running.prod, tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(expired, running.prod / "server" / "startup" / "server.key")
    tls.set_alpn_protocols(["h2"])
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                # who does not believe the certificate may be gone before this is noticed, and comes again to look at it
                with contextlib.suppress(OSError), connection, tls.wrap_socket(connection, server_side=True) as secure:
                    secure.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        settings = attrs.evolve(kit.settings, server_host="127.0.0.1", server_port=listener.getsockname()[1])
        found = diagnose(attrs.evolve(kit, settings=settings), timeout=20)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)
    assert isinstance(found, UntrustedError)
    assert "expired 3 days ago" in found.message


def make_expired(prod: Path, folder: Path) -> Path:
    """The server's certificate as it would look three days after its end."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    own = x509.load_pem_x509_certificate((prod / "server" / "startup" / "server.crt").read_bytes())
    key = serialization.load_pem_private_key((prod.parent / "ca" / "rootCA.key").read_bytes(), None)
    end = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=3, minutes=1)
    start = end - datetime.timedelta(days=1)
    builder = x509.CertificateBuilder(own.issuer, own.subject, own.public_key(), 5, start, end)
    for one in own.extensions:
        builder = builder.add_extension(one.value, one.critical)
    path = folder / "expired.crt"
    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))  # type: ignore[arg-type]
    assert os.path.getsize(path)
    return path
