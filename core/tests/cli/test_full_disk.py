"""Commands that write, where there is no room: all say so, and leave nothing half done."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from flpoc.provision.sample import SAMPLE

PROFILE = "name: hospitals\nserver:\n  host: localhost\n  fed_learn_port: 18402\n"
PROGRAM = """
from flpoc.recipe import NumpyFedAvgRecipe

recipe = NumpyFedAvgRecipe(name="x", min_clients=1, num_rounds=1, train_script="train.py", model=[1.0])
"""
TRAIN = """
import numpy as np

import flpoc.client as flare

flare.init()
while flare.is_running():
    flare.receive()
    flare.send(flare.FLModel(params={"w": np.ones(2)}))
"""


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A small disk without any room; only root can have one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("NOT TESTED: a full disk needs the right to mount one")
    try:
        with (disk / "filler").open("wb", buffering=0) as filler:
            while written := _room_for(filler):
                assert written
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def _room_for(filler) -> int:
    try:
        return int(filler.write(b"x" * 4096))
    except OSError:
        return 0


COMMANDS = {
    "poc prepare": ("poc", "prepare", "-n", "1"),
    "poc config": ("poc", "config", "-pw", "{disk}/poc"),
    "provision": ("provision", "-p", "{home}/project.yml", "-w", "{disk}/kits"),
    "cert init": ("cert", "init", "--profile", "{home}/profile.yaml", "-o", "{disk}/ca"),
    "job create": ("job", "create", "-w", "sag_np", "-j", "{disk}/job"),
    "recipe export": ("recipe", "export", "{home}/program.py", "--export-dir", "{disk}/jobs"),
    "plugins new": ("plugins", "new", "aggregator", "mine", "-o", "{disk}"),
    "simulator": ("simulator", "{home}/job", "-w", "{disk}/results", "-n", "1"),
}


@pytest.mark.row("C12")
@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_full_disk_is_named_and_nothing_is_left(flpoc, full, tmp_path, words):
    (tmp_path / "project.yml").write_text(SAMPLE)
    (tmp_path / "profile.yaml").write_text(PROFILE)
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "job" / "code").mkdir(parents=True)
    (tmp_path / "job" / "code" / "train.py").write_text(TRAIN)
    (tmp_path / "job" / "job.conf").write_text("name = full\nscript = train.py\nrounds = 1\n")
    line = [word.format(disk=full, home=tmp_path) for word in words]
    config = str(full / "flpoc" / "config.conf")
    done = flpoc(*line, "--format", "json", FLPOC_POC_WORKSPACE=str(full / "poc"), FLPOC_CONFIG=config)
    said = json.loads(done.stdout)
    assert (said["error_code"], done.returncode, said["hint"]) == ("DISK_FULL", 1, "make room, then try again"), said
    assert "No space left on device" in said["message"]
    assert str(full) in said["message"]
    assert [one for one in full.rglob("*") if one.is_file()] == [full / "filler"]
