"""`flpoc plugins new`: what it makes works, whatever the kind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flpoc.cli.main import main
from flpoc.cli.plugins_new import KINDS

SKELETONS = Path(__file__).resolve().parents[2] / "core" / "src" / "flpoc" / "skeletons"


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLPOC_CONFIG", str(tmp_path / "config.conf"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def new(*words: str) -> int:
    return main(["plugins", "new", *words, "--format", "json"])


def in_the_package(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    paths = [str(folder / "src"), *filter(None, sys.path)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    argv = [sys.executable, "-m", *words]
    return subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=200, check=False)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "launcher"])  # that one is in test_packages.py
def test_what_is_made_passes_its_tests(kind: str, user: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert new(kind, "acme-one") == 0
    made = json.loads(capsys.readouterr().out)["data"]
    folder = Path(made["folder"])
    assert folder == user / "flpoc-acme-one"
    assert {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()} == set(made["files"])
    done = in_the_package(folder, "pytest", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_made_is_in_order_for_ruff(user: Path) -> None:
    pytest.importorskip("ruff")
    for kind in KINDS:
        assert new(kind, f"x-{kind}", "-o", str(user / kind)) == 0
    argv = [sys.executable, "-m", "ruff", "check", "--no-cache", "--quiet", str(user)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    argv = [sys.executable, "-m", "ruff", "format", "--check", "--no-cache", "--quiet", str(user)]
    assert subprocess.run(argv, capture_output=True, text=True, check=False).returncode == 0


def test_every_kind_has_a_skeleton_and_every_skeleton_a_kind() -> None:
    assert {file.stem for file in SKELETONS.glob("*.txt")} == {*KINDS, "package"}


@pytest.mark.parametrize(
    ("kind", "name", "says"),
    [
        ("luncher", "x", "did you mean 'launcher'?"),
        ("launchers", "x", "did you mean 'launcher'?"),
        ("launcher", "local", "choose another name"),
        ("formatter", "json", "choose another name"),
        ("tracker", "core", "choose another name"),
        ("tracker", "My Tracker", "my-tracker"),
        ("tracker", "flpoc-mine", "mine"),
        ("tracker", "../mine", "mine"),
        ("tracker", "mine-", "mine"),
        ("tracker", "\u00e4rger", "small letters"),
        ("tracker", "x" * 41, "small letters"),
        ("tracker", "", "small letters"),
    ],
)
def test_what_cannot_be_made_is_refused_with_a_cure(
    kind: str, name: str, says: str, user: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert new(kind, name) == 4
    said = json.loads(capsys.readouterr().out)
    assert said["error_code"] == "INVALID_ARGS"
    assert says in said["hint"]
    assert list(user.iterdir()) == []


def test_kinds_may_be_written_with_an_underscore(user: Path) -> None:
    assert new("kit_file", "acme") == 0
    assert (user / "flpoc-acme").is_dir()


@pytest.mark.parametrize("what", ["folder", "file", "link"])
def test_nothing_that_is_there_is_overwritten(what: str, user: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = user / "flpoc-acme"
    {"folder": there.mkdir, "file": there.touch, "link": lambda: there.symlink_to("nowhere")}[what]()
    assert new("check", "acme") == 4
    assert "exists already" in json.loads(capsys.readouterr().out)["message"]
    assert list(user.iterdir()) == [there]


def test_a_place_that_cannot_be_written_to_is_an_error_and_nothing_is_left(
    user: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (user / "file").touch()
    assert new("check", "acme", "-o", str(user / "file" / "below")) == 1
    assert json.loads(capsys.readouterr().out)["error_code"] == "OUTPUT_DIR_NOT_WRITABLE"
    assert [one.name for one in user.iterdir()] == ["file"]


def test_the_folder_is_made_with_those_above_it(user: Path) -> None:
    assert new("check", "acme", "-o", str(user / "a" / "b")) == 0
    assert [one.name for one in (user / "a" / "b").iterdir()] == ["flpoc-acme"]
    assert (user / "a" / "b" / "flpoc-acme").stat().st_mode & 0o700 == 0o700
