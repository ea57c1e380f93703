"""Simulated jobs give what real ones give: the same bits, files and words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flpoc.errors import ConfigError, FlpocError, JobError, UsageError
from flpoc.simulate import run
from flpoc.simulate.order import default_workers, groups_of, root

#: How a simulation can be run; three sites take part.
WAYS: dict[str, dict[str, Any]] = {
    "a process for each site": {"workers": 3},
    "one worker": {"workers": 1},
    "two workers": {"workers": 2},
    "in this process": {"in_process": True},
}
ways = pytest.mark.parametrize("how", WAYS.values(), ids=WAYS)


# -- the same bits


def test_the_model_has_the_same_bits_however_it_is_simulated(simulation):
    found = {name: simulation.sha256(simulation.run(how=how)) for name, how in WAYS.items()}
    late_first = "time.sleep(0.05 * (4 - int(site[-1])))"
    late_last = "time.sleep(0.05 * int(site[-1]))"
    found |= {body: simulation.sha256(simulation.run(body, how={"workers": 3})) for body in (late_first, late_last)}
    assert len(set(found.values())) == 1, found


def test_another_seed_gives_another_model(simulation):
    assert simulation.sha256(simulation.run()) != simulation.sha256(simulation.run(seed=1))


def test_hundreds_of_sites_give_the_same_bits_with_any_number_of_workers(simulation):
    found = {simulation.sha256(simulation.run(sites=150, rounds=2, how={"workers": count})) for count in (1, 3)}
    assert len(found) == 1


def test_sites_without_a_seed_of_their_own_do_not_all_draw_the_same(simulation):
    body = "params = {'w': np.random.normal(size=50)}; print('drawn', params['w'][0])"
    outcome = simulation.run(body, rounds=1)
    drawn = {(outcome.results / "logs" / f"site-{number}.log").read_text() for number in (1, 2, 3)}
    assert len(drawn) == 3


# -- what scripts find


@ways
def test_a_script_finds_its_arguments_variables_and_modules(simulation, how):
    body = """
        import helper, __main__
        assert sys.argv == [__file__, "--rate", "0.1"], sys.argv
        assert (os.environ["COLOUR"], os.environ["FLPOC_SITE"]) == ("green", site)
        assert helper.answer() == 42
        assert __main__.flare is flare and __name__ == "__main__"
        open("mine.txt", "x").close()
        os.environ["LEFT"] = sys.argv[0]
        os.remove("mine.txt")
    """
    folder = simulation.write(body, args=["--rate", "0.1"], env={"COLOUR": "green"})
    (folder / "code" / "helper.py").write_text("def answer():\n    return 42\n")
    outcome = run(folder, sites=["site-1", "site-2", "site-3"], workspace=simulation.root, **how)
    assert (outcome.state, outcome.cause) == ("FINISHED:COMPLETED", None)


def test_a_worker_keeps_modules_and_nothing_else(simulation):
    script = """
        import os, sys
        import numpy as np
        import flpoc.client as flare
        import state
        assert "LEFT" not in os.environ and "left" not in globals() and not os.path.exists("left")
        os.environ["LEFT"] = left = "yes"
        open("left", "w").close()
        sys.argv.append("left")
        state.count += 1
        flare.init()
        starts = 0
        while flare.is_running():
            starts += 1
            flare.receive()
            flare.send(flare.FLModel(params={"w": np.ones(2)}, metrics={"count": state.count, "starts": starts}))
    """
    folder = simulation.write(script=script)
    (folder / "code" / "state.py").write_text("count = 0\n")
    outcome = run(folder, sites=["site-1", "site-2"], workers=1, workspace=simulation.root)
    assert outcome.cause is None
    rounds = [json.loads(line) for line in (outcome.results / "round_metrics.jsonl").read_text().splitlines()]
    assert [one["metrics"] for one in rounds] == [{"count": n, "starts": 1.0} for n in (1.5, 3.5, 5.5)]


def test_with_a_process_of_its_own_a_sites_script_runs_once(simulation):
    script = """
        import numpy as np
        import flpoc.client as flare
        flare.init()
        print("begins")
        while flare.is_running():
            flare.receive()
            flare.send(flare.FLModel(params={"w": np.ones(2)}))
        print("ends")
    """
    outcome = simulation.run(script=script, sites=2, how={"workers": 2})
    for site in ("site-1", "site-2"):
        assert (outcome.results / "logs" / f"{site}.log").read_text().split() == ["begins", "ends"]


def test_graphics_processors_are_dealt_to_workers(simulation):
    body = "print('sees', os.environ.get('CUDA_VISIBLE_DEVICES'))"
    outcome = simulation.run(body, rounds=1, how={"workers": 3, "gpus": "[0,1],[2]"})
    seen = sorted((outcome.results / "logs" / f"site-{n}.log").read_text() for n in (1, 2, 3))
    assert seen == ["sees 0,1\n", "sees 0,1\n", "sees 2\n"]


def test_numeric_libraries_have_one_thread(simulation):
    outcome = simulation.run("assert os.environ['OMP_NUM_THREADS'] == '1'", rounds=1)
    assert outcome.cause is None


# -- what is left


@ways
def test_results_are_those_of_a_real_job(simulation, how):
    told: list[int] = []
    body = "flare.log('loss', 0.5, step=number); print('hello from', site)"
    outcome = simulation.run(body, how={**how, "progress": lambda number, rounds, _: told.append((number, rounds))})
    there = {path.name for path in outcome.results.iterdir()}
    assert there == {
        "FL_global_model.safetensors", "artifact_manifest.json", "ledger.json", "logs", "metrics_summary.json",
        "round_metrics.jsonl", "site_metrics.jsonl",
    }  # fmt: skip
    assert told == [(0, 3), (1, 3), (2, 3)]
    manifest = json.loads((outcome.results / "artifact_manifest.json").read_text())
    assert manifest["sha256"]["global_model"] == simulation.sha256(outcome)
    assert set(simulation.ledger(outcome).values()) == {("trained", "")}
    assert len(simulation.ledger(outcome)) == 9
    logged = [json.loads(line) for line in (outcome.results / "site_metrics.jsonl").read_text().splitlines()]
    assert sorted((one["site"], one["round"], one["value"]) for one in logged) == [
        (f"site-{site}", number, 0.5) for site in (1, 2, 3) for number in (0, 1, 2)
    ]
    if "in_process" not in how:
        assert (outcome.results / "logs" / "site-2.log").read_text() == "hello from site-2\n" * 3
    assert [path.name for path in simulation.root.iterdir()] == ["test"]


def test_results_are_replaced_only_by_those_of_a_complete_job(simulation):
    first = simulation.run()
    digest = simulation.sha256(first)
    failed = simulation.run("raise ValueError('no')")
    assert failed.results.name == "test.failed"
    assert simulation.sha256(first) == digest
    assert simulation.sha256(simulation.run(seed=3)) != digest
    assert sorted(path.name for path in simulation.root.iterdir()) == ["test", "test.failed"]


def test_models_of_all_rounds_are_kept_if_the_job_says_so(simulation):
    outcome = simulation.run(keep_rounds=True)
    assert {path.name for path in outcome.results.glob("round_*.safetensors")} == {
        f"round_{number}.safetensors" for number in (0, 1, 2)
    }


# -- what is refused


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"sites": ["a", "A"]}, "named twice"),
        ({"sites": ["../a"]}, "is not a site name"),
        ({"gpus": "0,[1"}, "is not a list"),
        ({"log_config": "LOUD"}, "is not a log level"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_told_before_anything_runs(simulation, how, says):
    with pytest.raises(FlpocError, match=says):
        simulation.run(how=how)


@pytest.mark.parametrize(
    ("job", "says", "kind"),
    [
        ({"sites": ["site-7"]}, "needs site-7", UsageError),
        ({"scripts": {"sit-1": {"cpus": 2.0}}}, "scripts: 'sit-1' is not simulated", UsageError),
        (
            {"aggregator_settings": {"weights": {"sit-1": 2.0}}},
            "did you mean 'site-1'. known: site-1, site-2",
            UsageError,
        ),
        ({"mandatory_sites": ["site-9"]}, "needs site-9", UsageError),
        ({"min_clients": 4}, "needs 4 sites, 3 are simulated", UsageError),
        ({"workflow": "fedavgg"}, "fedavgg", JobError),
        ({"scirpt": "train.py"}, "scirpt", ConfigError),
    ],
    ids=str,
)
def test_a_wrong_job_is_told_before_anything_runs(simulation, job, says, kind):
    with pytest.raises(kind, match=says):
        simulation.run(job=job)
    assert not simulation.root.exists() or list(simulation.root.iterdir()) == []


def test_without_sites_those_of_the_job_take_part(simulation):
    outcome = run(simulation.write(sites=["b", "a"], rounds=1), workspace=simulation.root)
    assert sorted(simulation.ledger(outcome)) == [(0, "a"), (0, "b")]
    outcome = run(simulation.write(rounds=1), workspace=simulation.root)
    assert sorted(simulation.ledger(outcome)) == [(0, "site-1"), (0, "site-2")]


def test_groups_of_graphics_processors():
    assert groups_of("") == ()
    assert groups_of("0, 1") == (("0",), ("1",))
    assert groups_of("[0,1],[2]") == (("0", "1"), ("2",))
    assert groups_of(["3"]) == (("3",),)


def test_many_sites_do_not_have_a_process_each_unless_asked():
    assert default_workers(16) == 16
    assert default_workers(1000) <= 512


def test_the_usual_place_is_for_this_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLPOC_SIMULATOR_WORKSPACE_ROOT", str(tmp_path / "mine"))
    assert root(None) == tmp_path / "mine"
    assert (tmp_path / "mine").stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr("os.geteuid", lambda: 4711)
    with pytest.raises(ConfigError, match="belongs to another user"):
        root(None)
