"""What a session does with jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flpoc.errors import DeadlineError, FlpocError
from flpoc.session.connection import Connection, check_job_id

if TYPE_CHECKING:
    from flpoc.session.download import Download
    from flpoc.session.submit import Submission


class JobCalls(Connection):
    """Submitting, watching and managing jobs."""

    def submit_job(self, folder: Path | str, *, submit_token: str = "") -> str:
        """Check, sign and send the job in *folder*; gives its id.

        The same *submit_token* with the same job gives the same id again.

        Raises:
            ConfigError: The job file is wrong, or a script is missing or does not compile.
            UsageError: There is no job folder, or it cannot be sent.
            JobError: The server does not take the job, or the token belongs to another one.
        """
        return self.submit(folder, submit_token=submit_token).job_id

    def submit(self, folder: Path | str, *, submit_token: str = "", keep: Path | None = None) -> Submission:
        """Like :meth:`submit_job`, and tell what was sent; *keep* is a folder for a copy of the archive."""
        from flpoc.session.submit import submit

        return submit(self, Path(folder), submit_token, keep)

    def list_jobs(
        self, name_prefix: str = "", id_prefix: str = "", limit: int = 0, reverse: bool = False, submit_token: str = ""
    ) -> list[dict[str, Any]]:
        """List the study's jobs in the order of submission; *limit* keeps the newest."""
        from flpoc.wire.asks import ListJobs

        ask = ListJobs(self.study, name_prefix, id_prefix, reverse, limit, submit_token)
        return [dict(row) for row in self.ask("List", ask)]

    def get_job_meta(self, job: str) -> dict[str, Any]:
        """Everything about a job; *job* is its id or a beginning of it that only one has."""
        return dict(self.ask("Meta", self.about(job)))

    def get_job_status(self, job: str) -> str:
        """The job's state, as in :class:`flpoc.jobs.states.JobState`."""
        return str(self.get_job_meta(job)["status"])

    def watch_job(
        self, job: str, *, timeout: float = 0.0, away: Callable[[], None] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Give everything about a job, now and whenever it changes, until it has ended.

        A server that goes away meanwhile is waited for; *away* is then called.

        Raises:
            DeadlineError: The job has not ended after *timeout* seconds (0: no limit).
            ConnectionFailed: The server went away and did not come back.
        """
        from flpoc.session.watch import watch

        return watch(self, check_job_id(job), timeout, away)

    def wait_for_job(self, job: str, timeout: float = 0.0) -> dict[str, Any]:
        """Wait until a job has ended, whatever the end; gives everything about it.

        Raises:
            DeadlineError: It has not ended after *timeout* seconds (0: no limit).
        """
        meta: dict[str, Any] = {}
        for meta in self.watch_job(job, timeout=timeout):  # noqa: B007 - the last one is wanted
            pass
        return meta

    def get_job_logs(
        self, job: str, site: str = "server", *, tail: int | None = None, since: str = "", max_bytes: int | None = None
    ) -> dict[str, Any]:
        """Read logs of a job at the server: those of ``server``, one site, or ``all``.

        Bounds apply in the order since, tail, max_bytes; without any, the last 500 lines are given.
        """
        from flpoc.wire.asks_for_files import ReadLogs

        return dict(self.ask("Logs", ReadLogs(check_job_id(job), self.study, site, tail, since, max_bytes)))

    def show_stats(self, job: str, site: str = "all") -> dict[str, Any]:
        """What is known of a running job: for the server and each site groups of numbers and words.

        Args:
            job: Its id or a beginning of it.
            site: ``all``, ``server`` or one site.

        Raises:
            JobError: It does not run; code JOB_NOT_RUNNING.
            FlpocError: The site has no part in it; code SITE_NOT_FOUND.
        """
        found = dict(self.ask("Stats", self.about(job)))
        if site != "all":
            if site not in found["stats"]:
                hint = f"there are: {', '.join(found['stats'])}"
                raise FlpocError(f"{site} has no part in job {found['job_id']}", code="SITE_NOT_FOUND", hint=hint)
            found["stats"] = {site: found["stats"][site]}
        return found

    def show_errors(self, job: str, site: str = "all") -> dict[str, Any]:
        """Why a job failed, and why sites take no part any more: ``{job_id, status, errors: {site: [...]}}``."""
        meta = self.get_job_meta(job)
        errors: dict[str, list[Any]] = {}
        if cause := meta.get("cause"):
            errors.setdefault(cause["site"] or "server", []).append(cause)
        for name, why in (meta.get("failures") or {}).items():
            if name not in errors:
                errors[name] = [{"site": name, "message": why}]
        chosen = errors if site == "all" else {name: found for name, found in errors.items() if name == site}
        return {"job_id": meta["job_id"], "status": meta["status"], "errors": chosen}

    def clone_job(self, job: str) -> dict[str, Any]:
        """Submit a copy of a job, signed by this user: gives ``source_job_id`` and ``new_job_id``.

        Raises:
            AuthError: It is not the user's to copy.
        """
        from flpoc.session.clone import clone

        return clone(self, check_job_id(job))

    def list_job_components(self, job: str) -> list[dict[str, Any]]:
        """The files of a job's results and logs: path, size in bytes, SHA-256."""
        return [dict(one) for one in self.results_of(job)["files"]]

    def download_job_components(self, job: str, paths: Sequence[str], output_dir: Path | str = ".") -> Download:
        """Download some of :meth:`list_job_components` to ``<output_dir>/<job id>``, which must not exist.

        Raises:
            UsageError: The folder exists, or there is no such component.
        """
        from flpoc.session.download import download

        return download(self, check_job_id(job), Path(output_dir), False, None, only=tuple(paths))

    def results_of(self, job: str) -> Mapping[str, Any]:
        """Which result files a job has, with size and SHA-256."""
        # the server reads every file once to answer: no time is too long for that
        return dict(self.ask("Results", self.about(job), seconds=None))

    def monitor_job(
        self, job: str, *, timeout: float = 0.0, callback: Callable[[dict[str, Any]], bool] | None = None
    ) -> str:
        """Follow a job until it has ended; *callback* gets everything about it at each change.

        Returns:
            ``finished``; ``ended by callback`` when it returned false; ``timeout`` after *timeout* seconds.
        """
        try:
            for meta in self.watch_job(job, timeout=timeout):
                if callback is not None and not callback(meta):
                    return "ended by callback"
        except DeadlineError:
            return "timeout"
        return "finished"

    def abort_job(self, job: str) -> dict[str, Any]:
        """End a job that has not ended yet.

        Raises:
            JobError: It has ended already; code JOB_NOT_RUNNING.
        """
        return dict(self.ask("Abort", self.about(job)))

    def delete_job(self, job: str) -> dict[str, Any]:
        """Delete a job and everything kept of it; its submit token stays taken.

        Raises:
            JobError: It has not ended; code JOB_NOT_DONE.
        """
        return dict(self.ask("Delete", self.about(job)))

    def download_job_result(
        self,
        job: str,
        output_dir: Path | str = ".",
        *,
        force: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Download:
        """Download a job's results and logs to ``<output_dir>/<job id>``: all of them, or nothing.

        Args:
            job: Its id or a beginning of it.
            output_dir: Made if it does not exist.
            force: Replace a folder of that name; files in it that are not of a
                download are kept in a folder beside it.
            progress: Called with the bytes that are there and all bytes.

        Raises:
            JobError: The job has not ended; code JOB_NOT_DONE.
            UsageError: The folder exists, and *force* is not given.
        """
        from flpoc.session.download import download

        return download(self, check_job_id(job), Path(output_dir), force, progress)
