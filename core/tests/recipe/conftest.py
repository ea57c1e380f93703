"""Somebody who writes recipes, with a home and folders of their own."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

TRAIN = """
    import sys

    import flpoc.client as flare
    from steps import forward

    flare.init()
    while flare.is_running():
        model = flare.receive()
        if len(sys.argv) > 2:
            raise ValueError(sys.argv[2])
        params = {name: forward(value, float(sys.argv[1])) for name, value in model.params.items()}
        flare.send(flare.FLModel(params=params, metrics={"accuracy": 0.5}))
"""


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """The folder of somebody who writes a recipe."""
    folder = tmp_path / "authors" / "project"
    folder.mkdir(parents=True)
    (folder / "train.py").write_text(textwrap.dedent(TRAIN))
    (folder / "steps.py").write_text("def forward(value, step):\n    return value + step\n")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A home and a POC workspace that are only this test's."""
    (tmp_path / "home").mkdir()
    for name in ("FLPOC_CONFIG", "FLPOC_STARTUP_KIT_DIR", "FLPOC_EXPORT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FLPOC_POC_WORKSPACE", str(tmp_path / "poc"))
    return tmp_path / "home"
