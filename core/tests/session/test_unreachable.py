"""A server that cannot be reached: which step failed, said in words, soon."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import ssl
import threading
import time

import pytest

from flpoc.errors import AuthError, ConnectionFailed
from flpoc.provision.building import provision
from flpoc.provision.project_file import sample_project
from flpoc.session import Session


@pytest.fixture(scope="session")
def other_project(tmp_path_factory):
    """The kits of a project that has nothing to do with the one that runs."""
    return provision(sample_project(["site-1"], name="other"), tmp_path_factory.mktemp("other"))


@pytest.fixture
def dial(deployment, tmp_path):
    """Try to list jobs at another address; gives the error and how long it took."""

    def attempt(host, port, *, kit=None, timeout=20.0):
        folder = tmp_path / "kit"
        shutil.copytree(kit or deployment.kit(), folder)
        (folder / "local").mkdir(exist_ok=True)
        (folder / "local" / "connect.json").write_text(json.dumps({"host": host, "port": port}))
        began = time.monotonic()
        with Session.open(folder, timeout=timeout) as session, pytest.raises((ConnectionFailed, AuthError)) as caught:
            session.list_jobs()
        return caught.value, time.monotonic() - began

    return attempt


@pytest.fixture
def listening():
    """Serve connections with a function, one after the other; gives the port."""
    with contextlib.ExitStack() as stack:

        def serve(answer):
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def work():
                with contextlib.suppress(OSError):
                    while True:
                        connection, _ = listener.accept()
                        with connection, contextlib.suppress(OSError):
                            answer(connection)

            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            stack.callback(thread.join, 5)
            stack.callback(listener.shutdown, socket.SHUT_RDWR)
            return listener.getsockname()[1]

        yield serve


@pytest.mark.row("C13")
def test_a_closed_port_is_said_at_once(dial):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    error, took = dial("localhost", port)
    assert f"nothing listens at localhost:{port}" in error.message
    assert error.exit_status == 2
    assert took < 15  # not when the time is up


@pytest.mark.row("C13")
def test_a_name_that_does_not_resolve_is_said(dial):
    error, _ = dial("no.such.host.invalid", 8002)
    assert "'no.such.host.invalid' cannot be found" in error.message


@pytest.mark.row("C13")
def test_a_web_server_is_no_flpoc_server(dial, listening):
    error, _ = dial("127.0.0.1", listening(lambda one: one.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")))
    assert "no flpoc server" in error.message


@pytest.mark.row("C13")
def test_a_server_that_says_nothing_is_given_up_in_time(dial, listening):
    error, took = dial("127.0.0.1", listening(lambda one: one.recv(1 << 20) and one.recv(1)), timeout=4)
    assert "says nothing: a server that hangs, or no flpoc server" in error.message
    assert took < 30


@pytest.mark.row("K3")
def test_the_issuer_of_a_foreign_certificate_is_named(dial, listening, other_project):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    startup = other_project / "server" / "startup"
    tls.load_cert_chain(startup / "server.crt", startup / "server.key")
    tls.set_alpn_protocols(["h2"])

    def answer(connection):
        with tls.wrap_socket(connection, server_side=True) as secure:
            secure.recv(1)

    error, _ = dial("127.0.0.1", listening(answer))
    assert "it was issued by 'CN=other'" in error.message
    assert "flpoc config inspect" in error.hint


@pytest.mark.row("K3")
def test_another_project_of_the_same_name_is_told_from_ours(dial, listening, deployment, tmp_path):
    namesake = provision(sample_project(["site-1"], name="example_project"), tmp_path) / "server" / "startup"
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(namesake / "server.crt", namesake / "server.key")
    tls.set_alpn_protocols(["h2"])

    def answer(connection):
        with tls.wrap_socket(connection, server_side=True) as secure:
            secure.recv(1)

    error, _ = dial("127.0.0.1", listening(answer))
    assert "of another project that is also called 'example_project'" in error.message
    assert "flpoc poc start" in error.hint


def test_a_user_of_another_project_is_told_that_the_kit_is_the_cause(dial, deployment, other_project, tmp_path):
    kit = shutil.copytree(other_project / "admin@nvidia.com", tmp_path / "foreign")
    shutil.copy(deployment.kit() / "startup" / "rootCA.pem", kit / "startup")
    error, _ = dial("localhost", deployment.port, kit=kit)
    assert isinstance(error, AuthError)
    assert "issued by 'other'" in error.message


def test_a_slow_handshake_is_waited_for(deployment, listening, tmp_path):
    """A line on which every packet takes its time: more than gRPC's shortest back-off."""
    never = threading.Event()

    def pipe(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                never.wait(0.15)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def forward(connection):
        with socket.create_connection(("localhost", deployment.port)) as server:
            back = threading.Thread(target=pipe, args=(server, connection), daemon=True)
            back.start()
            pipe(connection, server)
            back.join(5)

    kit = shutil.copytree(deployment.kit(), tmp_path / "kit")
    (kit / "local").mkdir(exist_ok=True)
    (kit / "local" / "connect.json").write_text(json.dumps({"host": "127.0.0.1", "port": listening(forward)}))
    with Session.open(kit, timeout=30) as session:
        assert session.status()["server"] == "server"
