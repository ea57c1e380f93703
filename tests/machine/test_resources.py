"""Jobs that share the processors, memory and graphics processors of real sites."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from catalogue.attack import becomes

from flpoc.session import Session

from .federation import Federation, write_job

#: A script that says what it sees, and then does as it is told by a file beside its data: go on, fail or wait.
SCRIPT = """
    import os
    import sys
    import time
    from pathlib import Path

    import numpy as np
    import flpoc.client as flare

    place = Path(sys.argv[1])
    flare.init()
    while flare.is_running():
        model = flare.receive()
        if model is None:
            break
        mine = place / f"{flare.get_job_id()}.{flare.get_site_name()}"
        mine.with_suffix(mine.suffix + ".part").write_text(f"{os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES')}")
        mine.with_suffix(mine.suffix + ".part").rename(mine)
        while not (place / f"{flare.get_job_id()}.on").exists():
            time.sleep(0.02)
        if (place / f"{flare.get_job_id()}.on").read_text() == "fail":
            raise ValueError("as it was told")
        flare.send(flare.FLModel(params={"w": np.zeros(2, np.float32)}))
"""


class Lab:
    """A federation whose jobs wait until they are told to go on."""

    def __init__(self, folder: Path) -> None:
        self.place = folder / "place"
        self.place.mkdir()
        self.folder = folder
        self.running = Federation(folder)
        grant = {"place": {"source": str(self.place), "mode": "rw"}}
        resources: dict[str, Any] = {"gpus": ["7", "GPU-9a"], "cpus": 4, "memory_gib": 8}
        self.running.write_policy("site-1", datasets=grant, resources=resources, max_jobs=3)
        self.running.write_policy("site-2", datasets=grant)
        self.running.env = {**os.environ, "CUDA_VISIBLE_DEVICES": "4,5"}
        self.number = 0

    def submit(self, session: Session, *sites: str, **needs: Any) -> str:
        self.number += 1
        script = {"script": "train.py", "args": [str(self.place)]}
        scripts = needs.pop("scripts", {"@default": needs})
        settings = {"scripts": {name: {**script, **one} for name, one in scripts.items()}}
        folder = write_job(self.folder / f"job-{self.number}", SCRIPT, sites=list(sites), rounds=1, **settings)
        given = json.loads((folder / "job.json").read_text())
        del given["script"]
        (folder / "job.json").write_text(json.dumps(given))
        return session.submit_job(folder)

    def seen(self, job: str, site: str = "site-1") -> str:
        """What the job's script sees at a site, once it runs there."""
        path = self.place / f"{job}.{site}"
        assert becomes(path.exists)
        return path.read_text().partition(" ")[2]

    def pid(self, job: str, site: str = "site-1") -> int:
        return int((self.place / f"{job}.{site}").read_text().partition(" ")[0])

    def let_go(self, job: str, word: str = "") -> None:
        (self.place / f"{job}.on").write_text(word)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    found = Lab(tmp_path_factory.mktemp("resources"))
    try:
        found.running.start()
        found.running.ready()
        yield found
    finally:
        found.running.close()


@pytest.fixture
def session(lab: Lab) -> Iterator[Session]:
    with lab.running.session() as session:
        yield session
        for job in session.list_jobs():
            if not job["status"].startswith("FINISHED"):
                session.abort_job(job["job_id"])
        for site in lab.running.sites:
            assert becomes(lambda site=site: session.report_resources("client", [site])[site]["jobs"] == [])


def completed(session: Session, job: str) -> None:
    meta = session.wait_for_job(job, 60)
    assert meta["status"] == "FINISHED:COMPLETED", meta["cause"]


def waits(session: Session, job: str, what: str) -> bool:
    """Whether a job comes to wait for just this; when others end, it is looked at again."""
    return becomes(lambda: (meta := session.get_job_meta(job))["status"] == "SUBMITTED" and meta["waiting_for"] == what)


#: Ways in which a job gives back what it has.
ENDS: dict[str, Callable[[Lab, Session, str], object]] = {
    "completes": lambda lab, session, job: lab.let_go(job),
    "fails": lambda lab, session, job: lab.let_go(job, "fail"),
    "is aborted": lambda lab, session, job: session.abort_job(job),
}


@pytest.mark.parametrize("end", ENDS)
def test_two_jobs_never_share_a_graphics_processor_and_one_starts_when_the_other(
    lab: Lab, session: Session, end: str
) -> None:
    one, two = (lab.submit(session, "site-1", gpus=1) for _ in range(2))
    three = lab.submit(session, "site-1", gpus=2)
    assert {lab.seen(one), lab.seen(two)} == {"7", "GPU-9a"}
    in_use = session.report_resources("client", ["site-1"])["site-1"]["gpus_in_use"]
    assert sorted(ids for ids in in_use.values()) == [["7"], ["GPU-9a"]]
    assert waits(session, three, "waiting for resources: 2 of 2 GPUs of site-1 are in use, 2 wanted")
    (row,) = [job for job in session.list_jobs() if job["job_id"] == three]
    assert "2 of 2 GPUs of site-1" in row["waiting_for"]
    ENDS[end](lab, session, one)
    session.wait_for_job(one, 60)
    assert waits(session, three, "waiting for resources: 1 of 2 GPUs of site-1 are in use, 2 wanted")
    ENDS[end](lab, session, two)
    assert lab.seen(three) == "7,GPU-9a"
    lab.let_go(three)
    completed(session, three)


def test_a_job_that_asks_for_none_sees_none_where_the_policy_says_which_there_are(lab: Lab, session: Session) -> None:
    job = lab.submit(session, "site-1", "site-2")
    assert lab.seen(job, "site-1") == ""
    assert lab.seen(job, "site-2") == "4,5"  # nobody has said which are for jobs: those of the agent
    lab.let_go(job)
    completed(session, job)


def test_a_job_cannot_name_others_than_it_was_given(lab: Lab, session: Session) -> None:
    job = lab.submit(session, "site-1", "site-2", gpus=1, env={"CUDA_VISIBLE_DEVICES": "0,1,2,3"})
    assert lab.seen(job, "site-1") == "7"
    assert lab.seen(job, "site-2") == "4"
    lab.let_go(job)
    completed(session, job)


def test_each_site_is_asked_for_what_it_is_to_give(lab: Lab, session: Session) -> None:
    scripts = {"@default": {"gpus": 1}, "site-1": {"gpus": 2, "cpus": 2}}
    job = lab.submit(session, "site-1", "site-2", scripts=scripts)
    assert (lab.seen(job, "site-1"), lab.seen(job, "site-2")) == ("7,GPU-9a", "4")
    assert session.get_job_meta(job)["resource_spec"]
    lab.let_go(job)
    completed(session, job)


@pytest.mark.row("J14")
def test_a_site_that_lacks_something_for_good_is_left_out_and_the_ledger_says_why(
    lab: Lab, session: Session, tmp_path: Path
) -> None:
    job = lab.submit(session, cpus=5)
    lab.let_go(job)
    completed(session, job)
    folder = session.download_job_result(job, tmp_path / "out").path
    rows = {one["site"]: one for one in json.loads((folder / "ledger.json").read_text())}
    assert rows["site-2"]["status"] == "trained"
    assert (rows["site-1"]["status"], rows["site-1"]["reason"]) == (
        "absent", "site-1 has 4 processors, the job wants 5",
    )  # fmt: skip
    assert f"job {job} starts without site-1: site-1 has 4 processors" in lab.running.log("server")


@pytest.mark.parametrize(
    ("needs", "why"),
    [
        ({"gpus": 3}, "site-1 has 2 GPUs, the job wants 3"),
        ({"cpus": 5}, "site-1 has 4 processors, the job wants 5"),
        ({"memory_gib": 9}, "site-1 has 8 GiB of memory, the job wants 9"),
        ({"scripts": {"@default": {}, "site-2": {"gpus": 9}}}, "site-2 has 2 GPUs, the job wants 9"),
    ],
)
def test_what_can_never_fit_never_starts_and_says_why(lab: Lab, session: Session, needs: Any, why: str) -> None:
    job = lab.submit(session, "site-1", "site-2", **needs)
    meta = session.wait_for_job(job, 60)
    assert (meta["status"], meta["cause"]["message"]) == ("FINISHED:CAN_NOT_SCHEDULE", why)


@pytest.mark.parametrize(
    ("needs", "why"),
    [
        ({"cpus": 2}, "4 of 4 processors of site-1 are in use, 2 wanted"),
        ({"memory_gib": 3}, "6 of 8 GiB of memory of site-1 are in use, 3 wanted"),
    ],
)
def test_processors_and_memory_are_counted(lab: Lab, session: Session, needs: Any, why: str) -> None:
    jobs = [lab.submit(session, "site-1", **needs) for _ in range(3)]
    lab.seen(jobs[0])
    lab.seen(jobs[1])
    assert waits(session, jobs[2], f"waiting for resources: {why}")
    lab.let_go(jobs[0])
    lab.seen(jobs[2])
    for job in jobs:
        lab.let_go(job)
        completed(session, job)


def test_no_more_jobs_are_at_a_site_than_it_says(lab: Lab, session: Session) -> None:
    jobs = [lab.submit(session, "site-1") for _ in range(4)]
    for job in jobs[:3]:
        lab.seen(job)
    assert waits(session, jobs[3], "waiting for resources: site-1 runs 3 jobs, 3 at most")
    session.abort_job(jobs[0])
    lab.seen(jobs[3])


def test_a_job_that_waits_does_not_hold_up_one_that_fits(lab: Lab, session: Session) -> None:
    first, large, small = (lab.submit(session, "site-1", gpus=count) for count in (1, 2, 1))
    assert {lab.seen(first), lab.seen(small)} == {"7", "GPU-9a"}
    assert waits(session, large, "waiting for resources: 2 of 2 GPUs of site-1 are in use, 2 wanted")


def test_a_script_that_outlives_its_agent_keeps_its_graphics_processor(lab: Lab, session: Session) -> None:
    kept = lab.submit(session, "site-1", gpus=1)
    assert lab.seen(kept) == "7"
    pid = lab.pid(kept)
    lab.running.kill("site-1")
    lab.running.start("site-1")
    lab.running.ready()
    other = lab.submit(session, "site-1", gpus=1)
    assert lab.seen(other) == "GPU-9a"
    third = lab.submit(session, "site-1", gpus=1)
    assert waits(session, third, "waiting for resources: 2 of 2 GPUs of site-1 are in use, 1 wanted")
    assert lab.pid(kept) == pid
    os.kill(pid, 0)
    lab.let_go(kept)
    completed(session, kept)
    assert lab.seen(third) == "7"


def test_a_script_that_is_started_again_has_the_same_ones(lab: Lab, session: Session) -> None:
    job = lab.submit(session, "site-1", gpus=1)
    before = lab.seen(job)
    pid = lab.pid(job)
    os.kill(pid, 9)
    assert becomes(lambda: lab.pid(job) != pid)
    assert lab.seen(job) == before
    other = lab.submit(session, "site-1", gpus=1)
    assert lab.seen(other) != before


def test_resources_stay_taken_over_a_restart_of_the_server(lab: Lab, session: Session) -> None:
    first = lab.submit(session, "site-1", gpus=2)
    lab.seen(first)
    lab.running.kill("server")
    lab.running.start("server")
    lab.running.ready()
    second = lab.submit(session, "site-1", gpus=1)
    assert waits(session, second, "waiting for resources: 2 of 2 GPUs of site-1 are in use, 1 wanted")
    lab.let_go(first)
    completed(session, first)
    assert lab.seen(second) == "7"


def test_what_a_site_has_for_jobs_is_told(lab: Lab, session: Session) -> None:
    found = session.report_resources()
    assert found["site-1"]["for_jobs"] == {"cpus": 4.0, "memory_gib": 8.0, "gpus": ["7", "GPU-9a"], "jobs": 3}
    assert found["site-2"]["for_jobs"] == {"cpus": None, "memory_gib": None, "gpus": ["4", "5"], "jobs": 4}
    assert found["server"]["jobs"] == []
    assert {"cpus", "load_1m", "memory_gib", "disk_free_gib", "process"} <= set(found["server"])


@pytest.mark.parametrize("resources", [{"cpus": -1}, {"gpus": [0]}, {"gpu": ["0"]}])
def test_an_agent_does_not_start_with_resources_that_make_no_sense(tmp_path: Path, resources: Any) -> None:
    found = Federation(tmp_path, sites=1)
    found.write_policy("site-1", resources=resources)
    try:
        found.start("site-1")
        assert found._services.pop("site-1").wait(60) == 4
    finally:
        found.close()
    assert "local/policy.json: resources" in found.log("site-1").splitlines()[-1]
