"""``flpoc cert revoke | list``: whose certificate, said in three ways."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flpoc.cli.run import run
from flpoc.provision.building import provision
from flpoc.provision.identity import identity_of
from flpoc.provision.project_file import sample_project

COMMANDS = (
    ("revoke", "flpoc.cli.cert_revoke:revoke", "Lock a certificate out."),
    ("list", "flpoc.cli.cert_revoke:list_certificates", "List certificates."),
)
ADMIN, LEAD, ORG_ADMIN = "admin@nvidia.com", "lead@nvidia.com", "org-admin@nvidia.com"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, deployment_class: Any) -> Iterator[Any]:
    """A server of its own: what is revoked here stays so."""
    found = deployment_class(tmp_path_factory.mktemp("cert"))
    try:
        found.start("server", "site-1", "site-2")
        yield found
    finally:
        found.stop_all()


@pytest.fixture
def cert(server: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a command as the project's admin, or somebody else; gives its exit status and document."""

    def call(*words: str, user: str = ADMIN) -> tuple[int, dict[str, Any]]:
        monkeypatch.setenv("FLPOC_STARTUP_KIT_DIR", str(server.kit(user)))
        status = run([*words, "--format", "json"], COMMANDS)
        return status, json.loads(capsys.readouterr().out)

    return call


def serial(folder: Path) -> str:
    (path,) = folder.glob("startup/client.crt")
    return f"{identity_of(path.read_bytes()).serial:x}"


def test_certificates_are_listed_for_people_and_programs(
    server: Any, cert: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = cert("list")
    assert status == 0
    rows = {one["name"]: one for one in found["data"]["certificates"]}
    assert {"site-1", "site-2", ADMIN} <= set(rows)
    assert rows["site-1"] == {
        "serial": serial(server.kit("site-1")), "name": "site-1", "kind": "site", "role": "", "org": "nvidia",
        "ends": rows["site-1"]["ends"], "seen": rows["site-1"]["seen"], "revoked": None,
    }  # fmt: skip
    assert run(["list"], COMMANDS) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["NAME", "ROLE", "ORG", "ENDS", "REVOKED", "SERIAL"]
    assert [line.split()[:3] for line in lines if line.startswith("site-1")] == [["site-1", "site", "nvidia"]]


def test_a_name_is_enough(server: Any, cert: Any, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = cert("revoke", "site-2", "--reason", "sold", "--force")
    data = found["data"]
    assert (status, data["name"], data["serial"]) == (0, "site-2", serial(server.kit("site-2")))
    assert data["already_revoked"] is False
    assert data["calls_ended"] >= 1
    again, found = cert("revoke", "site-2", "--force")
    assert (again, found["data"]["already_revoked"], found["data"]["time"]) == (0, True, data["time"])
    assert run(["revoke", "site-2", "--force"], COMMANDS) == 0
    assert capsys.readouterr().out == f"The certificate {data['serial']} of site-2 was revoked at {data['time']}.\n"
    _, found = cert("list")
    (row,) = [one for one in found["data"]["certificates"] if one["name"] == "site-2"]
    assert row["revoked"] == {"name": "site-2", "time": data["time"], "reason": "sold"}


def test_a_kit_that_never_came_is_locked_out_by_itself_or_by_its_number(
    server: Any, cert: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = server.kit("site-3")
    status, found = cert("revoke", "--kit", str(kit), "--force")
    assert (status, found["data"]["serial"], found["data"]["name"]) == (0, serial(kit), "site-3")
    assert run(["revoke", "--serial", "0x00C0:FFEE", "--reason", "never issued", "--force"], COMMANDS) == 0
    text = capsys.readouterr().out
    assert text.splitlines() == [
        "Revoked the certificate c0ffee of somebody; calls ended: 0.",
        "To let somebody in again, give them a new startup kit.",
    ]
    _, found = cert("list")
    unmet = {one["serial"]: one for one in found["data"]["certificates"] if one["kind"] is None}
    assert set(unmet) == {serial(kit), "c0ffee"}
    assert unmet["c0ffee"]["revoked"]["reason"] == "never issued"
    assert found["data"]["list_number"] >= 2


def test_of_several_certificates_of_a_name_the_number_decides(server: Any, cert: Any) -> None:
    """As after a kit was made anew: here, by the same authority for the same user."""
    from catalogue.attack import Forger, Peer

    from flpoc.wire.asks import Ask

    forger = Forger(server.prod.parent / "ca")
    pairs = [forger.pair("twice@nvidia.com", "member") for _ in range(2)]
    for pair in pairs:
        with Peer(server, pair) as peer:
            assert peer.ask("Status", Ask()).code == ""
    numbers = sorted(f"{identity_of(pair.certificate).serial:x}" for pair in pairs)
    status, found = cert("revoke", "twice@nvidia.com", "--force")
    assert (status, found["error_code"]) == (4, "INVALID_ARGS")
    assert sorted(one["serial"] for one in found["data"]["certificates"]) == numbers
    assert all(number in found["message"] for number in numbers)
    assert found["hint"] == "say which: --serial HEX"
    assert cert("revoke", "--serial", numbers[0], "--force")[0] == 0
    status, found = cert("revoke", "twice@nvidia.com", "--force")
    assert (status, found["data"]["serial"]) == (0, numbers[1])


#: What is wrong with a call, and what is said about it.
WRONG: dict[str, tuple[list[str], str, int, str]] = {
    "nobody": (["--force"], "INVALID_ARGS", 4, "no certificate is named"),
    "two ways": (["site-1", "--serial", "1", "--force"], "INVALID_ARGS", 4, "exclude each other"),
    "no number": (["--serial", "site-1", "--force"], "INVALID_ARGS", 4, "'site-1' is not a serial number in hex"),
    "nothing": (["--serial", "", "--force"], "INVALID_ARGS", 4, "--serial"),
    "nobody's name": (["site-9", "--force"], "CERT_NOT_FOUND", 1, "the server has met no certificate of 'site-9'"),
    "a slip": (["lead@nvidia.con", "--force"], "CERT_NOT_FOUND", 1, "met no certificate"),
    "no kit": (["--kit", "nowhere", "--force"], "STARTUP_KIT_MISSING", 2, "nowhere"),
    "oneself": ([ADMIN, "--force"], "INVALID_ARGS", 4, "your own certificate"),
    "a long reason": (["site-1", "--reason", "x" * 201, "--force"], "INVALID_ARGS", 4, "201 characters"),
    "without a terminal": (["site-1"], "INVALID_ARGS", 4, "There is no terminal to ask at"),
    "an unknown study": (["site-1", "--force", "--study", "No"], "INVALID_ARGS", 4, "not the name of a study"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_and_nobody_is_locked_out(cert: Any, case: str) -> None:
    words, code, status, why = WRONG[case]
    _, before = cert("list")
    found_status, found = cert("revoke", *words)
    assert (found_status, found["error_code"]) == (status, code), found
    assert why in found["message"]
    assert found["hint"]
    assert cert("list")[1]["data"]["list_number"] == before["data"]["list_number"]


def test_a_kit_of_another_project_is_not_meant(cert: Any, tmp_path: Path) -> None:
    other = provision(sample_project(["site-1"], name="other"), tmp_path)
    status, found = cert("revoke", "--kit", str(other / "site-1"), "--force")
    assert (status, found["error_code"]) == (4, "INVALID_KIT")
    assert "is a kit of project 'other', not of 'example_project'" in found["message"]
    (path,) = (other / "site-1" / "startup").glob("client.crt")
    path.write_text("nonsense")
    status, found = cert("revoke", "--kit", str(other / "site-1"), "--force")
    assert (status, found["error_code"]) == (4, "INVALID_KIT")
    assert str(path) in found["message"]


@pytest.mark.parametrize("user", [LEAD, ORG_ADMIN])
def test_only_a_project_admin_locks_out(server: Any, cert: Any, user: str) -> None:
    status, found = cert("revoke", "--kit", str(server.kit("site-1")), "--force", user=user)
    assert (status, found["error_code"]) == (2, "AUTH_FAILED")
    assert "may not" in found["message"]
    assert "roles that may: project_admin" in found["hint"]
