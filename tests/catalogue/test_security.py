"""Promises about security that hold for a running project as a whole."""

from __future__ import annotations

import ast
import base64
import contextlib
import datetime
import hashlib
import itertools
import json
import os
import queue
import re
import stat
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import attrs
import grpc
import pytest
from machine.federation import Federation, federation, paths_below, write_job

from flpoc import __version__
from flpoc.errors import JobError
from flpoc.jobs.folder import collect_and_pack, read_job
from flpoc.jobs.signing import sign_job
from flpoc.jobs.spec import SignedJob
from flpoc.provision.identity import read_certificate
from flpoc.provision.kits import load_kit
from flpoc.session import Session
from flpoc.wire.codec import encode
from flpoc.wire.messages import FROM_SITE, JobReport, JobWant, Welcome
from flpoc.wire.options import SITE_SERVICE

from .attack import becomes
from .rows import ROOT

row = pytest.mark.row

SCRIPT = """
    import os
    import numpy as np
    import flpoc.client as flare

    flare.init()
    while flare.is_running():
        model = flare.receive()
        params = model.params or {"w": np.zeros(4, "float32")}
        flare.send(flare.FLModel(params={name: value + 1 for name, value in params.items()}))
"""
ENDLESS = SCRIPT.replace("params = ", "import threading; threading.Event().wait(); params = ")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Started with a mask that would let everybody read everything."""
    mask = os.umask(0)
    try:
        with federation(tmp_path_factory.mktemp("security")) as found:
            yield found
    finally:
        os.umask(mask)


# -- what the processes are


def listening(pid: int) -> set[int]:
    """Ports on which a process listens."""
    own = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if found := re.fullmatch(r"socket:\[(\d+)\]", os.readlink(entry)):
                own.add(found[1])
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in own:
                ports.add(int(words[1].rpartition(":")[2], 16))
    return ports


@pytest.fixture
def endless(running: Federation, tmp_path: Path) -> Iterator[str]:
    """A job whose processes stay."""
    job = write_job(tmp_path / "endless", ENDLESS, sites=running.sites, rounds=1)
    with running.session() as session:
        found = session.submit_job(job)
        assert becomes(lambda: all(running.job_processes(name) for name in ("server", *running.sites)))
        for meta in session.watch_job(found):
            if meta["status"] == "RUNNING":
                break
        yield found
        session.abort_job(found)
    assert becomes(lambda: not any(running.job_processes(name) for name in ("server", *running.sites)))


@row("S5")
def test_there_is_one_port_and_it_is_the_servers(running: Federation, endless: str) -> None:
    assert endless
    assert listening(running.pid("server")) == {int(running.address.rpartition(":")[2])}
    others = [running.pid(site) for site in running.sites]
    others += [pid for name in ("server", *running.sites) for pid in running.job_processes(name)]
    assert [listening(pid) for pid in others] == [set()] * len(others)


@row("S9", "S18")
def test_nothing_that_a_project_writes_is_open_to_others(running: Federation, endless: str) -> None:
    """Not even under a mask that would let everybody in."""
    assert endless
    places = [running.state(name) for name in ("server", *running.sites)]
    for place in places:
        open_folders = [path for path in (place, *paths_below(place)) if path.is_dir() and path.stat().st_mode & 0o077]
        assert not [path for path in open_folders if not shut_above(path, place)]
    secret = [*running.prod.parent.rglob("*.key"), *(path for place in places for path in place.rglob("token"))]
    assert len(secret) >= 8
    assert {stat.S_IMODE(path.stat().st_mode) for path in secret} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for place in places for path in place.rglob("*.sqlite")} == {0o600}


def shut_above(path: Path, place: Path) -> bool:
    """Whether a folder between is closed, so that nobody gets here."""
    between = [one for one in path.parents if one.is_relative_to(place)]
    return any(not one.stat().st_mode & 0o077 for one in between)


@row("S22")
def test_no_process_leaves_a_core_file(running: Federation, endless: str) -> None:
    assert endless
    pids = [running.pid(name) for name in ("server", *running.sites)]
    pids += [pid for name in ("server", *running.sites) for pid in running.job_processes(name)]
    for pid in pids:
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert re.search(r"Max core file size\s+0\s+0", limits), limits


@row("S10")
def test_no_two_certificates_share_a_serial_number_that_could_be_guessed(running: Federation) -> None:
    serials = [read_certificate(path.read_bytes()).serial_number for path in running.prod.rglob("*.crt")]
    assert len(set(serials)) == len(serials) >= 6
    assert min(serial.bit_length() for serial in serials) >= 64


# -- jobs of others


@row("S16")
def test_a_job_of_another_study_is_as_unknown_as_one_that_does_not_exist(running: Federation, tmp_path: Path) -> None:
    with running.session(study="cardiology") as theirs, running.session() as ours:
        ours.register_study("cardiology", {"nvidia": ["site-1"]})
        job = theirs.submit_job(write_job(tmp_path / "job", SCRIPT, sites=["site-1"], rounds=1, study="cardiology"))
        assert theirs.wait_for_job(job, timeout=60)["status"] == "FINISHED:COMPLETED"
        unknown = str(uuid.uuid4())
        acts: list[Callable[[str], Any]] = [
            ours.get_job_meta,
            ours.abort_job,
            ours.delete_job,
            lambda one: ours.get_job_logs(one, site="all"),
            lambda one: list(ours.watch_job(one)),
            lambda one: ours.download_job_result(one, tmp_path / one),
        ]
        for act in acts:
            said = []
            for one in (job, unknown):
                with pytest.raises(JobError) as caught:
                    act(one)
                said.append((caught.value.code, caught.value.message.replace(one, "ID"), caught.value.hint))
            assert said[0] == said[1]
            assert said[0][0] == "JOB_NOT_FOUND"
        assert job not in json.dumps(ours.list_jobs())
        assert theirs.get_job_meta(job)["status"] == "FINISHED:COMPLETED"


# -- a server that lies to a site


class LyingServer:
    """Speaks to one site with the true server's certificate, and sends what it likes."""

    def __init__(self, running: Federation, port: int) -> None:
        kit = load_kit(running.prod / "server")
        self.outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.archive: Callable[[], Iterator[bytes]] = lambda: iter(())
        handlers = {
            "Connect": grpc.stream_stream_rpc_method_handler(self._connect),
            "Fetch": grpc.unary_stream_rpc_method_handler(lambda *_: self.archive()),
        }
        self._threads = futures.ThreadPoolExecutor(8)
        self._server = grpc.server(self._threads, options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SITE_SERVICE, handlers),))
        pair = [(kit.key_pem, kit.certificate_pem)]
        self._server.add_secure_port(f"[::]:{port}", grpc.ssl_server_credentials(pair, kit.root_pem, True))
        self._server.start()

    def _connect(self, requests: Iterator[bytes], _: Any) -> Iterator[bytes]:
        self.heard.put(FROM_SITE.decode(next(requests)))
        yield encode(Welcome(__version__, "example_project"))
        self._threads.submit(lambda: [self.heard.put(FROM_SITE.decode(data)) for data in requests])
        yield from iter(self.outgoing.get, None)

    def next(self, kind: type, fits: Callable[[Any], bool]) -> Any:
        while True:
            message = self.heard.get(timeout=30)
            if isinstance(message, kind) and fits(message):
                return message

    def close(self) -> None:
        self.outgoing.put(None)
        self._server.stop(0).wait()
        self._threads.shutdown()


@attrs.frozen
class Offer:
    """What the lying server sends: a job and the bytes of its archive."""

    job: SignedJob
    archive: bytes


@pytest.fixture(scope="module")
def deceived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Federation, LyingServer]]:
    """A true site whose server is in the hands of the tests."""
    found = Federation(tmp_path_factory.mktemp("deceived"), sites=1)
    server = LyingServer(found, int(found.address.rpartition(":")[2]))
    try:
        found.start("site-1")
        server.heard.get(timeout=30)
        yield found, server
    finally:
        server.close()
        found.close()


@pytest.fixture(scope="module")
def true_offer(deceived: tuple[Federation, LyingServer], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Sign a job as a user, truly."""
    found, _ = deceived
    folder = write_job(tmp_path_factory.mktemp("signed") / "job", ENDLESS, sites=["site-1"])
    archive = folder.parent / "code.zip"
    entries, _ = collect_and_pack(folder, archive)

    def make(user: str = "lead@nvidia.com", *, project: str = "example_project", days: float = 0.0) -> Offer:
        kit = load_kit(found.prod / user)
        job = sign_job(
            read_job(folder), folder, entries, project=project, submitter=user, key_pem=kit.key_pem,
            certificate_pem=kit.certificate_pem,
            now=datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days),
        )  # fmt: skip
        return Offer(job, archive.read_bytes())

    return make


def one_bit(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def in_manifest(offer: Offer, old: bytes, new: bytes) -> Offer:
    assert old in offer.job.manifest
    return attrs.evolve(offer, job=attrs.evolve(offer.job, manifest=offer.job.manifest.replace(old, new)))


def another_script(offer: Offer) -> Offer:
    """An archive that is sound, but not the one that was signed."""
    return attrs.evolve(offer, archive=offer.archive.replace(b"train.py", b"drain.py"))


def endless_archive(offer: Offer) -> Offer:
    return attrs.evolve(offer, archive=offer.archive + bytes(50 << 20))


FORGED: dict[str, tuple[Callable[[Any], Offer], str]] = {
    "more rounds": (lambda make: in_manifest(make(), b'"rounds":2', b'"rounds":9'), "signature"),
    "another script": (lambda make: in_manifest(make(), b"train.py", b"drain.py"), "signature"),
    "one bit of the signature": (
        lambda make: attrs.evolve(o := make(), job=attrs.evolve(o.job, signature=one_bit(o.job.signature, 20))),
        "signature",
    ),
    "the signature of another job": (
        lambda make: attrs.evolve(o := make(), job=attrs.evolve(o.job, signature=make(days=-1).job.signature)),
        "signature",
    ),
    "another signer's certificate": (
        lambda make: attrs.evolve(
            o := make(), job=attrs.evolve(o.job, certificate=make("admin@nvidia.com").job.certificate)
        ),
        "signature",
    ),
    "a role that may not": (lambda make: make("org-admin@nvidia.com"), "may not submit"),
    "a site as signer": (lambda make: make("site-1"), "only users"),
    "another project": (lambda make: make(project="other"), "project"),
    "expired": (lambda make: make(days=-40), "expired"),
    "of the future": (lambda make: make(days=2), "was signed at"),
    "another archive": (lambda make: another_script(make()), "train.py"),
    "one bit of the archive": (lambda make: attrs.evolve(o := make(), archive=one_bit(o.archive, 60)), ""),
    "an archive without end": (lambda make: endless_archive(make()), "more than the files"),
    "no archive": (lambda make: attrs.evolve(make(), archive=b""), ""),
}


@row("S17", "S20", "K6")
@pytest.mark.parametrize("case", FORGED)
def test_a_site_refuses_what_its_submitter_did_not_sign(
    deceived: tuple[Federation, LyingServer], true_offer: Any, case: str
) -> None:
    found, server = deceived
    make, said = FORGED[case]
    offer = make(true_offer)
    job = str(uuid.uuid4())
    server.archive = lambda: (offer.archive[at : at + (1 << 20)] for at in range(0, len(offer.archive), 1 << 20))
    digest = hashlib.sha256(offer.archive).hexdigest()
    server.outgoing.put(encode(JobWant(job, 1, "run", digest, len(offer.archive), offer.job)))
    report = server.next(JobReport, lambda one: one.job == job and one.phase != "preparing")
    assert report.phase == "failed"
    assert said in report.cause.message
    folder = found.state("site-1") / "jobs" / f"{job}.1"
    assert not (folder / "job").exists()
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 1 << 20
    assert not found.job_processes("site-1")
    server.outgoing.put(encode(JobWant(job, 1, "drop")))
    assert becomes(lambda: not folder.exists())


@row("S17")
def test_a_site_runs_what_was_truly_signed(deceived: tuple[Federation, LyingServer], true_offer: Any) -> None:
    found, server = deceived
    offer, job = true_offer(), str(uuid.uuid4())
    server.archive = lambda: iter([offer.archive])
    digest = hashlib.sha256(offer.archive).hexdigest()
    server.outgoing.put(encode(JobWant(job, 1, "run", digest, len(offer.archive), offer.job)))
    assert server.next(JobReport, lambda one: one.job == job and one.phase != "preparing").phase == "joined"
    server.outgoing.put(encode(JobWant(job, 1, "drop")))
    assert becomes(lambda: not found.job_processes("site-1"))


# -- marked secrets


def marks_of(pem: bytes) -> list[bytes]:
    """Pieces of a private key, as text and as bytes."""
    lines = [line for line in pem.splitlines() if line and not line.startswith(b"-----")]
    return [lines[0][20:60], base64.b64decode(b"".join(lines))[36:68]]


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, bytes], list[bytes]]]:
    """A proof of concept from beginning to end; gives its home, the marks of secrets, and all that was printed."""
    home = tmp_path_factory.mktemp("marked")
    words = {name: f"canary-{name}-{uuid.uuid4().hex}" for name in ("passphrase", "shell", "script")}
    env = {**os.environ, "HOME": str(home), "FLPOC_POC_WORKSPACE": str(home / "poc")}
    env |= {"FLPOC_CA_PASSPHRASE": words["passphrase"], "AWS_SECRET_ACCESS_KEY": words["shell"]}
    env.pop("FLPOC_STARTUP_KIT_DIR", None)
    printed: list[bytes] = []

    def flpoc(*line: str, status: int = 0) -> bytes:
        argv = [str(Path(sys.executable).parent / "flpoc"), *line]
        done = subprocess.run(argv, env=env, capture_output=True, timeout=120, check=False)
        printed.append(done.stdout + done.stderr)
        assert done.returncode == status, printed[-1].decode()
        return done.stdout

    scripts = {"@default": {"script": "train.py", "env": {"DATABASE_PASSWORD": words["script"]}}}
    job = write_job(home / "job", SCRIPT, rounds=2, scripts=scripts)
    (job / "job.json").write_text(json.dumps({"name": "marked", "rounds": 2, "min_clients": 2, "scripts": scripts}))
    flpoc("poc", "prepare", "-n", "2")
    flpoc("poc", "start")
    try:
        answer = json.loads(flpoc("job", "submit", "-j", str(job), "--format", "json"))
        found = answer["data"]["job_id"]
        flpoc("job", "wait", found)
        for line in (["list"], ["meta", found], ["logs", found, "--site", "all"]):
            flpoc("job", *line)
        flpoc("job", "download", found, "-o", str(home / "result"))
        flpoc("job", "meta", "no-such-job", status=1)
        (home / "poc" / "kit").mkdir()
        flpoc("job", "list", "--startup-kit", str(home / "poc" / "kit"), status=2)
    finally:
        flpoc("poc", "stop")
    marks = {name: text.encode() for name, text in words.items()}
    for path in (home / "poc").rglob("*.key"):
        for number, piece in enumerate(marks_of(path.read_bytes())):
            marks[f"{path} {number}"] = piece
    yield home, marks, printed
    flpoc("poc", "clean", "--force")


@row("S22")
def test_a_marked_secret_is_found_nowhere_but_where_it_belongs(
    marked: tuple[Path, dict[str, bytes], list[bytes]],
) -> None:
    home, marks, printed = marked
    files = {path: path.read_bytes() for path in home.rglob("*") if path.is_file() and not path.is_symlink()}
    assert len(files) > 50
    assert len(marks) > 10
    for name, piece in marks.items():
        where = {path for path, content in files.items() if piece in content}
        if name == "script":
            # what a job says is in the job, and in what is kept of it: not in logs, results or outputs
            allowed = {path for path in where if path.name == "job.json" or "server.sqlite" in path.name}
        else:
            allowed = {Path(name.rpartition(" ")[0])} if " " in name else set()
        assert where <= allowed, name
        assert not any(piece in text for text in printed), name


@row("S22")
def test_what_is_printed_and_logged_has_no_control_characters(
    marked: tuple[Path, dict[str, bytes], list[bytes]],
) -> None:
    home, _, printed = marked
    logs = [path.read_bytes() for path in home.rglob("*.log")]
    assert logs
    for text in itertools.chain(printed, logs):
        assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", text)


# -- the source


def source_imports() -> Iterator[tuple[Path, str]]:
    for path in sorted([*ROOT.glob("core/src/**/*.py"), *ROOT.glob("plugins/*/src/**/*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            yield from ((path, name) for name in names)


@row("S21")
def test_server_and_sites_have_no_client_of_another_protocol() -> None:
    never = ("urllib.request", "http", "ftplib", "smtplib", "xmlrpc", "requests", "httpx", "aiohttp", "boto3", "fsspec")
    core = ROOT / "core" / "src" / "flpoc"
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path, name in source_imports()
        if path.is_relative_to(core) and (name in never or name.split(".")[0] in never)
    ]
    assert wrong == []


@row("S25")
def test_how_to_report_a_weakness_is_written_down() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert "Report a vulnerability" in text
    assert "within seven days" in text
    assert "Supported versions" in text
    version = re.search(r"^\| (\d+\.\d+) \| yes", text, re.MULTILINE)
    assert version is not None
    assert __version__.startswith(f"{version[1]}.")
    assert "@" not in text
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (ROOT / link).exists(), link


@row("S5", "K3")
def test_a_session_believes_only_its_own_project(running: Federation) -> None:
    """Neither option nor variable makes a session do without TLS."""
    kit = load_kit(running.prod / "admin@nvidia.com")
    with pytest.raises(Exception, match=r"CA|certificate"):
        Session(attrs.evolve(kit, root_pem=b""), timeout=5).status()
