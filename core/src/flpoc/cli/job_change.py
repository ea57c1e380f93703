"""``flpoc job submit | abort | delete``: what changes jobs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click

from flpoc.cli.command import Command, RetryToken
from flpoc.cli.connect import Connection, connects, job_argument
from flpoc.cli.options import option
from flpoc.configuration import HOME_VARIABLE, Configuration
from flpoc.errors import UsageError
from flpoc.formatting import Report
from flpoc.session import Session

_CURRENT = "./current_job"
_RETRY = RetryToken(
    "--submit-token",
    scope="study and submitter",
    effect="the same job submitted again with the same token gives the id of the first one",
)


@click.command(
    cls=Command,
    examples=("flpoc job submit -j jobs/hello", "flpoc job submit -j jobs/hello --submit-token run-7"),
    mutating=True,
    idempotent=False,
    retry_token=_RETRY,
)
@option(
    "-j", "--job-folder", "--job_folder", "job_folder", metavar="DIR", default=_CURRENT, bare=_CURRENT,
    show_default=True, help="The job's folder, or a folder with exactly one job in it.",
)  # fmt: skip
@option("--submit-token", metavar="TOKEN", default="", help="Makes the submission safe to repeat.")
@option("-debug", "--debug", is_flag=True, help="Keep a copy of what is sent, and say where.")
@connects
def submit(connection: Connection, job_folder: str, submit_token: str, debug: bool) -> Report:
    """Submit a job: check it, sign it and send it. Gives the job's id.

    A relative DIR is looked for in the working directory, in the kit's
    transfer folder, in the folder of `flpoc poc prepare-jobs-dir`, and in
    $FLPOC_HOME/examples.
    """
    with connection.open() as session:
        keep = Path(tempfile.mkdtemp(prefix="flpoc-job-")) if debug else None
        try:
            sent = session.submit(find_folder(job_folder, session), submit_token=submit_token, keep=keep)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                connection.call.part("The server may have taken the job; `flpoc job list` shows it.")
            if keep is not None and not any(keep.iterdir()):
                keep.rmdir()
            raise
    for notice in sent.notices:
        connection.call.note(notice)
    for warning in sent.warnings:
        connection.call.note(f"Warning: {warning}")
    if sent.archive is not None:
        connection.call.note(f"a copy of what was sent: {sent.archive}")
    first = f"Submitted job: {sent.job_id}"
    if sent.existing:
        first = f"Submitted before with this token: {sent.job_id}"
    return Report(
        data={"job_id": sent.job_id, "job_name": sent.name, "study": sent.study, "existing": sent.existing},
        text=(first,),
    )


def find_folder(given: str, session: Session) -> Path:
    """The job folder that a user means.

    Raises:
        UsageError: It is nowhere; says where it was looked for.
    """
    path = Path(given).expanduser()
    if path.is_absolute() or path.exists():
        return path
    places = [session.kit.transfer]
    if jobs := Configuration.load().jobs:
        places.append(Path(jobs).expanduser())
    if home := os.environ.get(HOME_VARIABLE, "").strip():
        places.append(Path(home) / "examples")
    if (found := next((place / path for place in places if (place / path).exists()), None)) is not None:
        return found
    if given == _CURRENT:
        raise UsageError(f"no job is given, and there is no {_CURRENT}", hint="flpoc job submit -j DIR")
    looked = ", ".join(map(str, places))
    raise UsageError(f"{given}: no such folder, neither here nor in {looked}", hint="give the folder of a job")


@click.command(cls=Command, examples=("flpoc job abort ID --force",), mutating=True, idempotent=False)
@job_argument
@option("--force", is_flag=True, help="Do not ask.")
@connects
def abort(connection: Connection, job_id: str, force: bool) -> Report:
    """End a job that has not ended, whatever it is doing."""
    with connection.open() as session:
        if not force:
            job_id = _agreed(connection, session, job_id, "Abort")
            if not job_id:
                return Report(data=None, text=("Not aborted.",))
        done = session.abort_job(job_id)
    return Report(data=done, text=(f"Aborted job {done['job_id']}.",))


@click.command(cls=Command, examples=("flpoc job delete ID --force",), mutating=True, idempotent=False)
@job_argument
@option("--force", is_flag=True, help="Do not ask.")
@connects
def delete(connection: Connection, job_id: str, force: bool) -> Report:
    """Delete a job that has ended, with its model, metrics and logs."""
    with connection.open() as session:
        if not force:
            job_id = _agreed(connection, session, job_id, "Delete")
            if not job_id:
                return Report(data=None, text=("Not deleted.",))
        done = session.delete_job(job_id)
    return Report(data=done, text=(f"Deleted job {done['job_id']}.",))


def _agreed(connection: Connection, session: Session, job_id: str, what: str) -> str:
    """Ask about one certain job; gives its whole id if the user agrees."""
    from flpoc.cli.output import one_line

    connection.call.needs_somebody_to_ask(f"{what} job {job_id} in study {connection.study}?")
    meta = session.get_job_meta(job_id)
    name = one_line(meta["name"])
    question = f"{what} job {meta['job_id']} ({name}, {meta['status']}) in study {meta['study']}?"
    return str(meta["job_id"]) if connection.call.confirm(question, force=False) else ""
