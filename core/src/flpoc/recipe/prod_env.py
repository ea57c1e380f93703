"""Running recipes at a server that somebody has deployed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flpoc.recipe.exec_env import ExecEnv
from flpoc.recipe.parameters import number
from flpoc.recipe.remote import Remote, check_study

if TYPE_CHECKING:
    from flpoc.recipe.job import Job


#: The documented default, which programs of users with other names leave as it is.
ANYBODY: Final = "admin@nvidia.com"


class ProdEnv(ExecEnv):
    """A server that runs already, reached with a user's startup kit.

    Args:
        startup_kit_location: Folder of the kit.
        login_timeout: How long to try to reach the server, in seconds.
        username: The kit must be this user's, if it is said.
        study: The study that jobs are submitted to.
        extra: Not looked at.

    Raises:
        ValueError: A parameter cannot be used; the message names it.
    """

    def __init__(
        self,
        *,
        startup_kit_location: str,
        login_timeout: float = 5.0,
        username: str = ANYBODY,
        study: str = "default",
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(extra)
        folder = Path(startup_kit_location).expanduser()
        if not str(startup_kit_location) or not folder.is_dir():
            raise ValueError(f"startup_kit_location: {str(startup_kit_location)!r}: there is no such folder")
        seconds = number("login_timeout", login_timeout, above=0)
        self._kit = folder.resolve()
        user = "" if username == ANYBODY else username
        self._remote = Remote(self._kit, user, check_study(study), seconds)

    def deploy(self, job: Job) -> str:
        """Submit *job*; gives its id."""
        return self._remote.submit(job)

    def get_job_status(self, job_id: str) -> str | None:
        """The job's state at the server."""
        return self._remote.status(job_id)

    def get_job_result(self, job_id: str, timeout: float = 0.0) -> str | None:
        """Wait until a job has ended and download it to ``transfer/<job id>`` in the kit."""
        from flpoc.provision.kit_settings import find_kit

        return self._remote.result(job_id, timeout, find_kit(self._kit)[0] / "transfer")

    def abort_job(self, job_id: str) -> None:
        """End a job."""
        self._remote.abort(job_id)

    def stop(self, clean_up: bool = False) -> None:
        """Do nothing: the server is not this program's."""
