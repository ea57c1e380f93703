"""Running recipes on this machine as in production: a server and sites of their own, for one program."""

from __future__ import annotations

import atexit
import json
import secrets
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from flpoc.errors import ServiceError
from flpoc.recipe.exec_env import ExecEnv, check_sites, missing_scripts
from flpoc.recipe.parameters import json_text, site_names, truth, whole
from flpoc.recipe.remote import Remote, check_study

if TYPE_CHECKING:
    from flpoc.configuration import Configuration
    from flpoc.poc import Wanted
    from flpoc.poc.workspace import Workspace
    from flpoc.recipe.job import Job

_LOGIN_SECONDS: Final = 10.0
#: So often another port is looked for.
_TRIES: Final = 5


class PocEnv(ExecEnv):
    """A proof of concept of its own: prepared and started by the first run, stopped with :meth:`stop`.

    It lives in a new folder beside the workspace of ``flpoc poc`` (``FLPOC_POC_WORKSPACE``, else the configured one,
    with ``-env`` behind its name). Another POC, the user's configuration and registered kits are not touched.
    Results are downloaded to ``results/`` in that folder, and stay. Its server grants jobs the folder of their
    ``initial_ckpt``.

    Args:
        num_clients: How many sites: site-1, site-2, ...
        clients: Names of the sites; *num_clients* is then not looked at.
        gpu_ids: Graphics processors for the sites, dealt in this order; None: processors only.
        use_he: Encrypt models on their way (homomorphic encryption).
        docker_image: Run everything in containers of this image.
        project_conf_path: A project file that says everything; *num_clients*, *clients* and *docker_image* are then
            not looked at.
        username: Whose kit submits jobs.
        study: The study that jobs are submitted to.
        extra: Not looked at.

    Raises:
        ValueError: A parameter cannot be used; the message names it.
    """

    def __init__(
        self,
        *,
        num_clients: int = 2,
        clients: Sequence[str] | None = None,
        gpu_ids: Sequence[int | str] | None = None,
        use_he: bool = False,
        docker_image: str | None = None,
        project_conf_path: str = "",
        username: str = "admin@nvidia.com",
        study: str = "default",
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(extra)
        self._wanted = _wanted(num_clients, clients, truth("use_he", use_he), docker_image, project_conf_path)
        self._gpus = tuple(str(one) for one in gpu_ids or ())
        self._username = username
        self._study = check_study(study)
        self._lock = threading.RLock()
        self._folder: Path | None = None
        self._remote: Remote | None = None
        self._runs = False

    @property
    def workspace(self) -> Path | None:
        """The workspace of its POC, which ``FLPOC_POC_WORKSPACE`` lets commands use; None before the first run."""
        return self._folder / "poc" if self._folder is not None else None

    def deploy(self, job: Job) -> str:
        """Prepare and start the POC where that is not done, and submit *job*; gives its id."""
        missing_scripts(job)
        check_sites(job, self._sites())
        with self._lock:
            did_run = self._runs
            try:
                remote = self._started(job.of_workflow.get("initial_checkpoint", ""))
                return remote.submit(job)
            except BaseException:
                if not did_run:
                    self.stop(clean_up=True)
                raise

    def get_job_status(self, job_id: str) -> str | None:
        """The job's state at the server; None while the POC is stopped."""
        with self._lock:
            return self._remote.status(job_id) if self._runs and self._remote is not None else None

    def get_job_result(self, job_id: str, timeout: float = 0.0) -> str | None:
        """Wait until a job has ended and download it to ``results/<job id>``, beside the POC's workspace."""
        with self._lock:
            remote = self._started()
            assert self._folder is not None
            into = self._folder / "results"
        return remote.result(job_id, timeout, into)

    def abort_job(self, job_id: str) -> None:
        """End a job."""
        with self._lock:
            remote = self._started()
        remote.abort(job_id)

    def stop(self, clean_up: bool = False) -> None:
        """Stop the POC; running jobs go on when it is used again.

        Args:
            clean_up: Remove its workspace, with all its jobs. Results stay.
        """
        from flpoc import poc
        from flpoc.recipe.start import installed

        with self._lock:
            folder = self.workspace
            if folder is None or not poc.is_workspace(folder):
                return
            if clean_up:
                poc.clean(folder, plugins=installed(), configuration=self._configuration(), force=True)
                self._own_configuration.unlink(missing_ok=True)
                self._remote = None
            elif self._runs:
                poc.stop(folder, plugins=installed())
            self._runs = False
            atexit.unregister(self._say_that_it_runs)

    def _started(self, checkpoint: str = "", tries: int = _TRIES) -> Remote:
        """The way to the running POC, whose server grants jobs this checkpoint."""
        from flpoc import poc
        from flpoc.recipe.start import installed

        plugins = installed()
        if self._folder is None:
            self._folder = _new_folder()
        folder = self._folder / "poc"
        is_new = self._remote is None
        if self._remote is None:
            poc.prepare(folder, self._wanted, plugins=plugins, configuration=self._configuration())
            kit = poc.user_kit(folder, self._username)
            if kit is None:
                raise ValueError(f"username: the POC has no user {self._username!r}")
            self._remote = Remote(kit, self._username, self._study, _LOGIN_SECONDS)
        if checkpoint and _grant(poc.open_workspace(folder), Path(checkpoint).parent) and self._runs:
            self.stop()  # it reads its policy when it starts; what runs goes on then
        if not self._runs:
            try:
                poc.start(folder, plugins=plugins, gpus=self._gpus)
            except ServiceError as error:
                data = error.data if isinstance(error.data, dict) else {}
                if not (is_new and tries and data.get("port_conflict")):
                    raise
                # another program has taken the port since it was found free, as one that runs recipes does
                self.stop(clean_up=True)
                return self._started(checkpoint, tries - 1)
            self._runs = True
            atexit.register(self._say_that_it_runs)
        return self._remote

    def _sites(self) -> Sequence[str]:
        if self._wanted.project_file is None:
            return self._wanted.sites
        from flpoc.provision.project_file import read_project

        project, _ = read_project(self._wanted.project_file)
        return [one.name for one in project.sites]

    def _configuration(self) -> Configuration:
        """The user's configuration as it is, which is written to a file of our own."""
        from flpoc.configuration import Configuration

        own = self._own_configuration
        return Configuration.load(own) if own.exists() else attrs.evolve(Configuration.load(), path=own)

    @property
    def _own_configuration(self) -> Path:
        assert self._folder is not None
        return self._folder / "config.conf"

    def _say_that_it_runs(self) -> None:
        """Tell whoever ends the program without a stop that server and sites go on."""
        sys.stderr.write(
            "The POC of this program goes on. To end it: "
            f"FLPOC_POC_WORKSPACE={self.workspace} flpoc poc clean --force\n"
        )


def _wanted(
    num_clients: int, clients: Sequence[str] | None, use_he: bool, docker_image: str | None, project_conf_path: str
) -> Wanted:
    from flpoc.poc import Wanted

    if project_conf_path:
        path = Path(project_conf_path).expanduser()
        if not path.is_file():
            raise ValueError(f"project_conf_path: {project_conf_path!r}: there is no such file")
        return Wanted(project_file=path.resolve(), encrypted=use_he)
    if clients is None:
        clients = [f"site-{place}" for place in range(1, whole("num_clients", num_clients) + 1)]
    sites = tuple(site_names("clients", clients))
    if docker_image is None:
        return Wanted(sites=sites, encrypted=use_he)
    settings = {"image": docker_image} if docker_image else {}
    return Wanted(sites=sites, launcher="docker", launcher_settings=settings, encrypted=use_he)


def _grant(workspace: Workspace, folder: Path) -> bool:
    """Let jobs start from the files of a folder; says whether that is new."""
    from flpoc.provision.kit_settings import LOCAL, POLICY

    path = workspace.kit(workspace.project.server.name) / LOCAL / POLICY
    policy = json.loads(path.read_bytes())
    granted = policy.get("checkpoints", [])
    if str(folder) in granted:
        return False
    part = path.with_suffix(".part")
    part.write_text(json_text({**policy, "checkpoints": [*granted, str(folder)]}), encoding="utf-8")
    part.replace(path)
    return True


def _new_folder() -> Path:
    """A new folder, for its owner only, beside the workspace that commands use."""
    from flpoc.configuration import Configuration, poc_workspace
    from flpoc.poc.workspace import make_workspace_folder

    beside = poc_workspace(Configuration.load())
    parent = make_workspace_folder(beside.with_name(f"{beside.name}-env"))
    folder = parent / secrets.token_hex(4)
    folder.mkdir(mode=0o700)
    return folder
