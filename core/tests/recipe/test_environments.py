"""The same job in every environment: states, results that stay, and the same text when it fails."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import attrs
import numpy as np
import pytest

from flpoc.errors import ConfigError, ConnectionFailed, DeadlineError, FlpocError, JobError
from flpoc.jobs.states import Cause, cause_of
from flpoc.models.tensors import TensorFile, write_tensors
from flpoc.poc import is_workspace
from flpoc.recipe import ExecEnv, NumpyFedAvgRecipe, PocEnv, ProdEnv, Run, SimEnv
from flpoc.recipe.ending import name_best_model
from flpoc.recipe.utils import add_cross_site_evaluation
from flpoc.simulate.order import groups_of


def recipe(**changed) -> NumpyFedAvgRecipe:
    base = {"name": "climb", "min_clients": 2, "train_script": "train.py", "train_args": "1.0", "model": [0.0, 1.0]}
    return NumpyFedAvgRecipe(**{**base, **changed})


def climbed(result: str) -> list[float]:
    with TensorFile.open(Path(result) / "FL_global_model.safetensors") as model:
        return model["numpy_key"].tolist()


# -- a POC of its own


def test_a_recipe_runs_in_a_poc_of_its_own_whose_results_stay(project, home, tmp_path):
    env = PocEnv(clients=["a", "b"])
    assert env.workspace is None
    run = recipe(num_rounds=3).execute(env)
    workspace = env.workspace
    assert is_workspace(workspace)
    assert run.get_status() in ("SUBMITTED", "DISPATCHED", "RUNNING", "FINISHED:COMPLETED")
    result = run.get_result()
    assert climbed(result) == [3.0, 4.0]
    assert not workspace.exists()
    assert run.get_result() == result
    assert run.get_status() == "FINISHED:COMPLETED"
    assert {one["site"] for one in json.loads((Path(result) / "ledger.json").read_text())} == {"a", "b"}
    # the user's own configuration and workspace are as they were
    assert list(home.iterdir()) == []
    assert not (tmp_path / "poc").exists()
    env.stop(clean_up=True)


def test_several_runs_share_a_poc_and_a_stopped_one_is_started_again(project, home):
    env = PocEnv()
    first = recipe().execute(env)
    assert climbed(first.get_result(clean_up=False)) == [2.0, 3.0]
    assert env.get_job_status(first.get_job_id()) is None
    workspace = env.workspace
    second = recipe(train_args=["1.0", "no such column: age"]).execute(env)
    assert env.workspace == workspace
    with pytest.raises(JobError) as caught:
        second.get_result()
    first_line = caught.value.message.splitlines()[0]
    assert first_line.removeprefix("site-1 ").removeprefix("site-2 ") == (
        "(training, round 1): ValueError: no such column: age"
    )
    assert len(caught.value.message.splitlines()) <= 10
    assert str(workspace) not in caught.value.message
    assert caught.value.code == "JOB_FINISHED_EXCEPTION"
    assert Path(caught.value.data["result"], "artifact_manifest.json").is_file()
    assert second.get_status() == "FINISHED:FAILED"
    assert not workspace.exists()
    with pytest.raises(JobError):
        second.get_result()


def test_a_job_that_cannot_be_leaves_no_poc_behind(project, home, tmp_path):
    (project / "broken.py").write_text("def x(:")
    env = PocEnv()
    with pytest.raises(ValueError, match=r"no such file: nowhere\.py"):
        recipe(train_script="nowhere.py").execute(env)
    assert env.workspace is None
    with pytest.raises(FlpocError, match=r"broken\.py: line 1"):
        recipe(train_script="broken.py").execute(env)
    assert not env.workspace.exists()
    with pytest.raises(ValueError, match="username: the POC has no user 'nobody'"):
        recipe().execute(PocEnv(username="nobody"))
    assert not list((tmp_path / "poc-env").rglob("project.yml"))


def test_another_port_is_taken_if_somebody_was_quicker(project, home, monkeypatch):
    from flpoc import poc

    real, held = poc.start, []

    def start(folder, **more):
        if not held:
            held.append(socket.create_server(("", poc.open_workspace(folder).project.port)))
        return real(folder, **more)

    monkeypatch.setattr(poc, "start", start)
    run = recipe(num_rounds=1, min_clients=1).execute(PocEnv(num_clients=1))
    assert climbed(run.get_result()) == [1.0, 2.0]
    held[0].close()


PROGRAM = """
from flpoc.recipe import NumpyFedAvgRecipe, PocEnv

recipe = NumpyFedAvgRecipe(min_clients=1, train_script="train.py", train_args="1.0", model=[0.0])
print(recipe.execute(PocEnv(num_clients=1)).get_job_id())
"""


def test_a_program_that_does_not_wait_says_how_to_end_its_poc(project, home):
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    found = re.search(r"To end it: (FLPOC_POC_WORKSPACE=(\S+)) flpoc poc clean --force", done.stderr)
    assert found, done.stderr
    assert is_workspace(Path(found[2]))
    command = [sys.executable, "-c", "from flpoc.cli.main import main; main()", "poc", "clean", "--force"]
    subprocess.run(command, env={**os.environ, "FLPOC_POC_WORKSPACE": found[2]}, check=True, capture_output=True)
    assert not Path(found[2]).exists()


def test_a_run_that_is_aborted_says_so(project, home):
    hang = "import threading\nimport flpoc.client as f\nf.init()\nf.receive()\nthreading.Event().wait()\n"
    (project / "train.py").write_text(hang)
    env = PocEnv(num_clients=1)
    try:
        run = recipe(min_clients=1).execute(env)
        with pytest.raises(DeadlineError, match=r"has not ended after 0\.2 s"):
            run.get_result(timeout=0.2)
        run.abort()
        with pytest.raises(JobError, match="climb: FINISHED:ABORTED") as caught:
            run.get_result(clean_up=False)
        assert caught.value.code == "JOB_ABORTED"
    finally:
        env.stop(clean_up=True)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"num_clients": 0}, "num_clients: 0"),
        ({"clients": []}, "clients: name at least one"),
        ({"clients": ["a", "A"]}, "clients: a site is named twice"),
        ({"clients": ["server"]}, "clients: 'server'"),
        ({"study": "A b"}, "study: 'A b'"),
        ({"use_he": "yes"}, "use_he: "),
        ({"project_conf_path": "nowhere.yml"}, "project_conf_path: 'nowhere.yml'"),
    ],
    ids=str,
)
def test_a_poc_that_cannot_be_is_refused(given, told):
    with pytest.raises(ValueError, match=told):
        PocEnv(**given)


def test_names_of_sites_come_before_their_number_and_a_project_file_before_both(home, tmp_path):
    from flpoc.provision.project_file import sample_project, write_project

    assert PocEnv(num_clients=7, clients=["a"])._wanted.sites == ("a",)
    path = tmp_path / "project.yml"
    write_project(sample_project(["x"], port=8002), path)
    wanted = PocEnv(num_clients=7, clients=["a"], docker_image="i", project_conf_path=str(path))._wanted
    assert (wanted.project_file, wanted.launcher) == (path, "local")
    assert PocEnv(docker_image="i:1")._wanted.launcher_settings == {"image": "i:1"}


# -- a server that runs already


def test_a_recipe_runs_at_a_server_with_a_users_kit(project, home, deployment):
    env = ProdEnv(startup_kit_location=str(deployment.kit()))
    run = recipe().execute(env)
    result = run.get_result()
    assert climbed(result) == [2.0, 3.0]
    assert Path(result) == deployment.kit() / "transfer" / run.get_job_id()
    with pytest.raises(JobError) as caught:
        run.abort()
    assert caught.value.code == "JOB_NOT_RUNNING"


def test_without_a_name_any_kit_will_do(project, home, deployment):
    run = recipe(num_rounds=1).execute(ProdEnv(startup_kit_location=str(deployment.kit("lead@nvidia.com"))))
    assert climbed(run.get_result()) == [1.0, 2.0]


def test_a_kit_of_somebody_else_is_refused(project, home, deployment):
    with pytest.raises(FlpocError, match="not of 'somebody'"):
        recipe().execute(ProdEnv(startup_kit_location=str(deployment.kit()), username="somebody"))


def test_a_server_that_is_away_is_said(project, home, own_deployment):
    env = ProdEnv(startup_kit_location=str(own_deployment.kit()), login_timeout=0.5)
    with pytest.raises(ConnectionFailed):
        recipe().execute(env)
    env.stop()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"startup_kit_location": "nowhere"}, "startup_kit_location: 'nowhere'"),
        ({"login_timeout": 0}, "login_timeout: 0"),
        ({"login_timeout": "5"}, "login_timeout: '5'"),
        ({"study": ""}, "study: ''"),
    ],
    ids=str,
)
def test_a_way_to_a_server_that_cannot_be_is_refused(tmp_path, given, told):
    with pytest.raises(ValueError, match=told):
        ProdEnv(**{"startup_kit_location": str(tmp_path), **given})


# -- a simulation


@pytest.fixture
def simulation(tmp_path, monkeypatch) -> Path:
    """Where simulations of this test put their results."""
    monkeypatch.setenv("FLPOC_SIMULATOR_WORKSPACE_ROOT", str(tmp_path / "sim"))
    return tmp_path / "sim"


def test_a_simulation_ends_with_the_model_of_a_server(project, home, simulation):
    run = recipe(num_rounds=3, best_model_filename="best.npz").execute(SimEnv(num_clients=2))
    assert (run.get_job_id(), run.get_status()) == ("climb", "FINISHED:COMPLETED")
    result = run.get_result()
    assert result == str(simulation / "climb")
    assert climbed(result) == [3.0, 4.0]
    with np.load(Path(result) / "best.npz") as best:
        assert best.files == ["numpy_key"]
    with pytest.raises(JobError, match="FINISHED:COMPLETED already") as caught:
        run.abort()
    assert caught.value.code == "JOB_NOT_RUNNING"


@pytest.mark.parametrize("more", [{"num_threads": 1}, {"extra": {"in_process": True}}, {"clients": ["a", "b", "c"]}])
def test_a_simulation_is_the_same_however_it_is_run(project, home, simulation, more):
    env = SimEnv(**{"num_clients": 3, **more})
    assert climbed(recipe().execute(env).get_result()) == [2.0, 3.0]


def test_where_results_go_may_be_said(project, home, simulation, tmp_path):
    run = recipe(num_rounds=1).execute(SimEnv(num_clients=2, workspace_root=str(tmp_path / "mine")))
    assert run.get_result() == str(tmp_path / "mine" / "climb")
    assert not simulation.exists()


FAILING = {
    "raises": "raise ValueError('no such column: age')",
    "sends a wrong type": "flare.send(3)",
    "sends wrong keys": "flare.send(flare.FLModel(params={'other': model.params['numpy_key']}))",
    "sends wrong shapes": "flare.send(flare.FLModel(params={'numpy_key': model.params['numpy_key'][:1]}))",
    "exits": "import sys; sys.exit(3)",
}


@pytest.mark.parametrize("how", FAILING)
def test_a_failure_has_the_same_text_in_every_environment(project, home, simulation, deployment, caplog, how):
    lines = ["import flpoc.client as flare", "flare.init()", "model = flare.receive()", FAILING[how]]
    (project / "train.py").write_text("\n".join(lines) + "\n")
    said = {}
    for name, env in {
        "simulation": SimEnv(num_clients=1, clients=["site-1"]),
        "in process": SimEnv(clients=["site-1"], extra={"in_process": True}),
        "server": ProdEnv(startup_kit_location=str(deployment.kit())),
    }.items():
        made = recipe(min_clients=1, train_args="")
        made.job.settings["sites"] = ["site-1"]
        run = made.execute(env)
        for _ in range(2):
            with pytest.raises(JobError) as caught:
                run.get_result()
        said[name] = (caught.value.message, caught.value.code)
        assert run.get_status() == "FINISHED:FAILED"
        assert len(caught.value.message.splitlines()) <= 10
    assert said["server"] == said["simulation"] == said["in process"]
    # a simulation has nobody who waits: it says so at once
    assert said["simulation"][0] in caplog.messages


@pytest.mark.parametrize("env", [SimEnv, PocEnv])
def test_a_job_for_other_sites_than_there_are_is_refused_before_anything_runs(project, home, env):
    with pytest.raises(ValueError, match="min_clients: the job needs 2 sites, the environment has 1"):
        recipe().execute(env(num_clients=1))
    made = recipe(per_site_config={"site-2": {}, "site1": {}})
    with pytest.raises(ValueError, match="'site1' is no site of the environment: did you mean 'site-1'"):
        made.execute(env(num_clients=2))


MISSPELT = {
    "per_site_config": {"per_site_config": {"site-2": {}, "sit-1": {}}},
    "aggregation_weights": {"aggregation_weights": {"sit-1": 0.5, "site-2": 1.0}},
}


@pytest.mark.parametrize("where", MISSPELT)
@pytest.mark.parametrize("env", [SimEnv, PocEnv])
def test_a_misspelt_site_is_refused_and_named_with_those_there_are(project, home, env, where):
    told = rf"{where}: 'sit-1' is no site of the environment: did you mean 'site-1'\? known: site-1, site-2"
    with pytest.raises(ValueError, match=told):
        recipe(**MISSPELT[where]).execute(env(num_clients=2))


def test_an_evaluation_by_a_misspelt_site_is_refused(project, home):
    made = recipe()
    add_cross_site_evaluation(made, participating_clients=["sit-1"])
    with pytest.raises(ValueError, match="participating_clients: 'sit-1' is no site"):
        made.execute(SimEnv(num_clients=2))


def test_a_misspelt_site_is_refused_in_a_poc_of_a_project_file(project, home, tmp_path):
    from flpoc.provision.project_file import sample_project, write_project

    written = tmp_path / "project.yml"
    write_project(sample_project(["north", "south"], port=8002), written)
    env = PocEnv(project_conf_path=str(written))
    with pytest.raises(ValueError, match=r"aggregation_weights: 'nroth' .* did you mean 'north'\? known: north, south"):
        recipe(aggregation_weights={"nroth": 2.0}).execute(env)
    assert env.workspace is None


@pytest.mark.parametrize("where", MISSPELT)
def test_a_server_tells_of_sites_that_it_has_never_seen(project, home, deployment, caplog, where):
    made = recipe(num_rounds=1, **MISSPELT[where])
    run = made.execute(ProdEnv(startup_kit_location=str(deployment.kit())))
    key = {"per_site_config": "scripts", "aggregation_weights": "aggregator_settings.weights"}[where]
    assert f"{key}: 'sit-1' has never connected: did you mean 'site-1'? known: site-1, site-2" in caplog.text
    run.get_result()


def test_a_script_that_hangs_has_the_same_text_in_a_simulation_and_at_a_server(project, home, simulation, deployment):
    hang = "import threading\nimport flpoc.client as f\nf.init()\nf.receive()\nthreading.Event().wait()\n"
    (project / "train.py").write_text(hang)
    said = []
    for env in (SimEnv(clients=["site-1"]), ProdEnv(startup_kit_location=str(deployment.kit()))):
        made = recipe(min_clients=1, train_args="")
        made.job.settings |= {"sites": ["site-1"], "timeouts": {"stall": 5.0}}  # in which all is there
        with pytest.raises(JobError) as caught:
            made.execute(env).get_result()
        assert "no progress for" in caught.value.message
        said.append((re.sub(r"for \d+ s", "for some time", caught.value.message), caught.value.code))
    assert said[0] == said[1]


def test_a_simulation_knows_its_own_jobs_only(project):
    with pytest.raises(JobError) as caught:
        SimEnv(num_clients=1).get_job_result("other")
    assert caught.value.code == "JOB_NOT_FOUND"
    with pytest.raises(ValueError, match=r"no such file: nowhere\.py"):
        recipe(train_script="nowhere.py").execute(SimEnv(num_clients=1))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "num_clients: at least one site"),
        ({"num_clients": -1}, "num_clients: -1"),
        ({"num_clients": 3, "clients": ["a"]}, "num_clients: it is 3, but clients names 1"),
        ({"clients": []}, "clients: name at least one"),
        ({"num_clients": 1, "num_threads": 0}, "num_threads: 0"),
        ({"num_clients": 1, "gpu_config": "[0,1"}, "gpu_config: "),
        ({"num_clients": 1, "gpu_config": "0;1"}, "gpu_config: "),
        ({"num_clients": 1, "gpu_config": "[]"}, "gpu_config: "),
        ({"num_clients": 1, "log_config": "LOUD"}, "log_config: "),
        ({"num_clients": 1, "workspace_root": ""}, "workspace_root: "),
    ],
    ids=str,
)
def test_a_simulation_that_cannot_be_is_refused(given, told):
    with pytest.raises(ValueError, match=told):
        SimEnv(**given)


def test_graphics_processors_are_alone_or_in_groups():
    assert groups_of("0,1") == (("0",), ("1",))
    assert groups_of("[0, 1],[2]") == (("0", "1"), ("2",))
    assert groups_of("GPU-ab-1") == (("GPU-ab-1",),)


# -- runs


class Held(ExecEnv):
    """An environment whose job ends when it is told to."""

    def __init__(self):
        super().__init__()
        self.ended, self.asked, self.stops = threading.Event(), 0, []
        self.error: BaseException | None = None

    def deploy(self, job):
        return "one"

    def get_job_status(self, job_id):
        return "FINISHED:COMPLETED" if self.ended.is_set() else "RUNNING"

    def get_job_result(self, job_id, timeout=0.0):
        self.asked += 1
        if not self.ended.wait(timeout or 20):
            raise DeadlineError("not yet")
        if self.error is not None:
            raise self.error
        return "/results"

    def abort_job(self, job_id):
        self.ended.set()

    def stop(self, clean_up=False):
        self.stops.append(clean_up)


@pytest.mark.parametrize(("env", "job"), [(None, "one"), (Held(), None), (Held(), "")])
def test_a_run_without_a_job_is_refused(env, job):
    with pytest.raises(ValueError, match=r"exec_env|job_id"):
        Run(env, job)


def test_a_result_that_is_late_can_be_waited_for_again(project):
    env = Held()
    run = recipe().run(env)
    with pytest.raises(DeadlineError):
        run.get_result(timeout=0.01)
    assert (env.stops, run.get_status()) == ([], "RUNNING")
    run.abort()
    assert run.get_result(clean_up=False) == "/results"
    assert env.stops == [False]


def test_several_threads_wait_for_one_result():
    env = Held()
    run = Run(env, "one")
    found: list = []
    threads = [threading.Thread(target=lambda: found.append(run.get_result())) for _ in range(4)]
    for one in threads:
        one.start()
    env.ended.set()
    for one in threads:
        one.join(20)
    assert (found, env.asked, env.stops) == (["/results"] * 4, 1, [True])


def test_an_environment_that_fails_is_stopped_and_its_error_is_the_users():
    env = Held()
    env.ended.set()
    env.error = ConfigError("no")
    run = Run(env, "one")
    with pytest.raises(ConfigError):
        run.get_result()
    assert env.stops == [False]


def test_who_presses_ctrl_c_while_waiting_leaves_nothing_running():
    env = Held()
    env.ended.set()
    env.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        Run(env, "one").get_result()
    assert env.stops == [False]


def test_an_environment_must_be_one(project):
    with pytest.raises(ValueError, match="env: str: wanted is SimEnv"):
        recipe().run("sim")


# -- the same text


def test_where_the_code_lies_is_not_part_of_why_it_failed():
    tail = ('  File "/somewhere/state/site-1/jobs/x.1/job/code/train.py", line 8, in <module>', "ValueError: age")
    cause = cause_of({"cause": attrs.asdict(Cause("site-1", exception="ValueError", message="age", log_tail=tail))})
    assert cause is not None
    assert '  |   File "train.py", line 8, in <module>' in cause.lines()


def test_a_best_model_that_cannot_be_written_so_is_only_said(tmp_path, caplog, home):
    write_tensors(tmp_path / "best_FL_global_model.safetensors", {"w": np.ones(2, np.float32)})
    name_best_model(tmp_path, "best.keras")
    assert "best.keras is not written" in caplog.text
    name_best_model(tmp_path, "mine.safetensors")
    assert (tmp_path / "mine.safetensors").read_bytes() == (tmp_path / "best_FL_global_model.safetensors").read_bytes()
