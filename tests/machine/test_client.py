"""What a script may rely on, also when it or its agent is killed: its own folder, starts for single tasks, its data."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flpoc.jobs.secrets import secret_file_ref, secret_ref

from .federation import Federation, federation, kill_all, paths_below, write_job

# the folder holds what was left out of the update before (error feedback), and how often it was used
KEEPS = """
    import time
    import numpy as np
    import flpoc.client as flare

    flare.init()
    while flare.is_running():
        model = flare.receive()
        params = model.params or {"w": np.zeros(50, "float32")}
        kept = flare.state_dir()
        left = np.load(kept / "left.npy") if (kept / "left.npy").exists() else np.zeros(50, "float32")
        times = int((kept / "times").read_text()) + 1 if (kept / "times").exists() else 1
        (kept / "times").write_text(str(times))
        time.sleep(0.1)
        wanted = left + np.random.default_rng(flare.get_seed()).standard_normal(50).astype("float32")
        sent = np.where(np.abs(wanted) > 1, wanted, 0).astype("float32")
        np.save(kept / "left.npy", wanted - sent)
        print("times", times, flush=True)
        AFTER
        flare.send(flare.FLModel(params={"w": params["w"] + sent}, metrics={"times": times}))
"""

# no loop: a start is for one task
SINGLE = """
    import os, signal, sys, time
    import numpy as np
    import flpoc.client as flare

    flare.init()
    model = flare.receive()
    print("start for round", model.current_round, flush=True)
    rng = np.random.default_rng(flare.get_seed())
    params = model.params or {"w": np.zeros(20, "float32")}
    time.sleep(0.1)
    BEFORE
    flare.send(flare.FLModel(params={"w": (params["w"] + rng.standard_normal(20)).astype("float32")}))
    AFTER
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with federation(tmp_path_factory.mktemp("client")) as found:
        yield found


def run(
    running: Federation, folder: Path, script: str, disturb: Callable[[], None] = lambda: None, **settings: Any
) -> dict[str, Any]:
    """Run a job of six rounds, disturbing it once when two are committed; gives its final meta."""
    settings = {"rounds": 6, "sites": ["site-1", "site-2"], **settings}
    job_folder = write_job(folder / "job", script, **settings)
    disturbed = False
    with running.session() as session:
        job = session.submit_job(job_folder)
        for meta in session.watch_job(job, timeout=120):
            if not disturbed and meta["rounds_committed"] >= 2:
                disturbed = True
                disturb()
        return dict(session.get_job_meta(job))


def wait_until_dropped(running: Federation, name: str) -> None:
    """The site ends its part in the background: wait for its job folder to go."""
    end = time.monotonic() + 30
    while any((running.state(name) / "jobs").glob("*")):
        assert time.monotonic() < end
        time.sleep(0.05)


def log(running: Federation, job: str, site: str, last: str = "") -> str:
    """All that a script wrote, once *last* has come: what a site sends last is on its way when its folder is gone."""
    wait_until_dropped(running, site)
    end = time.monotonic() + 30
    with running.session() as session:
        while last not in (found := str(session.get_job_logs(job, "all")["logs"].get(site) or "")):
            assert time.monotonic() < end, found
            time.sleep(0.05)
    return found


def carries(path: Path, *words: bytes) -> bool:
    """Whether one of these stands in a file; it may be deleted at any time."""
    try:
        return path.is_file() and any(one in path.read_bytes() for one in words)
    except FileNotFoundError:
        return False


def kill_trainer(running: Federation, site: str) -> None:
    """Kill the script at a site; where it is started for every task, one may just have ended: then the next."""
    while not kill_all(running.job_processes(site)) and any((running.state(site) / "jobs").glob("*")):
        time.sleep(0.005)


def kill_agent(running: Federation, site: str) -> None:
    running.kill(site)
    running.start(site)
    running.ready()


# -- a folder of one's own


@pytest.fixture(scope="module")
def kept(running: Federation, tmp_path_factory: pytest.TempPathFactory) -> str:
    """SHA-256 of the model of an undisturbed run of a script that keeps something."""
    meta = run(running, tmp_path_factory.mktemp("kept"), KEEPS.replace("AFTER", ""))
    assert meta["status"] == "FINISHED:COMPLETED", meta["cause"]
    text = log(running, meta["job_id"], "site-1", "times 6\n")
    assert [line for line in text.splitlines() if "times" in line] == [f"times {number}" for number in range(1, 7)]
    return str(meta["sha256"])


@pytest.mark.row("P8")
def test_what_is_kept_survives_the_death_of_trainer_and_agent(running: Federation, kept: str, tmp_path: Path) -> None:
    def disturb() -> None:
        kill_trainer(running, "site-1")
        kill_agent(running, "site-2")
        kill_trainer(running, "site-2")
        kill_agent(running, "site-1")

    meta = run(running, tmp_path, KEEPS.replace("AFTER", ""), disturb)
    assert (meta["status"], meta["sha256"]) == ("FINISHED:COMPLETED", kept)


@pytest.mark.row("P8")
def test_what_was_written_for_an_answer_that_was_never_sent_is_forgotten(
    running: Federation, kept: str, tmp_path: Path
) -> None:
    # killed after everything was written, just before it is sent: the round begins again with what was there before
    after = 'if times == 3 and "/1/" in str(kept): import os, signal; os.kill(os.getpid(), signal.SIGKILL)'
    meta = run(running, tmp_path, KEEPS.replace("AFTER", after))
    assert (meta["status"], meta["sha256"]) == ("FINISHED:COMPLETED", kept)
    assert log(running, meta["job_id"], "site-1", "times 6\n").count("times 3\n") == 2


@pytest.mark.row("P8")
def test_what_is_kept_survives_the_death_of_the_server(running: Federation, kept: str, tmp_path: Path) -> None:
    def disturb() -> None:
        running.kill("server")
        running.start("server")
        kill_trainer(running, "site-1")

    meta = run(running, tmp_path, KEEPS.replace("AFTER", ""), disturb)
    assert (meta["status"], meta["sha256"]) == ("FINISHED:COMPLETED", kept)


def test_what_was_kept_for_an_answer_that_came_too_late_is_forgotten(running: Federation, tmp_path: Path) -> None:
    # site-2 is late in round 2: what it kept then is gone, and its next round begins with what it had before;
    # in the first everybody is in time, whatever else this machine does
    script = KEEPS.replace("AFTER", 'time.sleep(11 if flare.get_site_name() == "site-2" and times == 2 else 0.3)')
    meta = run(running, tmp_path, script, rounds=3, quorum=1, timeouts={"round_deadline": 8.0})
    assert meta["status"].startswith("FINISHED:COMPLETED")
    text = log(running, meta["job_id"], "site-2", "was closed without this site")
    assert "was closed without this site" in text
    found = [int(line.split()[1]) for line in text.splitlines() if line.startswith("times ")]
    assert found[:3] == [1, 2, 2]


def test_a_link_in_place_of_the_folder_is_not_followed(running: Federation, tmp_path: Path) -> None:
    script = KEEPS.replace("AFTER", 'import shutil; shutil.rmtree(kept); kept.symlink_to("/etc")')
    meta = run(running, tmp_path, script)
    assert meta["status"] == "FINISHED:FAILED"
    assert "what the script wants to keep cannot be taken" in meta["cause"]["message"]


# -- a start for every task


@pytest.fixture(scope="module")
def single(running: Federation, tmp_path_factory: pytest.TempPathFactory) -> str:
    """SHA-256 of the model of an undisturbed run of a script that is started for every task."""
    script = SINGLE.replace("BEFORE", "").replace("AFTER", "")
    meta = run(running, tmp_path_factory.mktemp("single"), script, launch_once=False)
    assert meta["status"] == "FINISHED:COMPLETED", meta["cause"]
    text = log(running, meta["job_id"], "site-1", "start for round 5\n")
    starts = [line for line in text.splitlines() if "start for round" in line]
    assert starts == [f"start for round {number}" for number in range(6)]
    return str(meta["sha256"])


@pytest.mark.parametrize("who", [kill_trainer, kill_agent])
def test_starts_for_single_tasks_survive_the_death_of_trainer_or_agent(
    running: Federation, single: str, tmp_path: Path, who: Callable[[Federation, str], None]
) -> None:
    script = SINGLE.replace("BEFORE", "").replace("AFTER", "")
    meta = run(running, tmp_path, script, lambda: who(running, "site-1"), launch_once=False)
    assert (meta["status"], meta["sha256"]) == ("FINISHED:COMPLETED", single)


def test_a_start_for_one_task_that_is_killed_is_made_again_for_the_same_task(
    running: Federation, single: str, tmp_path: Path
) -> None:
    body = 'if model.current_round == 2 and os.getcwd().endswith("/3"): os.kill(os.getpid(), signal.SIGKILL)'
    meta = run(running, tmp_path, SINGLE.replace("BEFORE", body).replace("AFTER", ""), launch_once=False)
    assert (meta["status"], meta["sha256"]) == ("FINISHED:COMPLETED", single)
    assert log(running, meta["job_id"], "site-2", "start for round 5\n").count("start for round 2\n") == 2


def test_a_start_for_one_task_that_is_killed_after_its_answer_is_no_failure(
    running: Federation, single: str, tmp_path: Path
) -> None:
    after = "os.kill(os.getpid(), signal.SIGKILL)"
    meta = run(running, tmp_path, SINGLE.replace("BEFORE", "").replace("AFTER", after), launch_once=False)
    assert (meta["status"], meta["sha256"]) == ("FINISHED:COMPLETED", single)


def test_a_start_for_one_task_that_lingers_after_its_answer_is_stopped(
    running: Federation, single: str, tmp_path: Path
) -> None:
    script = SINGLE.replace("BEFORE", "").replace("AFTER", "time.sleep(600) if model.current_round == 1 else None")
    meta = run(running, tmp_path, script, launch_once=False, timeouts={"stall": 10.0})
    assert (meta["status"], meta["sha256"]) == ("FINISHED:COMPLETED", single), meta["cause"]
    assert "does not end after its task" in running.log("site-1")


@pytest.mark.parametrize(
    ("before", "after", "round_number", "said"),
    [
        ("sys.exit(0)", "", 0, "the script ended before round 1 was answered"),
        ("raise ValueError('bad label')", "", 0, "bad label"),
        ("", "raise ValueError('cannot save')", None, "cannot save"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "", 0, ""),
    ],
)
def test_a_start_for_one_task_that_fails_fails_the_job(
    running: Federation, tmp_path: Path, before: str, after: str, round_number: int | None, said: str
) -> None:
    script = SINGLE.replace("BEFORE", before).replace("AFTER", after)
    meta = run(running, tmp_path, script, launch_once=False)
    cause = meta["cause"]
    assert meta["status"] == "FINISHED:FAILED"
    assert said in cause["message"]
    if round_number is not None:
        assert cause["round"] == round_number


def test_a_start_for_one_task_whose_round_was_closed_gives_way_to_the_next(running: Federation, tmp_path: Path) -> None:
    # site-1 is started in time, whatever else this machine does
    body = 'time.sleep(11 if flare.get_site_name() == "site-2" and model.current_round == 1 else 0.3)'
    script = SINGLE.replace("BEFORE", body).replace("AFTER", "")
    meta = run(running, tmp_path, script, rounds=4, launch_once=False, quorum=1, timeouts={"round_deadline": 8.0})
    assert meta["status"].startswith("FINISHED:COMPLETED"), meta["cause"]
    text = log(running, meta["job_id"], "site-2", "start for round 3")
    assert "round 2 was closed without this site" in text
    assert "start for round 3" in text


def test_a_script_has_the_time_to_end_that_the_job_gives_it(running: Federation, tmp_path: Path) -> None:
    script = """
        import time
        import numpy as np
        import flpoc.client as flare

        flare.init()
        while flare.is_running():
            flare.receive()
            flare.send(flare.FLModel(params={"w": np.ones(3)}))
        print("has no task any more", flush=True)
        time.sleep(4)
        print("has ended by itself", flush=True)
    """
    for patience, ended in ((0.0, False), (30.0, True)):
        folder = tmp_path / str(ended)
        meta = run(running, folder, script, rounds=1, shutdown_timeout=patience, timeouts={"stall": 2.0})
        assert meta["status"] == "FINISHED:COMPLETED", meta["cause"]
        last = "has ended by itself" if ended else "has no task any more"
        assert ("has ended by itself" in log(running, meta["job_id"], "site-1", last)) == ended


# -- other programs, data, differences


@pytest.mark.parametrize("command", [["python3", "-u"], ["python", "-u", "-X", "dev"]])
def test_another_program_runs_the_script(running: Federation, single: str, tmp_path: Path, command: list[str]) -> None:
    script = SINGLE.replace("BEFORE", "print(sys.orig_argv[1:3], flush=True)").replace("AFTER", "")
    meta = run(running, tmp_path, script, launch_once=False, command=command)
    assert (meta["status"], meta["sha256"]) == ("FINISHED:COMPLETED", single)
    assert "['-u', " in log(running, meta["job_id"], "site-1", "['-u', ")


def test_an_exception_under_another_program_is_the_first_cause(running: Federation, tmp_path: Path) -> None:
    script = SINGLE.replace("BEFORE", 'raise ValueError("bad label 11")').replace("AFTER", "")
    meta = run(running, tmp_path, script, command=["python3", "-u"])
    cause = meta["cause"]
    assert (cause["exception"], cause["message"], cause["round"]) == ("ValueError", "bad label 11", 0)
    assert (cause["file"], cause["line"]) == ("train.py", 12)


def test_only_the_first_process_of_a_script_talks(running: Federation, single: str, tmp_path: Path) -> None:
    # as torchrun does: they meet at a port, and there is a process for each rank, all with the variables of flpoc
    others = """
        import socket, subprocess
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname()).close()
        code = "import flpoc.client as flare; flare.init(); print('rank 1:', flare.receive(), flush=True)"
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "RANK": "1"}, check=True)
    """.replace("\n        ", "\n    ")
    script = SINGLE.replace("    BEFORE", others).replace("AFTER", "")
    meta = run(running, tmp_path, script, launch_once=False, command=["python3"])
    assert (meta["status"], meta["sha256"]) == ("FINISHED:COMPLETED", single)
    assert "rank 1: None" in log(running, meta["job_id"], "site-1", "rank 1: None")


def test_differences_make_the_same_model_as_models(running: Federation, tmp_path: Path) -> None:
    script = """
        import numpy as np
        import flpoc.client as flare

        flare.init()
        while flare.is_running():
            model = flare.receive()
            params = model.params or {"w": np.zeros(5, "float32"), "n": np.zeros(1, "int64"), "b": np.zeros(2, bool)}
            params["w"] += 0.5
            params["n"] += 1
            params["b"] ^= np.array([True, False])
            flare.send(flare.FLModel(params=params))
    """
    found = []
    for kind in ("FULL", "DIFF"):
        meta = run(running, tmp_path / kind, script, transfer_type=kind)
        assert meta["status"] == "FINISHED:COMPLETED", meta["cause"]
        final = running.final_model(meta["job_id"], tmp_path / kind / "out")
        found.append({name: array.tolist() for name, array in final.items()})
    assert found[0] == found[1] == {"w": [3.0] * 5, "n": [6], "b": [False, False]}


def test_data_is_found_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "number").write_text("3.5")
    script = """
        import numpy as np
        import flpoc.client as flare

        flare.init()
        while flare.is_running():
            flare.receive()
            number = float((flare.get_dataset("numbers") / "number").read_text())
            flare.send(flare.FLModel(params={"w": np.array([number])}))
            flare.get_dataset("nubmers") if flare.get_site_name() == "site-2" else None
    """
    policies = {"site-1": {"datasets": {"numbers": str(tmp_path / "data")}}}
    with federation(tmp_path / "federation", 1, policies=policies) as alone:
        meta = run(alone, tmp_path, script, rounds=1, sites=["site-1"])
        assert meta["status"] == "FINISHED:COMPLETED", meta["cause"]
        meta = run(alone, tmp_path / "wrong", script.replace('"numbers"', '"nubmers"'), rounds=1, sites=["site-1"])
        assert meta["cause"]["message"] == "site-1 grants jobs no data called 'nubmers'"
        assert "there is: numbers" in meta["cause"]["hint"]


def test_a_script_is_given_secrets_of_its_site_and_the_job_carries_their_names(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t-12345\n")
    (tmp_path / "file").write_text("f-67890\n")
    file = secret_file_ref(str(tmp_path / "file"))
    script = """
        import os
        import sys

        import numpy as np
        import flpoc.client as flare

        flare.init()
        while flare.is_running():
            flare.receive()
            same = sys.argv[1:] == ["--token", os.environ["TOKEN"]] and os.environ["NORTH"] == "yes"
            told = flare.get_config()["who"] == f"me:{os.environ['TOKEN']}"
            file = flare.get_config()["file"][::-1] == "09876-f"
            found = [float(same), float(told), float(file), float(len(os.environ["TOKEN"]))]
            flare.send(flare.FLModel(params={"w": np.array(found)}))
    """
    lung = {
        "env": {"NORTH": "yes"},
        "secrets": {"TOKEN": str(tmp_path / "token")},
        "secret_files": [str(tmp_path / "file")],
    }
    args = ["--token", secret_ref("TOKEN")]
    policies = {"site-1": {"environments": {"default": lung}}}
    with federation(tmp_path / "federation", 1, policies=policies) as alone:
        job = write_job(tmp_path / "job", script, rounds=1, sites=["site-1"], args=args)
        said = {"client": {"@default": {"who": f"me:{secret_ref('TOKEN')}", "file": file}}}
        (job / "code" / "flpoc_config.json").write_text(json.dumps(said))
        first = alone.completed(job)
        assert alone.final_model(first["job_id"], tmp_path / "results")["w"].tolist() == [1, 1, 1, 7]
        with alone.session() as session:
            wrong = write_job(tmp_path / "wrong", script, rounds=1, sites=["site-1"], args=[secret_ref("TOKNE")])
            second = session.wait_for_job(session.submit_job(wrong), timeout=60)
        assert second["cause"]["message"] == "site-1 has no secret 'TOKNE' for study 'default'"
        assert [path for path in paths_below(tmp_path / "federation") if carries(path, b"t-12345", b"f-67890")] == []


def test_a_framework_that_no_site_has_is_said_before_anything_is_started(running: Federation, tmp_path: Path) -> None:
    job = write_job(tmp_path / "job", "", sites=["site-1"], framework="pytorhc")
    with running.session() as session:
        meta = session.wait_for_job(session.submit_job(job), timeout=60)
    assert meta["status"] == "FINISHED:CAN_NOT_SCHEDULE"
    assert "frameworks/pytorhc is not installed, or not allowed, at site-1" in json.dumps(meta)
