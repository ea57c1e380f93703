"""Every model is judged where the data is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from flpoc.errors import JobError
from flpoc.models.tensors import write_tensors
from flpoc.plugins import Plugins
from flpoc.testing.rehearsal import Rehearsal, Reply, Script, Task, job
from flpoc.workflows import Workflow

REPORT = "cross_site_val/cross_val_results.json"


def made(name: str, **settings: Any) -> Callable[[], Workflow]:
    plugins = Plugins.load()
    return lambda: plugins.create("workflows", name, settings)  # type: ignore[no-any-return]


def measured(task: Task) -> dict[str, float]:
    """What a site's data say about a model: one number that tells both."""
    assert task.model is not None
    return {"score": 100 * float(task.site[-1]) + float(task.model["w"][0])}


def script(task: Task) -> Reply:
    """Training adds the site's number; a site's own model is 20 and its number; every model is measured."""
    number = float(task.site[-1])
    if task.kind == "evaluate":
        return Reply(metrics=measured(task))
    if task.kind == "submit_model":
        return Reply({"w": np.full(2, 20 + number)})
    start = task.model["w"] if task.model is not None else np.zeros(2)
    return Reply({"w": start + number}, measured(task) if task.model is not None else {"score": 0.0})


def no_evaluation(task: Task) -> Reply:
    """Knows nothing but training, and measures what it receives."""
    return script(attrs.evolve(task, kind="train"))


def rehearsed(folder: Path, what: Script = script, rounds: int = 2, **known: Any) -> Rehearsal:
    return Rehearsal(folder, job(rounds=rounds), what, **{"sites": ("site-1", "site-2"), **known})


def results(done: Rehearsal, metric: str = "score") -> dict[str, dict[str, float]]:
    """What was found, by site with the data and owner of the model."""
    assert done.end is not None
    report = done.end.reports[REPORT]
    return {site: {owner: found[metric] for owner, found in row.items()} for site, row in report.items()}


def test_all_sites_judge_all_models(tmp_path: Path) -> None:
    make = made("fedavg", key_metric="score", cross_site_evaluation={})
    done = rehearsed(tmp_path, submits=True).run(make)
    # rounds: 0 -> 1.5, 1 -> 3; the final model is the best
    assert results(done) == {
        "site-1": {"server": 103, "server_best": 103, "site-1": 121, "site-2": 122},
        "site-2": {"server": 203, "server_best": 203, "site-1": 221, "site-2": 222},
    }
    assert done.end is not None
    assert done.end.metrics == {"score": 153}
    assert done.arrays["w"].tolist() == [3, 3]


def test_the_best_model_is_judged_if_it_is_another_than_the_final_one(tmp_path: Path) -> None:
    make = made("fedavg", key_metric="score", key_metric_mode="min", cross_site_evaluation={})
    done = rehearsed(tmp_path, rounds=3, submits=True).run(make)
    assert results(done)["site-1"]["server_best"] == 101.5
    assert results(done)["site-1"]["server"] == 104.5


def test_scripts_that_only_train_are_given_a_model_each_and_their_metrics_count(tmp_path: Path) -> None:
    make = made("fedavg", cross_site_evaluation={})
    done = rehearsed(tmp_path, no_evaluation, evaluates=False).run(make)
    assert {task.kind for task in done.tasks} == {"train"}
    # a site's own model is what it makes of the final one
    assert results(done) == {
        "site-1": {"server": 103, "site-1": 104, "site-2": 105},
        "site-2": {"server": 203, "site-1": 204, "site-2": 205},
    }
    assert done.arrays["w"].tolist() == [3, 3]


def test_a_sites_change_is_added_to_the_final_model(tmp_path: Path) -> None:
    def changes(task: Task) -> Reply:
        reply = script(task)
        if task.kind == "evaluate" or task.model is None or reply.params is None:
            return reply
        return attrs.evolve(reply, params={"w": reply.params["w"] - task.model["w"]}, params_type="DIFF")

    done = rehearsed(tmp_path, changes).run(made("fedavg", cross_site_evaluation={}))
    assert results(done)["site-2"] == {"server": 203, "site-1": 204, "site-2": 205}


def test_without_metrics_there_is_an_error_and_no_number(tmp_path: Path) -> None:
    def silent(task: Task) -> Reply:
        reply = no_evaluation(task)
        return attrs.evolve(reply, metrics={}) if task.site == "site-2" else reply

    with pytest.raises(JobError, match="site-2 sent no metrics for the model of server: it cannot be judged there"):
        rehearsed(tmp_path, silent, evaluates=False).run(made("fedavg", cross_site_evaluation={}))


def test_scripts_learn_whose_model_it_is(tmp_path: Path) -> None:
    make = made("fedavg", task_meta={"mu": 1}, evaluate_final=False, cross_site_evaluation={})
    done = rehearsed(tmp_path, submits=True).run(make)
    owners = [task.meta for task in done.tasks if task.kind == "evaluate" and task.site == "site-1"]
    assert owners == [{"mu": 1, "MODEL_OWNER": owner} for owner in ("server", "site-1", "site-2")]


def test_only_some_sites_take_part_if_the_job_says_so(tmp_path: Path) -> None:
    make = made("fedavg", evaluate_final=False, cross_site_evaluation={"sites": ["site-3", "site-1", "site-9"]})
    done = rehearsed(tmp_path, submits=True, sites=("site-1", "site-2", "site-3")).run(make)
    assert {site: sorted(row) for site, row in results(done).items()} == {
        "site-1": ["server", "site-1", "site-3"],
        "site-3": ["server", "site-1", "site-3"],
    }


def test_sites_of_which_none_is_there_are_refused_before_training(tmp_path: Path) -> None:
    rehearsal = rehearsed(tmp_path)
    with pytest.raises(JobError, match="none of them takes part in the job"):
        rehearsal.run(made("fedavg", cross_site_evaluation={"sites": ["site-9"]}))
    assert rehearsal.tasks == []


def test_a_site_that_is_late_is_left_out(tmp_path: Path) -> None:
    def lame(task: Task) -> Reply | None:
        return None if task.site == "site-2" and task.kind == "submit_model" else script(task)

    make = made("fedavg", evaluate_final=False, cross_site_evaluation={})
    done = Rehearsal(tmp_path, job(rounds=1, quorum=1), lame, sites=("site-1", "site-2"), submits=True).run(make)
    assert results(done) == {"site-1": {"server": 101.5, "site-1": 121}}


def test_after_cyclic_training_too(tmp_path: Path) -> None:
    done = rehearsed(tmp_path, rounds=1, submits=True).run(made("cyclic", cross_site_evaluation={}))
    assert results(done) == {
        "site-1": {"server": 103, "site-1": 121, "site-2": 122},
        "site-2": {"server": 203, "site-1": 221, "site-2": 222},
    }


def test_an_evaluation_alone_trains_nothing(tmp_path: Path) -> None:
    write_tensors(tmp_path / "start", {"w": np.full(2, 7.0)})
    rehearsal = Rehearsal(
        tmp_path / "job", job(rounds=1, initial_model="start"), script, sites=("site-1", "site-2"), code=tmp_path
    )
    done = rehearsal.run(made("cross_site_evaluation"))
    assert [task.kind for task in done.tasks] == ["submit_model"] * 2 + ["evaluate"] * 6
    assert results(done) == {
        "site-1": {"server": 107, "site-1": 121, "site-2": 122},
        "site-2": {"server": 207, "site-1": 221, "site-2": 222},
    }
    assert done.arrays["w"].tolist() == [7, 7]


def test_an_evaluation_alone_can_be_of_the_sites_models_or_of_the_servers(tmp_path: Path) -> None:
    write_tensors(tmp_path / "start", {"w": np.full(2, 7.0)})
    own = rehearsed(tmp_path / "own").run(made("cross_site_evaluation"))
    assert results(own)["site-1"] == {"site-1": 121, "site-2": 122}
    assert own.model is None
    spec = job(initial_model="start")
    servers = Rehearsal(tmp_path / "servers", spec, script, sites=("site-1", "site-2"), code=tmp_path)
    assert results(servers.run(made("cross_site_evaluation", site_models=False))) == {
        "site-1": {"server": 107},
        "site-2": {"server": 207},
    }
    with pytest.raises(JobError, match="there is no model to judge"):
        rehearsed(tmp_path / "none").run(made("cross_site_evaluation", site_models=False))


def test_a_site_without_a_model_of_its_own_judges_those_of_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def poor(task: Task) -> Reply:
        return Reply() if (task.site, task.kind) == ("site-2", "submit_model") else script(task)

    make = made("fedavg", evaluate_final=False, cross_site_evaluation={})
    done = rehearsed(tmp_path, poor, submits=True).run(make)
    assert results(done) == {"site-1": {"server": 103, "site-1": 121}, "site-2": {"server": 203, "site-1": 221}}
    assert "site-2 has no model of its own" in caplog.text


def test_an_evaluation_for_which_nobody_has_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="there is no model to judge: no site has sent one"):
        rehearsed(tmp_path, lambda _: Reply()).run(made("cross_site_evaluation"))
