"""Everything that users ask of the server: what is short (:mod:`flpoc.wire.asks`), and what carries more."""

from __future__ import annotations

import attrs

from flpoc.jobs.spec import SignedJob
from flpoc.wire import checks
from flpoc.wire.asks import AboutJob, Ask, ListJobs
from flpoc.wire.asks_for_files import ReadLogs, ReadResult
from flpoc.wire.asks_of_operators import AboutStudy, BlockSite, ChangeStudy
from flpoc.wire.codec import SHORT_BYTES, Family
from flpoc.wire.statements import GiveOrder, Revoke


@attrs.frozen
class SubmitJob:
    """The first message of a submission; the chunks of the archive follow."""

    job: SignedJob
    archive: str = attrs.field(validator=checks.sha256)
    archive_size: int = attrs.field(validator=checks.count)
    study: str = "default"
    token: str = ""
    cloned_from: str = ""


ASKS = Family(
    "user", Ask, ListJobs, AboutJob, ReadLogs, ReadResult, BlockSite, AboutStudy, ChangeStudy, limit=SHORT_BYTES
)  # fmt: skip
#: What is signed may be long: it names many sites, or all certificates that were ever revoked.
STATEMENTS = Family("user", GiveOrder, Revoke)
SUBMISSION = Family("user", SubmitJob)
