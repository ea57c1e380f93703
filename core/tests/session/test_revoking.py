"""Who revokes a certificate signs the whole list: what a server says is in it is not simply believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from flpoc.errors import AuthError, FlpocError, IntegrityError
from flpoc.jobs.statements import (
    RevocationList,
    Revoked,
    SignedStatement,
    as_document,
    new_list,
    sign_statement,
)
from flpoc.provision.building import provision
from flpoc.provision.kits import load_kit
from flpoc.provision.project_file import sample_project
from flpoc.session import Session
from flpoc.settings import canonical_json
from flpoc.wire.statements import Revoke

PROJECT = "example_project"


class Server(Session):
    """A session whose server is in the hands of this test."""

    document: Any = None
    conflicts = 0

    def ask(self, name: str, ask: Any, *, seconds: float | None = None) -> Any:
        if name == "Revoked":
            return {"certificates": [{"serial": "abc", "name": "site-1"}], "signed": self.document}
        assert isinstance(ask, Revoke)
        if self.conflicts:
            self.conflicts -= 1
            raise FlpocError("somebody was faster", code="REVOCATION_CONFLICT")
        self.document = as_document(ask.signed)
        return {"number": json.loads(ask.signed.content)["number"], "calls_ended": 0}


@pytest.fixture(scope="module")
def prod(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return provision(sample_project(["site-1"]), tmp_path_factory.mktemp("project"))


@pytest.fixture
def session(prod: Path) -> Server:
    return Server(prod / "admin@nvidia.com")


def signed(prod: Path, found: RevocationList, user: str = "admin@nvidia.com") -> SignedStatement:
    kit = load_kit(prod / user)
    return sign_statement(found, key_pem=kit.key_pem, certificate_pem=kit.certificate_pem)


def test_a_list_grows_by_one(session: Server) -> None:
    first = session.revoke_certificate("ABC", reason="lost")
    assert (first["name"], first["number"], first["already_revoked"]) == ("site-1", 1, False)
    assert session.revoke_certificate("def", name="somebody")["number"] == 2
    assert session.revoke_certificate("abc")["already_revoked"] is True
    found = session.list_certificates()["list"]
    assert {serial: entry["name"] for serial, entry in found["serials"].items()} == {"abc": "site-1", "def": "somebody"}


def test_what_others_revoke_meanwhile_is_waited_for(session: Server) -> None:
    session.conflicts = 4
    assert session.revoke_certificate("abc")["number"] == 1
    session.conflicts = 5
    with pytest.raises(FlpocError, match="somebody was faster"):
        session.revoke_certificate("def")


def test_a_list_that_the_server_made_up_is_not_signed(prod: Path, session: Server) -> None:
    good = new_list(None, PROJECT, "abc", Revoked("site-1"))
    true = signed(prod, good)
    more = attrs.evolve(good, serials={**good.serials, "def": Revoked("everybody")})
    made_up: dict[str, tuple[Any, type[FlpocError]]] = {
        "more than was signed": (attrs.evolve(true, content=canonical_json(more)), IntegrityError),
        "less than was signed": (
            attrs.evolve(true, content=canonical_json(attrs.evolve(good, serials={}))),
            IntegrityError,
        ),
        "signed by who may not": (signed(prod, more, "lead@nvidia.com"), AuthError),
        "of another project": (signed(prod, attrs.evolve(good, project="other")), AuthError),
        "no list": (SignedStatement(b"{}", b"x", true.certificate), IntegrityError),
    }
    for what, (statement, kind) in made_up.items():
        session.document = as_document(statement)
        for act in (lambda: session.revoke_certificate("123"), session.list_certificates):
            with pytest.raises(kind):
                act()
        assert session.document == as_document(statement), what
