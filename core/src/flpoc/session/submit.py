"""How a session sends a job: checked and signed here, so that a wrong one never travels."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from flpoc.errors import JobError, UsageError
from flpoc.jobs.names import SUBMIT_TOKEN
from flpoc.jobs.spec import JobSpec

if TYPE_CHECKING:
    from flpoc.session.connection import Connection

ARCHIVE = "code.zip"
_DEFAULT_STUDY = "default"


@attrs.frozen
class Submission:
    """A job that the server has taken.

    Attributes:
        job_id: Its id.
        existing: The submit token had been used for this very job before.
        name: Name of the job.
        study: The study it is in.
        folder: The folder that was sent.
        notices: Lines for people: which sub-folder was taken, what was not sent.
        archive: The copy of the archive, if one was asked for.
        warnings: What the server makes of it: sites that it has not seen.
    """

    job_id: str
    existing: bool
    name: str
    study: str
    folder: Path
    notices: tuple[str, ...] = ()
    archive: Path | None = None
    warnings: tuple[str, ...] = ()


def submit(session: Connection, folder: Path, token: str, keep: Path | None) -> Submission:
    """Check, pack, sign and send the job in *folder*."""
    from flpoc.jobs.folder import collect_and_pack, find_job_folder, read_job
    from flpoc.jobs.signing import sign_job
    from flpoc.models.checksums import sha256_file
    from flpoc.wire.codec import encode
    from flpoc.wire.requests import SubmitJob

    if token and not SUBMIT_TOKEN.match(token):
        raise UsageError(
            "a submit token has 1 to 128 characters: letters, digits, . _ : -", hint="for example --submit-token run-7"
        )
    found, note = find_job_folder(folder)
    name = _named(found)
    spec = in_study(read_job(found), session.study)
    kit = session.kit
    with tempfile.TemporaryDirectory(prefix="flpoc-submit-") as temporary:
        archive = Path(temporary) / ARCHIVE
        files, left_out = collect_and_pack(found, archive)
        signed = sign_job(
            spec,
            name,
            files,
            project=kit.settings.project,
            submitter=kit.settings.name,
            key_pem=kit.key_pem,
            certificate_pem=kit.certificate_pem,
        )
        ask = SubmitJob(signed, sha256_file(archive), archive.stat().st_size, spec.study, token)
        answer = session.send("Submit", messages(encode(ask), archive))
        kept = Path(shutil.copy2(archive, keep / ARCHIVE)) if keep is not None else None
    notices = (*((note,) if note else ()), *left_out)
    return Submission(
        str(answer["job_id"]),
        bool(answer["existing"]),
        spec.name,
        spec.study,
        found,
        notices,
        kept,
        warnings=tuple(map(str, answer["warnings"])),
    )


def _named(folder: Path) -> str:
    """The name of a job's folder, which is kept with the job."""
    name = folder.resolve().name
    if any("\ud800" <= letter <= "\udfff" for letter in name):  # bytes that are no letters
        raise UsageError(f"{folder}: the name of the folder is not UTF-8", hint="give the folder another name")
    return name


def in_study(spec: JobSpec, study: str) -> JobSpec:
    """The job for the study of the session; what only one of the two names is meant.

    Raises:
        JobError: They name different ones.
    """
    if study in (spec.study, _DEFAULT_STUDY):
        return spec
    if spec.study != _DEFAULT_STUDY:
        raise JobError(f"the job says study {spec.study!r}, the session is in {study!r}", hint="change one of them")
    return attrs.evolve(spec, study=study)


def messages(first: bytes, archive: Path) -> Iterator[bytes]:
    """The messages of a submission: what is said of it, then its archive in chunks."""
    from flpoc.wire.options import CHUNK_BYTES

    yield first
    with archive.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
