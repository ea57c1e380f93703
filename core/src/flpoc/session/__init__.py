"""The operator's Python API: what the command line and the console are thin over.

    with Session.open(Path("admin@nvidia.com")) as session:
        job = session.submit_job("jobs/hello")
        meta = session.wait_for_job(job, timeout=600)
        session.download_job_result(job, "results")

Nothing is asked of the server before the first call; the first call says in
plain words why a server cannot be reached. Every failure is an error of
:mod:`flpoc.errors`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from flpoc.errors import DeadlineError, UsageError, from_code

if TYPE_CHECKING:
    from flpoc.provision.kits import Kit
    from flpoc.session.download import Download
    from flpoc.session.submit import Submission

#: A call that the server answers at once may take so long, whatever the network does.
CALL_SECONDS = 60.0
#: So long a watch waits for a server that went away to come back.
GRACE_SECONDS = 30.0


class Session:
    """A user's connection to the server of a project.

    Args:
        kit: The user's startup kit, loaded or its folder.
        study: The study that jobs are looked for in and submitted to.
        timeout: How long to try to reach the server, in seconds.
        grace: How long a watch waits for a server that went away, in seconds.
    """

    def __init__(
        self, kit: Path | Kit, *, study: str = "default", timeout: float = 5.0, grace: float = GRACE_SECONDS
    ) -> None:
        from flpoc.provision.kits import read_user_kit

        self.study = check_study(study)
        self.kit = read_user_kit(Path(kit)) if isinstance(kit, (str, Path)) else kit
        self._timeout = timeout
        self.grace = max(grace, timeout)
        self._open_channel: Any = None
        self._reached = False
        self._closed = False

    @classmethod
    def open(
        cls, kit: Path | Kit, *, study: str = "default", timeout: float = 5.0, grace: float = GRACE_SECONDS
    ) -> Session:
        """Open a session with a kit; the server is first asked by the first call.

        Raises:
            KitError: The kit cannot be used.
        """
        return cls(kit, study=study, timeout=timeout, grace=grace)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection, and every call that still runs; twice is fine."""
        self._closed = True
        if self._open_channel is not None:
            self._open_channel.close()

    # -- the server

    def status(self) -> dict[str, Any]:
        """Say which server this is, which sites are connected and who the caller is."""
        from flpoc.wire.requests import Ask

        return dict(self._ask("Status", Ask()))

    def wait_ready(self, sites: Sequence[str], timeout: float = 30.0) -> dict[str, Any]:
        """Wait until the server answers and all *sites* are connected; gives its status.

        A server that does not listen yet is waited for, too.

        Raises:
            ConnectionFailed: There is no server after *timeout* seconds.
            DeadlineError: They are not after *timeout* seconds; says which are missing.
        """
        from flpoc.wire.requests import Ask

        until = time.monotonic() + timeout
        self._await_first(timeout)
        left = max(0.1, until - time.monotonic())
        status = dict(self._ask("Ready", Ask(tuple(sites), left), seconds=left + CALL_SECONDS))
        if missing := sorted(set(sites) - {site["name"] for site in status["sites"]}):
            raise DeadlineError(
                f"after {timeout:g} s not connected: {', '.join(missing)}",
                hint="see the log of the site; `flpoc poc start` starts those of a proof of concept",
                code="SYSTEM_NOT_READY",
                data={"missing": missing},
            )
        return status

    # -- jobs

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
        from flpoc.wire.requests import ListJobs

        ask = ListJobs(self.study, name_prefix, id_prefix, reverse, limit, submit_token)
        return [dict(row) for row in self._ask("List", ask)]

    def get_job_meta(self, job: str) -> dict[str, Any]:
        """Everything about a job; *job* is its id or a beginning of it that only one has."""
        return dict(self._ask("Meta", self._about(job)))

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
        from flpoc.wire.requests import ReadLogs

        return dict(self._ask("Logs", ReadLogs(check_job_id(job), self.study, site, tail, since, max_bytes)))

    def abort_job(self, job: str) -> dict[str, Any]:
        """End a job that has not ended yet.

        Raises:
            JobError: It has ended already; code JOB_NOT_RUNNING.
        """
        return dict(self._ask("Abort", self._about(job)))

    def delete_job(self, job: str) -> dict[str, Any]:
        """Delete a job and everything kept of it; its submit token stays taken.

        Raises:
            JobError: It has not ended; code JOB_NOT_DONE.
        """
        return dict(self._ask("Delete", self._about(job)))

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

    # -- the wire

    def connect(self) -> None:
        """Make sure that the server can be reached and lets this user in.

        Raises:
            ConnectionFailed: Says why the server cannot be reached.
            AuthError: The server does not accept the kit.
        """
        import grpc

        from flpoc.wire.codec import encode
        from flpoc.wire.requests import Ask

        if self._reached and not self._closed:
            return
        # some of the time is kept for finding out why it failed
        seconds = self._timeout - min(1.0, self._timeout / 4)
        try:
            answer_of(self._unary("Status", encode(Ask()), seconds))
        except grpc.RpcError as error:
            from flpoc.session.channel import why_unreachable

            raise why_unreachable(self.kit, error, self._timeout) from error
        self._reached = True

    def _await_first(self, timeout: float) -> None:
        """Wait for a server that is being started."""
        import grpc

        try:
            self.await_server(timeout)
        except grpc.RpcError as error:
            from flpoc.session.channel import why_unreachable

            raise why_unreachable(self.kit, error, self._timeout) from error
        self._reached = True

    def _ask(self, name: str, ask: Any, *, seconds: float | None = CALL_SECONDS) -> Any:
        import grpc

        from flpoc.wire.codec import encode

        self.connect()
        try:
            return answer_of(self._unary(name, encode(ask), seconds))
        except grpc.RpcError as error:
            raise self.lost(error) from error

    def _unary(self, name: str, request: bytes, seconds: float | None, *, wait: bool = False) -> bytes:
        call = self._channel.unary_unary(_path(name))
        return bytes(call(request, timeout=seconds, wait_for_ready=wait))

    def stream(self, name: str, ask: Any, *, seconds: float | None = None) -> Any:
        """Call a procedure that answers with a stream; gives the running call."""
        from flpoc.wire.codec import encode

        return self._channel.unary_stream(_path(name))(encode(ask), timeout=seconds)

    def send(self, name: str, requests: Iterator[bytes]) -> Any:
        """Call a procedure that takes a stream of messages; gives its answer."""
        import grpc

        self.connect()
        try:
            return answer_of(self._channel.stream_unary(_path(name))(requests))
        except grpc.RpcError as error:
            raise self.lost(error) from error

    def results_of(self, job: str) -> Mapping[str, Any]:
        """Which result files a job has, with size and SHA-256."""
        # the server reads every file once to answer: no time is too long for that
        return dict(self._ask("Results", self._about(job), seconds=None))

    def await_server(self, seconds: float) -> None:
        """Wait until a server that went away answers again; raises gRPC's error if it does not in time."""
        from flpoc.wire.codec import encode
        from flpoc.wire.requests import Ask

        answer_of(self._unary("Status", encode(Ask()), seconds, wait=True))

    def _about(self, job: str) -> Any:
        from flpoc.wire.requests import AboutJob

        return AboutJob(check_job_id(job), self.study)

    @property
    def _channel(self) -> Any:
        if self._closed:
            raise UsageError("the session is closed", hint="open a new one")
        if self._open_channel is None:
            from flpoc.session.channel import open_channel

            self._open_channel = open_channel(self.kit, self._timeout)
        return self._open_channel

    def lost(self, error: Any) -> Exception:
        """The error for a call that gRPC broke off."""
        from flpoc.session.channel import lost

        return lost(self.kit, error)


def new_secure_session(
    username: str = "",
    startup_kit_location: str = "",
    debug: bool = False,
    timeout: float = 10.0,
    study: str = "default",
) -> Session:
    """Open a session and connect it; without a kit's location, the one that commands would use.

    Args:
        username: If given, the kit must be this user's.
        startup_kit_location: The kit's folder.
        debug: Has no effect; errors always say what is wrong.
        timeout: How long to try to reach the server, in seconds.
        study: The study to work in.

    Raises:
        KitError: The kit cannot be used, or is another user's.
        ConnectionFailed: The server cannot be reached.
    """
    from flpoc.configuration import Configuration, resolve_kit
    from flpoc.errors import KitError

    folder = resolve_kit(Configuration.load(), startup_kit=startup_kit_location or None)
    session = Session.open(folder, study=study, timeout=timeout)
    if username and username != session.kit.settings.name:
        raise KitError(f"{folder} is the kit of {session.kit.settings.name!r}, not of {username!r}")
    session.connect()
    return session


def check_job_id(job: str) -> str:
    """Refuse what cannot be the id of a job, before anybody is asked."""
    from flpoc.jobs.spec import JOB_ID

    if not isinstance(job, str) or not JOB_ID.match(job):
        shown = repr(job) if len(repr(job)) <= 80 else repr(job)[:77] + "..."
        raise UsageError(f"{shown} is not a job id", hint="ids have letters, digits and -; `flpoc job list` shows them")
    return job


def check_study(study: str) -> str:
    """Refuse what cannot be the name of a study."""
    from flpoc.jobs.spec import STUDY_NAME

    if not STUDY_NAME.match(study):
        raise UsageError(f"{study[:80]!r} is not the name of a study", hint="lower case letters, digits, _ and -")
    return study


def _path(name: str) -> str:
    from flpoc.wire.options import USER_SERVICE

    return f"/{USER_SERVICE}/{name}"


def answer_of(data: bytes) -> Any:
    """What a reply says; raises the error that it carries."""
    from flpoc.wire.requests import REPLIES

    reply = REPLIES.decode(data)
    if reply.code:
        raise from_code(reply.code, reply.message, reply.hint, reply.data)
    return reply.data
