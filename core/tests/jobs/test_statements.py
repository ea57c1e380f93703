"""What users sign besides jobs: what makes it one, and what a list of revoked certificates may follow."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from flpoc.errors import AuthError, FlpocError, IntegrityError, ResourceError, UsageError
from flpoc.jobs.revocations import Revocations
from flpoc.jobs.statements import (
    MAX_CONTENT_BYTES,
    Order,
    Orders,
    RevocationList,
    Revoked,
    SignedStatement,
    as_document,
    follows,
    new_list,
    new_order,
    of_document,
    outdated,
    sign_statement,
    verify_statement,
    written_now,
)
from flpoc.provision.building import provision
from flpoc.provision.identity import identity_of
from flpoc.provision.project_file import sample_project
from flpoc.session.revoking import serial_of

ADMIN = "admin@nvidia.com"
PROJECT = "example_project"


@pytest.fixture(scope="module")
def prod(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return provision(sample_project(["site-1"]), tmp_path_factory.mktemp("project"))


def keys(prod: Path, user: str = ADMIN) -> dict[str, bytes]:
    startup = prod / user / "startup"
    return {"key_pem": (startup / "client.key").read_bytes(), "certificate_pem": (startup / "client.crt").read_bytes()}


def root(prod: Path) -> bytes:
    return (prod / ADMIN / "startup" / "rootCA.pem").read_bytes()


def verified(prod: Path, signed: SignedStatement, cls: Any = Order, **more: Any) -> Any:
    return verify_statement(signed, cls, root_pem=root(prod), project=PROJECT, **more)


def test_what_is_signed_is_what_is_read(prod: Path) -> None:
    order = new_order("log", PROJECT, ("server", "site-1"), count=7)
    found, who = verified(prod, sign_statement(order, **keys(prod)))
    assert found == order
    assert (who.name, who.role) == (ADMIN, "project_admin")
    assert new_order("log", PROJECT, ()).nonce != new_order("log", PROJECT, ()).nonce


def test_one_kind_of_statement_is_no_other(prod: Path) -> None:
    order = sign_statement(new_order("version", PROJECT, ("site-1",)), **keys(prod))
    listed = sign_statement(RevocationList(PROJECT, 1, {}, written_now()), **keys(prod))
    for signed, cls in ((order, RevocationList), (listed, Order)):
        with pytest.raises(IntegrityError, match="not sound"):
            verified(prod, signed, cls)


def test_a_statement_that_is_too_long_is_not_signed(prod: Path) -> None:
    with pytest.raises(IntegrityError, match="are allowed"):
        sign_statement(new_order("log", PROJECT, ("x" * MAX_CONTENT_BYTES,)), **keys(prod))


def test_a_statement_survives_as_json(prod: Path) -> None:
    signed = sign_statement(new_order("log", PROJECT, ()), **keys(prod))
    assert of_document(json.loads(json.dumps(as_document(signed)))) == signed
    for odd in ({}, {"content": "a"}, {"content": 1, "signature": "", "certificate": ""}, [], None):
        with pytest.raises(IntegrityError):
            of_document(odd)  # type: ignore[arg-type]


# -- orders


def accept(prod: Path, orders: Orders, signed: SignedStatement) -> Order:
    return orders.accept(signed, root_pem=root(prod), project=PROJECT)[0]


def signed_at(prod: Path, moment: datetime.datetime) -> SignedStatement:
    order = attrs.evolve(new_order("version", PROJECT, ("site-1",)), created=f"{moment:%Y-%m-%dT%H:%M:%SZ}")
    return sign_statement(order, **keys(prod))


@pytest.mark.parametrize(("seconds", "good"), [(-290, True), (290, True), (-310, False), (310, False), (-1e6, False)])
def test_an_order_is_fresh_for_five_minutes(prod: Path, seconds: float, good: bool) -> None:
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    if good:
        accept(prod, Orders(), signed_at(prod, moment))
        return
    with pytest.raises(AuthError) as caught:
        accept(prod, Orders(), signed_at(prod, moment))
    assert "set the clocks right" in caught.value.hint


def test_what_is_written_down_of_orders_is_whole_or_nothing(prod: Path, tmp_path: Path) -> None:
    record = tmp_path / "orders.json"
    orders = Orders(record)
    signed = signed_at(prod, datetime.datetime.now(datetime.UTC))
    accept(prod, orders, signed)
    orders.keep()
    assert [path.name for path in tmp_path.iterdir()] == ["orders.json"]
    with pytest.raises(AuthError, match="carried out before"):
        accept(prod, Orders(record), signed)
    tmp_path.joinpath("orders.part").mkdir()
    with pytest.raises(ResourceError, match="cannot be written down"):
        orders.keep()
    with pytest.raises(AuthError, match="carried out before"):
        accept(prod, Orders(record), signed)


# -- lists


def lists(number: int, *serials: str) -> RevocationList:
    return RevocationList(PROJECT, number, dict.fromkeys(serials, Revoked()), "2026-11-27T00:00:00Z")


#: A list, the one that is known, whether a server takes it, and whether a site does that may have missed some.
FOLLOWS = {
    "the first": (lists(1, "a"), None, True, True),
    "the next": (lists(2, "a", "b"), lists(1, "a"), True, True),
    "the same": (lists(1, "a"), lists(1, "a"), False, False),
    "another of the same number": (lists(1, "b"), lists(1, "a"), False, False),
    "an older one": (lists(1, "a"), lists(2, "a", "b"), False, False),
    "one that has forgotten": (lists(2, "b"), lists(1, "a"), False, False),
    "one that is far ahead": (lists(9, "a", "b"), lists(1, "a"), False, True),
    "not the first": (lists(3, "a"), None, False, True),
    "one that is far ahead and has forgotten": (lists(9, "b"), lists(1, "a"), False, False),
    "number 0": (lists(0, "a"), None, False, True),
}


@pytest.mark.parametrize("case", FOLLOWS)
def test_a_list_follows_the_one_before(case: str) -> None:
    new, old, server, site = FOLLOWS[case]
    assert (follows(new, old) == "") == server
    assert (outdated(new, old) == "") == site


@pytest.mark.parametrize("serial", ["", "0a", "AB", "0x1", "a:b", "g", "a" * 41, " a", "a\n"])
def test_a_serial_number_in_another_spelling_would_lock_nobody_out(serial: str) -> None:
    assert "not the serial number of a certificate" in follows(lists(1, serial), None)


@pytest.mark.parametrize(("said", "meant"), [("0x0AB", "ab"), ("4F:21:C0", "4f21c0"), (" 1 ", "1"), ("00ff", "ff")])
def test_people_may_spell_serial_numbers_as_other_programs_show_them(said: str, meant: str) -> None:
    assert serial_of(said) == meant


@pytest.mark.parametrize("said", ["", "0", "0x", "xyz", "-1", "1.5", "a" * 41])
def test_what_is_no_serial_number_is_refused(said: str) -> None:
    with pytest.raises(UsageError, match="not a serial number"):
        serial_of(said)


def test_a_new_list_has_all_of_the_old_one() -> None:
    second = new_list(new_list(None, PROJECT, "a", Revoked("x")), PROJECT, "b", Revoked("y"))
    assert (second.number, {serial: one.name for serial, one in second.serials.items()}) == (2, {"a": "x", "b": "y"})


def issued(prod: Path, days: tuple[float, float]) -> dict[str, bytes]:
    """A key and a certificate of the admin's that is valid for other days."""
    ca = prod.parent / "ca"
    own = x509.load_pem_x509_certificate(keys(prod)["certificate_pem"])
    authority: Any = serialization.load_pem_private_key((ca / "rootCA.key").read_bytes(), None)
    now = datetime.datetime.now(datetime.UTC)
    start, end = (now + datetime.timedelta(days=one) for one in days)
    builder = x509.CertificateBuilder(own.issuer, own.subject, own.public_key(), 77, start, end)
    for one in own.extensions:
        builder = builder.add_extension(one.value, one.critical)
    pem = builder.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return {"key_pem": keys(prod)["key_pem"], "certificate_pem": pem}


def dated(days: float) -> str:
    return f"{datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"


@pytest.mark.row("K18")
def test_a_list_is_believed_when_its_signers_certificate_has_ended_since(
    prod: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The authority of these days is younger than the list; it is asked as of then."""
    import flpoc.provision.identity as identity

    monkeypatch.setattr(identity, "_check_times", _leniently_of_the_authority(identity._check_times))
    expired = issued(prod, (-9, -1))
    good = attrs.evolve(lists(1, "a"), created=dated(-3))
    known = Revocations(tmp_path, root_pem=root(prod), project=PROJECT)
    known.check(signed := sign_statement(good, **expired))
    known.keep(signed)
    assert 0xA in Revocations(tmp_path, root_pem=root(prod), project=PROJECT)
    for created in (dated(0), dated(-12)):
        with pytest.raises(AuthError, match=r"expired|not valid"):
            known.check(sign_statement(attrs.evolve(lists(2, "a"), created=created), **expired))
    with pytest.raises(AuthError, match="expired"):
        verified(prod, sign_statement(new_order("version", PROJECT, ("site-1",)), **expired))


def _leniently_of_the_authority(check: Any) -> Any:
    """Its authority was made a moment ago, as everything here; a real one is older than what it has signed."""

    def checked(start: Any, end: Any, now: Any, what: str) -> None:
        if not what.startswith("the CA"):
            check(start, end, now, what)

    return checked


@pytest.mark.row("K18")
def test_what_is_kept_refuses_by_number_of_the_certificate_whoever_it_names(prod: Path, tmp_path: Path) -> None:
    who = identity_of(keys(prod, "lead@nvidia.com")["certificate_pem"])
    known = Revocations(tmp_path, root_pem=root(prod), project=PROJECT)
    known.refuse(who.serial, who.name)
    entry = Revoked("somebody", written_now(), "lost")
    known.keep(sign_statement(new_list(None, PROJECT, f"{who.serial:x}", entry), **keys(prod)))
    for name in (who.name, "a second certificate of this number"):
        with pytest.raises(AuthError, match=f"certificate of {name} was revoked at .* \\(lost\\)"):
            known.refuse(who.serial, name)
    known.refuse(who.serial + 1, who.name)


def test_a_list_that_cannot_be_written_is_not_taken(prod: Path, tmp_path: Path) -> None:
    known = Revocations(tmp_path, root_pem=root(prod), project=PROJECT)
    first, second = (attrs.evolve(lists(*one), created=written_now()) for one in ((1, "a"), (2, "a", "b")))
    known.keep(sign_statement(first, **keys(prod)))
    tmp_path.joinpath("revocations.part").mkdir()
    with pytest.raises(FlpocError, match="cannot be written"):
        known.keep(sign_statement(second, **keys(prod)))
    assert known.number == 1
    assert Revocations(tmp_path, root_pem=root(prod), project=PROJECT).number == 1
