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

from flpoc.session.connection import Connection, check_job_id, check_study
from flpoc.session.jobs import JobCalls
from flpoc.session.operating import OperatorCalls, check_site

__all__ = [
    "Connection",
    "JobCalls",
    "OperatorCalls",
    "Session",
    "check_job_id",
    "check_site",
    "check_study",
    "new_secure_session",
]


class Session(JobCalls, OperatorCalls):
    """A user's connection to the server of a project.

    Args:
        kit: The user's startup kit, loaded or its folder.
        study: The study that jobs are looked for in and submitted to.
        timeout: How long to try to reach the server, in seconds.
        grace: How long a watch waits for a server that went away, in seconds.
    """


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
