"""How a session copies a job: fetched as it was submitted, signed anew by this user, submitted."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flpoc.errors import IntegrityError

if TYPE_CHECKING:
    from flpoc.session.connection import Connection


def clone(session: Connection, job: str) -> dict[str, Any]:
    """Fetch a job and submit it as this user's own."""
    import grpc

    from flpoc.jobs.signing import sign_job
    from flpoc.jobs.spec import Manifest
    from flpoc.models.checksums import sha256_file
    from flpoc.session.channel import lost
    from flpoc.session.connection import answer_of
    from flpoc.session.submit import messages
    from flpoc.settings import parse_json, structure
    from flpoc.wire.codec import encode
    from flpoc.wire.requests import SubmitJob

    session.connect()
    stream = session.stream("Source", session.about(job))
    with tempfile.TemporaryDirectory(prefix="flpoc-clone-") as temporary:
        archive = Path(temporary) / "code.zip"
        try:
            facts = answer_of(next(stream))
            with archive.open("xb") as file:
                for chunk in stream:
                    file.write(chunk)
        except grpc.RpcError as error:
            raise lost(session.kit, error) from error
        finally:
            stream.cancel()
        if sha256_file(archive) != facts["archive"]:
            raise IntegrityError("the job's files did not come as they were announced", hint="try again")
        kit = session.kit
        manifest = structure(parse_json(facts["manifest"], "manifest"), Manifest)
        signed = sign_job(
            manifest.spec, manifest.folder, manifest.files, project=kit.settings.project, submitter=kit.settings.name,
            key_pem=kit.key_pem, certificate_pem=kit.certificate_pem,
        )  # fmt: skip
        ask = SubmitJob(
            signed, facts["archive"], archive.stat().st_size, session.study, cloned_from=str(facts["job_id"])
        )  # fmt: skip
        answer = session.send("Submit", messages(encode(ask), archive))
    return {"source_job_id": str(facts["job_id"]), "new_job_id": str(answer["job_id"]), "name": manifest.spec.name}
