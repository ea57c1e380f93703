"""A real federation for tests: a server and sites as processes, killed and started at will."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from flpoc.jobs.attempts import SHORT
from flpoc.jobs.shortcuts import Shortcuts
from flpoc.models.tensors import TensorFile
from flpoc.provision.building import provision
from flpoc.provision.project_file import sample_project
from flpoc.provisioning import Participant
from flpoc.session import Session

from .ports import free_port


class Federation:
    """Services by name: ``server``, ``site-1``, ...; their logs are beside their state."""

    def __init__(
        self,
        folder: Path,
        sites: int = 2,
        plugins: tuple[str, ...] = ("local",),
        *,
        participants: tuple[Participant, ...] = (),
    ) -> None:
        self.folder = folder
        sample = sample_project([f"site-{number}" for number in range(1, sites + 1)], port=free_port())
        project = attrs.evolve(sample, plugins=plugins, participants=participants or sample.participants)
        self.sites = [one.name for one in project.sites]
        self.admin = next(one.name for one in project.users if one.role == "project_admin")
        self.prod = provision(project, folder / "kits")
        #: What services are started with: words before theirs, an interpreter, variables, a place for their output.
        self.before: tuple[str, ...] = ()
        self.python = sys.executable
        self.env: dict[str, str] | None = None
        self.output: int | None = None
        self._services: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def address(self) -> str:
        return Session.open(self.prod / self.admin).kit.server_address

    def state(self, name: str) -> Path:
        return self.folder / "state" / name

    def start(self, *names: str) -> None:
        for name in names or ("server", *self.sites):
            module = "flpoc.server" if name == "server" else "flpoc.site"
            kit, state = str(self.prod / name), str(self.state(name))
            argv = [*self.before, self.python, "-m", module, kit, "--state", state]
            with (self.folder / f"{name}.log").open("ab") as log:
                out = log if self.output is None else self.output
                self._services[name] = subprocess.Popen(
                    argv, stderr=out, stdout=out, env=self.env, start_new_session=True
                )

    def kill(self, name: str) -> None:
        """Kill a service without any warning; what it launched lives on."""
        service = self._services.pop(name)
        service.kill()
        service.wait()

    def stop(self, *names: str) -> None:
        gone = [self._services.pop(name) for name in names or tuple(self._services)]
        for service in gone:
            service.terminate()
        for service in gone:
            assert service.wait(60) == 0

    def session(self, user: str = "", **options: Any) -> Session:
        return Session.open(self.prod / (user or self.admin), timeout=15.0, **options)

    def write_policy(self, site: str, **settings: Any) -> None:
        """Change a site's policy; it holds from its next start on."""
        path = self.prod / site / "local" / "policy.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | settings))

    def write_rights(self, name: str, permissions: Any) -> None:
        """Say who may do what at a server or site; it holds from its next start on."""
        path = self.prod / name / "local" / "authorization.json"
        path.write_text(json.dumps({"format": 1, "permissions": permissions}))

    def ready(self, *names: str) -> None:
        """Wait until sites are connected: these, or all."""
        with self.session() as session:
            session.wait_ready(list(names or self.sites), 60.0)

    def pid(self, name: str) -> int:
        return self._services[name].pid

    def job_processes(self, name: str, job: str = "") -> list[int]:
        """Process ids of the controllers or trainers that a service has launched, for one job or all.

        One that has just ended may be among them, and those of a job that has just ended.
        """
        found = []
        for path in sorted((self.state(name) / "handles").glob(f"{job}*.json")):
            with suppress(FileNotFoundError):  # it was forgotten meanwhile
                if handle := json.loads(path.read_text())["handle"]:
                    found.append(int(handle["pid"]))
        return found

    def completed(self, job_folder: Path, timeout: float = 60.0) -> dict[str, Any]:
        """Run the job in a folder to its good end; gives its meta."""
        with self.session() as session:
            meta = session.wait_for_job(session.submit_job(job_folder), timeout=timeout)
        assert meta["status"] == "FINISHED:COMPLETED", json.dumps(meta["cause"], indent=1)
        return dict(meta)

    def final_model(self, job: str, into: Path) -> dict[str, np.ndarray]:
        """The final model of a job, whose results are downloaded to a folder."""
        with self.session() as session:
            results = session.download_job_result(job, into).path
        with TensorFile.open(results / "FL_global_model.safetensors") as model:
            return {name: np.array(array) for name, array in model.items()}

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def close(self) -> None:
        for service in self._services.values():
            service.terminate()
        for service in self._services.values():
            try:
                service.wait(20)
            except subprocess.TimeoutExpired:
                service.kill()
                service.wait()
        for name in ("server", *self.sites):
            Shortcuts(self.state(name) / SHORT).drop()
            kill_all(self.job_processes(name))


def kill_all(pids: Iterable[int]) -> int:
    """Kill processes of jobs, which may end by themselves at any moment; says how many were there to be killed."""
    killed = 0
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed += 1
    return killed


def paths_below(folder: Path) -> list[Path]:
    """Everything below a folder in which files and folders may be deleted at any moment: a job has ended."""
    return [Path(where, name) for where, folders, files in os.walk(folder) for name in (*folders, *files)]


@contextmanager
def federation(
    folder: Path,
    sites: int = 2,
    plugins: tuple[str, ...] = ("local",),
    *,
    policies: Mapping[str, dict[str, Any]] | None = None,
    **more: Any,
) -> Iterator[Federation]:
    """A federation that runs; *policies* are what those of its services say besides, by name."""
    found = Federation(folder, sites, plugins, **more)
    for name, policy in (policies or {}).items():
        found.write_policy(name, **policy)
    try:
        found.start()
        found.ready()
        yield found
    finally:
        found.close()


def write_job(folder: Path, script: str, **settings: Any) -> Path:
    """A job folder with one script."""
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "train.py").write_text(textwrap.dedent(script))
    (folder / "job.json").write_text(json.dumps({"name": "test", "script": "train.py", **settings}))
    return folder
