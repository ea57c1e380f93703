"""Running recipes in this machine with many virtual sites."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flpoc.errors import FlpocError, JobError, UsageError
from flpoc.recipe.ending import failure, name_best_model
from flpoc.recipe.exec_env import ExecEnv, check_sites, missing_scripts
from flpoc.recipe.exporting import export
from flpoc.recipe.parameters import site_names, whole

if TYPE_CHECKING:
    from flpoc.recipe.job import Job
    from flpoc.simulate import Outcome

DEFAULT_ROOT: Final = "/tmp/flpoc/simulation"  # noqa: S108 - documented; whoever makes it checks its owner

log = logging.getLogger(__name__)


class SimEnv(ExecEnv):
    """A simulation: the same job, scripts and model files, without a server; nothing is isolated.

    A run is over when :meth:`deploy` returns. Results are in ``<workspace_root>/<name of the job>``; a later run of a
    job of that name replaces them. With fewer that work at once than sites, scripts are started anew for every task.

    Args:
        num_clients: How many sites: site-1, site-2, ...
        clients: Names of the sites; *num_clients* is then 0, or as many.
        num_threads: How many of them work at once; None: all, of many sites as many as there are processors.
        gpu_config: Graphics processors for those that work at once: ``0,1`` one each, ``[0,1],[2]`` in groups.
        log_config: How scripts log: a level like ``DEBUG``, a form like ``concise``, or a file for Python's logging.
        workspace_root: Where results go; if it is not said, ``FLPOC_SIMULATOR_WORKSPACE_ROOT`` may say it.
        extra: ``{"in_process": True}`` runs every site in this process, one after the other, so that breakpoints work.
            ``{"datasets": {NAME: PATH}}`` is what scripts get by ``flare.get_dataset``; ``{"backend": NAME}`` and
            ``{"backend_settings": {...}}`` have an installed simulator perform the tasks.

    Raises:
        ValueError: A parameter cannot be used; the message names it.
    """

    def __init__(
        self,
        *,
        num_clients: int = 0,
        clients: Sequence[str] | None = None,
        num_threads: int | None = None,
        gpu_config: str | None = None,
        log_config: str | None = None,
        workspace_root: str = DEFAULT_ROOT,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(extra)
        self.sites = _sites(num_clients, clients)
        self.workers = None if num_threads is None else min(whole("num_threads", num_threads), len(self.sites))
        self.gpus = _checked(gpu_config, log_config)
        self.log_config = log_config
        if not str(workspace_root):
            raise ValueError("workspace_root: an empty path")
        self._root = None if str(workspace_root) == DEFAULT_ROOT else Path(workspace_root)
        self._ended: dict[str, tuple[Outcome, JobError | None]] = {}

    def deploy(self, job: Job) -> str:
        """Run *job* to its end; gives its id, which is its name. Why it failed is logged at once."""
        from flpoc import simulate

        missing_scripts(job)
        check_sites(job, self.sites)
        with tempfile.TemporaryDirectory(prefix="flpoc-recipe-") as temporary:
            outcome = simulate.run(
                export(job, Path(temporary)),
                sites=self.sites,
                workers=self.workers,
                workspace=self._root,
                gpus=self.gpus,
                log_config=self.log_config,
                in_process=bool(self.extra.get("in_process", False)),
                datasets=self.extra.get("datasets"),
                backend=str(self.extra.get("backend", "")),
                backend_settings=self.extra.get("backend_settings"),
            )
        name_best_model(outcome.results, job.best_model_filename)
        partial = outcome.partial_allowed
        error = failure(job.name, outcome.state, outcome.cause, outcome.results, partial_allowed=partial)
        if error is not None:
            log.error("%s", error.message)
        self._ended[job.name] = (outcome, error)
        return job.name

    def get_job_status(self, job_id: str) -> str | None:
        """The state in which the job has ended."""
        return self._of(job_id)[0].state

    def get_job_result(self, job_id: str, timeout: float = 0.0) -> str | None:
        """The folder with the job's results."""
        outcome, error = self._of(job_id)
        if error is not None:
            raise error
        return str(outcome.results)

    def abort_job(self, job_id: str) -> None:
        """Refused: the job has ended."""
        state = self._of(job_id)[0].state
        raise JobError(f"the job is {state} already", code="JOB_NOT_RUNNING", data={"status": state})

    def stop(self, clean_up: bool = False) -> None:
        """Do nothing: nothing runs."""

    def _of(self, job_id: str) -> tuple[Outcome, JobError | None]:
        if job_id not in self._ended:
            raise JobError(f"no job {job_id!r} was run here", code="JOB_NOT_FOUND")
        return self._ended[job_id]


def _sites(num_clients: int, clients: Sequence[str] | None) -> tuple[str, ...]:
    count = whole("num_clients", num_clients, 0)
    if clients is None:
        if not count:
            raise ValueError("num_clients: at least one site is needed: give num_clients or clients")
        return tuple(f"site-{place}" for place in range(1, count + 1))
    sites = tuple(site_names("clients", clients))
    if count not in (0, len(sites)):
        raise ValueError(f"num_clients: it is {count}, but clients names {len(sites)}")
    return sites


def _checked(gpu_config: str | None, log_config: str | None) -> str:
    """Refuse what the simulation would refuse; gives the graphics processors."""
    from flpoc.simulate.order import groups_of, mode_of

    try:
        groups_of(gpu_config or "")
    except (UsageError, AttributeError):
        raise ValueError(f"gpu_config: {gpu_config!r} is neither like '0,1' nor like '[0,1],[2]'") from None
    try:
        mode_of(log_config)
    except FlpocError as error:
        raise ValueError(f"log_config: {error.message}") from None
    return gpu_config or ""
