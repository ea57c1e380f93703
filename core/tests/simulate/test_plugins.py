"""Plugins of a simulated job: filters before updates are used, trackers as rounds end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flpoc.errors import PluginError

HOOKS = """
import json
from pathlib import Path

import attrs

from flpoc import Component, hookimpl
from flpoc.filtering import Filter
from flpoc.models.tensors import write_tensors
from flpoc.tracking import Tracker

FLPOC_API = 1


@attrs.frozen
class HalveSettings:
    by: float = 2.0


@attrs.frozen
class ListSettings:
    file: str


class Halve(Filter):
    def __init__(self, settings):
        self.by = settings.by

    def apply(self, update, received, into, departure):
        if self.by == 0:
            raise ValueError("nothing may leave")
        write_tensors(into, {name: value / self.by for name, value in update.items()})


class List(Tracker):
    def __init__(self, settings):
        self.file = Path(settings.file)

    def open(self, job):
        self.say("open", job.id, list(job.sites))

    def write(self, metrics):
        for one in metrics:
            self.say(one.site, one.key, one.value, one.round)

    def close(self):
        self.say("close")

    def say(self, *what):
        with self.file.open("a") as file:
            file.write(json.dumps(what) + "\\n")


@hookimpl
def flpoc_filters():
    yield Component("halve", "", Halve, HalveSettings)


@hookimpl
def flpoc_trackers():
    yield Component("list", "", List, ListSettings)
"""


@pytest.fixture(autouse=True)
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lib" / "halving").mkdir(parents=True)
    (tmp_path / "lib" / "halving" / "hooks.py").write_text(HOOKS)
    (tmp_path / "config.conf").write_text('plugins { load = ["halving.hooks"] }')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "lib"))
    monkeypatch.setenv("FLPOC_CONFIG", str(tmp_path / "config.conf"))


ways = pytest.mark.parametrize("workers", [2, 1], ids=["own", "shared"])
ONES = "params = {'w': np.ones(4)}"


@ways
def test_updates_are_used_as_filters_leave_them(simulation, workers):
    from flpoc.models.tensors import TensorFile

    outcome = simulation.run(ONES, sites=2, rounds=1, how={"workers": workers}, filters=["halve"])
    assert outcome.cause is None
    with TensorFile.open(outcome.results / "FL_global_model.safetensors") as model:
        assert model["w"].tolist() == [0.5] * 4


@ways
def test_what_a_filter_refuses_fails_its_site_and_not_the_jobs_code(simulation, workers):
    filters = [{"name": "halve", "settings": {"by": 0}}]
    outcome = simulation.run(ONES, sites=2, rounds=1, how={"workers": workers}, filters=filters)
    first = outcome.cause.lines()[0].partition(" ")[2]
    assert first == "(filtering, round 1): ValueError: filter 'halve': nothing may leave"
    assert not outcome.cause.by_own_code
    assert outcome.cause.exit_code is None


@ways
def test_trackers_get_what_is_logged_and_the_means_of_rounds(simulation, workers):
    file = simulation.folder / "tracked.jsonl"
    tracking = [{"name": "list", "settings": {"file": str(file)}}]
    body = "flare.log('loss', number + 0.5)"
    outcome = simulation.run(body, sites=2, rounds=2, how={"workers": workers}, tracking=tracking)
    assert outcome.cause is None
    said = [json.loads(line) for line in file.read_text().splitlines()]
    assert said[0] == ["open", "test", ["site-1", "site-2"]]
    assert said[-1] == ["close"]
    assert sorted(said[1:4]) == [["server", "seen", 0.0, 0], ["site-1", "loss", 0.5, 0], ["site-2", "loss", 0.5, 0]]
    assert said[6] == ["server", "seen", 1.0, 1]


def test_what_the_sites_need_and_is_not_installed_is_told_before_anything_runs(simulation):
    for job in ({"filters": ["halv"]}, {"plugins": ["frameworks/nothing"]}):
        with pytest.raises(PluginError):
            simulation.run(job=job)
