"""Jobs at a server, for the environments that have one."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from flpoc.recipe.ending import failure, name_best_model
from flpoc.recipe.exec_env import missing_scripts
from flpoc.recipe.exporting import export

if TYPE_CHECKING:
    from flpoc.recipe.job import Job
    from flpoc.session import Session

log = logging.getLogger(__name__)


@attrs.define
class Remote:
    """A user's way to a server, for one call each.

    Attributes:
        kit: The user's startup kit.
        username: The kit must be this user's; empty: whoever it belongs to.
        study: The study that jobs are submitted to.
        timeout: How long to try to reach the server, in seconds.
    """

    kit: Path
    username: str
    study: str
    timeout: float
    _best_names: dict[str, str] = attrs.field(factory=dict)

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        from flpoc.session import new_secure_session

        found = new_secure_session(self.username, str(self.kit), timeout=self.timeout, study=self.study)
        with found as session:
            yield session

    def submit(self, job: Job) -> str:
        missing_scripts(job)
        with tempfile.TemporaryDirectory(prefix="flpoc-recipe-") as temporary:
            folder = export(job, Path(temporary))
            with self.session() as session:
                sent = session.submit(folder)
        for warning in sent.warnings:
            log.warning("%s", warning)
        self._best_names[sent.job_id] = job.best_model_filename
        return sent.job_id

    def status(self, job_id: str) -> str:
        with self.session() as session:
            return session.get_job_status(job_id)

    def result(self, job_id: str, timeout: float, into: Path) -> str:
        """Wait until a job has ended and download it to a folder below *into*."""
        from flpoc.jobs.states import cause_of

        with self.session() as session:
            meta: dict[str, Any] = session.wait_for_job(job_id, timeout)
            folder = session.download_job_result(job_id, into, force=True).path
        name_best_model(folder, self._best_names.get(job_id, ""))
        error = failure(
            meta["name"], meta["status"], cause_of(meta), folder, partial_allowed=bool(meta.get("partial_allowed"))
        )
        if error is not None:
            raise error
        return str(folder)

    def abort(self, job_id: str) -> None:
        with self.session() as session:
            session.abort_job(job_id)


def check_study(value: str) -> str:
    """Refuse what cannot be the name of a study."""
    from flpoc.jobs.names import STUDY_NAME

    if not isinstance(value, str) or not STUDY_NAME.match(value):
        raise ValueError(f"study: {value!r} is not the name of a study: lower case letters, digits, _ and -")
    return value
