"""What comes over the wire and should not: a real server, and a site that lies to it."""

from __future__ import annotations

import itertools
import json
import pickle
import socket
import sqlite3
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import grpc
import msgspec
import numpy as np
import pytest
import xxhash
from machine.federation import Federation, write_job

from flpoc.models.header import encode_header
from flpoc.models.tensors import write_tensors
from flpoc.provision.kits import load_kit
from flpoc.server.authorization import SITE_CALLS, USER_CALLS
from flpoc.server.site_service import CALLS_OF_A_SITE
from flpoc.wire.asks import REPLIES, AboutJob, Ask
from flpoc.wire.codec import MAX_MESSAGE_BYTES, SHORT_BYTES, encode
from flpoc.wire.local import Wire, connect
from flpoc.wire.messages import (
    PUSHED,
    Answer,
    Fetch,
    JobReport,
    JobWant,
    LogLines,
    LogsHave,
    Metrics,
    Progress,
    Push,
    Welcome,
)
from flpoc.wire.options import SITE_SERVICE, USER_SERVICE
from flpoc.wire.trainer_messages import TO_TRAINER, LocalHello
from flpoc.wire.vocabulary import MetricRow, Refused

from .attack import Liar, Peer, Stream, becomes, dial, hello, pair_of, state_of, tls, vitals

row = pytest.mark.row

#: A script of the healthy site.
HONEST = """
    import numpy as np
    import flpoc.client as flare

    flare.init()
    while flare.is_running():
        model = flare.receive()
        params = model.params or {"w": np.zeros(4, "float32")}
        flare.send(flare.FLModel(params={name: value + 1 for name, value in params.items()}))
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """A server and a healthy site; site-3 is in the hands of the tests."""
    found = Federation(tmp_path_factory.mktemp("wire"), sites=3)
    try:
        found.start("server", "site-1")
        found.ready("site-1")
        yield found
    finally:
        found.close()


@pytest.fixture(scope="module")
def admin(running: Federation) -> Iterator[Peer]:
    with Peer(running, pair_of(load_kit(running.prod / "admin@nvidia.com"))) as peer:
        yield peer


@pytest.fixture
def liar(running: Federation) -> Iterator[Liar]:
    found = Liar(running, "site-3")
    yield found
    found.close()


@pytest.fixture
def submit(running: Federation, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Submit a job of the liar's; it is over when the test is."""
    numbers = itertools.count()
    jobs = []
    with running.session() as session:

        def act(**settings: Any) -> str:
            folder = tmp_path / f"job-{next(numbers)}"
            model = settings.pop("model", None)
            if model is not None:
                settings["initial_model"] = "start.safetensors"
            write_job(folder, HONEST, **{"sites": ["site-3"], "rounds": 1, **settings})
            if model is not None:
                write_tensors(folder / "code" / "start.safetensors", model)
            jobs.append(session.submit_job(folder))
            return jobs[-1]

        yield act
        for job in jobs:
            if not session.get_job_status(job).startswith("FINISHED"):
                session.abort_job(job)


@pytest.fixture
def unharmed(running: Federation) -> Iterator[None]:
    """Whatever a test does, the server's jobs are as before, files and memory are given back, and it answers."""
    before = vitals(running)
    yield
    running.ready("site-1")
    assert vitals(running).state == before.state
    assert becomes(lambda: vitals(running).files <= before.files + 2), vitals(running)
    assert vitals(running).kib < before.kib + (64 << 10)


def model_of(tensors: dict[str, Any], folder: Path) -> bytes:
    path = folder / "model.safetensors"
    path.unlink(missing_ok=True)
    write_tensors(path, tensors)
    return path.read_bytes()


# -- below messages


def random_bytes(plain: socket.socket, _: ssl.SSLContext) -> socket.socket:
    plain.sendall(bytes(range(256)) * 16)
    return plain


def half_open(plain: socket.socket, _: ssl.SSLContext) -> socket.socket:
    return plain


def half_a_hello(plain: socket.socket, _: ssl.SSLContext) -> socket.socket:
    plain.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    return plain


def web_browser(plain: socket.socket, _: ssl.SSLContext) -> socket.socket:
    plain.sendall(b"GET / HTTP/1.1\r\nHost: server\r\n\r\n")
    return plain


def secure(plain: socket.socket, secured: ssl.SSLContext) -> ssl.SSLSocket:
    return secured.wrap_socket(plain, server_hostname="server")


def garbage_in_tls(plain: socket.socket, secured: ssl.SSLContext) -> socket.socket:
    found = secure(plain, secured)
    found.sendall(bytes(range(256)) * 16)
    return found


def silence_in_tls(plain: socket.socket, secured: ssl.SSLContext) -> socket.socket:
    return secure(plain, secured)


def http_1_in_tls(plain: socket.socket, secured: ssl.SSLContext) -> socket.socket:
    found = secure(plain, secured)
    found.sendall(b"POST /flpoc.User/Status HTTP/1.1\r\nHost: server\r\nContent-Length: 0\r\n\r\n")
    return found


def garbage_in_http_2(plain: socket.socket, secured: ssl.SSLContext) -> socket.socket:
    found = secure(plain, secured)
    found.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\xff" * 4096)
    return found


RAW = [
    random_bytes, half_open, half_a_hello, web_browser, garbage_in_tls, silence_in_tls, http_1_in_tls, garbage_in_http_2
]  # fmt: skip


def until_closed(sock: socket.socket, seconds: float, drip: bytes = b"") -> float:
    """Seconds until the other side has closed; reads what comes, and may send a byte now and then."""
    began = time.monotonic()
    sock.settimeout(0.5)
    left = iter(drip)
    while time.monotonic() - began < seconds:
        try:
            if drip:
                sock.sendall(bytes([next(left, 0)]))
            if not sock.recv(65536):
                return time.monotonic() - began
        except TimeoutError:
            continue
        except OSError:
            return time.monotonic() - began
    raise AssertionError(f"still open after {seconds} s")


@row("W1")
@pytest.mark.usefixtures("unharmed")
def test_what_is_no_connection_of_ours_is_cut_off_within_seconds(running: Federation, tmp_path: Path) -> None:
    context = tls(running, pair_of(load_kit(running.prod / "site-3")), tmp_path)
    opened = [(kind.__name__, kind(dial(running), context), b"") for kind in RAW]
    opened.append(("slowloris", dial(running), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)))
    with ThreadPoolExecutor(len(opened)) as pool:
        waits = {name: pool.submit(until_closed, sock, 25, drip) for name, sock, drip in opened}
    for _, sock, _ in opened:
        sock.close()
    assert all(wait.result() < 25 for wait in waits.values())


@row("W14")
@pytest.mark.usefixtures("unharmed")
def test_more_than_a_thousand_idle_connections_do_not_keep_a_site_from_its_job(
    running: Federation, tmp_path: Path
) -> None:
    job = write_job(tmp_path / "job", HONEST, sites=["site-1"], rounds=5)
    before = vitals(running)
    idle = [dial(running) for _ in range(1100)]
    try:
        with running.session() as session:
            found = session.submit_job(job)
            assert session.wait_for_job(found, timeout=60)["status"] == "FINISHED:COMPLETED"
            session.delete_job(found)
        assert vitals(running).kib < before.kib + (256 << 10)
    finally:
        for sock in idle:
            sock.close()


# -- sizes


def said_to(act: Any, data: bytes) -> str:
    """The status or the code with which a call is refused."""
    try:
        (said,) = act(iter([data]), timeout=10)
    except grpc.RpcError as error:
        return str(error.code().name)
    return str(REPLIES.decode(said).code)


@row("W2", "S3")
@pytest.mark.parametrize("call", [*sorted(SITE_CALLS), *sorted(USER_CALLS)])
@pytest.mark.usefixtures("unharmed")
def test_a_message_that_is_too_large_is_refused(running: Federation, admin: Peer, call: str) -> None:
    with Peer(running, pair_of(load_kit(running.prod / "site-3")), ("grpc.max_send_message_length", -1)) as site:
        service, peer = (SITE_SERVICE, site) if call in SITE_CALLS else (USER_SERVICE, admin)
        act = peer.channel.stream_stream(f"/{service}/{call}")
        with pytest.raises(grpc.RpcError) as caught:
            list(act(iter([bytes(5 << 20)]), timeout=10))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        if call not in ("Connect", "Submit"):  # the others only name something
            assert said_to(act, bytes(SHORT_BYTES + 1)) in ("INVALID_ARGUMENT", "INTEGRITY_FAILED")


@row("W3")
@pytest.mark.usefixtures("unharmed")
def test_a_compressed_message_of_zeros_is_not_unfolded(running: Federation) -> None:
    process = Path("/proc") / str(running.pid("server"))
    (process / "clear_refs").write_text("5")  # the peak is counted from here
    before = vitals(running).kib
    admin = pair_of(load_kit(running.prod / "admin@nvidia.com"))
    with Peer(running, admin, ("grpc.max_send_message_length", -1)) as peer, pytest.raises(grpc.RpcError) as caught:
        peer.ask("List", bytes(256 << 20), compression=grpc.Compression.Gzip)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    facts = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    assert int(facts["VmHWM"].split()[0]) < before + int(facts["RssFile"].split()[0]) + (64 << 10)


@row("W4")
@pytest.mark.usefixtures("unharmed")
def test_long_metadata_are_refused(admin: Peer) -> None:
    with pytest.raises(grpc.RpcError):
        admin.ask("Status", Ask(), metadata=[("x-long", "x" * (64 << 10))])
    assert admin.ask("Status", Ask()).code == ""


# -- versions and messages


@row("W5")
@pytest.mark.parametrize("path", ["/flpoc.Site/Fly", "/flpoc.User/Connect", "/flpoc.Admin/Status", "/", "/x"])
@pytest.mark.usefixtures("unharmed")
def test_a_procedure_that_does_not_exist_is_unimplemented(admin: Peer, path: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        admin.channel.unary_unary(path)(b"", timeout=5)
    assert caught.value.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL)


@row("W5")
@pytest.mark.parametrize("changed", [{"protocol": 0}, {"protocol": 2}, {"api": 99, "version": "0.9.9"}])
@pytest.mark.usefixtures("unharmed")
def test_another_protocol_is_refused_with_both_versions(running: Federation, changed: dict[str, Any]) -> None:
    with Peer(running, pair_of(load_kit(running.prod / "site-3"))) as peer:
        said = Stream(peer, hello(**changed)).ended()
    assert [message.code for message in said] == ["VERSION_MISMATCH"]
    assert str(changed.get("protocol", changed.get("api"))) in said[0].message
    assert changed.get("version", "flpoc 0.") in said[0].message


def raw(tag: Any, fields: Any) -> bytes:
    return msgspec.msgpack.encode((tag, fields))


FINE = {"job": "j", "run": 1}
BAD_MESSAGES = {
    "empty": b"",
    "nothing of msgpack": b"\xc1\xc1",
    "JSON": b'["progress",{"job":"j","run":1}]',
    "another direction's": encode(Welcome("1", "p")),
    "an unknown kind": raw("os.system", {"command": "true"}),
    "an unknown field": raw("progress", {**FINE, "x": 1}),
    "a missing field": raw("progress", {"job": "j"}),
    "a number for a text": raw("progress", {"job": 1, "run": 1}),
    "cut off": raw("progress", FINE)[:-1],
    "trailing bytes": raw("progress", FINE) + b"\0",
    "a key twice": b"\x92\xa8progress\x83\xa3job\xa1j\xa3run\x01\xa3run\x02",
    "NaN": raw("metrics", {**FINE, "first": 0, "rows": [{"key": "k", "value": float("nan"), "time": 0.0}]}),
    "2,000 levels": b"\x92\xa8progress\x82\xa3job\xa1j\xa3run" + b"\x91" * 2000 + b"\x01",
    "100,000 levels": b"\x91" * 100_000,
    "a list of 2^32 - 1": b"\xdd\xff\xff\xff\xff",
    "a text of a gigabyte": b"\x92\xa8progress\x82\xa3job\xdb\x40\x00\x00\x00j",
    "text that is no UTF-8": b"\x92\xa8progress\x82\xa3job\xa1\xff\xa3run\x01",
    "an extension": b"\x92\xa8progress\x82\xa3job\xd4\x05\x00\xa3run\x01",
    "a second hello": hello(),
    "too large": raw("log-lines", {**FINE, "offset": 0, "data": bytes(MAX_MESSAGE_BYTES)}),
}
W7 = {"NaN", "2,000 levels", "100,000 levels", "a list of 2^32 - 1", "a key twice", "trailing bytes"}


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=row("W7" if case in W7 else "W6", "S2")) for case in BAD_MESSAGES]
)
@pytest.mark.usefixtures("unharmed")
def test_a_site_that_sends_what_is_no_message_is_refused(running: Federation, case: str) -> None:
    with Peer(running, pair_of(load_kit(running.prod / "site-3"))) as peer:
        stream = Stream(peer)
        stream.send(BAD_MESSAGES[case])
        said = stream.ended()
    assert [message.code for message in said if isinstance(message, Refused)] == ["INTEGRITY_FAILED"]
    assert str(running.folder) not in repr(said)


@pytest.mark.parametrize("case", [pytest.param(c, marks=row("W7" if c in W7 else "W6", "S2")) for c in BAD_MESSAGES])
@pytest.mark.usefixtures("unharmed")
def test_a_user_who_sends_what_is_no_message_is_refused(admin: Peer, case: str) -> None:
    assert admin.ask("Meta", BAD_MESSAGES[case]).code in ("INTEGRITY_FAILED", "INVALID_ARGS")


# -- updates that are no models


def header(text: str | bytes, data: bytes = bytes(16)) -> bytes:
    text = text.encode() if isinstance(text, str) else text
    return len(text).to_bytes(8, "little") + text + data


def tensor(begin: int = 0, end: int = 16, shape: Any = (4,), dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def numpy_file() -> bytes:
    file = BytesIO()
    np.save(file, np.zeros(4, "float32"))
    return file.getvalue()


def values(*numbers: float) -> bytes:
    head, _ = encode_header([("w", "F32", (4,))])
    return head + np.array(numbers, "float32").tobytes()


LIES: dict[str, tuple[str, bytes]] = {
    "a header of 2^63 bytes": ("W8", (1 << 63).to_bytes(8, "little") + bytes(100)),
    "a header longer than the file": ("W8", (10_000).to_bytes(8, "little") + bytes(100)),
    "cut off": ("W8", values(1, 2, 3, 4)[:-3]),
    "more than it says": ("W8", values(1, 2, 3, 4) + bytes(4)),
    "offsets beyond the file": ("W8", header(json.dumps({"w": tensor(0, 1 << 40, (1 << 38,))}))),
    "offsets that go back": ("W8", header(json.dumps({"w": tensor(16, 0)}))),
    "overlap": ("W8", header(json.dumps({"w": tensor(), "v": tensor(8, 24)}), bytes(24))),
    "a shape beyond memory": ("W8", header(json.dumps({"w": tensor(shape=(1 << 62, 1 << 62))}))),
    "a negative shape": ("W8", header(json.dumps({"w": tensor(shape=(-4,))}))),
    "a type of objects": ("W8", header(json.dumps({"w": tensor(dtype="O")}))),
    "a name twice": ("W8", header('{"w":' + json.dumps(tensor()) + ',"w":' + json.dumps(tensor()) + "}")),
    "a header that is no JSON": ("W8", header(b"\xff" * 64)),
    "nothing": ("W8", b""),
    "NaN": ("W8", values(1, float("nan"), 3, 4)),
    "infinity": ("W8", values(1, 2, float("inf"), 4)),
    "NumPy's format": ("W9", numpy_file()),
    "a pickle": ("W9", pickle.dumps({"w": [1.0, 2.0]})),
    "another name": ("S4", header(json.dumps({"v": tensor()}))),
    "another shape": ("S4", header(json.dumps({"w": tensor(shape=(2, 2))}))),
    "another type": ("S4", header(json.dumps({"w": tensor(0, 32, (4,), "F64")}), bytes(32))),
    "one tensor too many": ("S4", header(json.dumps({"w": tensor(), "x": tensor(16, 32)}), bytes(32))),
}


@pytest.fixture(scope="module")
def told_lies(running: Federation, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What became of a job for each update that is no model."""
    folder = tmp_path_factory.mktemp("lies")
    write_job(folder / "job", HONEST, sites=["site-3"], rounds=1, initial_model="start.safetensors")
    write_tensors(folder / "job" / "code" / "start.safetensors", {"w": np.zeros(4, "float32")})
    with running.session() as session, closing(Liar(running, "site-3")) as liar:
        cases = {session.submit_job(folder / "job"): case for case in LIES}
        answered: set[str] = set()
        while len(answered) < len(cases):
            want = liar.stream.next(JobWant, lambda want: want.job in cases and want.phase == "run")
            if want.signed is not None:
                liar.stream.send(JobReport(want.job, want.run, "joined"))
            if want.task is not None and want.job not in answered:
                answered.add(want.job)
                liar.stream.send(liar.update(LIES[cases[want.job]][1], job=want.job))
        return {case: session.wait_for_job(job, timeout=60) for job, case in cases.items()}


@pytest.mark.parametrize("case", [pytest.param(case, marks=row(LIES[case][0], "S4")) for case in LIES])
def test_an_update_that_lies_about_itself_is_refused_and_its_site_named(
    told_lies: dict[str, dict[str, Any]], running: Federation, case: str
) -> None:
    meta = told_lies[case]
    assert meta["status"] == "FINISHED:FAILED"
    assert meta["cause"]["site"] == "site-3" or "site-3" in meta["cause"]["message"]
    assert meta["rounds_committed"] == 0
    assert str(running.folder) not in json.dumps(meta["cause"])


# -- transfers that go wrong

BULK = {"w": np.arange(300_000, dtype="float32")}


@pytest.fixture
def bulk(tmp_path: Path) -> bytes:
    """An update that is too large for a message."""
    return model_of(BULK, tmp_path)


def push(liar: Liar, data: bytes, *chunks: bytes, offset: int = 0, **changed: Any) -> Answer:
    """Push these chunks as the update *data*."""
    update = liar.update(data, inline=False)
    start = Push(**{"job": update.job, "run": update.run, "round": 0, "checksum": update.checksum, "offset": offset}
                 | changed)  # fmt: skip
    call = liar.peer.channel.stream_unary(f"/{SITE_SERVICE}/Push")
    answer = PUSHED.decode(call(iter([encode(start), *chunks]), timeout=20))
    assert isinstance(answer, Answer)
    return answer


@row("W10")
def test_what_is_missing_of_a_transfer_is_asked_for_again(
    liar: Liar, submit: Callable[..., str], running: Federation, bulk: bytes
) -> None:
    job = submit(model=BULK)
    liar.join(job)
    liar.stream.send(liar.update(bulk, inline=False))
    assert liar.stream.next(Answer).have == 0
    # not announced, not expected at this offset, of another round: nothing of it is taken
    assert push(liar, bulk, bulk, checksum="0" * 32).verdict == "STALE"
    assert push(liar, bulk, bulk[99:], offset=99).have == 0
    assert push(liar, bulk, bulk, round=1).verdict == "STALE"
    assert push(liar, bulk, bulk[:1000]).have == 1000
    assert push(liar, bulk, bulk).have == 1000
    assert push(liar, bulk, bulk[1000:2000], b"", bulk[2000:3000], offset=1000).have == 3000
    assert push(liar, bulk, bulk[3000:], offset=3000).verdict == "ALL"
    # after its end
    assert push(liar, bulk, b"more", offset=len(bulk)).verdict in ("STALE", "ALL", "HAVE")
    with running.session() as session:
        assert session.wait_for_job(job, timeout=60)["status"] == "FINISHED:COMPLETED"


@row("W10")
def test_bytes_in_another_order_begin_again_once_and_are_then_refused(
    liar: Liar, submit: Callable[..., str], running: Federation, bulk: bytes
) -> None:
    job = submit(model=BULK)
    liar.join(job)
    liar.stream.send(liar.update(bulk, inline=False))
    liar.stream.next(Answer)
    swapped = (bulk[600_000:], bulk[:600_000])
    assert push(liar, bulk, *swapped).have == 0
    assert push(liar, bulk, *swapped).verdict == "REJECTED"
    with running.session() as session:
        meta = session.wait_for_job(job, timeout=60)
    assert (meta["status"], meta["cause"]["site"]) == ("FINISHED:FAILED", "site-3")


@row("W10")
def test_more_than_was_announced_is_refused(
    liar: Liar, submit: Callable[..., str], running: Federation, bulk: bytes
) -> None:
    job = submit(model=BULK)
    liar.join(job)
    liar.stream.send(liar.update(bulk, inline=False))
    liar.stream.next(Answer)
    assert push(liar, bulk, bulk, bulk).verdict == "REJECTED"
    with running.session() as session:
        meta = session.wait_for_job(job, timeout=60)
    assert meta["cause"]["site"] == "site-3"
    assert "more than the announced" in meta["cause"]["message"]


@row("W10")
def test_a_site_leaves_one_unfinished_file_however_many_it_announces(
    liar: Liar, submit: Callable[..., str], running: Federation, bulk: bytes
) -> None:
    job = submit(model=BULK)
    liar.join(job)
    updates = running.state("server") / "jobs" / job / "updates" / "0"
    for number in range(20):
        other = bulk[:-1] + bytes([number])
        liar.stream.send(liar.update(other, inline=False))
        liar.stream.next(Answer)
        assert push(liar, other, other[:1000]).have == 1000
        assert len(list(updates.iterdir())) == 1


@row("W10")
def test_of_two_transfers_of_one_file_the_older_ends(
    running: Federation, liar: Liar, submit: Callable[..., str], bulk: bytes
) -> None:
    liar.join(submit(model=BULK))
    liar.stream.send(liar.update(bulk, inline=False))
    liar.stream.next(Answer)
    update = liar.update(bulk, inline=False)
    gate = threading.Event()

    def slow() -> Iterator[bytes]:
        yield encode(Push(update.job, update.run, 0, update.checksum, 0))
        yield bulk[:5000]
        gate.wait(20)

    updates = running.state("server") / "jobs" / update.job / "updates" / "0"
    older = liar.peer.channel.stream_unary(f"/{SITE_SERVICE}/Push").future(slow(), timeout=20)
    try:
        assert becomes(lambda: any(path.stat().st_size == 5000 for path in updates.glob("*.part")))
        assert push(liar, bulk, offset=5000).have == 5000
        assert older.code() is grpc.StatusCode.ABORTED
        assert push(liar, bulk, bulk[5000:], offset=5000).verdict == "ALL"
    finally:
        gate.set()


@row("W10", "W14")
def test_who_does_not_read_or_drips_keeps_no_place_from_others(
    liar: Liar, submit: Callable[..., str], running: Federation, tmp_path: Path
) -> None:
    model = {"w": np.zeros(4_000_000, "float32")}
    job = submit(model=model, sites=["site-1", "site-3"], quorum=1, timeouts={"stall": 2.0})
    task = liar.join(job).task
    assert task is not None
    assert task.model is not None
    fetch = encode(Fetch(job, 1, "model", task.round, task.model.checksum, 0))
    act = liar.peer.channel.unary_stream(f"/{SITE_SERVICE}/Fetch")
    calls = [act(fetch) for _ in range(CALLS_OF_A_SITE + 8)]
    try:
        with running.session() as session:
            meta = session.wait_for_job(job, timeout=60)
        assert meta["status"] == "FINISHED:COMPLETED", meta["cause"]
        # one of its calls is the stream itself; those that it does not read end when it reads, or goes
        ended = [call.code() for call in calls if not call.is_active()]
        assert ended.count(grpc.StatusCode.RESOURCE_EXHAUSTED) == 9
    finally:
        for call in calls:
            call.cancel()


# -- updates that nobody waits for


def written(running: Federation, job: str) -> None:
    """Wait until it is in the database that a job runs: its sites are asked before."""
    with running.session() as session:
        session.get_job_meta(job)  # read from the database, after all that was to be written before


def rounds_of(running: Federation, job: str) -> list[int]:
    """The committed rounds of a job."""
    with closing(sqlite3.connect(running.state("server") / "server.sqlite")) as db:
        return [number for (number,) in db.execute("SELECT round FROM rounds WHERE job=? AND round>=0", (job,))]


@row("W11", "W12", "W13")
def test_updates_that_nobody_waits_for_change_nothing(
    liar: Liar, submit: Callable[..., str], running: Federation, tmp_path: Path
) -> None:
    other, done = submit(sites=["site-1"], rounds=1), submit(sites=["site-1"], rounds=1)
    with running.session() as session:
        for job in (other, done):
            session.wait_for_job(job, timeout=60)
    job = submit(rounds=3)
    liar.join(job)
    written(running, job)
    data = values(1, 2, 3, 4)
    before = state_of(running)

    def verdict(**changed: Any) -> str:
        update = liar.update(data, **changed)
        liar.stream.send(update)
        answer = liar.stream.next(
            Answer, lambda one: (one.job, one.run, one.round) == (update.job, update.run, update.round)
        )
        return str(answer.verdict)

    assert verdict(job="no-such-job") == "ABORTED"
    assert verdict(job=done) == "ABORTED"
    assert verdict(run=7) == "ABORTED"
    assert verdict(round=2) == "WAIT"
    assert state_of(running) == before
    assert verdict() == "ALL"
    assert liar.stream.next(JobWant, lambda want: want.task is not None and want.task.round == 1)
    # the model of a round may be on its way before its commit is on the disk
    assert becomes(lambda: rounds_of(running, job) == [0])
    committed = state_of(running)
    # round 1 is open now: round 0 is over, whatever comes of it
    assert verdict(round=0) == "STALE"
    assert verdict(round=0, attempt=0, weight=7.0) == "STALE"
    assert state_of(running) == committed


@row("W12", "S13")
def test_an_update_that_comes_a_hundred_times_counts_once(
    liar: Liar, submit: Callable[..., str], running: Federation
) -> None:
    job = submit(sites=["site-1", "site-3"], rounds=1, timeouts={"join_timeout": 60})
    liar.join(job)
    update = liar.update(values(1, 2, 3, 4), weight=3.0)
    liar.stream.send(*[update] * 100)
    answers = [liar.stream.next(Answer).verdict for _ in range(100)]
    assert set(answers) <= {"ALL", "STALE", "ABORTED"}
    assert answers[0] == "ALL"
    with running.session() as session:
        assert session.wait_for_job(job, timeout=60)["status"] == "FINISHED:COMPLETED"
    with closing(sqlite3.connect(running.state("server") / "server.sqlite")) as db:
        ledger = db.execute("SELECT site, status, weight FROM ledger WHERE job=? ORDER BY site", (job,)).fetchall()
    assert ledger == [("site-1", "trained", 1.0), ("site-3", "trained", 3.0)]


@row("W11", "S6")
def test_a_site_speaks_for_itself_only(liar: Liar, submit: Callable[..., str], running: Federation) -> None:
    """What it says of a job that it has no part in reaches no run, no log and no file."""
    job = submit(sites=["site-1", "site-2"])  # site-2 never comes: it waits
    theirs = submit(sites=["site-1"], rounds=1)
    with running.session() as session:
        session.wait_for_job(theirs, timeout=60)
        before = state_of(running)
        for one in (job, theirs):
            liar.stream.send(
                JobReport(one, 1, "joined"),
                Progress(one, 1),
                LogLines(one, 1, 0, b"forged\n"),
                Metrics(one, 1, 0, (MetricRow("forged", 1.0, None, 0, 0.0),)),
            )
            fetch = encode(Fetch(one, 1, "archive", 0, "", 0))
            with pytest.raises(grpc.RpcError) as caught:
                list(liar.peer.channel.unary_stream(f"/{SITE_SERVICE}/Fetch")(fetch, timeout=5))
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        liar.stream.send(liar.update(b"", job="flush"))
        liar.stream.next(Answer)
        assert state_of(running) == before
        assert "forged" not in json.dumps(session.get_job_logs(theirs, site="all"))
    with closing(sqlite3.connect(running.state("server") / "metrics.sqlite")) as db:
        assert db.execute("SELECT COUNT(*) FROM metrics WHERE key='forged'").fetchone() == (0,)


@row("W19")
@pytest.mark.parametrize("weight", [-1.0, 0.0, float("nan"), float("inf"), 1e30])
def test_a_weight_that_would_spoil_the_mean_is_refused_at_the_border(
    running: Federation, liar: Liar, submit: Callable[..., str], weight: float
) -> None:
    job = submit()
    liar.join(job)
    written(running, job)
    before = state_of(running)
    tag, fields = msgspec.msgpack.decode(encode(liar.update(values(1, 2, 3, 4))))
    liar.stream.send(raw(tag, fields | {"weight": weight}))
    refused = [message for message in liar.stream.ended() if isinstance(message, Refused)]
    assert [message.code for message in refused] == ["INTEGRITY_FAILED"]
    assert "weight" in refused[0].message
    assert state_of(running) == before


@row("W13", "S13")
def test_a_local_token_opens_its_own_attempt_only(running: Federation, tmp_path: Path) -> None:
    waits = HONEST.replace("params = ", "import threading; threading.Event().wait(); params = ")
    with running.session() as session:
        jobs = [session.submit_job(write_job(tmp_path / f"j{n}", waits, sites=["site-1"])) for n in range(2)]
        state = running.state("site-1")
        tokens = [state / "jobs" / f"{job}.1" / "run" / "1" / "token" for job in jobs]
        sockets = [state / "sockets" / f"{job}.1" / "s" for job in jobs]
        assert becomes(lambda: all(path.exists() for path in (*tokens, *sockets)))
        for token in (tokens[1].read_bytes(), tokens[0].read_bytes()[:-1], bytes(32), b""):
            wire = Wire(connect(sockets[0]), TO_TRAINER)
            wire.send(LocalHello(token))
            answer = wire.receive()
            assert isinstance(answer, Refused)
            assert answer.code == "FENCED"
            wire.close()
        for job in jobs:
            session.abort_job(job)


# -- floods


def honest_job(running: Federation, folder: Path) -> None:
    """The healthy site trains, and that is over in time."""
    job = write_job(folder / "honest", HONEST, sites=["site-1"], rounds=10)
    with running.session() as session:
        found = session.submit_job(job)
        assert session.wait_for_job(found, timeout=60)["status"] == "FINISHED:COMPLETED"
        session.delete_job(found)


@row("W14")
@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("message", ["Progress", "JobReport", "Announce", "LogLines"])
def test_a_flood_of_messages_does_not_keep_a_healthy_site_from_its_job(
    running: Federation, tmp_path: Path, message: str
) -> None:
    liar = Liar(running, "site-3")
    data = bytes(100_000)
    kinds: dict[str, Any] = {
        "Progress": Progress("j", 1),
        "JobReport": JobReport("j", 1, "joined"),
        "LogLines": LogLines("j", 1, 0, data),
    }
    checksum = xxhash.xxh3_128_hexdigest(data)
    kinds["Announce"] = encode_announce(data, checksum)
    flood = kinds[message] if isinstance(kinds[message], bytes) else encode(kinds[message])
    before = vitals(running).kib
    ended = threading.Event()
    sent = itertools.count()

    def messages() -> Iterator[bytes]:
        yield hello()
        while not ended.is_set():
            next(sent)
            yield flood

    call = liar.peer.channel.stream_stream(f"/{SITE_SERVICE}/Connect")(messages())  # nobody reads its answers
    try:
        honest_job(running, tmp_path)
        assert vitals(running).kib < before + (64 << 10)
    finally:
        ended.set()
        call.cancel()
        liar.close()
    assert next(sent) > 100


def encode_announce(data: bytes, checksum: str) -> bytes:
    fields = {
        "job": "j", "run": 1, "round": 0, "kind": "train", "attempt": 1, "size": len(data), "checksum": checksum,
        "weight": 1.0, "params_type": "FULL", "metrics": {}, "meta": {}, "evaluates": False, "inline": data,
    }  # fmt: skip
    return raw("announce", fields)


@row("W14", "W15")
@pytest.mark.usefixtures("unharmed")
def test_a_flood_of_registrations_does_not_keep_a_healthy_site_from_its_job(
    running: Federation, tmp_path: Path
) -> None:
    ended = threading.Event()
    pair = pair_of(load_kit(running.prod / "site-3"))
    counts: list[int] = []

    def register() -> None:
        while not ended.is_set():
            with Peer(running, pair) as peer:
                streams = [Stream(peer) for _ in range(10)]
                for stream in streams:
                    stream.send(b"")
                    stream.ended()
                    stream.close()
                counts.append(len(streams))

    threads = [threading.Thread(target=register) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        honest_job(running, tmp_path)
        assert becomes(lambda: sum(counts) > 20)
    finally:
        ended.set()
        for thread in threads:
            thread.join()


# -- numbers and names


@row("W16")
def test_names_of_metrics_are_limited_in_size_and_number(
    running: Federation, liar: Liar, submit: Callable[..., str]
) -> None:
    job = submit()
    liar.join(job)
    rows = [MetricRow(f"m{n}", 1.0, None, 0, 0.0) for n in range(100_000)]
    for first in range(0, len(rows), 5000):
        liar.stream.send(Metrics(job, 1, first, tuple(rows[first : first + 5000])))
    liar.stream.send(Metrics(job, 1, 999_999, (rows[0], rows[1])))  # beyond what is kept
    liar.stream.send(Metrics(job, 99, 0, (rows[0],)))  # a run that is none
    liar.stream.send(JobReport(job, 1, "joined"))
    assert liar.stream.next(LogsHave, lambda one: one.metrics > 0).metrics == 100_000
    with closing(sqlite3.connect(running.state("server") / "metrics.sqlite")) as db:
        assert db.execute("SELECT COUNT(*), COUNT(DISTINCT run) FROM metrics WHERE job=?", (job,)).fetchone() == (
            100_000,
            1,
        )


@row("W16")
@pytest.mark.parametrize("name", ["x" * (1 << 20), "\x1b[2Jclear", "a\nb", "", "\u202eevil", "tab\t"])
def test_a_name_that_cannot_be_shown_is_refused_at_the_border(
    running: Federation, liar: Liar, submit: Callable[..., str], name: str
) -> None:
    job = submit()
    liar.join(job)
    fields = {"key": name, "value": 1.0, "step": None, "round": 0, "time": 0.0}
    liar.stream.send(raw("metrics", {"job": job, "run": 1, "first": 0, "rows": [fields]}))
    assert [one.code for one in liar.stream.ended() if isinstance(one, Refused)] == ["INTEGRITY_FAILED"]


@row("W20")
def test_times_in_messages_decide_nothing(running: Federation, liar: Liar, submit: Callable[..., str]) -> None:
    job = submit(timeouts={"stall": 30})
    liar.join(job)
    day = 86400.0
    for first, when in enumerate((time.time() - day, time.time() + day, 0.0, 1e18)):
        liar.stream.send(Metrics(job, 1, first, (MetricRow("loss", 1.0, None, 0, when),)))
    liar.stream.send(liar.update(values(1, 2, 3, 4)))
    with running.session() as session:
        meta = session.wait_for_job(job, timeout=60)
    assert meta["status"] == "FINISHED:COMPLETED"
    assert meta["duration_s"] < 30


@row("W1", "W14")
@pytest.mark.usefixtures("unharmed")
def test_a_user_who_asks_about_everything_at_once_is_answered(admin: Peer) -> None:
    ask = admin.channel.unary_unary(f"/{USER_SERVICE}/Meta")
    calls = [ask.future(encode(AboutJob("nope")), timeout=30) for _ in range(1000)]
    assert {REPLIES.decode(call.result()).code for call in calls} == {"JOB_NOT_FOUND"}
