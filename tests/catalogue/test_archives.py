"""Archives that are not what they seem, sent by a user who has signed them: a real server keeps nothing of them."""

from __future__ import annotations

import asyncio
import hashlib
import io
import stat
import struct
import tarfile
import time
import warnings
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from machine.federation import paths_below

from flpoc.errors import DeadlineError, FlpocError, IntegrityError, ResourceError
from flpoc.jobs.paths import FileEntry
from flpoc.jobs.spec import JobSpec, ScriptSpec
from flpoc.server.submissions import in_time
from flpoc.session import Session

from .conftest import User

CODE = b"print('hello')\n"


def zipped(*members: tuple[str, bytes] | tuple[str, bytes, int], method: int = zipfile.ZIP_STORED) -> bytes:
    """An archive as other programs write it: each member is a name, bytes, and a mode."""
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", method) as file:
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, content, *mode in members:
            found = zipfile.ZipInfo(name)
            found.external_attr = (mode[0] if mode else stat.S_IFREG | 0o600) << 16
            file.writestr(found, content, method)
    return out.getvalue()


def renamed(archive: bytes, old: bytes, new: bytes) -> bytes:
    """Write another name of the same length into an archive: what zipfile would not write."""
    assert len(old) == len(new)
    return archive.replace(old, new)


def tarred() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as file:
        found = tarfile.TarInfo("code/train.py")
        found.size = len(CODE)
        file.addfile(found, io.BytesIO(CODE))
    return out.getvalue()


def bomb() -> bytes:
    """256 MiB of zeros in a quarter of a megabyte."""
    return zipped(("code/train.py", bytes(256 << 20)), method=zipfile.ZIP_DEFLATED)


GOOD = zipped(("code/train.py", CODE))
PLACE = b"code/train.py"


def lying_size(size: int) -> bytes:
    """A header that says another size than there is."""
    at = GOOD.index(b"PK\x01\x02") + 24
    return GOOD[:at] + struct.pack("<I", size) + GOOD[at + 4 :]


#: What is sent, by row; the manifest says a file of 15 bytes, or what stands beside it.
HOSTILE: dict[str, bytes | Callable[[], bytes]] = {
    "A1 parent": renamed(GOOD, PLACE, b"../de/trai.py"),
    "A1 absolute": renamed(GOOD, PLACE, b"/ode/train.py"),
    "A1 drive": renamed(GOOD, PLACE, b"C:\\e/train.py"),
    "A1 share": renamed(GOOD, PLACE, b"\\\\de/train.py"),
    "A1 inner": renamed(GOOD, PLACE, b"a/../../tr.py"),
    "A2 link": zipped(("code/train.py", b"/etc/passwd", stat.S_IFLNK | 0o777)),
    "A2 device": zipped(("code/train.py", CODE, stat.S_IFCHR | 0o666)),
    "A2 FIFO": zipped(("code/train.py", CODE, stat.S_IFIFO | 0o666)),
    "A2 folder": zipped(("code/train.py/", b"", stat.S_IFDIR | 0o777)),
    "A3 twice": zipped(("code/train.py", CODE), ("code/train.py", CODE)),
    "A3 case": zipped(("code/train.py", CODE), ("code/Train.py", CODE)),
    "A3 forms": zipped(("code/\u00e9", CODE), ("code/e\u0301", CODE)),
    "A3 file and folder": zipped(("code/train.py", CODE), ("code/train.py/x", CODE)),
    "A4 NUL": renamed(GOOD, PLACE, b"code/trai\0.py"),
    "A4 line end": renamed(GOOD, PLACE, b"code/trai\n.py"),
    "A4 escape": renamed(GOOD, PLACE, b"code/tra\x1b[.py"),
    "A4 dot": renamed(GOOD, PLACE, b"code/trainpy."),
    "A4 reserved": renamed(GOOD, PLACE, b"code/con/a.py"),
    "A5 bomb": bomb,
    "A5 says little, holds much": lambda: zipped(
        ("code/train.py", bytes(1 << 20)), method=zipfile.ZIP_DEFLATED
    ).replace(struct.pack("<I", 1 << 20), struct.pack("<I", len(CODE))),
    "A6 size": lying_size(14),
    "A6 huge size": lying_size(0xFFFFFFFF),
    "A6 checksum": GOOD.replace(struct.pack("<I", zlib.crc32(CODE)), b"\1\2\3\4"),
    "A6 other bytes": GOOD.replace(b"hello", b"jello"),
    "A6 cut off": GOOD[:-1],
    "A6 half": GOOD[: len(GOOD) // 2],
    "A6 before": b"#!/bin/sh\n" + GOOD,
    "A6 after": GOOD + b"x",
    "A6 encrypted": GOOD.replace(b"PK\x01\x02\x14\x03\x14\0\0\0", b"PK\x01\x02\x14\x03\x14\0\1\0"),
    "A6 unknown method": lambda: zipped(("code/train.py", CODE), method=zipfile.ZIP_LZMA),
    "A7 many": lambda: zipped(*((f"code/{number}", b"") for number in range(10_001))),
    "A7 deep": zipped(("/".join(["code", *"a" * 40]), CODE)),
    "A9 tar": tarred(),
    "A9 7z": b"7z\xbc\xaf\x27\x1c" + bytes(100),
    "A9 gzip": zlib.compress(CODE, wbits=31),
    "A9 noise": hashlib.shake_256(b"noise").digest(5000),
    "A9 one byte": b"P",
    "A10 more": zipped(("code/train.py", CODE), ("code/more.py", CODE)),
    "A10 less": zipped(),
    "A10 another": zipped(("code/other.py", CODE)),
    "A10 other content": zipped(("code/train.py", CODE.replace(b"hello", b"jello"))),
}


@pytest.fixture(scope="module")
def session(running: User) -> Iterator[Session]:
    with Session.open(running.workspace / "example_project" / "prod_00" / "admin@nvidia.com") as found:
        yield found


def send(
    session: Session, archive: bytes, chunks: Iterator[bytes], *entries: FileEntry, token: str = "", called: str = ""
) -> str:
    """Submit as somebody who has signed the job, but sends what they like."""
    from flpoc.jobs.signing import sign_job
    from flpoc.wire.codec import encode
    from flpoc.wire.requests import SubmitJob

    kit = session.kit
    spec = JobSpec(name="hostile", scripts={"@default": ScriptSpec("train.py")}, sites=("site-9",))
    signed = sign_job(
        spec, "hostile", entries or (entry(),), project=kit.settings.project, submitter=kit.settings.name,
        key_pem=kit.key_pem, certificate_pem=kit.certificate_pem,
    )  # fmt: skip
    ask = SubmitJob(signed, hashlib.sha256(archive).hexdigest(), len(archive), "default", token)
    if called:
        object.__setattr__(ask, "archive", called)  # what no client of ours would say

    def messages() -> Iterator[bytes]:
        yield encode(ask)
        yield from chunks

    return str(session.send("Submit", messages())["job_id"])


def entry(path: str = "code/train.py", content: bytes = CODE) -> FileEntry:
    return FileEntry(path, len(content), hashlib.sha256(content).hexdigest())


def pieces(archive: bytes) -> Iterator[bytes]:
    for place in range(0, len(archive), 1 << 20):
        yield archive[place : place + (1 << 20)]


def kept(user: User) -> list[str]:
    """What the server keeps of jobs: folders, archives, parts of archives."""
    state = user.workspace / "state" / "server"
    made_when_needed = ("archives", "jobs")
    names = sorted(str(path.relative_to(state)) for path in paths_below(state))
    return [
        name
        for name in names
        if name not in made_when_needed and not name.startswith("audit") and ".sqlite" not in name
    ]


@pytest.mark.row("A1", "A2", "A3", "A4", "A5", "A6", "A7", "A9", "A10")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_server_keeps_nothing_of_a_hostile_archive(running, session, name):
    archive = HOSTILE[name]
    archive = archive() if callable(archive) else archive
    before, jobs = kept(running), session.list_jobs()
    with pytest.raises((IntegrityError, ResourceError)) as refused:
        send(session, archive, pieces(archive))
    assert len(refused.value.message) < 500
    assert str(running.workspace) not in refused.value.message
    assert kept(running) == before
    assert session.list_jobs() == jobs


@pytest.mark.row("A1")
@pytest.mark.parametrize("up", ["..", "../../.."])
def test_the_name_of_an_archive_leads_nowhere_else(running, session, up):
    archives = running.workspace / "state" / "server" / "archives"
    archives.mkdir(exist_ok=True)
    victim = (archives / up).resolve() / "victim.zip"
    victim.write_bytes(b"somebody's")
    try:
        with pytest.raises(IntegrityError):
            send(session, b"PK", pieces(b"PK"), called=f"{up}/victim")
        assert victim.read_bytes() == b"somebody's"
    finally:
        victim.unlink(missing_ok=True)


@pytest.mark.row("A9")
def test_an_empty_archive_is_refused(running, session):
    before = kept(running)
    with pytest.raises((IntegrityError, ResourceError)):
        send(session, b"", iter(()))
    assert kept(running) == before


@pytest.mark.row("A8")
def test_modes_of_an_archive_are_never_applied(running, session):
    from flpoc.jobs.archive import pack

    folder = running.here / "modes"
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "train.py").write_bytes(CODE)
    (folder / "code" / "train.py").chmod(0o6777)
    pack(folder, [entry()], folder / "a.zip")
    archive = (folder / "a.zip").read_bytes()
    plain = struct.pack("<I", (stat.S_IFREG | 0o600) << 16)
    hostile = archive.replace(plain, struct.pack("<I", (stat.S_IFREG | 0o6777) << 16))
    assert hostile != archive
    job = send(session, hostile, pieces(hostile))
    found = [path for path in (running.workspace / "state" / "server").rglob("train.py") if job in str(path)]
    assert [stat.S_IMODE(path.stat().st_mode) for path in found] == [0o600]
    assert {stat.S_IMODE(path.parent.stat().st_mode) for path in found} == {0o700}
    session.abort_job(job)


@pytest.mark.row("A12")
@pytest.mark.parametrize("sent", [0, 1, len(GOOD) // 2, len(GOOD) - 1])
def test_an_archive_that_ends_too_early_is_refused(running, session, sent):
    before = kept(running)
    with pytest.raises(IntegrityError, match="not the announced one"):
        send(session, GOOD, iter([GOOD[:sent]]))
    assert kept(running) == before


@pytest.mark.row("A12")
def test_more_than_was_announced_is_refused(running, session):
    before = kept(running)
    with pytest.raises(IntegrityError, match="more than the announced"):
        send(session, GOOD, iter([GOOD, b"x"]))
    assert kept(running) == before


@pytest.mark.row("A12", "C11")
def test_nothing_stays_of_a_submitter_who_goes_away(running):
    """The connection is cut in the middle of the archive; the same token works afterwards."""
    kit = running.workspace / "example_project" / "prod_00" / "admin@nvidia.com"
    before = kept(running)
    gone = Session.open(kit)

    def half() -> Iterator[bytes]:
        yield GOOD[: len(GOOD) // 2]
        until = time.monotonic() + 20
        while kept(running) == before and time.monotonic() < until:
            time.sleep(0.02)
        gone.close()

    with pytest.raises((FlpocError, ValueError)):
        send(gone, GOOD, half(), token="once")
    until = time.monotonic() + 20
    while kept(running) != before:
        assert time.monotonic() < until, kept(running)
        time.sleep(0.02)
    with Session.open(kit) as again:
        folder = running.job("again", sites=["site-9"], min_clients=1)
        again.abort_job(again.submit_job(folder, submit_token="once"))


@pytest.mark.row("A12")
def test_a_submitter_who_sends_nothing_more_is_given_up():
    async def stalls() -> AsyncIterator[bytes]:
        yield GOOD[:10]
        await asyncio.Event().wait()

    async def read(found: list[bytes]) -> None:
        async for chunk in in_time(stalls(), 0.05):
            found.append(chunk)

    found: list[bytes] = []
    with pytest.raises(DeadlineError, match="nothing of the archive came"):
        asyncio.run(read(found))
    assert found == [GOOD[:10]]


@pytest.mark.row("A10")
@pytest.mark.parametrize("path", ["../x.py", "/etc/passwd", "code/../../x", "code/a\nb.py", "code/con"])
def test_a_manifest_cannot_name_what_an_archive_may_not(running, session, path):
    before = kept(running)
    archive = zipped((path, CODE))
    with pytest.raises((IntegrityError, ResourceError)):
        send(session, archive, pieces(archive), entry(path))
    assert kept(running) == before
    assert not Path("/x.py").exists()
