"""Graphics processors of a proof of concept, with a program that lists some, through the real command line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def machine(folder: Path, count: int, script: str = "") -> str:
    """A program that says what the one of a machine with graphics processors says; gives a PATH with it."""
    folder.mkdir()
    lines = "".join(f"echo 'GPU {number}: Some Card (UUID: GPU-{number})'\n" for number in range(count))
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script or lines}")
    program.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def visible(pid: int) -> str | None:
    """What a process was given to see; None if nothing was said to it."""
    words = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(word.split("=", 1) for word in words if word).get("CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize(
    ("given", "dealt"),
    [
        (["1", "0"], {"site-1": ["1"], "site-2": ["0"], "site-3": ["1"]}),
        (["2"], {"site-1": ["2"], "site-2": ["2"], "site-3": ["2"]}),
        (["1", "1", "0"], {"site-1": ["1"], "site-2": ["1"], "site-3": ["0"]}),
        (["3", "0", "0", "2", "3"], {"site-1": ["3", "2"], "site-2": ["0", "3"], "site-3": ["0"]}),
    ],
)
def test_they_are_dealt_in_the_order_given_with_repeats(place, tmp_path, given, dealt):
    place.prepare(sites=3)
    data = place.run("start", "--no-wait", "-gpu", *given, PATH=machine(tmp_path / "bin", 4)).data
    assert data["gpus"] == dealt
    assert {site: visible(data["started"][site]) for site in dealt} == {
        site: ",".join(ids) for site, ids in dealt.items()
    }


def test_one_that_a_site_got_twice_is_visible_once(place, tmp_path):
    place.prepare(sites=1)
    data = place.run("start", "--no-wait", "-gpu", "1", "0", "1", PATH=machine(tmp_path / "bin", 2)).data
    assert data["gpus"] == {"site-1": ["1", "0", "1"]}
    assert visible(data["started"]["site-1"]) == "1,0"


@pytest.mark.parametrize(
    ("count", "dealt"),
    [
        (0, {}),
        (1, {"site-1": ["0"], "site-2": ["0"]}),
        (2, {"site-1": ["0"], "site-2": ["1"]}),
        (5, {"site-1": ["0", "2", "4"], "site-2": ["1", "3"]}),
    ],
)
def test_what_the_machine_has_is_dealt_without_being_asked_for(place, tmp_path, count, dealt):
    place.prepare()
    data = place.run("start", "--no-wait", PATH=machine(tmp_path / "bin", count)).data
    assert data["gpus"] == dealt
    assert visible(data["started"]["server"]) is None
    assert all((visible(data["started"][site]) is None) == (not dealt) for site in ("site-1", "site-2"))


def test_a_site_that_is_started_alone_gets_what_it_would_get_among_all(place, tmp_path):
    place.prepare()
    path = machine(tmp_path / "bin", 2)
    assert place.run("start", "--no-wait", "-p", "site-2", PATH=path).data["gpus"] == {"site-2": ["1"]}
    assert place.run("start", "--no-wait", PATH=path).data["gpus"] == {"site-1": ["0"]}


def test_only_sites_that_are_started_are_dealt_what_is_given(place, tmp_path):
    place.prepare()
    path = machine(tmp_path / "bin", 2)
    assert place.run("start", "--no-wait", "-ex", "site-1", "-gpu", "0", PATH=path).data["gpus"] == {"site-2": ["0"]}


@pytest.mark.row("C20")
@pytest.mark.parametrize("given", [["7"], ["0", "7"], ["-gpu=7"], ["GPU-0"], ["0,1"]])
def test_one_that_is_not_there_is_refused_with_what_there_is(prepared, tmp_path, given):
    words = given if given[0].startswith("-") else ["-gpu", *given]
    answer = prepared.run("start", *words, PATH=machine(tmp_path / "bin", 2))
    assert answer.error == ("INVALID_ARGS", 4)
    assert "this machine has 0, 1" in answer.document["message"]
    assert not prepared.processes


@pytest.mark.row("C20")
def test_where_there_are_none_every_one_is_refused(prepared, tmp_path):
    answer = prepared.run("start", "-gpu", "0", PATH=machine(tmp_path / "bin", 0))
    assert answer.error == ("INVALID_ARGS", 4)
    assert "none is available on this machine" in answer.document["message"]


@pytest.mark.parametrize("script", ["exit 9", "echo nonsense", "echo 'GPU 0: broken'; exit 1"])
def test_a_program_that_fails_means_that_there_are_none(place, tmp_path, script):
    place.prepare(sites=1)
    assert place.run("start", "--no-wait", PATH=machine(tmp_path / "bin", 0, script)).data["gpus"] == {}


def test_what_cannot_be_given_is_said(place, tmp_path):
    place.prepare(sites=1)
    path = machine(tmp_path / "bin", 2)
    answer = place.run("start", "-p", "server", "-gpu", "0", PATH=path)
    assert (answer.data["gpus"], answer.data["warnings"]) == ({}, ["-gpu has no effect: no site is started."])
    place.run("start", PATH=path)
    answer = place.run("start", "-gpu", "1", PATH=path)
    assert answer.data["gpus"] == {}
    assert answer.data["warnings"] == ["-gpu has no effect on what runs already: site-1"]


def test_people_are_told_who_has_which(place, tmp_path):
    place.prepare()
    said = place.run("start", "--no-wait", "-gpu", "1", "0", "1", text=True, PATH=machine(tmp_path / "bin", 2)).out
    assert "site-1 has GPU 1, 1\nsite-2 has GPU 0\n" in said


def test_a_script_that_asks_for_one_sees_that_of_its_site(place, tmp_path):
    place.prepare(sites=1)
    place.run("start", "-gpu", "1", PATH=machine(tmp_path / "bin", 2))
    job = tmp_path / "job"
    (job / "code").mkdir(parents=True)
    script = "import os, sys\nprint('sees', os.environ['CUDA_VISIBLE_DEVICES'], flush=True)\nsys.exit(3)\n"
    (job / "code" / "train.py").write_text(script)
    (job / "job.conf").write_text("name = see\nscript = train.py\nneeds { gpus = 1 }\n")
    submitted = place.answer("job", "submit", "-j", str(job)).data["job_id"]
    place.answer("job", "wait", submitted, "--timeout", "60")
    assert "sees 1" in place.answer("job", "meta", submitted).data["cause"]["log_tail"]
