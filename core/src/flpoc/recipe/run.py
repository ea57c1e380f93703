"""The handle of a job that a recipe has started."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from flpoc.errors import DeadlineError, FlpocError

if TYPE_CHECKING:
    from flpoc.recipe.exec_env import ExecEnv


class Run:
    """A job in an environment: its state, its results, its end. May be used from several threads.

    Args:
        exec_env: Where it runs.
        job_id: Its id there.

    Raises:
        ValueError: One of them is missing.
    """

    def __init__(self, exec_env: ExecEnv, job_id: str) -> None:
        if exec_env is None:
            raise ValueError("exec_env: there is none")
        if not isinstance(job_id, str) or not job_id:
            raise ValueError(f"job_id: {job_id!r} is no id of a job")
        self.exec_env = exec_env
        self.job_id = job_id
        self._status: str | None = None
        self._result: str | None = None
        self._failure: FlpocError | None = None
        self._over = False
        self._lock = threading.Lock()

    def get_job_id(self) -> str:
        """The job's id."""
        return self.job_id

    def get_status(self) -> str | None:
        """The job's state, like ``RUNNING`` or ``FINISHED:COMPLETED``; also after :meth:`get_result`."""
        if self._over:
            return self._status
        return self.exec_env.get_job_status(self.job_id)

    def get_result(self, timeout: float = 0.0, clean_up: bool = True) -> str | None:
        """Wait until the job has ended, end the environment, and give the folder with the results.

        The folder stays. Asked again, it says the same at once.

        Args:
            timeout: How long to wait, in seconds; 0: as long as it takes.
            clean_up: Remove working files of the environment, too.

        Raises:
            DeadlineError: It has not ended by then. It goes on, and so does the environment.
            JobError: It failed or was aborted: the message is the first cause, in at most ten lines, the same in
                every environment; ``data["result"]`` is the folder.
        """
        with self._lock:
            if not self._over:
                self._wait(timeout, clean_up)
        if self._failure is not None:
            raise self._failure
        return self._result

    def _wait(self, timeout: float, clean_up: bool) -> None:
        try:
            self._result = self.exec_env.get_job_result(self.job_id, timeout)
        except DeadlineError:
            raise
        except FlpocError as error:
            data = error.data if isinstance(error.data, dict) else {}
            if "result" not in data:
                self.exec_env.stop(clean_up=False)
                raise
            self._failure = error
        except BaseException:
            self.exec_env.stop(clean_up=False)
            raise
        self._status = self.exec_env.get_job_status(self.job_id)
        self._over = True
        self.exec_env.stop(clean_up=clean_up)

    def abort(self) -> None:
        """End the job.

        Raises:
            JobError: It has ended already; code JOB_NOT_RUNNING.
        """
        self.exec_env.abort_job(self.job_id)
