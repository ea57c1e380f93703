"""Whoever has the authority, and three who take part: files as they lie about while kits are made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from flpoc.cli.main import main
from flpoc.enrolment.approving import Words, approve
from flpoc.enrolment.archives import LIMITS, write_archive
from flpoc.enrolment.founding import make_ca
from flpoc.enrolment.requesting import request
from flpoc.jobs.archive import read
from flpoc.provision.authority import LocalAuthority
from flpoc.provision.identity import sign

PROJECT = "study"
PROFILE = """\
name: study
server:
  host: localhost
  name: server1
  fed_learn_port: PORT
"""
PEOPLE = {
    "server1": "type: server\n    org: it\n    fed_learn_port: PORT",
    "hospital-a": "type: client\n    org: alpha",
    "alice@hospital.org": "type: admin\n    org: alpha\n    role: lead",
}


@attrs.frozen
class Done:
    """A command that was run."""

    status: int
    document: dict[str, Any]
    said: str

    @property
    def data(self) -> Any:
        assert self.status == 0, self.document
        return self.document["data"]

    @property
    def code(self) -> str:
        return str(self.document.get("error_code", ""))


@attrs.frozen
class World:
    """A folder with everybody's files, and what somebody who wants to cheat can do with them."""

    folder: Path

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    @property
    def answer(self) -> Path:
        return self / "hospital-a" / "hospital-a.signed.zip"

    def forge_request(self, change: Callable[[dict[str, Any]], None] = lambda _: None, **files: bytes | None) -> Path:
        """The request of hospital-a with other contents, signed by its key; a file that is None is left out."""
        path = self / "hospital-a" / "hospital-a.request.zip"
        key = (self / "hospital-a" / "hospital-a.key").read_bytes()
        _forge(path, "request.json", change, files, lambda content: sign(key, content))
        return path

    def forge_answer(
        self, change: Callable[[dict[str, Any]], None] = lambda _: None, ca: str = "ca", **files: bytes | None
    ) -> Path:
        """The answer to hospital-a with other contents, signed by the authority; a file that is None is left out."""
        _forge(
            self.answer, "signed.json", change, files, lambda content: LocalAuthority().sign(self.folder / ca, content)
        )
        return self.answer


def _forge(
    path: Path,
    document: str,
    change: Callable[[dict[str, Any]], None],
    files: Mapping[str, bytes | None],
    signing: Callable[[bytes], bytes],
) -> None:
    content = read(path, LIMITS)
    data = json.loads(content[document])
    change(data)
    content[document] = json.dumps(data).encode()
    content[document + ".sig"] = signing(content[document])
    changed = {**content, **{name.replace("__", "."): value for name, value in files.items()}}
    write_archive(path, {name: value for name, value in changed.items() if value is not None})


def definition(name: str, lines: str, project: str = PROJECT) -> str:
    return f"name: {project}\nparticipants:\n  - name: {name}\n    {lines}\n"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, spare_port: Callable[[], int]) -> Path:
    """The folder of a world in which everything was asked for and approved; for reading only."""
    folder, port = tmp_path_factory.mktemp("world"), str(spare_port())
    (folder / "profile.yaml").write_text(PROFILE.replace("PORT", port))
    make_ca(PROJECT, folder / "ca")
    for name, lines in PEOPLE.items():
        file = folder / f"{name}.yaml"
        file.write_text(definition(name, lines.replace("PORT", port)))
        asked = request(file, folder / name)
        approve(asked.archive, folder / "ca", folder / "profile.yaml", Words())
    return folder


@pytest.fixture
def world(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A copy of it that a test may spoil; commands run in it."""
    folder = Path(shutil.copytree(made, tmp_path / "world"))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FLPOC_CONFIG", str(tmp_path / "config.conf"))
    monkeypatch.delenv("FLPOC_CA_PASSPHRASE", raising=False)
    return World(folder)


@pytest.fixture
def flpoc(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run a command in this process."""

    def run(*words: object) -> Done:
        capsys.readouterr()
        status = main(["--format", "json", *map(str, words)])
        said = capsys.readouterr()
        return Done(status, json.loads(said.out), said.err)

    return run
