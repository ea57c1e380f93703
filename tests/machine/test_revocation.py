"""Certificates that are locked out: before a connection and during one, for good."""

from __future__ import annotations

import contextlib
import datetime
import json
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import grpc
import pytest
from catalogue.attack import Forger, Pair, Peer, Stream, becomes

from flpoc.audit.checking import last_records
from flpoc.errors import AuthError, FlpocError, UsageError
from flpoc.jobs.statements import RevocationList, Revoked, new_list, sign_statement, written_now
from flpoc.provision.identity import identity_of
from flpoc.provision.kits import Kit, load_kit
from flpoc.session import Session
from flpoc.wire.asks import Ask
from flpoc.wire.messages import Revocation
from flpoc.wire.statements import Revoke

from .federation import Federation, write_job

row = pytest.mark.row

SCRIPT = """
    import numpy as np
    import flpoc.client as flare

    flare.init()
    while flare.is_running():
        model = flare.receive()
        if model is None:
            break
        flare.send(flare.FLModel(params={"w": np.zeros(2, np.float32)}))
"""
ENDLESS = """
    import threading
    import flpoc.client as flare

    flare.init()
    flare.receive()
    threading.Event().wait()
"""


#: The promise is one second; a machine whose processors and disk others want, too, may need more.
SOON = 5.0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Each test locks out a site or user of its own."""
    found = Federation(tmp_path_factory.mktemp("revocation"), sites=4)
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
def admin(running: Federation) -> Iterator[Session]:
    with running.session() as session:
        yield session


def kit_of(running: Federation, pair: Pair, name: str, role: str = "lead") -> Kit:
    """The kit of a user who has this certificate."""
    kit = load_kit(running.prod / "lead@nvidia.com")
    settings = attrs.evolve(kit.settings, name=name, role=role)
    return attrs.evolve(kit, settings=settings, key_pem=pair.key, certificate_pem=pair.certificate)


def folder_of(kit: Kit, folder: Path) -> Path:
    """The same kit on disk, for commands."""
    shutil.copytree(kit.folder, folder)
    startup = folder / "startup"
    for name, content in (("client.crt", kit.certificate_pem), ("client.key", kit.key_pem)):
        (startup / name).write_bytes(content)
    path = startup / "fed_admin.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"name": kit.settings.name, "role": kit.settings.role}))
    return folder


def serial_of(pair: Pair | Kit) -> str:
    certificate = pair.certificate_pem if isinstance(pair, Kit) else pair.certificate
    return f"{identity_of(certificate).serial:x}"


def records(running: Federation, name: str, verb: str) -> list[Any]:
    found = [one.decision for one in last_records(running.state(name) / "audit", 1000)]
    return [one for one in found if one.verb == verb]


def seconds_between(running: Federation, *verbs: str) -> float:
    """How long it took the server from the last decision of one kind to the last of another, by its own clock."""
    found = {one.decision.verb: one.time for one in last_records(running.state("server") / "audit", 1000)}
    first, second = (datetime.datetime.fromisoformat(found[verb]) for verb in verbs)
    return (second - first).total_seconds()


def running_job(session: Session, folder: Path, **settings: Any) -> str:
    job = session.submit_job(write_job(folder, ENDLESS, **settings))
    assert any(meta["status"] == "RUNNING" for meta in session.watch_job(job, timeout=60))
    return job


# -- sites


@row("K7", "S12")
def test_a_site_is_cut_off_within_a_second_and_its_agent_ends_and_says_why(
    running: Federation, admin: Session, tmp_path: Path
) -> None:
    job = running_job(admin, tmp_path / "job", sites=["site-1", "site-4"])
    agent = running._services.pop("site-4")
    kit = load_kit(running.prod / "site-4")
    done = admin.revoke_certificate(serial_of(kit), reason="the laptop was stolen")
    assert becomes(lambda: "site-4" not in {one["name"] for one in admin.status()["sites"]})
    assert (done["name"], done["already_revoked"]) == ("site-4", False)
    assert done["calls_ended"] >= 1
    meta = admin.wait_for_job(job, 60)
    assert meta["status"] == "FINISHED:FAILED"
    assert (meta["cause"]["site"], meta["cause"]["phase"]) == ("site-4", "revoked")
    why = f"the certificate of site-4 was revoked at {done['time']} (the laptop was stolen)"
    assert meta["cause"]["message"] == why
    assert agent.wait(60) == 2
    assert why in running.log("site-4").splitlines()[-2] + running.log("site-4").splitlines()[-1]
    assert "Traceback" not in running.log("site-4")
    (revoked, *_) = records(running, "server", "Revoke")
    assert (revoked.principal.name, revoked.outcome) == ("admin@nvidia.com", "allow")
    assert serial_of(kit) in revoked.object
    (cut,) = records(running, "server", "cut off")
    assert (cut.principal.name, cut.outcome, cut.reason) == ("site-4", "deny", why)
    assert seconds_between(running, "Revoke", "cut off") < SOON
    assert why in records(running, "site-4", "Connect")[-1].reason
    # the others were told, and wrote it down
    assert becomes(lambda: bool(records(running, "site-1", "revoke")))
    assert serial_of(kit) in records(running, "site-1", "revoke")[-1].object
    # before a connection
    running.start("site-4")
    assert running._services.pop("site-4").wait(60) == 2
    assert records(running, "server", "Connect")[-1].reason == why
    with Peer(running, Pair(kit.key_pem, kit.certificate_pem)) as peer:
        assert [peer.status(call) for call in ("Connect", "Fetch", "Push")] == [grpc.StatusCode.PERMISSION_DENIED] * 3
    assert becomes(lambda: not any(running.job_processes(name) for name in ("site-1", "site-4")))


@row("K7")
def test_of_a_site_with_two_certificates_one_goes_and_the_other_stays(
    running: Federation, admin: Session, forger: Forger
) -> None:
    old, new = forger.pair("site-8"), forger.pair("site-8")
    with Peer(running, old) as first, Peer(running, new) as second:
        stream = Stream(first)
        assert next(iter(stream)).project
        admin.revoke_certificate(serial_of(old))
        assert stream.ended()[-1] is grpc.StatusCode.PERMISSION_DENIED
        assert seconds_between(running, "Revoke", "cut off") < SOON
        assert first.status() is grpc.StatusCode.PERMISSION_DENIED
        newer = Stream(second)
        assert next(iter(newer)).project
        admin.revoke_certificate(serial_of(forger.pair("site-8")))
        admin.wait_ready(["site-8"], 60)
        newer.close()


@row("K7")
def test_a_site_that_waits_to_be_enabled_is_cut_off_too(running: Federation, admin: Session, forger: Forger) -> None:
    pair = forger.pair("site-7")
    with Peer(running, pair) as peer:
        stream = Stream(peer)
        assert next(iter(stream)).project
        admin.disable_client("site-7", "to wait")
        assert not [one for one in stream.ended() if not isinstance(one, Revocation)]
        waiting = Stream(peer)
        ended: list[Any] = []
        reader = threading.Thread(target=lambda: ended.extend(waiting.ended()))
        reader.start()
        assert becomes(
            lambda: [one.principal.name for one in records(running, "server", "Connect")][-2:] == ["site-7"] * 2
        )
        admin.revoke_certificate(serial_of(pair))
        reader.join(60)
        assert ended == [grpc.StatusCode.PERMISSION_DENIED]
        admin.enable_client("site-7")


def test_a_site_that_was_away_gets_the_list_when_it_comes_and_keeps_it(
    running: Federation, admin: Session, forger: Forger
) -> None:
    running.stop("site-3")
    number = admin.revoke_certificate(serial_of(forger.pair("nobody@x.org", "lead")), name="nobody@x.org")["number"]
    kept = running.state("site-3") / "revocations.json"
    running.start("site-3")
    running.ready("site-3")
    assert becomes(lambda: kept.exists() and f'\\"number\\":{number}' in kept.read_text())
    content = kept.read_bytes()
    running.stop("site-3")
    running.start("site-3")
    running.ready("site-3")
    assert kept.read_bytes() == content
    assert len(records(running, "site-3", "revoke")) >= 1


@row("K18")
@pytest.mark.parametrize("name", ["server", "site-3"])
def test_a_service_does_not_start_with_a_list_that_is_damaged(
    running: Federation, admin: Session, forger: Forger, name: str
) -> None:
    admin.revoke_certificate(serial_of(forger.pair("somebody@x.org", "lead")))
    path = running.state(name) / "revocations.json"
    assert becomes(path.exists)
    running.stop(name)
    good = path.read_bytes()
    path.write_bytes(good.replace(b"created", b"Created", 1))
    try:
        running.start(name)
        assert running._services.pop(name).wait(60) == 1
        assert f"{path} is damaged" in running.log(name).splitlines()[-1]
        assert "restore it from a backup" in running.log(name).splitlines()[-1]
    finally:
        path.write_bytes(good)
        running.start(name)
        running.ready("site-1", "site-2", "site-3")


# -- users


@row("K7")
def test_a_user_who_watches_is_told_so_within_a_second_and_may_do_nothing_more(
    running: Federation, admin: Session, forger: Forger, tmp_path: Path
) -> None:
    pair = forger.pair("watcher@nvidia.com", "member")
    kit = folder_of(kit_of(running, pair, "watcher@nvidia.com", "member"), tmp_path / "kit")
    job = running_job(admin, tmp_path / "job")
    code = "import sys; from flpoc.cli.main import main; sys.exit(main())"
    words = ["--format", "json", "job", "monitor", job, "--startup-kit", str(kit)]
    with subprocess.Popen([sys.executable, "-c", code, *words], stdout=-1, stderr=-1, text=True) as monitor:
        assert becomes(
            lambda: bool([one for one in records(running, "server", "Watch") if one.principal.role == "member"])
        )
        done = admin.revoke_certificate(serial_of(pair), reason="left the company")
        out, err = monitor.communicate(timeout=60)
    assert done["calls_ended"] == 1
    found = json.loads(out)
    assert (monitor.returncode, found["error_code"]) == (2, "AUTH_FAILED"), err
    assert f"the certificate of watcher@nvidia.com was revoked at {done['time']} (left the company)" in found["message"]
    assert "Traceback" not in err
    with Session.open(kit) as session:
        for act in (session.list_jobs, session.status, session.list_studies):
            with pytest.raises(AuthError, match="was revoked at") as caught:
                act()
            assert caught.value.exit_status == 2
    admin.abort_job(job)


@row("K7")
def test_a_job_ends_with_the_certificate_of_its_submitter(
    running: Federation, admin: Session, forger: Forger, tmp_path: Path
) -> None:
    pair = forger.pair("author@nvidia.com", "lead")
    kit = kit_of(running, pair, "author@nvidia.com")
    with Session(kit) as author:
        job = running_job(author, tmp_path / "job", sites=["site-1", "site-2"])
        waiting = author.submit_job(write_job(tmp_path / "waiting", SCRIPT, sites=["site-9"]))
    other = running_job(admin, tmp_path / "other", sites=["site-1"])
    done = admin.revoke_certificate(serial_of(pair), reason="key leaked")
    meta = admin.wait_for_job(job, 60)
    why = f"the certificate of author@nvidia.com was revoked at {done['time']} (key leaked)"
    assert (meta["status"], meta["cause"]["phase"], meta["cause"]["message"]) == ("FINISHED:FAILED", "revoked", why)
    meta = admin.wait_for_job(waiting, 60)
    assert (meta["status"], meta["cause"]["message"]) == ("FINISHED:CAN_NOT_SCHEDULE", why)
    # nothing of it runs any more, and jobs of others go on
    assert becomes(lambda: running.job_processes("site-2") == [])
    assert becomes(lambda: len(running.job_processes("site-1")) == 1)
    assert admin.get_job_status(other) == "RUNNING"
    for site in ("site-1", "site-2"):
        assert f"job {job}: failed: {why}" in running.log(site)
    admin.abort_job(other)
    # a job whose submitter was locked out is not started again by anybody
    with pytest.raises(AuthError), Session(kit) as author:
        author.list_jobs()
    again = admin.clone_job(job)["new_job_id"]
    assert any(meta["status"] == "RUNNING" for meta in admin.watch_job(again, timeout=60))
    admin.abort_job(again)


@row("K7")
def test_a_server_that_was_killed_before_it_ended_the_job_ends_it_when_it_starts(
    tmp_path: Path,
) -> None:
    found = Federation(tmp_path, sites=1)
    try:
        found.start()
        found.ready()
        author = load_kit(found.prod / "lead@nvidia.com")
        with Session(author) as session:
            job = running_job(session, tmp_path / "job")
        found.kill("server")
        found.kill("site-1")
        boss = load_kit(found.prod / "admin@nvidia.com")
        entry = Revoked("lead@nvidia.com", written_now(), "late")
        signed = sign_statement(
            new_list(None, "example_project", serial_of(author), entry),
            key_pem=boss.key_pem, certificate_pem=boss.certificate_pem,
        )  # fmt: skip
        from flpoc.jobs.revocations import Revocations

        for name in ("server", "site-1"):
            Revocations(found.state(name), root_pem=boss.root_pem, project="example_project").keep(signed)
        # the agent alone, without a server: the script of a locked-out user does not go on
        assert len(found.job_processes("site-1")) == 1
        found.start("site-1")
        assert becomes(lambda: found.job_processes("site-1") == [])
        found.start("server")
        found.ready()
        with found.session() as admin:
            meta = admin.wait_for_job(job, 60)
        assert (meta["status"], "was revoked at" in meta["cause"]["message"]) == ("FINISHED:FAILED", True)
        assert becomes(lambda: found.job_processes("server") == [])
    finally:
        found.close()


# -- who may, and what they may not


@pytest.mark.parametrize("user", ["lead@nvidia.com", "org-admin@nvidia.com"])
def test_only_a_project_admin_locks_out(running: Federation, user: str) -> None:
    serial = serial_of(load_kit(running.prod / "site-1"))
    with running.session(user) as session:
        kit = session.kit
        made = new_list(None, "example_project", serial, Revoked())
        signed = sign_statement(made, key_pem=kit.key_pem, certificate_pem=kit.certificate_pem)
        with pytest.raises(AuthError, match="may not revoke certificates") as caught:
            session.ask("Revoke", Revoke(signed))
        assert (caught.value.code, caught.value.exit_status) == ("AUTH_FAILED", 2)
        with pytest.raises(AuthError):
            session.revoke_certificate(serial)
    running.ready("site-1")


def give(admin: Session, made: RevocationList, *, by: Kit | None = None) -> Any:
    kit = by or admin.kit
    return admin.ask("Revoke", Revoke(sign_statement(made, key_pem=kit.key_pem, certificate_pem=kit.certificate_pem)))


def newest(admin: Session) -> RevocationList:
    from flpoc.settings import structure

    admin.revoke_certificate("77")
    return structure(admin.list_certificates()["list"], RevocationList)


@row("K18")
def test_a_list_that_does_not_follow_the_one_before_is_refused(
    running: Federation, admin: Session, forger: Forger
) -> None:
    old = newest(admin)
    boss = forger.pair("boss@nvidia.com", "project_admin")
    gone = forger.pair("gone@nvidia.com", "project_admin", seconds=(-7200, -3600))
    own = serial_of(admin.kit)
    follower = new_list(old, "example_project", "78", Revoked())
    cases: list[tuple[RevocationList, Kit | None, str, str]] = [
        (old, None, "REVOCATION_CONFLICT", "it has number"),
        (attrs.evolve(follower, number=old.number + 2), None, "REVOCATION_CONFLICT", "it has number"),
        (attrs.evolve(follower, serials={"78": Revoked()}), None, "REVOCATION_CONFLICT", "it has forgotten"),
        (new_list(old, "example_project", "0X78", Revoked()), None, "REVOCATION_CONFLICT", "not the serial number"),
        (attrs.evolve(follower, project="other"), None, "AUTH_FAILED", "another project"),
        (follower, kit_of(running, boss, "boss@nvidia.com", "project_admin"), "AUTH_FAILED", "is signed by boss@"),
        (follower, kit_of(running, gone, "gone@nvidia.com", "project_admin"), "AUTH_FAILED", "not to be trusted"),
        (new_list(old, "example_project", own, Revoked()), None, "INVALID_ARGS", "your own certificate"),
        (
            new_list(old, "example_project", serial_of(load_kit(running.prod / "server")), Revoked()),
            None, "INVALID_ARGS", "the server's own certificate",
        ),
    ]  # fmt: skip
    for made, by, code, why in cases:
        with pytest.raises(FlpocError) as caught:
            give(admin, made, by=by)
        assert (caught.value.code, why in caught.value.message) == (code, True), caught.value.message
        record = records(running, "server", "Revoke")[-1]
        assert (record.outcome, record.reason) == ("deny", caught.value.message)
    assert admin.list_certificates()["list"]["number"] == old.number


def test_ones_own_certificate_cannot_be_locked_out(admin: Session) -> None:
    with pytest.raises(UsageError, match="your own certificate") as caught:
        admin.revoke_certificate(serial_of(admin.kit))
    assert caught.value.exit_status == 4
    with pytest.raises(UsageError, match="201 characters"):
        admin.revoke_certificate("79", reason="x" * 201)


def test_twice_is_the_same_as_once(admin: Session, forger: Forger) -> None:
    serial = serial_of(forger.pair("twice@nvidia.com", "lead"))
    first = admin.revoke_certificate(serial, name="twice@nvidia.com", reason="why not")
    again = admin.revoke_certificate(serial.upper())
    assert again == {key: first[key] for key in ("serial", "name", "time", "number")} | {"already_revoked": True}


def test_all_that_are_locked_out_at_the_same_time_stay_so(running: Federation, admin: Session) -> None:
    numbers = [f"{number:x}" for number in range(0xABC0, 0xABC8)]
    failed: list[BaseException] = []

    def lock_out(serial: str) -> None:
        try:
            with running.session() as session:
                while True:
                    with contextlib.suppress(FlpocError):
                        session.revoke_certificate(serial)
                        return
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=lock_out, args=(serial,)) for serial in numbers]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    assert failed == []
    assert set(numbers) <= set(admin.list_certificates()["list"]["serials"])


@row("K18")
def test_two_certificates_of_one_number_are_both_locked_out(
    running: Federation, admin: Session, forger: Forger
) -> None:
    pairs = [forger.pair(f"twin-{one}@nvidia.com", "lead", serial=0x4242) for one in "ab"]
    peers = [Peer(running, pair) for pair in pairs]
    try:
        assert [peer.ask("Status", Ask()).code for peer in peers] == ["", ""]
        admin.revoke_certificate("4242")
        assert [peer.ask("Status", Ask()).code for peer in peers] == ["AUTH_FAILED", "AUTH_FAILED"]
    finally:
        for peer in peers:
            peer.close()


@row("K7", "S12")
def test_who_was_locked_out_stays_so_over_a_restart_of_the_server(
    running: Federation, admin: Session, forger: Forger
) -> None:
    pair = forger.pair("ever@nvidia.com", "lead")
    admin.revoke_certificate(serial_of(pair), name="ever@nvidia.com", reason="for good")
    before = admin.list_certificates()["list"]
    running.kill("server")
    running.start("server")
    running.ready("site-1", "site-2", "site-3")
    with Peer(running, pair) as peer:
        answer = peer.ask("Status", Ask())
    assert (answer.code, "(for good)" in answer.message) == ("AUTH_FAILED", True)
    with running.session() as session:
        assert session.list_certificates()["list"] == before


def test_everybody_sees_the_certificates_that_concern_them(running: Federation, admin: Session, forger: Forger) -> None:
    with Peer(running, forger.pair("site-5", org="beta")) as peer:
        stream = Stream(peer)
        assert next(iter(stream)).project
        stream.close()
    assert becomes(lambda: "site-5" in {one["name"] for one in admin.list_certificates()["certificates"]})
    everything = admin.list_certificates()
    mine = next(one for one in everything["certificates"] if one["serial"] == serial_of(admin.kit))
    assert (mine["name"], mine["kind"], mine["role"], mine["org"]) == (
        "admin@nvidia.com",
        "user",
        "project_admin",
        "nvidia",
    )
    assert mine["revoked"] is None
    with running.session("org-admin@nvidia.com") as session:
        found = session.list_certificates()
    assert found["list"] is None
    assert {one["org"] for one in found["certificates"]} == {"nvidia"}


@row("K7")
def test_a_download_that_nobody_reads_is_cut_off_too(
    running: Federation, admin: Session, forger: Forger, tmp_path: Path
) -> None:
    """The server waits in the middle of a file then."""
    size = 24 << 20
    pair = forger.pair("reader@nvidia.com", "lead")
    folder = write_job(tmp_path / "job", SCRIPT, sites=["site-9"])
    (folder / "code" / "large.bin").write_bytes(random.Random(1).randbytes(size))
    with Session(kit_of(running, pair, "reader@nvidia.com")) as reader:
        job = reader.submit_job(folder)
        stream = reader.stream("Source", reader.about(job))
        next(stream)
        assert admin.revoke_certificate(serial_of(pair))["calls_ended"] == 1
        chunks: list[bytes] = []
        with pytest.raises(grpc.RpcError) as caught:
            chunks.extend(stream)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert sum(map(len, chunks)) < size / 2
    admin.delete_job(job)
