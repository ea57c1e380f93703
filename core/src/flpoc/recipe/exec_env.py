"""Where recipes run: the interface of environments."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flpoc.errors import known_names

if TYPE_CHECKING:
    from flpoc.recipe.job import Job


class ExecEnv(ABC):
    """A place where jobs run. All behave alike: states, results that stay, and the first cause of a failure.

    Args:
        extra: Whatever an environment of your own needs; not looked at.
    """

    def __init__(self, extra: Mapping[str, Any] | None = None) -> None:
        self.extra: dict[str, Any] = dict(extra or {})

    @abstractmethod
    def deploy(self, job: Job) -> str:
        """Have *job* run; gives its id.

        Raises:
            ValueError: Scripts are not there; they are named.
            FlpocError: It cannot be run here.
        """

    @abstractmethod
    def get_job_status(self, job_id: str) -> str | None:
        """The job's state, as ``flpoc job list`` says it; None if that is not known."""

    @abstractmethod
    def get_job_result(self, job_id: str, timeout: float = 0.0) -> str | None:
        """Wait until a job has ended; gives the folder with its results, which stays.

        Args:
            job_id: The job.
            timeout: How long to wait, in seconds; 0: as long as it takes.

        Raises:
            DeadlineError: It has not ended by then; it goes on.
            JobError: It did not come to a good end: the message is its first cause, ``data["result"]`` the folder.
        """

    @abstractmethod
    def abort_job(self, job_id: str) -> None:
        """End a job.

        Raises:
            JobError: It has ended already; code JOB_NOT_RUNNING.
        """

    @abstractmethod
    def stop(self, clean_up: bool = False) -> None:
        """End what the environment itself has started; twice is the same as once.

        Args:
            clean_up: Remove its working files, too. Results stay.
        """


def check_sites(job: Job, sites: Sequence[str]) -> None:
    """Refuse a job that needs other sites than there are.

    Raises:
        ValueError: Says how many, or which.
    """
    if (needed := job.settings.get("min_clients") or 1) > len(sites):
        raise ValueError(f"min_clients: the job needs {needed} sites, the environment has {len(sites)}")
    for where, names in job.named_sites.items():
        if strangers := [site for site in names if site not in sites]:
            said = known_names(strangers[0], sites)
            raise ValueError(f"{where}: {strangers[0]!r} is no site of the environment: {said}")


def missing_scripts(job: Job) -> None:
    """Refuse a job whose scripts are not there.

    Raises:
        ValueError: Names them.
    """
    if missing := job.missing():
        raise ValueError(f"no such file: {', '.join(missing)}: looked for here, and beside the program")
